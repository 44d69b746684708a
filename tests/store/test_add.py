"""Add through the service: what is refused before anything is stored, and what comes back."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError

from phxqueue.config import StoreLimits, dead_letter_queue
from phxqueue.net.status import Status
from phxqueue.proto.item_pb2 import ItemBatch
from phxqueue.proto.store_pb2 import AddRequest, StoreCommand
from phxqueue.replica.errors import OutcomeUnknown, Overloaded
from tests.store.fakes import NO_CONTEXT, Call, StoreUnderTest, batch


def test_answers_with_the_cursors_once_applied() -> None:
    store = StoreUnderTest(auto=False)
    first, second = store.add(batch(count=3)), store.add(batch(count=2), batch(2, count=5))
    store.clock.advance(0)
    assert first.pending
    assert len(store.group.proposed) == 1
    store.group.choose()
    [result] = first.answer.results
    assert (result.status, result.first_cursor, result.count, result.duplicate) == (Status.OK, 0, 3, False)
    assert [(result.first_cursor, result.count) for result in second.answer.results] == [(3, 2), (0, 5)]


def test_what_arrives_in_one_turn_becomes_one_entry() -> None:
    store = StoreUnderTest(auto=False)
    for _ in range(10):
        store.add(batch())
    assert store.group.proposed == []
    store.clock.advance(0)
    assert [len(StoreCommand.FromString(payload).batches) for payload, _ in store.group.proposed] == [10]


def test_while_two_entries_are_in_flight_the_next_gathers() -> None:
    store = StoreUnderTest(auto=False, store_paxos_batch_delay_time_ms=50)
    calls = []
    for _ in range(5):
        calls.append(store.add(batch()))
        store.clock.advance(0.001)
    assert len(store.group.proposed) == 2
    store.group.choose()
    store.clock.advance(0)
    assert [len(StoreCommand.FromString(payload).batches) for payload, _ in store.group.proposed] == [1, 3]
    store.group.choose(2)
    assert [call.answer.results[0].first_cursor for call in calls] == [0, 1, 2, 3, 4]


def test_a_slow_entry_delays_the_next_no_longer_than_configured() -> None:
    store = StoreUnderTest(auto=False, store_paxos_batch_delay_time_ms=50)
    for _ in range(3):
        store.add(batch())
        store.clock.advance(0.001)
    store.clock.advance(0.047)
    assert len(store.group.proposed) == 2
    store.clock.advance(0.002)
    assert len(store.group.proposed) == 3


def test_nothing_is_proposed_while_the_window_is_full() -> None:
    store = StoreUnderTest(auto=False)
    store.group.window = 1
    store.add(batch())
    store.clock.advance(0)
    second = store.add(batch())
    store.clock.advance(10)
    assert len(store.group.proposed) == 1
    store.group.choose()
    store.clock.advance(0)
    store.group.choose()
    assert second.answer.results[0].first_cursor == 1


def test_what_is_blocked_by_a_busy_journal_leaves_without_being_told() -> None:
    store = StoreUnderTest()
    store.group.window = 0
    call = store.add(batch())
    store.clock.advance(0.1)
    store.group.window = 1
    store.clock.advance(0.01)
    store.clock.advance(0)
    assert call.answer.results[0].first_cursor == 0


def test_a_waiting_cursor_does_not_keep_a_batch_waiting() -> None:
    store = StoreUnderTest(store_paxos_batch_delay_time_ms=50)
    store.added(batch(count=10))
    store.get(limit=0, prev_cursor=5)  # leaves in 200 ms
    store.group.auto = False
    for _ in range(3):
        store.add(batch())
        store.clock.advance(0.001)
    assert len(store.group.proposed) == 2
    store.clock.advance(0.05)
    store.clock.advance(0)
    assert len(store.group.proposed) == 3


def test_entries_carry_the_wall_clock_and_never_go_back() -> None:
    store = StoreUnderTest()
    store.added(batch())
    store.wall.ahead_s -= 100
    store.added(batch())
    first, second = (StoreCommand.FromString(payload).timestamp_ms for payload in store.group.log)
    assert first == second == 1_700_000_000_000


def refused(store: StoreUnderTest, request: AddRequest) -> str:
    """The message of a request that must be refused as invalid, without a trace in the log."""
    call = Call(lambda: store.service.add(request, NO_CONTEXT))
    store.clock.advance(1)
    assert call.error.status is Status.INVALID_ARGUMENT
    assert not store.group.log
    return call.error.message


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (batch(15), "queue 15 is not served by store 1"),
        (batch(20, pub_id=1), "queue 20 belongs to pub 2, not to pub 1"),
        (batch(20, pub_id=3, mask=4), "pub 3 is not served by store 1"),
        (batch(1, pub_id=99), "pub 99 is not served by store 1"),
        (batch(dead_letter_queue(3), pub_id=3), "pub 3 is not served"),
        (batch(mask=0b111), "is for consumer groups 1, 2, 3, pub 1 has 1, 2"),
        (batch(mask=0), "is for consumer groups none, pub 1 has 1, 2"),
        (batch(count=0), "do not send empty batches"),
        (batch(count=1001), "1001 items, more than batch_limit 1000 of topic test"),
        (batch(items=b""), "the header counts 1 items and there are none"),
        (batch(items=bytes(5000)), "5000 bytes, more than items_byte_size_limit 4096"),
        (ItemBatch(), "pub 0 is not served"),
    ],
)
def test_a_wrong_batch_is_refused_by_name_alone_or_among_others(bad: ItemBatch, complaint: str) -> None:
    store = StoreUnderTest(items_byte_size_limit=4096)
    assert complaint in refused(store, store.add_request(bad))
    assert complaint in refused(store, store.add_request(batch(), bad))


def test_limits_are_inclusive() -> None:
    store = StoreUnderTest(items_byte_size_limit=4096, batch_limit=10)
    assert store.added(batch(items=bytes(4096), count=10)) == [0]


def test_a_request_that_is_meant_for_others_is_refused() -> None:
    store = StoreUnderTest()
    assert "topic_id 7: this node serves topic 1000 (test)" in refused(store, store.add_request(batch(), topic_id=7))
    assert "store_id 2: this node belongs to store 1" in refused(store, store.add_request(batch(), store_id=2))
    assert "batches: the request has none" in refused(store, store.add_request())


def test_a_request_must_not_span_paxos_groups() -> None:
    store = StoreUnderTest(paxos_groups=3)
    assert "belong to 2 Paxos groups" in refused(store, store.add_request(batch(0), batch(1)))
    assert store.added(batch(1), batch(4)) == [0, 0]
    assert len(store.groups[1].log) == 1


def test_a_request_must_fit_into_one_message_between_nodes() -> None:
    store = StoreUnderTest()
    megabyte = batch(items=bytes(1 << 20))
    assert "more than max_message_bytes 4194304" in refused(store, store.add_request(*[megabyte] * 5))


def test_dead_letters_are_added_like_anything() -> None:
    assert StoreUnderTest().added(batch(dead_letter_queue(1))) == [0]


def test_garbage_items_are_stored_as_they_are() -> None:
    store = StoreUnderTest()
    garbage = bytes(range(256)) * 3
    store.added(batch(items=garbage, count=4))
    [got] = store.get().answer.batches
    assert (got.items, got.header.count) == (garbage, 4)


# ---- idempotence -----------------------------------------------------------------------------------


def test_a_known_batch_is_answered_without_an_entry() -> None:
    store = StoreUnderTest()
    once = batch(count=3, producer_id=5, sequence=1)
    store.added(batch(count=2))
    assert store.added(once) == [2]
    [result] = store.add(once).answer.results
    assert (result.status, result.first_cursor, result.count, result.duplicate) == (Status.OK, 2, 3, True)
    assert [result.duplicate for result in store.add(once, once).answer.results] == [True, True]
    assert len(store.group.log) == 2


def test_a_retry_while_the_first_is_in_flight_gets_the_same_outcome() -> None:
    store = StoreUnderTest(auto=False)
    once = batch(count=3, producer_id=5, sequence=1)
    first = store.add(once)
    store.clock.advance(0)
    retry, mixed = store.add(once), store.add(batch(), once)
    store.clock.advance(0)
    store.group.choose(2)
    assert first.answer.results[0].first_cursor == retry.answer.results[0].first_cursor == 0
    assert retry.answer.results[0].duplicate
    assert [(one.first_cursor, one.duplicate) for one in mixed.answer.results] == [(3, False), (0, True)]


def test_a_sequence_reused_for_another_queue_is_told_per_batch() -> None:
    store = StoreUnderTest()
    store.added(batch(1, producer_id=5, sequence=1))
    [result] = store.add(batch(2, producer_id=5, sequence=1)).answer.results
    assert result.status == Status.INVALID_ARGUMENT
    assert "a retry must not change its queue" in result.message


# ---- who may not serve ----------------------------------------------------------------------------


def test_a_node_that_is_not_master_redirects() -> None:
    store = StoreUnderTest()
    store.group.master = 2
    error = store.add(batch()).error
    assert (error.status, error.redirect) == (Status.NOT_MASTER, "127.0.0.1:5102")
    assert "node 0 of store 1 is not the master of group 0; node 2 is" in error.message


@pytest.mark.parametrize("master", [None, 7])
def test_without_a_known_master_the_reason_is_told(master: int | None) -> None:
    store = StoreUnderTest()
    store.group.master = master
    error = store.add(batch()).error
    assert error.status is Status.NO_MASTER
    assert ("no majority: 1 of 3 nodes" if master is None else "not in this node's configuration") in error.message


def test_a_master_whose_lease_is_late_still_takes_writes() -> None:
    store = StoreUnderTest()
    store.group.lease = False
    assert store.added(batch()) == [0]


def test_mastership_lost_in_flight_leaves_the_outcome_unknown_and_the_waiting_refused() -> None:
    store = StoreUnderTest(auto=False)
    in_flight = store.add(batch())
    store.clock.advance(0)
    store.group.window = 1
    waiting = store.add(batch())
    store.group.lose(OutcomeUnknown("mastership was lost"), master=1)
    assert in_flight.error.status is Status.UNAVAILABLE
    assert "the outcome is unknown, try again with the same producer_id and sequence" in in_flight.error.message
    assert (waiting.error.status, waiting.error.redirect) == (Status.NOT_MASTER, "127.0.0.1:5101")
    store.clock.advance(100)
    assert store.group.proposed == []


def test_mastership_lost_before_the_turn_ends_refuses() -> None:
    store = StoreUnderTest()
    call = store.add(batch())
    store.group.master = None  # noticed by propose() only
    store.clock.advance(0)
    assert call.error.status is Status.NO_MASTER


def test_stopping_a_group_that_takes_nothing_any_more_ends_at_once() -> None:
    """Its journal has failed, say. A cursor that waits is refused then, and must not be tried again for ever."""
    store = StoreUnderTest()
    store.added(batch())
    store.get(prev_cursor=1)
    waiting = store.add(batch())
    store.group.master = None
    drained = store.service.drain()
    assert drained.called
    assert waiting.error.status is Status.NO_MASTER


def test_no_decision_in_time_leaves_the_outcome_unknown() -> None:
    store = StoreUnderTest(auto=False, store_paxos_propose_timeout_ms=1500)
    early = store.add(batch())
    store.clock.advance(0)
    store.clock.advance(1)
    late = store.add(batch())
    store.clock.advance(0)
    store.clock.advance(0.4)
    assert early.pending
    store.clock.advance(0.11)
    assert early.error.status is Status.UNAVAILABLE
    assert "no decision within 1.5 s" in early.error.message
    assert late.pending
    store.clock.advance(1)
    assert late.error.status is Status.UNAVAILABLE
    store.group.choose(2)  # nobody listens any more, and nothing breaks
    store.group.auto = True
    assert store.added(batch()) == [2]


def test_an_unexpected_failure_is_logged_and_answered(logged_errors: object) -> None:
    store = StoreUnderTest(auto=False)
    call = store.add(batch())
    store.clock.advance(0)
    _, outcome = store.group.proposed.pop()
    outcome.errback(ZeroDivisionError("oops"))
    assert call.error.status is Status.INTERNAL
    [logged] = logged_errors.flush(ZeroDivisionError)  # type: ignore[attr-defined]
    assert logged.value.args == ("oops",)


def test_a_caller_that_went_away_disturbs_nobody() -> None:
    store = StoreUnderTest(auto=False)
    gone, other = store.add(batch()), store.add(batch())
    store.clock.advance(0)
    assert gone.deferred is not None
    gone.deferred.cancel()
    assert isinstance(gone.failure, CancelledError)
    store.group.choose()
    assert other.answer.results[0].first_cursor == 1


# ---- overload ---------------------------------------------------------------------------------------


def test_too_many_waiting_requests_are_refused_with_a_time_to_come_back() -> None:
    store = StoreUnderTest(StoreLimits(add_queue_requests=3, retry_after_ms=70), auto=False)
    store.group.window = 0
    waiting = [store.add(batch()) for _ in range(3)]
    error = store.add(batch()).error
    assert (error.status, error.retry_after_ms) == (Status.RESOURCE_EXHAUSTED, 70)
    assert "3 Adds" in error.message
    assert "limits.add_queue_requests 3" in error.message
    store.group.window = 64
    for freed in store.group.on_window_free:
        freed()
    store.clock.advance(0)
    store.group.choose()
    assert [call.answer.results[0].first_cursor for call in waiting] == [0, 1, 2]


def test_too_many_waiting_bytes_are_refused() -> None:
    store = StoreUnderTest(StoreLimits(add_queue_bytes=64 << 10), auto=False)
    store.group.window = 0
    large = batch(items=bytes(30 << 10))
    assert [store.add(large).pending for _ in range(2)] == [True, True]
    assert store.add(large).error.status is Status.RESOURCE_EXHAUSTED


def test_a_full_journal_refuses_with_a_time_to_come_back() -> None:
    store = StoreUnderTest(auto=False)
    call = store.add(batch())
    store.clock.advance(0)
    store.group.give_up(Overloaded("the journal's queue is full"))
    assert (call.error.status, call.error.retry_after_ms) == (Status.RESOURCE_EXHAUSTED, 50)


def test_below_the_low_water_mark_adds_are_refused_and_the_rest_goes_on() -> None:
    store = StoreUnderTest()
    store.added(batch(count=5))
    store.disk_ok = False
    error = store.add(batch()).error
    assert error.status is Status.RESOURCE_EXHAUSTED
    assert error.retry_after_ms > 0
    assert "data/store.0" in error.message
    assert "journal.min_free_bytes" in error.message
    assert len(store.get().answer.batches) == 1
    store.get(limit=0, prev_cursor=5)
    store.clock.advance(1)
    assert store.group.state_machine.acked_cursor(1, 1) == 5
    store.disk_ok = True
    assert store.added(batch()) == [5]
