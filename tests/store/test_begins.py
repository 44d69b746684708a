"""Counting where readers begin: what no crash of a consumer, a master or a node resets."""

from __future__ import annotations

import pytest

from phxqueue.store.begins import Begin, next_begin
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
        (LAST, 1, 10, 0, None),
        (LAST, 1, 30, 0, None),
    ],
)
def test_what_a_beginning_means(
    last: Begin | None, reader_id: int, acked: int, delivered: int, expected: Begin | None
) -> None:
    assert next_begin(last, reader_id, acked, delivered, 60) == expected


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
