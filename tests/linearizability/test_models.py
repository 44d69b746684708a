"""Histories of every kind of object: some that must be accepted, and some that must be rejected."""

from __future__ import annotations

from typing import Any

import pytest

from phxqueue.testing.linearizability import MODELS, HistoryError, Operation, Verdict, search

UNKNOWN = None


def op(
    call: float, returned: float | None, name: str, result: dict[str, Any] | None = UNKNOWN, **arguments: Any
) -> Any:
    return Operation(
        object="?", key="k", client="c", name=name, arguments=arguments, call=call, returned=returned, result=result
    )


def write(call: float, returned: float | None, value: Any) -> Any:
    return op(call, returned, "write", UNKNOWN if returned is None else {}, value=value)


def read(call: float, returned: float, value: Any) -> Any:
    return op(call, returned, "read", {"value": value})


def cas(call: float, returned: float, expected: Any, value: Any, swapped: bool) -> Any:
    return op(call, returned, "cas", {"swapped": swapped}, expected=expected, value=value)


def versioned_write(call: float, returned: float, value: Any, version: int) -> Any:
    return op(call, returned, "write", {"version": version}, value=value)


def versioned_read(call: float, returned: float, value: Any, version: int) -> Any:
    return op(call, returned, "read", {"value": value, "version": version})


def versioned_cas(call: float, returned: float, expected: int, value: Any, version: int | None) -> Any:
    return op(call, returned, "cas", {"version": version}, expected=expected, value=value)


def append(call: float, returned: float | None, count: int, first: int | None = None) -> Any:
    return op(call, returned, "append", UNKNOWN if first is None else {"first": first}, count=count)


def end(call: float, returned: float, at: int) -> Any:
    return op(call, returned, "end", {"end": at})


def ack(call: float, returned: float | None, position: int) -> Any:
    return op(call, returned, "ack", UNKNOWN if returned is None else {}, position=position)


def acked(call: float, returned: float, position: int) -> Any:
    return op(call, returned, "read", {"position": position})


def failover(call: float, returned: float, floor: int) -> Any:
    return op(call, returned, "failover", {}, floor=floor)


def acquire(call: float, returned: float, client: str, version: int) -> Any:
    return op(call, returned, "acquire", {"version": version}, client_id=client)


def denied(call: float, returned: float, client: str, holder: str, version: int) -> Any:
    return op(call, returned, "acquire", {"holder": holder, "version": version}, client_id=client)


def renew(call: float, returned: float, client: str, version: int, held: bool) -> Any:
    return op(call, returned, "renew", {"held": held}, client_id=client, version=version)


def release(call: float, returned: float | None, client: str, version: int, released: bool | None = True) -> Any:
    result = UNKNOWN if returned is None else {"released": released}
    return op(call, returned, "release", result, client_id=client, version=version)


def holder(call: float, returned: float, client: str, version: int) -> Any:
    return op(call, returned, "read", {"holder": client, "version": version})


def expire(call: float, client: str) -> Any:
    return op(call, None, "expire", UNKNOWN, client_id=client)


