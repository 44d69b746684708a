"""Requests that are wrong are refused before anything happens, and told which limit they met."""

from __future__ import annotations

from typing import Any

import pytest

from phxqueue.config import LockLimits
from phxqueue.net.status import Status
from tests.lock.rig import LockUnderTest

LIMITS = LockLimits(key_bytes=16, client_id_bytes=16, value_bytes=8, lease_min_ms=100, lease_max_ms=60_000)


def refused(lock: LockUnderTest, call: str, *arguments: Any, **fields: Any) -> str:
    error = getattr(lock, call)(*arguments, **fields).error
    assert error.status is Status.INVALID_ARGUMENT
    assert not lock.group.commands()
    return str(error.message)


@pytest.mark.parametrize(
    ("call", "fields", "message"),
    [
        ("acquire", {"key": ""}, "lock_key: it is empty"),
        ("acquire", {"key": "x" * 17}, "lock_key: 17 bytes, more than limits.key_bytes 16"),
        ("acquire", {"key": "\N{GREEK SMALL LETTER ALPHA}" * 9}, "lock_key: 18 bytes"),
        ("acquire", {"key": "__lock__:x"}, "names that begin with __lock__ are reserved"),
        ("acquire", {"key": "__ignore__"}, "names that begin with __ignore__ are reserved"),
        ("acquire", {"client_id": ""}, "client_id: it is empty"),
        ("acquire", {"client_id": "x" * 17}, "client_id: 17 bytes, more than limits.client_id_bytes 16"),
        ("acquire", {"lease_time_ms": -1}, "lease_time_ms: -1, not between limits.lease_min_ms 100"),
        ("acquire", {"lease_time_ms": 0}, "lease_time_ms: 0, not between"),
        ("acquire", {"lease_time_ms": 60_001}, "limits.lease_max_ms 60000"),
        ("acquire", {"expected_version": 0, "wait_ms": 1}, "wait_ms: 1, and expected_version"),
        ("acquire", {"lock_id": 7}, "lock_id: 7; this is node 0 of lock group 1"),
        ("acquire", {"topic_id": 7}, "topic_id: 7; node 0 of lock group 1 serves topic 1000"),
        ("info", {"key": ""}, "lock_key: it is empty"),
        ("renew", {"version": 1, "lease_time_ms": -5}, "lease_time_ms: -5"),
        ("renew", {"version": 1, "infinite": True}, "lease_time_ms: 10000, and infinite"),
        ("renew", {"version": 1, "client_id": ""}, "client_id: it is empty"),
        ("release", {"version": 1, "client_id": ""}, "client_id: it is empty"),
        ("release", {"version": 1, "key": "x" * 17}, "limits.key_bytes 16"),
        ("set", {"value": b"123456789"}, "value: 9 bytes, more than limits.value_bytes 8"),
        ("set", {"key": ""}, "key: it is empty"),
        ("set", {"lease_time_ms": -1}, "lease_time_ms: -1"),
        ("set", {"lease_time_ms": 1}, "lease_time_ms: 1, not between"),
        ("get", {"key": "__lock__"}, "reserved"),
        ("delete", {"key": ""}, "key: it is empty"),
        ("watch", {"key": ""}, "key: it is empty"),
        ("watch", {"key_space": 5}, "key_space: 5; allowed are LOCKS (0) and STRINGS (1)"),
        ("list", {"key_space": 5}, "key_space: 5"),
        ("list", {"paxos_group": 1}, "paxos_group: 1; node 0 of lock group 1 has 0 to 0"),
        ("list", {"lock_id": 2}, "lock_id: 2"),
    ],
)
def test_the_refusal_names_field_and_limit(call: str, fields: dict[str, Any], message: str) -> None:
    assert message in refused(LockUnderTest(LIMITS), call, **fields)


def test_wrong_requests_are_refused_by_nodes_that_are_not_master_too() -> None:
    lock = LockUnderTest(LIMITS, master=1)
    assert lock.acquire(key="").error.status is Status.INVALID_ARGUMENT
