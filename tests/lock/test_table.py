"""The lock table by value: what each operation does, and what holds after any sequence of them."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phxqueue.lock.records import Lock, Outcome
from phxqueue.lock.snapshot import CorruptState
from phxqueue.lock.table import COMMAND_VERSION, VERSION_SHIFT, LockTable
from phxqueue.net.status import Status
from phxqueue.proto.lock_pb2 import LockCommand, LockOperation
from phxqueue.replica.errors import Halted

VALUE, NOOP = 0, 1
KINDS = LockOperation.Kind


def entry(*operations: LockOperation, term: int = 0, version: int = 1) -> bytes:
    return LockCommand(version=version, term=term, operations=operations).SerializeToString()


BEGINNING = LockCommand(version=1, begins_term=True).SerializeToString()


def do(table: LockTable, *operations: LockOperation) -> list[Outcome]:
    """Apply one entry of the present term."""
    outcomes = table.apply(table.applied + 1, VALUE, entry(*operations, term=table.term))
    assert isinstance(outcomes, list)
    return outcomes


def acquire(key: str = "a", client_id: str = "me", lease_ms: int = 1000, **fields: Any) -> LockOperation:
    return LockOperation(kind=KINDS.ACQUIRE, key=key, client_id=client_id, lease_ms=lease_ms, **fields)


def begin(table: LockTable) -> int:
    outcome = table.apply(table.applied + 1, VALUE, BEGINNING)
    assert outcome == Outcome(Status.OK)
    return table.term


def test_versions_are_instance_and_place() -> None:
    table = LockTable()
    table.apply(0, NOOP, b"")
    outcomes = do(table, acquire("a"), acquire("b"))
    assert [outcome.record.version for outcome in outcomes if outcome.record] == [
        (1 << VERSION_SHIFT) + 1,
        (1 << VERSION_SHIFT) + 2,
    ]


def test_operations_of_an_earlier_term_are_void() -> None:
    table = LockTable()
    first = begin(table)
    [granted] = do(table, acquire())
    second = begin(table)
    assert second > first
    assert granted.record
    expire = LockOperation(kind=KINDS.EXPIRE_LOCK, key="a", expected_version=granted.record.version)
    assert table.apply(3, VALUE, entry(expire, acquire("b"), term=first)) == [Outcome(Status.FENCED)] * 2
    assert list(table.locks) == ["a"]
    assert table.apply(4, VALUE, entry(expire, term=second)) == [Outcome(Status.OK)]


def test_entries_out_of_order_are_a_defect() -> None:
    with pytest.raises(AssertionError, match="instance 1 applied after -1"):
        LockTable().apply(1, VALUE, BEGINNING)


@pytest.mark.parametrize("payload", [b"\xff\xff", b"", entry(version=0)])
def test_what_is_no_command_changes_nothing(payload: bytes) -> None:
    table = LockTable()
    assert table.apply(0, VALUE, payload) == Outcome(Status.INVALID_ARGUMENT)
    assert (table.applied, table.unreadable, len(table)) == (0, 1, 0)


def test_an_operation_of_an_unknown_kind_is_refused_and_the_others_are_not() -> None:
    table = LockTable()
    outcomes = do(table, LockOperation(kind=99, key="x"), acquire())  # type: ignore[arg-type]
    assert [outcome.status for outcome in outcomes] == [Status.INVALID_ARGUMENT, Status.OK]


def test_a_newer_command_halts_and_changes_nothing() -> None:
    table = LockTable()
    with pytest.raises(Halted, match=f"of version {COMMAND_VERSION + 1}"):
        table.apply(0, VALUE, entry(acquire(), version=COMMAND_VERSION + 1))
    assert (table.applied, len(table)) == (-1, 0)


def test_an_expiry_means_one_version() -> None:
    table = LockTable()
    [first] = do(table, acquire())
    assert first.record
    expire = LockOperation(kind=KINDS.EXPIRE_LOCK, key="a", expected_version=first.record.version)
    do(table, acquire(client_id="you", force=True))
    assert do(table, expire)[0].status is Status.VERSION_MISMATCH
    assert table.locks["a"].client_id == "you"


def test_a_checkpoint_needs_no_entry_below() -> None:
    table = LockTable()
    do(table, acquire())
    made = table.checkpoint()
    assert (made.applied, made.needed) == (0, 1)


@pytest.mark.parametrize("place", range(0, 80, 7))
def test_a_damaged_checkpoint_is_refused_and_changes_nothing(place: int) -> None:
    table = LockTable()
    do(table, acquire(), LockOperation(kind=KINDS.SET, key="s", value=b"value"))
    made = table.checkpoint()
    state = bytearray(made.state)
    state[place] ^= 1
    other = LockTable()
    with pytest.raises(CorruptState):
        other.restore(bytes(state), made.segments)
    with pytest.raises(CorruptState):
        other.restore(bytes(state[:place]), made.segments)
    assert (other.applied, len(other)) == (-1, 0)


keys = st.sampled_from(["a", "b", "\N{GREEK SMALL LETTER ALPHA}"])
clients = st.sampled_from(["me", "you"])
leases = st.sampled_from([0, 1000, 2000])
#: Small numbers stand for a version that somebody once held: the nth last.
versions = st.none() | st.integers(0, 3)


@st.composite
def operations(draw: st.DrawFn) -> tuple[LockOperation, int | None]:
    operation = LockOperation(
        kind=draw(st.sampled_from([kind for kind in KINDS.values() if kind != KINDS.NONE])),
        key=draw(keys),
        client_id=draw(clients),
        value=draw(st.binary(max_size=3)),
        lease_ms=draw(leases),
        force=draw(st.booleans()),
        request_id=draw(st.integers(0, 2)),
    )
    return operation, draw(versions)


entries = st.lists(operations(), max_size=4) | st.just("begin") | st.just("stale")


@settings(max_examples=150, deadline=None)
@given(st.lists(entries, max_size=25), st.randoms(use_true_random=False))
def test_whatever_is_applied_one_holder_rising_tokens_and_equal_replicas(
    history: list[Any], randomness: random.Random
) -> None:
    table, replica = LockTable(), LockTable()
    stored: dict[bytes, bytes] = {}
    given_out = [0]
    terms = [0]
    for made in history:
        payload = _payload(made, given_out, terms)
        locks, size = dict(table.locks), table.size
        outcomes = table.apply(table.applied + 1, VALUE, payload)
        _check_tokens(table, locks, given_out)
        if made == "begin":
            terms.append(table.term)
        elif made == "stale" and len(terms) > 1:
            assert outcomes == [Outcome(Status.FENCED)]
            assert (table.locks, table.size) == (locks, size)
        elif isinstance(made, list) and len(made) == 1:
            _check_single(made[0][0], locks, table.locks, outcomes)
        assert table.size == sum(
            [len(key) + len(lock.client_id) for key, lock in table.locks.items()]
            + [len(key) + len(string.value) for key, string in table.strings.items()]
        )
        # A replica that restarts from a checkpoint now and then computes the same.
        if randomness.random() < 0.2:
            made_now = replica.checkpoint()
            stored.update(made_now.segments)
            for dropped in made_now.dropped:
                del stored[dropped]
            replica = LockTable()
            replica.restore(made_now.state, stored.items())
        assert replica.apply(replica.applied + 1, VALUE, payload) == outcomes
        assert replica.state_hash() == table.state_hash()


def _payload(made: Any, given_out: list[int], terms: list[int]) -> bytes:
    if made == "begin":
        return BEGINNING
    if made == "stale":
        return entry(acquire(force=True), term=terms[-2] if len(terms) > 1 else terms[-1])
    for operation, back in made:
        if back is not None:
            operation.expected_version = given_out[-min(back + 1, len(given_out))]
    return entry(*(operation for operation, _ in made), term=terms[-1])


def _check_tokens(table: LockTable, before: dict[str, Lock], given_out: list[int]) -> None:
    """A lock or string that is not as it was has a version above all before; a renewed one keeps its holder."""
    fresh = set()
    for key, lock in table.locks.items():
        held = before.get(key)
        if held is not None and held.version == lock.version:
            assert held.client_id == lock.client_id
        else:
            fresh.add(lock.version)
    fresh.update(string.version for string in table.strings.values() if string.version > max(given_out))
    for version in sorted(fresh):
        assert version > max(given_out)
        given_out.append(version)


def _check_single(operation: LockOperation, before: dict[str, Lock], after: dict[str, Lock], outcomes: Any) -> None:
    """What one operation may do to the lock it names."""
    held, now = before.get(operation.key), after.get(operation.key)
    if operation.kind in (KINDS.SET, KINDS.DELETE, KINDS.EXPIRE_STRING):
        assert after == before
    elif held is not None and now != held and not operation.force:
        own = operation.client_id == held.client_id
        expired = operation.kind == KINDS.EXPIRE_LOCK and operation.expected_version == held.version
        assert own or expired
    if outcomes[0].status is not Status.OK:
        assert after == before
