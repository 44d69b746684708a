"""Batches that belong together: stored in one entry, all of them or none."""

from __future__ import annotations

from typing import Any

from phxqueue.net.status import Status
from phxqueue.proto.item_pb2 import ItemBatch
from phxqueue.proto.store_pb2 import StoreCommand
from phxqueue.store.idempotence import Idempotence
from phxqueue.store.outcomes import Duplicate, Refusal
from phxqueue.store.queues import StoreQueues
from tests.store.fakes import NOW_MS, VALUE, StoreUnderTest, batch


def together(*batches: ItemBatch) -> list[ItemBatch]:
    batches[0].header.atomic_batches = len(batches)
    return list(batches)


def applied(machine: StoreQueues, *batches: ItemBatch, version: int = 9) -> Any:
    command = StoreCommand(version=version, timestamp_ms=NOW_MS, batches=batches)
    return machine.apply(machine.applied + 1, VALUE, command.SerializeToString())


def numbered(sequence: int, queue_id: int = 1, **fields: Any) -> ItemBatch:
    return batch(queue_id, producer_id=5, sequence=sequence, **fields)


def test_they_are_stored_among_others() -> None:
    machine = StoreQueues()
    assert applied(machine, batch(1), *together(batch(1, 2), batch(2), batch(1)), batch(1)) == [0, 1, 0, 3, 4]


def test_a_second_try_of_all_has_their_outcomes() -> None:
    machine = StoreQueues()
    applied(machine, *together(numbered(1), numbered(2, 2)))
    assert applied(machine, *together(numbered(1), numbered(2, 2)), batch(1)) == [Duplicate(0, 1), Duplicate(0, 1), 1]


def test_when_one_may_have_been_stored_before_none_is_now() -> None:
    machine = StoreQueues(window=Idempotence(producer_outcomes=2))
    for sequence in (5, 6, 7, 8):
        applied(machine, numbered(sequence))
    assert machine.window.floor(5) == 6
    first, second, after = applied(machine, *together(numbered(6), numbered(9, 2)), batch(3))
    for refusal in (first, second):
        assert isinstance(refusal, Refusal)
        assert refusal.status is Status.OUT_OF_RANGE
        assert "none of the 2 batches that belong together was stored" in refusal.message
    assert (after, machine.end_cursor(2)) == (0, 0)


def test_one_that_is_known_and_one_that_is_new_are_both_refused() -> None:
    machine = StoreQueues()
    applied(machine, numbered(1))
    outcomes = applied(machine, *together(numbered(2, 2), numbered(1)))
    assert [outcome.status for outcome in outcomes] == [Status.OUT_OF_RANGE] * 2
    assert (machine.end_cursor(1), machine.end_cursor(2)) == (1, 0)


def test_a_group_that_cannot_be_right_is_refused_as_a_whole() -> None:
    machine = StoreQueues()
    short = together(batch(1), batch(2))[:1]
    empty = together(batch(1), batch(2, 0))
    nested = together(batch(1), *together(batch(2), batch(3)))
    for wrong in (short, empty, nested):
        outcomes = applied(machine, *wrong)
        assert [outcome.status for outcome in outcomes] == [Status.INVALID_ARGUMENT] * len(wrong)
    assert not machine.queues


def test_what_is_refused_together_is_not_read_either() -> None:
    store = StoreUnderTest()
    store.added(numbered(1, items=b"before"))
    store.group.append(
        StoreCommand(
            version=9,
            timestamp_ms=NOW_MS,
            batches=[*together(numbered(2, items=b"no"), numbered(1, items=b"nor")), batch(items=b"yes")],
        ).SerializeToString()
    )
    got = store.get(1, 0, random=True).answer
    assert [one.items for one in got.batches] == [b"before", b"yes"]


# ---- the service ---------------------------------------------------------------------------------


def test_they_travel_in_one_entry_that_older_nodes_would_not_take() -> None:
    store = StoreUnderTest()
    store.added(*together(batch(1), batch(2)))
    assert [StoreCommand.FromString(payload).version for payload in store.group.log] == [9]
    store.group.lowest_version = 8
    store.group.state_machine.version = 8
    error = store.add(*together(batch(1), batch(2))).error
    assert (error.status, error.maybe_executed) == (Status.UNAVAILABLE, False)


def test_a_request_that_says_wrong_things_is_refused_before_anything_is_stored() -> None:
    store = StoreUnderTest()
    wrong = together(batch(1), batch(2))[:1]
    key = together(batch(1), batch(2))
    key[1].header.idempotency_key = b"k"
    for batches, text in ((wrong, "more than there are"), (key, "no idempotency_key")):
        error = store.add(*batches).error
        assert error.status is Status.INVALID_ARGUMENT
        assert text in error.message
    assert not store.group.log
