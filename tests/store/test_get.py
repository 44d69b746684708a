"""Get through the service: reading, acknowledging, positions, limits, delay, cold entries, lost leases."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError

from phxqueue.config import StoreLimits, dead_letter_queue
from phxqueue.net.status import Status
from phxqueue.proto.store_pb2 import GetRequest, GetResponse, StoreCommand
from phxqueue.replica.errors import EntryUnreadable, OutcomeUnknown, Overloaded
from tests.store.fakes import NO_CONTEXT, NOW_MS, Call, StoreUnderTest, batch, command


def cursors(response: GetResponse) -> list[tuple[int, int]]:
    """(first cursor, count) of every batch."""
    return [(one.first_cursor, one.header.count) for one in response.batches]


def filled(entries: int = 3, count: int = 10, **fields: Any) -> StoreUnderTest:
    """A queue 1 of some entries of one batch each."""
    store = StoreUnderTest(**fields)
    for _ in range(entries):
        store.added(batch(count=count))
    return store


def test_reads_what_was_added_with_cursors_and_time() -> None:
    store = StoreUnderTest()
    store.added(batch(count=2, items=b"first", digest=7), batch(2, items=b"elsewhere"))
    store.added(batch(count=1, items=b"second"))
    got = store.get().answer
    assert [(one.first_cursor, one.items, one.timestamp_ms) for one in got.batches] == [
        (0, b"first", NOW_MS),
        (2, b"second", NOW_MS),
    ]
    assert got.batches[0].header == batch(count=2, digest=7).header
    assert (got.prev_cursor, got.next_cursor, got.end_cursor, got.reset) == (0, 3, 3, False)


def test_an_empty_queue_gives_an_empty_answer() -> None:
    got = StoreUnderTest().get().answer
    assert (cursors(got), got.next_cursor, got.end_cursor) == ([], 0, 0)


# ---- limits -------------------------------------------------------------------------------------


def test_stops_at_the_items_wanted_but_gives_a_whole_batch() -> None:
    store = filled()
    assert cursors(store.get(limit=20).answer) == [(0, 10), (10, 10)]
    assert cursors(store.get(limit=19).answer) == [(0, 10)]
    assert cursors(store.get(limit=1).answer) == [(0, 10)]


def test_stops_at_the_bytes_wanted() -> None:
    store = StoreUnderTest()
    for _ in range(3):
        store.added(batch(items=bytes(100)))
    assert len(store.get(limit_bytes=200).answer.batches) == 2
    assert len(store.get(limit_bytes=150).answer.batches) == 1
    assert len(store.get(limit_bytes=1).answer.batches) == 1


def test_the_servers_own_bounds_hold() -> None:
    store = filled(limits=StoreLimits(limit_items=20))
    assert cursors(store.get(limit=1000).answer) == [(0, 10), (10, 10)]
    store = StoreUnderTest(StoreLimits(limit_bytes=1024))
    for _ in range(3):
        store.added(batch(items=bytes(500)))
    assert len(store.get(limit_bytes=10**6).answer.batches) == 2


# ---- positions --------------------------------------------------------------------------------------


def test_a_reader_continues_and_acknowledges() -> None:
    store = filled()
    got = store.get(limit=10).answer
    got = store.get(limit=10, next_cursor=got.next_cursor).answer
    assert (cursors(got), got.prev_cursor) == ([(10, 10)], 0)
    got = store.get(limit=10, next_cursor=20, prev_cursor=10).answer
    assert (cursors(got), got.prev_cursor, got.reset) == ([(20, 10)], 10, False)


def test_a_reader_at_another_position_is_reset_to_what_is_acknowledged() -> None:
    store = filled()
    store.get(limit=20)
    store.get(limit=0, prev_cursor=10)
    got = store.get(next_cursor=15).answer
    assert (cursors(got), got.reset, got.prev_cursor) == ([(10, 10), (20, 10)], True, 10)
    got = store.get(next_cursor=30).answer
    assert (cursors(got), got.reset) == ([], False)


def test_a_restarted_reader_gets_everything_unacknowledged_again() -> None:
    store = filled()
    store.get(limit=30, prev_cursor=10)
    got = store.get().answer
    assert (cursors(got), got.reset) == ([(10, 10), (20, 10)], False)


def test_an_acknowledgement_inside_a_batch_redelivers_the_whole_batch() -> None:
    store = filled()
    got = store.get(prev_cursor=13).answer
    assert (cursors(got), got.prev_cursor) == ([(10, 10), (20, 10)], 13)


def test_groups_are_independent() -> None:
    store = filled()
    store.get(group_id=1, prev_cursor=20)
    assert cursors(store.get(group_id=2).answer) == [(0, 10), (10, 10), (20, 10)]
    assert store.get(group_id=1).answer.prev_cursor == 20


def test_limit_0_only_acknowledges() -> None:
    store = filled()
    store.get(limit=20)
    got = store.get(limit=0, prev_cursor=10).answer
    assert (cursors(got), got.prev_cursor, got.next_cursor, got.end_cursor) == ([], 10, 20, 30)
    assert cursors(store.get(next_cursor=20).answer) == [(20, 10)]
    assert store.get(group_id=2, limit=0).answer.next_cursor == 0


def test_positions_of_another_life_of_the_queue_reset_the_reader_and_acknowledge_nothing() -> None:
    store = filled()
    got = store.get(prev_cursor=500, next_cursor=600).answer
    assert (got.prev_cursor, got.reset, len(got.batches)) == (0, True, 3)
    assert store.get(limit=0, prev_cursor=500).answer.reset
    got = store.get(prev_cursor=500, next_cursor=30).answer
    assert (got.prev_cursor, got.reset, len(got.batches)) == (0, True, 3)


# ---- cursors are replicated ---------------------------------------------------------------------


def moves(payload: bytes) -> list[tuple[int, int, int]]:
    return [(one.queue_id, one.consumer_group_id, one.acked) for one in StoreCommand.FromString(payload).cursor_moves]


def test_an_acknowledgement_is_proposed_alone_after_the_interval() -> None:
    store = filled(store_sync_interval_ms=200)
    store.get(prev_cursor=10)
    store.get(prev_cursor=20)
    store.get(group_id=2, prev_cursor=5)
    store.clock.advance(0.199)
    assert len(store.group.log) == 3
    store.clock.advance(0.002)
    store.clock.advance(0)
    assert moves(store.group.log[3]) == [(1, 1, 20), (1, 2, 5)]
    assert store.group.state_machine.acked == {(1, 1): 20, (1, 2): 5}
    store.get(prev_cursor=20)
    store.clock.advance(1)
    assert len(store.group.log) == 4


def test_an_acknowledgement_rides_on_the_next_entry() -> None:
    store = filled()
    store.get(prev_cursor=10)
    store.added(batch())
    assert moves(store.group.log[3]) == [(1, 1, 10)]
    store.clock.advance(1)
    assert len(store.group.log) == 4


def test_an_acknowledgement_whose_entry_failed_is_proposed_again() -> None:
    store = filled()
    store.group.auto = False
    store.get(prev_cursor=10)
    store.clock.advance(0.3)
    store.clock.advance(0)
    store.group.give_up(Overloaded("full"))
    store.clock.advance(0.3)
    store.clock.advance(0)
    assert moves(store.group.proposed[0][0]) == [(1, 1, 10)]


def test_after_a_failover_at_most_the_unreplicated_is_redelivered() -> None:
    store = filled()
    store.get(limit=10, prev_cursor=10)
    store.clock.advance(0.3)
    store.clock.advance(0)
    store.get(limit=10, next_cursor=20, prev_cursor=20)
    store.group.lose(OutcomeUnknown("lost"))
    store.clock.advance(1)
    assert len(store.group.log) == 4  # a former master proposes nothing
    store.group.become_master()
    got = store.get().answer
    assert (got.prev_cursor, cursors(got)) == (10, [(10, 10), (20, 10)])


def test_a_new_master_believes_the_reader_that_continues() -> None:
    store = filled()
    store.get(limit=20)
    store.group.lose(OutcomeUnknown("lost"))
    store.group.become_master()
    got = store.get(next_cursor=20, prev_cursor=10).answer
    assert (cursors(got), got.reset, got.prev_cursor) == ([(20, 10)], False, 10)


# ---- who may read what ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("queue_id", "group_id", "complaint"),
    [
        (15, 1, "queue_id: queue 15 is not served by store 1"),
        (1, 0, "consumer_group_id: 0 is not a number from 1 to 64"),
        (1, 65, "consumer_group_id: 65 is not"),
        (1, 3, "consumer group 3 is in no pub of queue 1; groups that read it: 1, 2"),
    ],
)
def test_wrong_queues_and_groups_are_refused_by_name(queue_id: int, group_id: int, complaint: str) -> None:
    error = StoreUnderTest().get(queue_id, group_id).error
    assert error.status is Status.INVALID_ARGUMENT
    assert complaint in error.message


def test_a_request_for_another_topic_is_refused() -> None:
    store = StoreUnderTest()
    call = Call(lambda: store.service.get(GetRequest(topic_id=7, store_id=1, queue_id=1), NO_CONTEXT))
    assert "topic_id 7" in call.error.message


def test_items_of_other_groups_are_passed_over() -> None:
    store = StoreUnderTest()
    store.added(batch(count=2, mask=0b10), batch(count=3, mask=0b01, items=b"mine"), batch(count=1, mask=0b10))
    store.added(batch(count=4, mask=0b10))
    got = store.get(group_id=1).answer
    assert ([one.items for one in got.batches], cursors(got), got.next_cursor) == ([b"mine"], [(2, 3)], 6)
    got = store.get(group_id=1, next_cursor=6).answer
    assert (cursors(got), got.next_cursor, got.reset) == ([], 10, False)
    assert cursors(store.get(group_id=2).answer) == [(0, 2), (5, 1), (6, 4)]


def test_a_position_behind_the_own_items_of_a_row_goes_on_to_the_next_row() -> None:
    store = StoreUnderTest()
    store.added(batch(count=2, mask=0b01), batch(count=3, mask=0b10))
    store.added(batch(count=1, mask=0b01))
    got = store.get(group_id=1, next_cursor=2).answer
    assert (cursors(got), got.next_cursor) == ([(5, 1)], 6)


def test_looking_over_many_foreign_rows_yields_to_others() -> None:
    store = StoreUnderTest(StoreLimits(scan_rows=10))
    for _ in range(35):
        store.added(batch(mask=0b10))
    store.added(batch(mask=0b01))
    call = store.get(group_id=1)
    assert call.pending
    store.clock.advance(0)
    assert cursors(call.answer) == [(35, 1)]


def test_dead_letters_are_for_every_group_whatever_their_mask() -> None:
    store = StoreUnderTest()
    queue_id = dead_letter_queue(1)
    store.added(batch(queue_id, count=2, mask=0b10))
    assert cursors(store.get(queue_id, 64).answer) == [(0, 2)]
    assert store.get(queue_id, 64, limit=0, prev_cursor=2).answer.prev_cursor == 2


# ---- peek ---------------------------------------------------------------------------------------------


def test_a_peek_moves_nothing() -> None:
    store = filled()
    store.get(limit=10, prev_cursor=10)
    got = store.get(random=True, next_cursor=5, prev_cursor=30).answer
    assert (cursors(got), got.prev_cursor, got.next_cursor) == ([(0, 10), (10, 10), (20, 10)], 0, 30)
    got = store.get(limit=10, next_cursor=20).answer
    assert (got.prev_cursor, cursors(got), got.reset) == (10, [(20, 10)], False)


def test_a_peek_begins_where_the_group_stands_or_at_the_oldest() -> None:
    store = filled()
    store.get(prev_cursor=10)
    assert cursors(store.get(random=True).answer)[0] == (10, 10)
    assert cursors(store.get(random=True, group_id=0).answer)[0] == (0, 10)


def test_a_reader_of_another_history_acknowledges_nothing_and_starts_again() -> None:
    """The store was built from a backup: cursors told before mean other items by now."""
    store = filled()
    told = store.get(history=0).answer
    assert (told.next_cursor, told.history) == (30, 0)
    store.group.state_machine.history = 7
    got = store.get(prev_cursor=20, next_cursor=30, history=0).answer
    assert (got.reset, got.prev_cursor, got.history) == (True, 0, 7)
    assert cursors(got) == [(0, 10), (10, 10), (20, 10)]
    got = store.get(prev_cursor=20, limit=0, history=0).answer
    assert (got.reset, got.prev_cursor, got.history) == (True, 0, 7)
    got = store.get(prev_cursor=20, next_cursor=30, history=7).answer
    assert (got.reset, got.prev_cursor) == (False, 20)


def test_a_peek_filters_by_a_group_only_if_given() -> None:
    store = StoreUnderTest()
    store.added(batch(mask=0b01), batch(mask=0b10))
    assert cursors(store.get(random=True, group_id=0).answer) == [(0, 1), (1, 1)]
    assert cursors(store.get(random=True, group_id=2).answer) == [(1, 1)]


def test_a_peek_beyond_the_end_is_out_of_range() -> None:
    error = filled().get(random=True, next_cursor=31).error
    assert error.status is Status.OUT_OF_RANGE
    assert "31 is beyond the end of queue 1, which is 30" in error.message


def test_a_peek_sees_what_is_not_due_yet() -> None:
    store = StoreUnderTest()
    store.added(batch(8))
    assert cursors(store.get(8, random=True).answer) == [(0, 1)]
    assert cursors(store.get(8).answer) == []
    assert store.get(8, random=True, limit=0).answer.end_cursor == 1


# ---- delay --------------------------------------------------------------------------------------------


def test_a_delayed_queue_gives_items_when_they_are_due() -> None:
    store = StoreUnderTest()
    store.added(batch(8))
    store.clock.advance(30)
    store.added(batch(8))
    store.clock.advance(29.999)
    assert cursors(store.get(8).answer) == []
    store.clock.advance(0.001)
    assert cursors(store.get(8).answer) == [(0, 1)]
    store.clock.advance(30)
    assert cursors(store.get(8).answer) == [(0, 1), (1, 1)]


def test_a_long_poll_wakes_when_an_item_is_due() -> None:
    store = StoreUnderTest(StoreLimits(get_wait_max_ms=120_000))
    store.added(batch(8))
    call = store.get(8, wait_ms=120_000)
    store.clock.advance(59.998)
    assert call.pending
    store.clock.advance(0.002)
    assert cursors(call.answer) == [(0, 1)]


# ---- long polls ---------------------------------------------------------------------------------------


def test_a_long_poll_gets_what_arrives() -> None:
    store = StoreUnderTest()
    call, elsewhere = store.get(wait_ms=10_000), store.get(2, wait_ms=10_000)
    store.clock.advance(1)
    store.added(batch(count=2))
    store.clock.advance(0)
    assert cursors(call.answer) == [(0, 2)]
    assert elsewhere.pending
    assert len(store.service.polls) == 1


def test_a_long_poll_gets_everything_of_one_turn_in_one_answer() -> None:
    store = StoreUnderTest(auto=False, store_paxos_batch_count=1)
    call = store.get(wait_ms=10_000)
    for _ in range(3):
        store.add(batch())
    store.clock.advance(0)
    store.group.choose(3)
    store.clock.advance(0)
    assert cursors(call.answer) == [(0, 1), (1, 1), (2, 1)]


def test_a_long_poll_ends_empty_after_its_wait() -> None:
    store = filled()
    call = store.get(next_cursor=30, wait_ms=500)
    store.clock.advance(0.499)
    assert call.pending
    store.clock.advance(0.002)
    assert (cursors(call.answer), call.answer.next_cursor) == ([], 30)
    assert len(store.service.polls) == 0


def test_a_long_poll_is_no_longer_than_the_server_allows() -> None:
    store = StoreUnderTest(StoreLimits(get_wait_max_ms=100))
    call = store.get(wait_ms=10_000)
    store.clock.advance(0.11)
    assert not call.pending


def test_a_long_poll_sleeps_on_when_only_others_items_come() -> None:
    store = StoreUnderTest()
    call = store.get(group_id=1, wait_ms=1000)
    store.added(batch(mask=0b10))
    store.clock.advance(0.9)
    assert call.pending
    store.clock.advance(0.2)
    assert call.answer.next_cursor == 1


def test_too_many_long_polls_are_answered_at_once() -> None:
    store = StoreUnderTest(StoreLimits(max_long_polls=2))
    waiting = [store.get(queue_id, wait_ms=1000) for queue_id in (1, 2)]
    assert cursors(store.get(3, wait_ms=1000).answer) == []
    assert all(call.pending for call in waiting)


def test_a_cancelled_long_poll_is_forgotten_and_hands_nothing_out() -> None:
    store = StoreUnderTest()
    timers = store.clock.getDelayedCalls()
    call = store.get(wait_ms=1000)
    assert call.deferred is not None
    call.deferred.cancel()
    assert isinstance(call.failure, CancelledError)
    assert len(store.service.polls) == 0
    assert store.clock.getDelayedCalls() == timers
    store.added(batch(count=5))
    assert store.get(limit=0).answer.next_cursor == 0


def test_losing_mastership_ends_long_polls_with_the_new_address() -> None:
    store = StoreUnderTest()
    call = store.get(wait_ms=10_000)
    store.group.lose(OutcomeUnknown("lost"), master=2)
    assert (call.error.status, call.error.redirect) == (Status.NOT_MASTER, "127.0.0.1:5102")


def test_two_readers_of_one_group_both_get_the_items() -> None:
    store = StoreUnderTest()
    calls = [store.get(wait_ms=1000), store.get(wait_ms=1000)]
    store.added(batch())
    store.clock.advance(0)
    assert [cursors(call.answer) for call in calls] == [[(0, 1)], [(0, 1)]]


# ---- leases and cold entries ----------------------------------------------------------------------


def test_without_a_lease_nothing_is_read() -> None:
    store = filled()
    store.group.lease = False
    assert store.get().error.status is Status.NO_MASTER


def test_a_lease_that_ran_out_during_a_long_poll_is_noticed() -> None:
    store = StoreUnderTest()
    call = store.get(wait_ms=1000)
    store.group.lease = False
    store.clock.advance(1.1)
    assert call.error.status is Status.NO_MASTER


def test_cold_entries_are_read_off_the_reactor() -> None:
    store = filled()
    store.group.uncached = {0, 1}
    call = store.get()
    assert call.pending
    assert store.group.cold_reads[0][0] == [0, 1, 2]
    store.group.finish_read()
    assert cursors(call.answer) == [(0, 10), (10, 10), (20, 10)]
    assert cursors(store.get(limit=10).answer) == [(0, 10)]  # and stay in memory for a while


def test_what_is_in_memory_does_not_wait_for_what_is_not() -> None:
    store = filled()
    store.group.uncached = {2}
    assert cursors(store.get().answer) == [(0, 10), (10, 10)]
    assert store.group.cold_reads == []


def test_a_lease_lost_while_reading_is_noticed_and_nothing_counts_as_delivered() -> None:
    store = filled()
    store.group.uncached = {0}
    call = store.get()
    store.group.lose(OutcomeUnknown("lost"), master=1)
    store.group.finish_read()
    assert call.error.status is Status.NOT_MASTER
    store.group.become_master()
    assert store.get(limit=0).answer.next_cursor == 0


def test_a_caller_that_left_while_reading_gets_nothing() -> None:
    store = filled()
    store.group.uncached = {0}
    call = store.get()
    assert call.deferred is not None
    call.deferred.cancel()
    store.group.finish_read()
    assert isinstance(call.failure, CancelledError)
    assert store.get(limit=0).answer.next_cursor == 0


@pytest.mark.parametrize(
    ("problem", "status"),
    [
        (EntryUnreadable("instance 0 is damaged"), Status.DATA_LOSS),
        (Overloaded("too many reads"), Status.RESOURCE_EXHAUSTED),
    ],
)
def test_entries_that_cannot_be_read_are_told(problem: Exception, status: Status) -> None:
    store = filled()
    store.group.uncached = {0}
    call = store.get()
    store.group.cold_reads.pop()[1].errback(problem)
    assert call.error.status is status
    assert str(problem) in call.error.message


def test_an_unexpected_error_reaches_the_rpc_layer() -> None:
    store = filled()
    store.group.uncached = {0}
    call = store.get()
    store.group.cold_reads.pop()[1].errback(ZeroDivisionError("oops"))
    assert isinstance(call.failure, ZeroDivisionError)


def test_a_former_masters_entries_are_read_like_any() -> None:
    store = StoreUnderTest()
    store.group.append(command(batch(count=4)))
    store.group.append(command(batch(count=0), batch(count=2)))
    assert cursors(store.get().answer) == [(0, 4), (4, 2)]
