"""Ordered groups: what fails is tried again in its place, and each uin is finished in the order of its enqueues."""

from __future__ import annotations

import itertools
import random
from collections import Counter, defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import deferLater

from phxqueue.config import ConsumerGroup, QueueInfo, dead_letter_queue
from phxqueue.consumer import Context, Item, Result
from phxqueue.consumer.handlers import Handler
from phxqueue.producer.items import read_cookies
from tests.consumer.rig import Rig
from tests.producer.fake_store import Fault, make_topic


def ordered_topic(**ordered: Any) -> Any:
    """All items in one queue, so that those that wait and those that pass meet."""
    group = ConsumerGroup(consumer_group_id=1, ordered=True, **ordered)
    infos = (
        QueueInfo(queue_info_id=1, ranges=((0, 0),)),
        QueueInfo(queue_info_id=2, ranges=((10, 10),), count=2, delay=1.0),
    )
    return make_topic(queue_infos=infos, consumer_groups=(group, ConsumerGroup(consumer_group_id=2)))


def test_a_failed_item_is_tried_again_in_its_place_and_others_go_on() -> None:
    seen: list[tuple[bytes, int, float]] = []

    def handle(context: Context, item: Item) -> Result:
        seen.append((item.buffer, context.attempt, rig.clock.seconds()))
        return Result.RETRY if item.buffer == b"a1" and context.attempt < 4 else Result.OK

    rig = Rig(handle, topic=ordered_topic(ordered_retry_ms=1000, ordered_retry_max_ms=1500), start=False)
    rig.enqueue(b"a1", b"a2", uin=1)
    rig.enqueue(b"b1", b"b2", uin=5)
    rig.service.startService()
    rig.run(10)
    assert [(buffer, attempt) for buffer, attempt, _ in seen if buffer.startswith(b"a")] == [
        (b"a1", 1), (b"a1", 2), (b"a1", 3), (b"a1", 4), (b"a2", 1),
    ]  # fmt: skip
    times = [when for buffer, _, when in seen if buffer == b"a1"]
    assert [round(later - earlier, 1) for earlier, later in itertools.pairwise(times)] == [1.0, 1.5, 1.5]
    assert max(when for buffer, _, when in seen if buffer.startswith(b"b")) < times[1]
    assert rig.service.stats.retried_in_place == 3
    assert rig.service.stats.retried == 0, "nothing was enqueued again"
    assert rig.unacknowledged() == 0
    assert rig.acks.wrong == []


def test_an_item_without_key_walks_the_attempt_chain_as_ever() -> None:
    rig = Rig(lambda context, item: Result.RETRY if context.attempt == 1 else Result.OK, topic=ordered_topic())
    rig.enqueue(b"x")
    rig.run(10)
    assert (rig.service.stats.retried, rig.service.stats.retried_in_place) == (1, 0)
    assert rig.unacknowledged() == 0


@pytest.mark.parametrize("then", ["dead", "attempts"])
def test_attempts_in_place_are_bounded(then: str) -> None:
    order: list[bytes] = []

    def handle(context: Context, item: Item) -> Result:
        if item.buffer == b"poison":
            order.append(b"poison %d" % context.attempt)
            return Result.RETRY
        order.append(item.buffer)
        return Result.OK

    rig = Rig(handle, topic=ordered_topic(ordered_retries=2, ordered_then=then))
    rig.enqueue(b"poison", b"next", uin=1)
    rig.run(60)
    assert order[:4] == [b"poison 1", b"poison 2", b"poison 3", b"next"]
    [letter] = rig.store.items(1, dead_letter_queue(1))
    cookies = read_cookies(letter.sys_cookies)
    assert cookies["dead.reason"] == b"attempts exhausted"
    assert b"attempt 3 in its place" in cookies["dead.last_error"]
    if then == "dead":
        assert order[4:] == []
        assert cookies["dead.attempts"] == b"3"
    else:
        assert order[4:7] == [b"poison 2", b"poison 3", b"poison 4"], "along the chain, each time in its place"
    assert rig.unacknowledged() == 0


def test_an_endless_retry_never_gives_up_and_never_lets_the_next_pass() -> None:
    attempts: list[int] = []
    rig = Rig(
        lambda context, item: attempts.append(context.attempt) or Result.RETRY,
        topic=ordered_topic(ordered_retries=-1, ordered_retry_ms=10, ordered_retry_max_ms=20),
    )
    rig.enqueue(b"1", b"2", uin=1)
    rig.run(5)
    assert attempts == list(range(1, len(attempts) + 1))
    assert len(attempts) > 200
    assert rig.unacknowledged() == 2


def test_dead_is_dead_at_once() -> None:
    rig = Rig(lambda context, item: Result.DEAD, topic=ordered_topic())
    rig.enqueue(b"1", uin=1)
    rig.run(1)
    [letter] = rig.store.items(1, dead_letter_queue(1))
    assert read_cookies(letter.sys_cookies)["dead.attempts"] == b"1"


