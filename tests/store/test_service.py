"""The service as a whole: registering, status, new configuration, stopping."""

from __future__ import annotations

import dataclasses

import pytest

from phxqueue.config import dead_letter_queue
from phxqueue.net.service import RpcService
from phxqueue.net.status import Status
from phxqueue.proto.methods import (
    ADD,
    CANCEL_DELAYED,
    CREATE_GROUP,
    DECIDE_HALF,
    DELETE_GROUP,
    GET,
    GET_LEDGER,
    GET_SETTINGS,
    LIST_DELAYED,
    LIST_GROUPS,
    LIST_HALVES,
    LIST_REPLAYS,
    POLL_CHECK_BACKS,
    REPLAY,
    REPORT_PRODUCED,
    SET_SETTING,
    SHOW_HALF,
    VERIFY_RANGE,
)
from phxqueue.replica.errors import OutcomeUnknown
from tests.conftest import LoggedErrors
from tests.store.fakes import StoreUnderTest, batch, topic


def test_registers_its_calls() -> None:
    service = RpcService("store 1 node 0")
    store = StoreUnderTest()
    store.service.register(service)
    answered = {ADD, GET, GET_SETTINGS, SET_SETTING, CANCEL_DELAYED, LIST_DELAYED, REPLAY, LIST_REPLAYS}
    answered |= {CREATE_GROUP, DELETE_GROUP, LIST_GROUPS}
    ledger = {REPORT_PRODUCED, GET_LEDGER, VERIFY_RANGE}
    halves = {DECIDE_HALF, LIST_HALVES, POLL_CHECK_BACKS, SHOW_HALF}
    assert {method.number for method in answered | ledger | halves} == set(service.table)


def test_status_tells_where_every_queue_of_its_groups_stands() -> None:
    store = StoreUnderTest(paxos_groups=2)
    store.added(batch(2, count=10))
    store.added(batch(1, count=5))
    store.get(2, 1, limit=5, prev_cursor=3)
    store.get(2, 2, limit=0, prev_cursor=4)
    first, second = store.service.queue_statuses()
    assert (first.queue_id, first.first_cursor, first.end_cursor) == (2, 0, 10)
    assert [(one.consumer_group_id, one.acked, one.delivered) for one in first.groups] == [(1, 3, 10), (2, 4, 4)]
    assert (second.queue_id, second.end_cursor) == (1, 5)
    # Nobody has come yet to read it: all of it is backlog of those who should.
    assert [(one.consumer_group_id, one.acked, one.delivered) for one in second.groups] == [(1, 0, 0), (2, 0, 0)]
    store.groups[1].master = 1
    assert [one.queue_id for one in store.service.queue_statuses()] == [2]


def test_a_new_configuration_counts_from_the_next_request_on() -> None:
    store = StoreUnderTest()
    assert store.added(batch(count=50)) == [0]
    store.service.reconfigure(dataclasses.replace(store.node, topic=topic(batch_limit=10)))
    assert "batch_limit 10" in store.add(batch(count=50)).error.message
    assert store.get().answer.end_cursor == 50


def test_draining_takes_nothing_new_and_waits_for_what_was_taken() -> None:
    store = StoreUnderTest(auto=False)
    poll = store.get(dead_letter_queue(1), 1, wait_ms=5000)
    in_flight = store.add(batch(count=10))
    store.clock.advance(0)
    waiting = store.add(batch(count=10))
    drained = store.service.drain()
    assert not drained.called
    assert poll.answer.end_cursor == 0
    assert store.add(batch()).error.status is Status.NO_MASTER
    assert "node 0 of store 1 is stopping" in store.get().error.message
    store.group.choose(2)
    assert drained.called
    assert [call.answer.results[0].first_cursor for call in (in_flight, waiting)] == [0, 10]


def test_a_service_that_drains_says_where_its_groups_have_gone() -> None:
    store = StoreUnderTest(paxos_groups=2)
    store.service.drain()
    store.groups[0].lose(OutcomeUnknown("handed over"), master=2)
    told = store.add(batch(2)).error
    assert (told.status, told.redirect) == (Status.NOT_MASTER, "127.0.0.1:5102")
    assert store.get(2).error.redirect == "127.0.0.1:5102"
    assert store.add(batch(1)).error.status is Status.NO_MASTER  # this one it still has, and takes nothing more for it


def test_what_waits_while_the_mastership_is_handed_over_is_sent_on() -> None:
    """Meanwhile there is no room in the window: nothing is refused, nothing proposed."""
    store = StoreUnderTest(auto=False)
    store.group.window = 0
    waiting = store.add(batch())
    store.clock.advance(0.1)
    assert waiting.pending
    store.group.lose(OutcomeUnknown("handed over"), master=2)
    assert (waiting.error.status, waiting.error.redirect) == (Status.NOT_MASTER, "127.0.0.1:5102")
    assert not waiting.error.maybe_executed
    assert store.group.log == []


def test_cursors_are_replicated_before_the_mastership_is_handed_over() -> None:
    store = StoreUnderTest()
    store.added(batch(count=10))
    store.get(prev_cursor=7)
    assert store.group.state_machine.acked_cursor(1, 1) == 0
    for before in store.group.on_hand_over:
        before()
    assert store.group.state_machine.acked_cursor(1, 1) == 7


def test_what_has_no_outcome_in_time_does_not_keep_a_service_from_stopping() -> None:
    store = StoreUnderTest(auto=False, paxos_groups=2)
    in_flight = store.add(batch(2))
    store.clock.advance(0)
    drained = store.service.drain()
    late: list[float] = []
    drained.addTimeout(5.0, store.clock, onTimeoutCancel=lambda _, timeout: late.append(timeout))
    store.clock.advance(5.0)
    assert late == [5.0]
    store.service.close()
    store.groups[0].choose()  # too late for anybody, and no error either
    assert in_flight.outcome is not None


def test_draining_an_idle_service_is_done_at_once_and_takes_cursors_along() -> None:
    assert StoreUnderTest().service.drain().called
    store = StoreUnderTest()
    store.added(batch(count=10))
    store.get(prev_cursor=7)
    assert store.service.drain().called
    assert store.group.state_machine.acked_cursor(1, 1) == 7


def test_a_group_that_cannot_be_looked_after_does_not_keep_others_from_it(
    monkeypatch: pytest.MonkeyPatch, logged_errors: LoggedErrors
) -> None:
    store = StoreUnderTest(paxos_groups=2)
    first, second = (store.service.serving_group(store.node.topic.topic_id, 1, group_id)[0] for group_id in (0, 1))
    looked: list[int] = []
    monkeypatch.setattr(first.trimming, "look", lambda: 1 // 0)
    monkeypatch.setattr(second.trimming, "look", lambda: looked.append(1))
    for _ in range(2):
        store.clock.advance(store.node.limits.retention_interval_s)
    assert looked == [1, 1]
    assert len(logged_errors.flush(ZeroDivisionError)) == 2


def test_closing_refuses_what_waits_and_leaves_no_timer() -> None:
    store = StoreUnderTest(auto=False)
    store.group.window = 0
    waiting = store.add(batch())
    poll = store.get(wait_ms=5000)
    store.service.close()
    assert waiting.error.status is Status.NO_MASTER
    assert poll.answer.end_cursor == 0
    assert store.clock.getDelayedCalls() == []
    assert (store.group.on_applied, store.group.on_mastership) == ([], [])
    assert (store.group.on_window_free, store.group.on_hand_over) == ([], [])
