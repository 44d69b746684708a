"""A reader whose lock has passed to another is refused, under whichever master."""

from __future__ import annotations

import pytest

from phxqueue.net.status import Status
from phxqueue.proto.store_pb2 import Fence, StoreCommand
from phxqueue.replica.errors import OutcomeUnknown
from phxqueue.store.queues import StoreQueues
from phxqueue.store.state import FENCE_VERSION
from tests.store.fakes import NOW_MS, VALUE, Call, StoreUnderTest, batch


@pytest.fixture
def store() -> StoreUnderTest:
    made = StoreUnderTest()
    made.added(batch(count=30))
    return made


def read(store: StoreUnderTest, token: int, **fields: int) -> Call:
    call = store.get(fencing_token=token, **fields)
    store.clock.advance(0)
    return call


def fenced(store: StoreUnderTest, token: int, **fields: int) -> bool:
    error = read(store, token, **fields).error
    return error.status is Status.FENCED


def test_a_lower_token_is_refused(store: StoreUnderTest) -> None:
    assert read(store, 5).answer.batches
    assert read(store, 7, limit=0).answer
    error = read(store, 6, prev_cursor=20).error
    assert error.status is Status.FENCED
    assert "read under lock version 7, this Get carries 6" in error.message
    assert store.get(limit=0).answer.prev_cursor == 0
    assert read(store, 1, group_id=2).answer
    assert read(store, 1, queue_id=2).answer


def test_a_token_costs_one_entry_however_often_it_comes(store: StoreUnderTest) -> None:
    entries = len(store.group.log)
    for _ in range(5):
        assert read(store, 7, limit=0).answer
    assert len(store.group.log) == entries + 1


def test_the_next_master_knows_the_token(store: StoreUnderTest) -> None:
    assert read(store, 7).answer.batches
    store.group.lose(OutcomeUnknown("lost"), master=1)
    store.group.become_master()
    assert fenced(store, 6, prev_cursor=20)
    assert read(store, 7, prev_cursor=20).answer.prev_cursor == 20


def test_nobody_is_answered_before_the_token_is_replicated() -> None:
    store = StoreUnderTest(auto=False)
    store.add(batch(count=30))
    store.clock.advance(0)
    store.group.choose()
    first, second = read(store, 7), read(store, 9)
    assert first.pending
    assert second.pending
    store.group.choose(len(store.group.proposed))
    store.clock.advance(0)
    # A higher one has come meanwhile: the lower one is too late.
    assert first.error.status is Status.FENCED
    assert second.answer.batches


def test_who_waits_for_it_when_mastership_goes_is_sent_on() -> None:
    store = StoreUnderTest(auto=False)
    waiting = read(store, 7)
    store.group.lose(OutcomeUnknown("lost"), master=1)
    assert waiting.error.status in (Status.UNAVAILABLE, Status.NOT_MASTER)


def test_a_long_poll_of_a_reader_that_has_lost_its_lock_gets_nothing(store: StoreUnderTest) -> None:
    waiting = read(store, 5, wait_ms=5000, next_cursor=30, prev_cursor=30)
    assert waiting.pending
    assert read(store, 7, limit=0).answer
    store.added(batch(count=1))
    assert waiting.error.status is Status.FENCED


def test_readers_without_a_lock_are_not_asked_for_one(store: StoreUnderTest) -> None:
    assert read(store, 7).answer
    assert read(store, 0, limit=0).answer


def test_tokens_stay_in_memory_while_a_node_does_not_know_the_command(store: StoreUnderTest) -> None:
    store.group.lowest_version = FENCE_VERSION - 1
    entries = len(store.group.log)
    assert read(store, 7).answer
    assert fenced(store, 6)
    assert len(store.group.log) == entries


def test_a_full_window_is_waited_for() -> None:
    store = StoreUnderTest(auto=False)
    store.group.window = 0
    waiting = read(store, 7)
    store.clock.advance(0.005)
    assert not store.group.proposed
    store.group.window = 1
    store.clock.advance(0.005)
    store.group.choose()
    assert waiting.answer


def test_replicas_and_checkpoints_have_the_same() -> None:
    machine, other = StoreQueues(), StoreQueues()
    fences = [
        Fence(queue_id=1, consumer_group_id=2, token=9),
        Fence(queue_id=1, consumer_group_id=2, token=8),
        Fence(queue_id=1, consumer_group_id=65, token=8),
    ]
    command = StoreCommand(version=FENCE_VERSION, timestamp_ms=NOW_MS, fences=fences)
    machine.apply(0, VALUE, command.SerializeToString())
    assert machine.fences == {(1, 2): 9}
    other.restore(machine.checkpoint().state, ())
    assert other.fences == machine.fences
    assert other.state_hash() == machine.state_hash() != StoreQueues().state_hash()
