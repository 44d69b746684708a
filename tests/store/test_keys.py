"""Idempotency keys: one batch per key and pub within the window, whoever sends it, on every replica alike."""

from __future__ import annotations

from typing import Any

from phxqueue.net.status import Status
from phxqueue.proto.item_pb2 import ItemBatch
from phxqueue.proto.store_pb2 import AddResult, KeyBounds, StoreCommand
from phxqueue.store.outcomes import Delayed, KeyDuplicate, Refusal
from phxqueue.store.queues import StoreQueues
from tests.store.fakes import NOW_MS, VALUE, StoreUnderTest, batch

HOUR_MS = 3_600_000


def keyed(key: bytes, body: int = 1, queue_id: int = 1, **fields: Any) -> ItemBatch:
    one = batch(queue_id, **fields)
    one.header.idempotency_key, one.header.body_digest = key, body
    return one


def bounds(window_ms: int = HOUR_MS, most: int = 100, pub_id: int = 1) -> KeyBounds:
    return KeyBounds(pub_id=pub_id, window_ms=window_ms, most=most)


def applied(
    machine: StoreQueues, *batches: ItemBatch, at_ms: int = 0, said: KeyBounds | None = None, version: int = 9
) -> Any:
    command = StoreCommand(version=version, timestamp_ms=NOW_MS + at_ms, batches=batches)
    if said is not None:
        command.key_bounds.append(said)
    return machine.apply(machine.applied + 1, VALUE, command.SerializeToString())


def restarted(machine: StoreQueues) -> StoreQueues:
    checkpoint = machine.checkpoint()
    copy = StoreQueues()
    copy.restore(checkpoint.state, checkpoint.segments)
    assert copy.state_hash() == machine.state_hash()
    return copy


def test_the_first_of_a_key_is_stored_and_the_others_get_its_outcome() -> None:
    machine = StoreQueues()
    assert applied(machine, batch(1, 3), keyed(b"a", count=2), said=bounds()) == [0, 3]
    assert applied(machine, keyed(b"a", count=2), keyed(b"b"), keyed(b"a", count=2)) == [
        KeyDuplicate(3, 2, False, queue_id=1),
        5,
        KeyDuplicate(3, 2, False, queue_id=1),
    ]
    assert machine.end_cursor(1) == 6
    assert machine.refused[1] == (0, 2)


def test_two_of_one_entry_are_stored_once() -> None:
    machine = StoreQueues()
    first, second = applied(machine, keyed(b"a"), keyed(b"a"), said=bounds())
    assert (first, second, machine.end_cursor(1)) == (0, KeyDuplicate(0, 1, False, queue_id=1), 1)


def test_another_queue_of_the_pub_and_another_producer_make_no_difference_another_pub_does() -> None:
    machine = StoreQueues()
    applied(machine, keyed(b"a", producer_id=1, sequence=1), said=bounds())
    again, other = applied(
        machine, keyed(b"a", queue_id=2, producer_id=2, sequence=9), keyed(b"a", pub_id=2), said=bounds(pub_id=2)
    )
    assert (again, other) == (KeyDuplicate(0, 1, False, queue_id=1), 1)


def test_the_same_key_with_something_else_is_refused() -> None:
    machine = StoreQueues()
    applied(machine, keyed(b"a"), said=bounds())
    for other in (keyed(b"a", body=2), keyed(b"a", count=2)):
        [refusal] = applied(machine, other)
        assert isinstance(refusal, Refusal)
        assert refusal.status is Status.ALREADY_EXISTS
        assert "idempotency_key b'a' of pub 1 was used for something else" in refusal.message
    assert machine.end_cursor(1) == 1


def test_a_key_is_forgotten_when_it_is_as_old_as_the_window_and_not_before() -> None:
    machine = StoreQueues()
    applied(machine, keyed(b"a"), said=bounds(window_ms=1000))
    assert applied(machine, keyed(b"a"), at_ms=999) == [KeyDuplicate(0, 1, False, queue_id=1)]
    assert applied(machine, keyed(b"a"), at_ms=1000) == [1]
    assert len(machine.keys) == 1


def test_when_there_are_too_many_new_ones_are_refused_and_old_ones_still_known() -> None:
    machine = StoreQueues()
    applied(machine, keyed(b"a"), keyed(b"b"), said=bounds(1000, 2))
    known, refusal = applied(machine, keyed(b"a"), keyed(b"c"))
    assert isinstance(known, KeyDuplicate)
    assert isinstance(refusal, Refusal)
    assert refusal.status is Status.RESOURCE_EXHAUSTED
    assert "idempotency_keys" in refusal.message
    assert applied(machine, keyed(b"c"), at_ms=1000) == [2]


def test_bounds_are_those_of_the_log() -> None:
    machine = StoreQueues()
    [refusal] = applied(machine, keyed(b"a"))
    assert isinstance(refusal, Refusal)
    applied(machine, keyed(b"a"), said=bounds())
    applied(machine, keyed(b"b"), at_ms=500, said=bounds(window_ms=400))
    assert len(machine.keys) == 1
    assert machine.keys.known_bounds(1) == (400, 100)