GOOD: dict[str, list[list[Operation]]] = {
    "lock": [
        [holder(0, 1, "", 0), acquire(2, 3, "a", 5), denied(4, 5, "b", "a", 5), release(6, 7, "a", 5)],
        [acquire(0, 1, "a", 5), acquire(2, 9, "b", 6), release(4, 5, "a", 5), holder(6, 7, "b", 6)],
        [acquire(0, 1, "a", 5), renew(2, 3, "a", 5, True), expire(4, "a"), renew(6, 7, "a", 5, False)],
        [acquire(0, 1, "a", 5), expire(1, "a"), acquire(2, 3, "b", 6), release(4, 5, "a", 5, False)],
        [acquire(0, 1, "a", 5), release(2, None, "a", 5), acquire(4, 5, "b", 6)],
        [acquire(0, 1, "a", 5), release(2, None, "a", 5), renew(4, 5, "a", 5, True)],
        [acquire(0, 1, "a", 5), expire(1, "a"), release(2, 3, "a", 5, None), holder(4, 5, "", 0)],
    ],
    "register": [
        [read(0, 1, None)],
        [write(0, 1, 5), read(2, 3, 5)],
        [write(0, 10, 1), read(1, 2, 1), read(3, 4, 1)],
        [write(0, 10, 1), read(1, 2, None), read(3, 4, 1)],
        [write(0, 10, 1), write(0, 10, 2), read(11, 12, 1)],
        [write(0, None, 1), read(1, 2, None), read(50, 51, 1)],
        [write(0, None, 1), read(1, 2, None), read(50, 51, None)],
        [cas(0, 1, None, 1, True), cas(2, 3, None, 2, False), read(4, 5, 1)],
        [cas(0, 9, None, 1, True), cas(0, 9, 1, 2, True), read(10, 11, 2)],
    ],
    "versioned-register": [
        [versioned_read(0, 1, None, 0)],
        [versioned_write(0, 1, "a", 7), versioned_read(2, 3, "a", 7)],
        [versioned_write(0, 5, "a", 9), versioned_write(0, 5, "b", 7), versioned_read(6, 7, "a", 9)],
        [op(0, None, "write", value="a"), versioned_read(2, 3, "a", 4), versioned_cas(4, 5, 4, "b", 6)],
        [op(0, None, "write", value="a"), versioned_cas(2, 3, 4, "b", 6)],
        [versioned_write(0, 1, "a", 7), versioned_cas(2, 3, 6, "b", None), versioned_read(4, 5, "a", 7)],
        [versioned_write(0, 1, "a", 7), versioned_write(2, 3, None, 8), versioned_read(4, 5, None, 0)],
    ],
    "queue-end": [
        [append(0, 1, 3, 0), append(2, 3, 1, 3), end(4, 5, 4)],
        [append(0, 9, 3, 1), append(0, 9, 1, 0), end(1, 8, 1)],
        [append(0, None, 3), append(2, 3, 1, 3)],
        [append(0, None, 3), append(2, 3, 1, 0), end(4, 5, 4)],
        [append(0, None, 3, 1), append(2, 3, 1, 0), end(4, 5, 4)],
    ],
    "cursor": [
        [ack(0, 1, 5), acked(2, 3, 5)],
        [ack(0, 1, 5), ack(2, 3, 3), acked(4, 5, 5)],
        [ack(0, 9, 5), acked(1, 2, 0), acked(3, 4, 5)],
        [ack(0, None, 5), acked(1, 2, 0), acked(3, 4, 5)],
        [ack(0, 1, 5), failover(2, 3, 0), acked(4, 5, 3), acked(6, 7, 3)],
        [ack(0, 1, 5), failover(2, 3, 5), acked(4, 5, 5)],
        # taken back, and returned by a promise that the new master heard late
        [ack(0, 1, 5), failover(2, 3, 0), acked(4, 5, 3), acked(6, 7, 5), acked(8, 9, 5)],
        [ack(0, 1, 5), failover(0.5, 3, 0), acked(4, 5, 5), ack(6, 7, 9), acked(8, 9, 9)],
        [ack(0, 1, 5), op(2, 3, "replay", {}, position=1), acked(4, 5, 1)],
    ],
}

