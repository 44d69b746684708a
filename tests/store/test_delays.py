"""Delayed batches through the service: let in, fired when due, read by reference, cancelled, listed."""

from __future__ import annotations

from typing import Any

from twisted.logger import capturedLogs

from phxqueue.config import StoreLimits
from phxqueue.net.status import Status
from phxqueue.proto.store_pb2 import (
    AddResult,
    CancelDelayedRequest,
    GetResponse,
    ListDelayedRequest,
    StoreCommand,
)
from phxqueue.replica.errors import OutcomeUnknown
from phxqueue.store.delays import LOOK_S, WARN_S
from tests.store.fakes import NO_CONTEXT, NOW_MS, Call, StoreUnderTest, batch


def delayed(store: StoreUnderTest, *batches: Any) -> list[AddResult]:
    """Add, and let it be chosen: the outcome of each batch."""
    call = store.add(*batches)
    store.clock.advance(0)
    return list(call.answer.results)


def after(milliseconds: int, queue_id: int = 1, content: bytes = b"items", **fields: Any) -> Any:
    """A batch due so long after the beginning."""
    return batch(queue_id, items=content, deliver_at_ms=NOW_MS + milliseconds, **fields)


def contents(response: GetResponse) -> list[tuple[int, bytes]]:
    """(cursor, bytes) of every batch."""
    return [(one.first_cursor, one.items) for one in response.batches]


def read(store: StoreUnderTest, queue_id: int = 1) -> list[tuple[int, bytes]]:
    """What is in a queue now."""
    return contents(store.get(queue_id, 0, random=True).answer)


def cancelled(store: StoreUnderTest, milliseconds: int, number: int, queue_id: int = 1) -> Call:
    """Cancel a batch."""
    request = CancelDelayedRequest(
        topic_id=1000, store_id=1, queue_id=queue_id, deliver_at_ms=NOW_MS + milliseconds, timer_number=number
    )
    return Call(lambda: store.service.cancel_delayed(request, NO_CONTEXT))


def listed(store: StoreUnderTest, **fields: Any) -> Any:
    """One page of what waits."""
    request = ListDelayedRequest(topic_id=1000, store_id=1, **fields)
    return store.service.list_delayed(request, NO_CONTEXT)


def test_a_delayed_batch_has_a_timer_number_and_no_cursor() -> None:
    store = StoreUnderTest()
    first, plain, second = delayed(store, after(500), batch(1), after(300, 2))
    assert [(one.delayed, one.timer_number, one.count) for one in (first, second)] == [(True, 1, 1), (True, 2, 1)]
    assert (plain.delayed, plain.first_cursor) == (False, 0)
    assert read(store) == [(0, b"items")]
    assert StoreCommand.FromString(store.group.log[0]).version == 3


def test_batches_without_delay_stay_commands_of_version_1() -> None:
    store = StoreUnderTest()
    delayed(store, after(500))
    store.added(batch())
    assert [StoreCommand.FromString(payload).version for payload in store.group.log] == [3, 1]


def test_a_batch_is_delivered_when_it_is_due_and_its_bytes_are_not_written_again() -> None:
    store = StoreUnderTest()
    delayed(store, after(500, content=b"x" * 1000))
    store.clock.advance(0.499)
    assert read(store) == []
    store.clock.advance(0.002)
    assert read(store) == [(0, b"x" * 1000)]
    assert len(store.group.log[1]) < 50


def test_a_long_poll_is_answered_when_a_delayed_batch_becomes_due() -> None:
    store = StoreUnderTest()
    delayed(store, after(500))
    got = store.get(wait_ms=10_000)
    store.clock.advance(0.499)
    assert got.pending
    store.clock.advance(0.002)
    store.clock.advance(0)
    assert contents(got.answer) == [(0, b"items")]