def test_the_window_is_bounded_and_acknowledged_as_far_as_possible() -> None:
    stuck = True

    def handle(context: Context, item: Item) -> Result:
        rig.handled.append(item.buffer)
        return Result.RETRY if item.buffer == b"stuck" and stuck else Result.OK

    rig = Rig(handle, topic=ordered_topic(ordered_retries=-1), window_items=50, fetch_items=20, start=False)
    rig.enqueue(b"before", uin=4)
    rig.enqueue(b"stuck", uin=4)
    for number in range(200):
        rig.enqueue(b"%d" % number, uin=8)  # each a batch of its own: batches are delivered whole
    rig.service.startService()
    rig.run(20)
    passed = [buffer for buffer in rig.handled if buffer.isdigit()]
    assert 30 <= len(passed) <= 70, "others go on, within the window"
    assert rig.unacknowledged() == 201, "what is before the stuck item is acknowledged though nothing is fetched"
    [worker] = [worker for worker in rig.service._workers() if worker._window]
    assert worker._held < 1000, "what is finished holds no memory"
    stuck = False
    rig.run(60)
    assert rig.unacknowledged() == 0
    assert rig.acks.wrong == []
    assert [int(buffer) for buffer in rig.handled if buffer.isdigit()] == list(range(200))


def test_a_graceful_stop_does_not_wait_for_a_retry_in_place() -> None:
    rig = Rig(lambda context, item: Result.RETRY, topic=ordered_topic(ordered_retry_ms=20_000))
    rig.enqueue(b"1", uin=1)
    before = rig.clock.seconds()
    stopped = rig.stop()
    rig.run(0.5)
    assert stopped == [None]
    assert rig.clock.seconds() - before < 1
    assert rig.service._budget.used == 0
    assert rig.unacknowledged() == 1


# -- everything at random ------------------------------------------------------------------------------


class Books:
    """What was finished, by uin, each at its first time; a redelivery may finish it again."""

    def __init__(self) -> None:
        self.finished: dict[int, list[int]] = defaultdict(list)
        self.times: Counter[tuple[int, int]] = Counter()
        self.at_work: Counter[int] = Counter()

    def finish(self, uin: int, number: int) -> None:
        self.times[uin, number] += 1
        if self.times[uin, number] == 1:
            self.finished[uin].append(number)


@settings(max_examples=25)
@given(st.integers(0, 2**32))
def test_each_uin_is_finished_in_the_order_of_its_enqueues_whatever_happens(seed: int) -> None:
    """Failing handlers, time-outs, lost answers, failovers, crashes, restarts and a handover to another consumer."""
    rng = random.Random(seed)
    books = Books()
    sent: dict[int, list[int]] = defaultdict(list)

    def end(item: Item, result: Result) -> Result:
        if item.uin and result is not Result.RETRY:
            books.finish(item.uin, int(item.buffer))
        return result

    def decide() -> Result:
        return rng.choice((Result.OK, Result.OK, Result.IGNORE, Result.RETRY))

    def handle(context: Context, item: Item) -> Any:
        if rng.random() < 0.4:
            return end(item, decide())
        if rng.random() < 0.05:
            return deferLater(rig.clock, 60.0)  # until its time is over
        return deferLater(rig.clock, rng.random() * 0.05, lambda: end(item, decide()))

    def handle_batch(context: Any, items: list[Item]) -> list[Result]:
        return [end(item, decide()) for item in items]

    infos = (QueueInfo(queue_info_id=1, ranges=((0, 1),)), QueueInfo(queue_info_id=2, ranges=((10, 10),), count=2))
    group = ConsumerGroup(
        consumer_group_id=1, ordered=True, ordered_retries=-1, ordered_retry_ms=5, ordered_retry_max_ms=50
    )
    rig = Rig(
        handle, topic=make_topic(queue_infos=infos, consumer_groups=(group, ConsumerGroup(consumer_group_id=2))),
        seed=seed, nhandler=rng.choice((1, 3, 100)), fetch_items=5, window_items=rng.choice((7, 1000)),
        stop_timeout_s=1.0, get_wait_s=0.5, get_deadline_s=0.5, handler_timeout_s=0.3, ack_interval_s=0.01,
    )  # fmt: skip
    if rng.random() < 0.5:
        rig.handlers[1] = Handler(handle_batch, rng.choice((1, 3)))  # type: ignore[assignment]
    rig.acks.off()
    rate = rng.choice((0.0, 0.1, 0.3))
    rig.store.fault = lambda name, request: (
        rng.choice([fault for fault in Fault if fault is not Fault.DENIED])
        if rng.random() < rate and name == "get" and request.limit
        else Fault.NONE
    )
    for number in range(120):
        uin = rng.choice((0, 1, 2, 3))
        sent[uin].append(number)
        rig.producer.enqueue(1, 1, b"%d" % number, uin)
        rig.run(rng.choice((0.0, 0.005, 0.02)))
        if rng.random() < 0.03:
            rig.store.fail_over()
        if rng.random() < 0.03:
            rig.stop()  # graceful, or (when its time is over) with handlers at work, or overlapping with the next
            rig.run(rng.choice((0.0, 0.05, 3.0)))
            rig.service = rig.make_service()
            rig.service.startService()
    rig.run(5)
    rig.store.fault = lambda name, request: Fault.NONE
    rig.run(60)
    assert rig.unacknowledged() == 0
    for uin in (1, 2, 3):
        assert books.finished[uin] == sent[uin]
    assert rig.service._budget.used == 0
    assert rig.service._workshop.slots.free == rig.settings.nhandler