BAD: dict[str, dict[str, list[Operation]]] = {
    "lock": {
        "two holders": [acquire(0, 1, "a", 5), acquire(2, 3, "b", 6)],
        "a version that does not rise": [acquire(0, 1, "a", 5), release(2, 3, "a", 5), acquire(4, 5, "b", 5)],
        "a lease that ended early": [acquire(0, 1, "a", 5), expire(9, "a"), acquire(2, 3, "b", 6)],
        "renewed after somebody else had it": [
            *(acquire(0, 1, "a", 5), expire(1, "a"), acquire(2, 3, "b", 6)),
            renew(4, 5, "a", 5, True),
        ],
        "a stale read": [acquire(0, 1, "a", 5), release(2, 3, "a", 5), holder(4, 5, "a", 5)],
        "denied by nobody": [acquire(0, 1, "a", 5), release(2, 3, "a", 5), denied(4, 5, "b", "a", 5)],
        "released and still there": [
            *(acquire(0, 1, "a", 5), release(2, 3, "a", 5, None)),
            renew(4, 5, "a", 5, True),
        ],
        "not released although held": [acquire(0, 1, "a", 5), release(2, 3, "a", 5, False)],
        "lost for no reason": [acquire(0, 1, "a", 5), renew(2, 3, "a", 5, False)],
    },
    "register": {
        "a value nobody wrote": [write(0, 1, 5), read(2, 3, 6)],
        "a read of what is written later": [read(0, 1, 5), write(2, 3, 5)],
        "a stale read": [write(0, 1, 1), write(2, 3, 2), read(4, 5, 1)],
        "new, then old": [write(0, 1, 1), write(2, 20, 2), read(3, 4, 2), read(5, 6, 1)],
        "a lost update": [write(0, 1, 1), cas(2, 9, 1, 2, True), cas(2, 9, 1, 3, True)],
        "a swap that did not look": [write(0, 1, 1), cas(2, 3, 4, 5, True)],
        "a swap refused without a reason": [write(0, 1, 1), cas(2, 3, 1, 5, False)],
        "two readers disagree": [write(0, 9, 1), write(0, 9, 2), read(10, 11, 1), read(12, 13, 2)],
        "a lost write undone": [write(0, None, 1), read(1, 2, 1), read(3, 4, None)],
    },
    "versioned-register": {
        "a version given twice": [versioned_write(0, 1, "a", 7), versioned_write(2, 3, "b", 7)],
        "a version that falls": [versioned_write(0, 1, "a", 7), versioned_write(2, 3, "b", 6)],
        "the version falls after a deletion": [
            versioned_write(0, 1, "a", 7),
            versioned_write(2, 3, None, 8),
            versioned_write(4, 5, "b", 7),
        ],
        "a stale version": [versioned_write(0, 1, "a", 7), versioned_write(2, 3, "b", 8), versioned_read(4, 5, "a", 7)],
        "two swaps of one version": [
            versioned_write(0, 1, "a", 7),
            versioned_cas(2, 9, 7, "b", 8),
            versioned_cas(2, 9, 7, "c", 9),
        ],
        "two versions of one lost write": [
            op(0, None, "write", value="a"),
            versioned_read(1, 2, "a", 3),
            versioned_read(3, 4, "a", 4),
        ],
        "a swap refused at its version": [versioned_write(0, 1, "a", 7), versioned_cas(2, 3, 7, "b", None)],
    },
    "queue-end": {
        "a cursor given twice": [append(0, 9, 1, 0), append(0, 9, 1, 0)],
        "a gap": [append(0, 1, 1, 0), append(2, 3, 1, 2)],
        "an old end": [append(0, 1, 1, 0), end(2, 3, 0)],
        "a batch in front of an earlier one": [append(0, 1, 1, 1), append(2, 3, 1, 0)],
        "an append that is known, nowhere": [append(0, None, 3, 1), end(1, 2, 0), append(3, 4, 1, 9)],
        "the end of a lost append, then without it": [append(0, None, 3), end(1, 2, 3), end(3, 4, 0)],
    },
    "cursor": {
        "an acknowledgement nobody made": [ack(0, 1, 5), acked(2, 3, 6)],
        "an acknowledgement forgotten": [ack(0, 1, 5), acked(2, 3, 4)],
        "back without a failover": [ack(0, 1, 5), failover(2, 3, 0), acked(4, 5, 3), acked(6, 7, 2)],
        "forward without an acknowledgement": [ack(0, 1, 5), failover(2, 3, 0), acked(4, 5, 3), acked(6, 7, 6)],
        "returned, and gone again": [ack(0, 1, 5), failover(2, 3, 0), acked(4, 5, 3), acked(6, 7, 5), acked(8, 9, 3)],
        "returned from before a replay": [
            ack(0, 1, 5),
            failover(2, 3, 0),
            op(4, 5, "replay", {}, position=1),
            acked(6, 7, 5),
        ],
        "below what was replicated": [ack(0, 1, 5), failover(2, 3, 4), acked(4, 5, 3)],
        "two masters answer": [ack(0, 1, 5), failover(2, 3, 2), acked(4, 5, 2), acked(4, 6, 5), acked(7, 8, 2)],
    },
}


@pytest.mark.parametrize(
    ("kind", "history"), [(kind, history) for kind, histories in GOOD.items() for history in histories]
)
def test_good_histories(kind: str, history: list[Operation]) -> None:
    result = search(MODELS[kind], history)
    assert result.verdict is Verdict.LINEARIZABLE, result


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, histories in BAD.items() for name in histories])
def test_bad_histories(kind: str, name: str) -> None:
    result = search(MODELS[kind], BAD[kind][name])
    assert result.verdict is Verdict.NOT_LINEARIZABLE, result
    assert result.stuck


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_an_operation_that_is_none(kind: str) -> None:
    with pytest.raises(HistoryError, match="no operation 'explode'"):
        search(MODELS[kind], [op(0, 1, "explode", {})])