def test_order_is_that_of_due_times_then_that_of_enqueueing() -> None:
    store = StoreUnderTest()
    delayed(store, after(200, content=b"d"), after(100, content=b"a"), after(100, content=b"b"))
    delayed(store, after(100, content=b"c"))
    store.added(batch(items=b"at once"))
    store.clock.advance(0.3)
    assert [content for _, content in read(store)] == [b"at once", b"a" + b"b", b"c", b"d"]
    assert store.get().answer.batches[1].header.count == 2


def test_what_is_due_already_goes_the_same_way() -> None:
    store = StoreUnderTest()
    delayed(store, after(-5000, content=b"late"))
    assert read(store) == [(0, b"late")]


def test_reading_by_reference_from_disk_keeps_masks_digests_and_time() -> None:
    store = StoreUnderTest()
    delayed(store, batch(2), after(100, content=b"mine", mask=0b01, digest=7), after(100, content=b"other", mask=0b10))
    store.clock.advance(0.2)
    store.group.uncached.update((0, 1))
    got = store.get(1, 2)
    store.group.finish_read()
    [one] = got.answer.batches
    assert (one.first_cursor, one.items, one.timestamp_ms) == (1, b"other", NOW_MS + 200)
    assert store.group.state_machine.queues[1].row_digest(0) == 7


def test_a_retried_batch_gets_its_first_timer_number() -> None:
    store = StoreUnderTest()
    once = after(100, producer_id=9, sequence=1)
    [first] = delayed(store, once)
    [again] = delayed(store, once)
    store.clock.advance(0.2)
    [later] = delayed(store, once)
    assert (first.duplicate, again.duplicate, later.duplicate) == (False, True, True)
    assert first.timer_number == again.timer_number == later.timer_number == 1
    assert later.delayed
    assert len(read(store)) == 1


def test_a_clock_set_forward_fires_what_it_skips_within_a_look() -> None:
    store = StoreUnderTest()
    delayed(store, after(3_600_000))
    store.wall.ahead_s += 3600
    store.clock.advance(LOOK_S)
    assert len(read(store)) == 1


def test_a_clock_set_back_fires_when_it_is_due_by_that_clock() -> None:
    store = StoreUnderTest()
    delayed(store, after(2000))
    store.clock.advance(1.9)
    store.wall.ahead_s -= 60
    store.clock.advance(59)
    assert read(store) == []
    store.clock.advance(2)
    assert len(read(store)) == 1
    assert store.group.state_machine.queues[1].timestamps[0] >= NOW_MS


def test_a_new_master_fires_what_became_due_while_there_was_none() -> None:
    store = StoreUnderTest()
    delayed(store, after(500))
    store.group.lose(OutcomeUnknown("mastership lost"))
    store.clock.advance(1)
    assert len(store.group.log) == 1
    store.group.become_master()
    assert len(read(store)) == 1


def test_firing_is_tried_again_when_its_outcome_is_unknown_and_moves_nothing_twice() -> None:
    store = StoreUnderTest()
    delayed(store, after(100))
    store.group.auto = False
    store.clock.advance(0.2)
    [(payload, _)] = store.group.proposed
    store.group.give_up(OutcomeUnknown("mastership lost"))
    store.group.append(payload)  # it was chosen all the same
    store.group.auto = True
    store.clock.advance(0.2)
    assert read(store) == [(0, b"items")]


def test_many_that_are_due_leave_in_several_commands() -> None:
    store = StoreUnderTest(StoreLimits(limit_items=100_000))
    for _ in range(5):
        delayed(store, *[after(100 + number, content=b"%d;" % number) for number in range(1000)])
    store.clock.advance(2)
    fired = [StoreCommand.FromString(payload) for payload in store.group.log[5:]]
    assert all(command.HasField("fire") for command in fired)
    expected = [b"%d;" % number for number in range(1000) for _ in range(5)]
    assert [content for _, content in contents(store.get(limit=5000).answer)] == expected


# ---- cancelling -----------------------------------------------------------------------------------------


