"""The search itself: against the definition, tried out by brute force, and against its bounds."""

from __future__ import annotations

from itertools import combinations, permutations
from random import Random
from typing import Any

import pytest

from phxqueue.testing.linearizability import Model, Operation, Verdict, search
from phxqueue.testing.linearizability.cursor import Cursor
from phxqueue.testing.linearizability.queue_end import QueueEnd
from phxqueue.testing.linearizability.register import Register
from phxqueue.testing.linearizability.versioned_register import VersionedRegister


def op(call: float, returned: float | None, name: str, result: dict[str, Any] | None = None, **arguments: Any) -> Any:
    return Operation(
        object="?", key="k", client="c", name=name, arguments=arguments, call=call, returned=returned, result=result
    )


def orders(operations: list[Operation]) -> list[tuple[Operation, ...]]:
    """Every order of the required operations and any of the others that respects real time."""
    required = [operation for operation in operations if operation.required]
    others = [operation for operation in operations if not operation.required]
    chosen = [required + list(some) for count in range(len(others) + 1) for some in combinations(others, count)]
    return [order for one in chosen for order in permutations(one) if in_real_time(order)]


def in_real_time(order: tuple[Operation, ...]) -> bool:
    return not any(
        later.returned is not None and later.returned < earlier.call
        for place, earlier in enumerate(order)
        for later in order[place + 1 :]
    )


def agrees(model: Model[Any], order: tuple[Operation, ...]) -> bool:
    state = model.initial()
    for operation in order:
        state = model.step(state, operation)
        if state is None:
            return False
    return True


def random_register(random: Random) -> Operation:
    kind = random.choice(("read", "write", "cas"))
    value = random.randrange(2)
    if kind == "read":
        return op(0, 0, "read", {"value": random.choice((None, 0, 1))})
    if kind == "write":
        return op(0, 0, "write", {}, value=value)
    return op(0, 0, "cas", {"swapped": random.random() < 0.5}, expected=random.choice((None, 0, 1)), value=value)


def random_versioned(random: Random) -> Operation:
    kind = random.choice(("read", "write", "cas"))
    value, version = random.choice((None, "a", "b")), random.randrange(1, 4)
    if kind == "read":
        return op(0, 0, "read", {"value": value, "version": version if value else 0})
    if kind == "write":
        return op(0, 0, "write", {"version": version}, value=value)
    result = {"version": random.choice((None, version))}
    return op(0, 0, "cas", result, expected=random.randrange(3), value=value)


def random_queue_end(random: Random) -> Operation:
    if random.random() < 0.5:
        return op(0, 0, "end", {"end": random.randrange(5)})
    return op(0, 0, "append", {"first": random.randrange(4)}, count=random.randrange(1, 3))


def random_cursor(random: Random) -> Operation:
    kind = random.choice(("ack", "ack", "read", "read", "failover", "replay"))
    position = random.randrange(4)
    if kind == "read":
        return op(0, 0, "read", {"position": position})
    if kind == "failover":
        return op(0, 0, "failover", {}, floor=random.randrange(2))
    return op(0, 0, kind, {}, position=position)


KINDS = [
    (Register(), random_register),
    (VersionedRegister(), random_versioned),
    (QueueEnd(), random_queue_end),
    (Cursor(), random_cursor),
]


@pytest.mark.parametrize(("model", "draw"), KINDS, ids=lambda part: type(part).__name__)
def test_it_finds_an_order_exactly_if_there_is_one(model: Model[Any], draw: Any) -> None:
    random = Random(5)
    verdicts = []
    for _ in range(600):
        operations = []
        for _ in range(random.randrange(1, 6)):
            drawn = draw(random)
            call = random.randrange(8)
            returned = call + random.randrange(4)
            fate = random.random()
            operations.append(
                op(
                    call,
                    returned if fate < 0.7 else None,
                    drawn.name,
                    drawn.result if fate < 0.85 else None,
                    **drawn.arguments,
                )
            )
        result = search(model, operations)
        expected = any(agrees(model, order) for order in orders(operations))
        assert (result.verdict is Verdict.LINEARIZABLE) == expected, "\n".join(map(str, operations))
        assert in_real_time(result.order)
        assert agrees(model, result.order)
        if expected:
            assert {id(one) for one in operations if one.required} <= {id(one) for one in result.order}
        verdicts.append(expected)
    assert 50 < sum(verdicts) < 550


def executed(seed: int, clients: int, steps: int) -> list[Operation]:
    """A register really operated on by clients whose calls overlap."""
    random = Random(seed)
    operations = []
    busy: dict[int, tuple[float, str, dict[str, Any], dict[str, Any]]] = {}
    value: int | None = None
    for moment in range(steps):
        client = random.randrange(clients)
        if client in busy:
            call, name, arguments, result = busy.pop(client)
            operations.append(op(call, moment, name, result, **arguments))
            continue
        if random.random() < 0.5:
            busy[client] = (moment - 1.5, "read", {}, {"value": value})
        else:
            value = moment
            busy[client] = (moment - 1.5, "write", {"value": value}, {})
    return operations + [op(call, None, name, None, **arguments) for call, name, arguments, _ in busy.values()]


def test_what_was_really_executed_is_linearizable() -> None:
    for seed in range(5):
        assert search(Register(), executed(seed, clients=8, steps=1000)).verdict is Verdict.LINEARIZABLE


def test_one_wrong_answer_among_many_is_found() -> None:
    operations = executed(1, clients=6, steps=600)
    reads = [place for place, one in enumerate(operations) if one.name == "read" and one.result and one.result["value"]]
    spoilt = reads[len(reads) // 2]
    bad = operations[spoilt]
    operations[spoilt] = op(bad.call, bad.returned, "read", {"value": -1})
    result = search(Register(), operations)
    assert result.verdict is Verdict.NOT_LINEARIZABLE
    assert operations[spoilt] in result.stuck


def test_the_memory_keeps_equal_futures_from_being_tried_again() -> None:
    """Twenty writes of one value at once: 20! orders, 2**20 sets; then a read that nobody can explain."""
    writes = [op(0, 10, "write", {}, value=1) for _ in range(14)]
    result = search(Register(), [*writes, op(11, 12, "read", {"value": 2})])
    assert result.verdict is Verdict.NOT_LINEARIZABLE
    assert result.states <= 1 << 15


def test_it_says_undecided_when_its_bound_is_hit() -> None:
    writes = [op(0, 10, "write", {}, value=value) for value in range(14)]
    result = search(Register(), [*writes, op(11, 12, "read", {"value": -1})], max_states=1000)
    assert (result.verdict, result.states) == (Verdict.UNDECIDED, 1000)


def test_operations_of_unknown_outcome_that_change_nothing_cost_nothing() -> None:
    lost = [op(0, None, "read") for _ in range(200)] + [op(0, None, "cas", expected=9, value=1) for _ in range(200)]
    result = search(Register(), [*lost, op(1, 2, "write", {}, value=1), op(3, 4, "read", {"value": 1})])
    assert result.verdict is Verdict.LINEARIZABLE
    assert result.states < 10


def test_nothing_is_linearizable() -> None:
    assert search(Register(), []).verdict is Verdict.LINEARIZABLE
    assert search(Register(), [op(0, None, "write", value=1)]).verdict is Verdict.LINEARIZABLE
