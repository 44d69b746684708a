"""A master that lets old items go, and what readers of them are told."""

from __future__ import annotations

import pytest

from phxqueue.config import StoreLimits
from phxqueue.net.status import Status
from phxqueue.proto.store_pb2 import StoreCommand
from phxqueue.replica.errors import EntryUnreadable, OutcomeUnknown
from tests.store.fakes import StoreUnderTest, batch

DAY_S = 86_400.0


@pytest.fixture
def store() -> StoreUnderTest:
    """Queue 1 holds ten entries of ten items; groups 1 and 2 have acknowledged five and nine of them."""
    one = StoreUnderTest(StoreLimits(retention_interval_s=1.0))
    for _ in range(10):
        one.added(batch(1, 10))
    one.get(1, 1, limit=0, prev_cursor=50)
    one.get(1, 2, limit=0, prev_cursor=90)
    one.clock.advance(1.0)
    return one


def first(store: StoreUnderTest) -> int:
    return store.group.state_machine.first_cursor(1)


def test_what_everybody_has_acknowledged_goes_when_it_is_old(store: StoreUnderTest) -> None:
    store.clock.advance(DAY_S - 2)
    assert first(store) == 0
    store.clock.advance(3)
    assert first(store) == 50
    [status] = [status for status in store.service.queue_statuses() if status.queue_id == 1]
    assert (status.first_cursor, status.end_cursor) == (50, 100)


def test_nobody_trims_but_a_master_under_a_lease(store: StoreUnderTest) -> None:
    store.group.lease = False
    store.clock.advance(DAY_S + 2)
    assert first(store) == 0
    store.group.lease = True
    store.clock.advance(1)
    assert first(store) == 50


def test_no_trim_is_proposed_while_a_member_would_not_understand_it(store: StoreUnderTest) -> None:
    store.first_program(1)
    store.clock.advance(DAY_S + 2)
    assert first(store) == 0
    store.group.lowest_version = 2
    store.clock.advance(1)
    assert first(store) == 50
    # From then on whoever does not understand it has stopped at the first one already.
    store.group.lowest_version = 0
    store.get(1, 1, limit=0, prev_cursor=60)
    store.clock.pump([1, 1])
    assert first(store) == 60


def test_one_proposal_at_a_time_and_a_lost_one_is_made_again(store: StoreUnderTest) -> None:
    store.group.auto = False
    store.clock.advance(DAY_S + 2)
    store.clock.advance(5)
    [(payload, _)] = store.group.proposed
    command = StoreCommand.FromString(payload)
    assert (command.version, [(trim.queue_id, trim.first_cursor) for trim in command.trims]) == (7, [(1, 50)])
    store.group.lose(OutcomeUnknown("lost"))
    store.group.become_master()
    store.group.auto = True
    store.clock.advance(1)
    assert first(store) == 50


def test_a_queue_that_no_configured_pub_knows_keeps_everything() -> None:
    store = StoreUnderTest()
    store.group.append(StoreCommand(version=1, timestamp_ms=1, batches=[batch(77, 5, mask=0)]).SerializeToString())
    store.clock.advance(2 * DAY_S)
    assert store.group.state_machine.first_cursor(77) == 0


def test_everything_ends_with_the_service(store: StoreUnderTest) -> None:
    store.service.close()
    assert store.clock.getDelayedCalls() == []


# ---- readers ---------------------------------------------------------------------------------------


@pytest.fixture
def short(store: StoreUnderTest) -> StoreUnderTest:
    store.clock.advance(DAY_S + 2)
    assert first(store) == 50
    return store


def test_a_peek_below_the_first_cursor_is_told_the_earliest(short: StoreUnderTest) -> None:
    error = short.get(1, 0, random=True, next_cursor=49).error
    assert error.status is Status.OUT_OF_RANGE
    assert "49 of queue 1 is no longer there; the earliest item that is has cursor 50" in error.message
    assert short.get(1, 0, random=True, next_cursor=50, limit=10).answer.batches[0].first_cursor == 50
    assert short.get(1, 0, random=True, limit=10).answer.batches[0].first_cursor == 50


def test_a_group_reads_on_where_it_stands_and_is_told_when_that_is_elsewhere(short: StoreUnderTest) -> None:
    answer = short.get(1, 1, limit=10, next_cursor=50).answer
    assert (answer.reset, answer.prev_cursor, answer.batches[0].first_cursor) == (False, 50, 50)
    answer = short.get(1, 1, limit=10, next_cursor=20).answer
    assert (answer.reset, answer.prev_cursor, answer.batches[0].first_cursor) == (True, 50, 50)


def test_a_peek_whose_entries_are_trimmed_while_they_are_read(short: StoreUnderTest) -> None:
    short.group.uncached.update(range(20))
    peek = short.get(1, 0, random=True, next_cursor=50, limit=10)
    short.get(1, 1, limit=0, prev_cursor=60)
    short.clock.pump([1, 1])
    assert first(short) == 60
    _, reading = short.group.cold_reads.pop()
    reading.errback(EntryUnreadable("group 0: entry 5 is missing"))
    assert peek.error.status is Status.OUT_OF_RANGE


def test_a_group_that_is_not_concerned_is_passed_over_and_reads_on_where_the_queue_begins() -> None:
    store = StoreUnderTest()
    store.added(batch(1, 10, mask=0b01))
    store.get(1, 1, limit=0, prev_cursor=10)
    store.clock.pump([1, DAY_S, 1])
    assert first(store) == 10
    store.added(batch(1, 5, mask=0b11))
    answer = store.get(1, 2, limit=10).answer
    assert (answer.prev_cursor, answer.batches[0].first_cursor, answer.next_cursor) == (0, 10, 15)
    assert not store.get(1, 2, limit=10, next_cursor=15).answer.reset
    [status] = store.service.queue_statuses()
    assert [group.acked for group in status.groups] == [10, 10]