def test_a_cancelled_batch_is_never_delivered_and_cancelling_again_says_the_same() -> None:
    store = StoreUnderTest()
    delayed(store, after(500, count=3), after(500, 2, b"stays"))
    for _ in range(2):
        assert cancelled(store, 500, 1).answer.count == 3
    store.clock.advance(1)
    assert read(store) == []
    assert read(store, 2) == [(0, b"stays")]


def test_what_was_delivered_or_never_there_cannot_be_cancelled() -> None:
    store = StoreUnderTest()
    delayed(store, after(100))
    assert cancelled(store, 101, 1).error.status is Status.NOT_FOUND
    assert cancelled(store, 100, 2).error.status is Status.NOT_FOUND
    store.clock.advance(1)
    refused = cancelled(store, 100, 1).error
    assert refused.status is Status.NOT_FOUND
    assert "in its queue already" in str(refused)


def test_cancelling_without_answer_says_that_nobody_knows() -> None:
    store = StoreUnderTest()
    delayed(store, after(500))
    store.group.auto = False
    call = cancelled(store, 500, 1)
    store.group.lose(OutcomeUnknown("mastership lost"), master=2)
    assert call.error.status is Status.UNAVAILABLE
    assert call.error.maybe_executed
    assert cancelled(store, 500, 1).error.status is Status.NOT_MASTER


# ---- listing --------------------------------------------------------------------------------------------


def test_lists_page_by_page_in_the_order_of_delivery() -> None:
    store = StoreUnderTest()
    delayed(store, after(300), after(100, 2), after(300, 2), after(200))
    seen = []
    page = listed(store, limit=3)
    assert (page.waiting, page.more) == (4, True)
    seen += page.batches
    page = listed(store, limit=3, after_ms=page.after_ms, after_number=page.after_number)
    assert not page.more
    seen += page.batches
    assert [(one.deliver_at_ms - NOW_MS, one.timer_number, one.queue_id) for one in seen] == [
        (100, 2, 2), (200, 4, 1), (300, 1, 1), (300, 3, 2),
    ]  # fmt: skip
    assert [one.timer_number for one in listed(store, queue_id=2, only_queue=True).batches] == [2, 3]


# ---- bounds ---------------------------------------------------------------------------------------------


def test_refuses_what_is_too_far_ahead_and_what_is_too_much() -> None:
    store = StoreUnderTest(StoreLimits(max_delay_s=60, max_delayed=2))
    error = store.add(after(60_001)).error
    assert error.status is Status.INVALID_ARGUMENT
    assert "max_delay_s" in str(error)
    delayed(store, after(60_000), after(10))
    error = store.add(after(20)).error
    assert error.status is Status.RESOURCE_EXHAUSTED
    assert "max_delayed 2" in str(error)


def test_refuses_delayed_batches_while_a_node_does_not_know_them() -> None:
    store = StoreUnderTest()
    store.group.lowest_version = 2
    error = store.add(after(100)).error
    assert (error.status, error.maybe_executed) == (Status.UNAVAILABLE, False)
    assert "upgrade" in str(error)
    store.added(batch())


def test_the_log_is_kept_from_the_oldest_delayed_batch_on() -> None:
    store = StoreUnderTest()
    delayed(store, after(500))
    for _ in range(3):
        store.added(batch(3))
    machine = store.group.state_machine
    assert machine.checkpoint().needed == 0
    store.clock.advance(1)
    assert machine.queues[1].instances[0] == 0
    assert machine.checkpoint().needed == 0


def test_says_now_and_then_that_delayed_batches_pin_the_log() -> None:
    store = StoreUnderTest(StoreLimits(delayed_pin_entries=2))
    delayed(store, after(5_000_000))
    with capturedLogs() as events:
        for _ in range(2):
            store.clock.advance(2)
            assert not events
            store.group.append(StoreCommand(version=1, timestamp_ms=NOW_MS).SerializeToString())
        store.clock.pump([2] * 10)
        assert len(events) == 1
        [notice] = store.service.notices()
        assert events[0]["notice"] == notice
        assert "3 entries of the log are kept only because delayed messages" in notice
        store.clock.advance(WARN_S)
        assert len(events) == 2