def test_a_retry_under_its_sequence_has_the_outcome_of_the_key_even_when_the_key_is_forgotten() -> None:
    machine = StoreQueues()
    applied(machine, keyed(b"a"), said=bounds(window_ms=1000))
    second = keyed(b"a", producer_id=5, sequence=1)
    applied(machine, second, at_ms=900)
    [outcome] = applied(machine, second, at_ms=2000)
    assert (outcome.first_cursor, machine.end_cursor(1)) == (0, 1)


def test_delayed_batches_have_keys_as_well() -> None:
    machine = StoreQueues()
    due = keyed(b"a", deliver_at_ms=NOW_MS + 100)
    later = keyed(b"a", deliver_at_ms=NOW_MS + 200)
    known = KeyDuplicate(1, 1, True, queue_id=1, deliver_at_ms=NOW_MS + 100)
    assert applied(machine, due, later, said=bounds()) == [Delayed(1), known]
    assert len(machine.timers) == 1


def test_commands_from_before_keys_do_not_know_them() -> None:
    machine = StoreQueues()
    assert applied(machine, keyed(b"a"), keyed(b"a"), version=8) == [0, 1]


def test_a_checkpoint_has_the_keys_and_writes_most_of_them_once() -> None:
    machine = StoreQueues()
    applied(machine, *[keyed(b"%d" % number) for number in range(1500)], said=bounds(most=10_000))
    first = machine.checkpoint()
    machine = restarted_from(first, machine)
    applied(machine, keyed(b"more"))
    second = machine.checkpoint()
    assert [key for key, _ in first.segments if key.startswith(b"k")] == [b"k" + b"\0\0\0\1" + bytes(8)]
    assert not [key for key, _ in second.segments if key.startswith(b"k")]
    again = StoreQueues()
    again.restore(second.state, [*first.segments, *second.segments])
    [known, new] = applied(again, keyed(b"7"), keyed(b"new"))
    assert known == KeyDuplicate(7, 1, False, queue_id=1)
    assert new == 1501


def restarted_from(checkpoint: Any, machine: StoreQueues) -> StoreQueues:
    copy = StoreQueues()
    copy.restore(checkpoint.state, checkpoint.segments)
    assert copy.state_hash() == machine.state_hash()
    return copy


def test_a_restarted_replica_forgets_as_the_others_do() -> None:
    machine = StoreQueues()
    applied(machine, keyed(b"a"), said=bounds(window_ms=1000))
    applied(machine, keyed(b"b"), at_ms=600)
    copy = restarted(machine)
    for one in (machine, copy):
        assert applied(one, keyed(b"a"), keyed(b"b"), at_ms=1200) == [2, KeyDuplicate(1, 1, False, queue_id=1)]
    assert copy.state_hash() == machine.state_hash()


# ---- the service ---------------------------------------------------------------------------------


def results(store: StoreUnderTest, *batches: ItemBatch) -> list[AddResult]:
    call = store.add(*batches)
    store.clock.advance(0)
    return list(call.answer.results)


def test_the_bounds_of_the_pub_stand_in_front_of_the_first_batch_with_a_key_only() -> None:
    store = StoreUnderTest()
    results(store, keyed(b"a"), batch())
    results(store, keyed(b"b"))
    first, second = (StoreCommand.FromString(payload) for payload in store.group.log)
    assert [(one.pub_id, one.window_ms, one.most) for one in first.key_bounds] == [(1, HOUR_MS, 100_000)]
    assert (first.version, second.version, len(second.key_bounds)) == (9, 9, 0)


def test_a_known_key_is_answered_without_an_entry() -> None:
    store = StoreUnderTest()
    results(store, batch(2, 5), keyed(b"a", queue_id=2))
    entries = len(store.group.log)
    [again] = results(store, keyed(b"a", queue_id=1))
    assert (again.by_key, again.duplicate, again.queue_id, again.first_cursor) == (True, True, 2, 5)
    [other] = results(store, keyed(b"a", body=2))
    assert Status(other.status) is Status.ALREADY_EXISTS
    assert len(store.group.log) == entries


def test_concurrent_sends_of_one_key_are_stored_once() -> None:
    store = StoreUnderTest()
    store.group.auto = False
    calls = [store.add(keyed(b"a", producer_id=producer, sequence=1)) for producer in (1, 2, 3)]
    store.clock.advance(0)
    while store.group.proposed:
        store.group.choose()
        store.clock.advance(0.01)
    assert {call.answer.results[0].first_cursor for call in calls} == {0}
    assert store.group.state_machine.end_cursor(1) == 1


def test_keys_wait_for_the_last_node_to_be_upgraded() -> None:
    store = StoreUnderTest()
    store.group.lowest_version = 8
    error = store.add(keyed(b"a")).error
    assert (error.status, error.maybe_executed) == (Status.UNAVAILABLE, False)
    assert "knows no idempotency keys" in error.message


def test_a_key_that_is_too_long_is_refused() -> None:
    store = StoreUnderTest()
    assert "65 bytes, more than 64" in store.add(keyed(b"k" * 65)).error.message
