"""Counting where readers begin: what no crash of a consumer, a master or a node resets."""

from __future__ import annotations

import pytest

from phxqueue.store.begins import Begin, after_leaving, next_begin
from phxqueue.store.queues import StoreQueues
from tests.store.fakes import StoreUnderTest, batch

LAST = Begin(acked=10, end=50, reader_id=1, count=2)


@pytest.mark.parametrize(
    ("last", "reader_id", "acked", "delivered", "expected"),
    [
        (None, 1, 10, 0, Begin(10, 60, 1, 1)),
        (None, 1, 10, 10, Begin(10, 60, 1, 1)),
        (None, 1, 10, 11, Begin(10, 60, 1, 2)),  # this master handed it out before
        (LAST, 2, 10, 0, Begin(10, 60, 2, 3)),  # nobody got on
        (LAST, 2, 20, 0, Begin(20, 60, 2, 2)),  # somebody did, and not to the end
        (LAST, 2, 50, 0, Begin(50, 60, 2, 1)),  # to the end
        (LAST, 2, 50, 55, Begin(50, 60, 2, 2)),  # of what another master handed out
        (Begin(10, 50, 1, 4), 2, 20, 0, Begin(20, 60, 2, 3)),  # what stands there now was not there four times
        (Begin(10, 50, 1, 0), 2, 10, 0, Begin(10, 60, 2, 1)),  # the last one left, and nobody crashed before
        (Begin(10, 50, 1, 0), 2, 20, 0, Begin(20, 60, 2, 1)),
        (Begin(10, 50, 1, 2), 2, 10, 0, Begin(10, 60, 2, 3)),  # the last one left, two before had crashed
        (LAST, 1, 10, 0, None),
        (LAST, 1, 30, 0, None),
    ],
)
def test_what_a_beginning_means(
    last: Begin | None, reader_id: int, acked: int, delivered: int, expected: Begin | None
) -> None:
    assert next_begin(last, reader_id, acked, delivered, 60) == expected


@pytest.mark.parametrize(
    ("last", "reader_id", "acked", "delivered", "expected"),
    [
        (LAST, 1, 10, 0, Begin(10, 50, 1, 1)),  # it does not count, the one before it does
        (LAST, 1, 20, 80, Begin(20, 80, 1, 1)),
        (Begin(10, 50, 1, 1), 1, 10, 50, Begin(10, 50, 1, 0)),
        (LAST, 1, 50, 80, Begin(50, 80, 1, 0)),  # it got past everything that was handed out before it
        (LAST, 1, 50, 50, None),  # nothing is left unfinished
        (Begin(10, 50, 1, 0), 1, 10, 50, None),  # said again
        (LAST, 2, 10, 50, None),  # another one began since
        (None, 1, 10, 50, None),
    ],
)
def test_what_leaving_means(
    last: Begin | None, reader_id: int, acked: int, delivered: int, expected: Begin | None
) -> None:
    assert after_leaving(last, reader_id, acked, delivered) == expected


def begins(store: StoreUnderTest, reader_id: int, **fields: int) -> int:
    count = store.get(reader_id=reader_id, **fields).answer.begins
    store.clock.advance(0.1)
    return int(count)


def test_readers_that_stand_still_are_counted_across_masters_and_restarts() -> None:
    store = StoreUnderTest()
    store.added(batch(count=5), batch(count=5))
    assert begins(store, 1) == 1
    assert begins(store, 1) == 1  # its answer got lost
    assert begins(store, 2) == 2
    store.group.lose(RuntimeError("mastership lost"))
    store.group.become_master()
    assert begins(store, 3) == 3
    checkpoint = store.group.state_machine.checkpoint()
    restarted = StoreQueues()
    restarted.restore(checkpoint.state, checkpoint.segments)
    assert restarted.begins.known == store.group.state_machine.begins.known
    assert restarted.state_hash() == store.group.state_machine.state_hash()


def test_a_reader_that_goes_on_or_has_no_name_is_not_counted() -> None:
    store = StoreUnderTest()
    store.added(batch(count=5), batch(count=5))
    assert begins(store, 1, limit=5) == 1
    assert begins(store, 1, limit=5, next_cursor=5, prev_cursor=5) == 0
    assert begins(store, 0) == 0
    assert store.group.state_machine.begins.known[1, 1].count == 1


def test_commands_of_beginnings_wait_until_all_nodes_know_them() -> None:
    store = StoreUnderTest()
    store.group.lowest_version = 2
    store.added(batch())
    entries = len(store.group.log)
    assert begins(store, 1) == 1
    assert len(store.group.log) == entries


def leave(store: StoreUnderTest, reader_id: int, **fields: int) -> None:
    assert not store.get(limit=0, reader_id=reader_id, leaving=True, **fields).answer.batches
    store.clock.advance(0.1)


def test_readers_that_leave_are_not_counted() -> None:
    store = StoreUnderTest()
    store.added(batch(count=5), batch(count=5))
    for reader in range(1, 7):
        assert begins(store, reader) == 1
        leave(store, reader)
    assert begins(store, 7) == 1
    assert begins(store, 8) == 2, "7 has not left"
    leave(store, 8)
    store.group.lose(RuntimeError("mastership lost"))
    store.group.become_master()
    assert begins(store, 9) == 2, "8 has, and its successor knows"


def test_leaving_right_after_beginning_is_heard() -> None:
    store = StoreUnderTest()
    store.added(batch(count=5))
    for reader in range(1, 4):
        assert store.get(reader_id=reader).answer.begins == 1
        store.get(limit=0, reader_id=reader, leaving=True)
    store.clock.advance(0.1)
    assert begins(store, 9) == 1


def test_a_reader_that_leaves_far_from_where_it_began() -> None:
    store = StoreUnderTest()
    store.added(*[batch(count=5) for _ in range(4)])
    assert begins(store, 1, limit=5) == 1
    assert begins(store, 1, limit=5, next_cursor=5, prev_cursor=5) == 0
    assert begins(store, 1, limit=5, next_cursor=10, prev_cursor=10) == 0
    leave(store, 1, prev_cursor=10)
    assert begins(store, 2) == 1


def test_one_that_does_not_leave_has_crashed_wherever_it_was() -> None:
    store = StoreUnderTest()
    store.added(*[batch(count=5) for _ in range(4)])
    assert begins(store, 1, limit=5) == 1
    assert begins(store, 1, limit=5, next_cursor=5, prev_cursor=5) == 0
    assert begins(store, 2) == 2
