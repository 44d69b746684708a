"""Speed limits: token buckets, whose share of a limit it is, and how exactly a consumer keeps to it."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from phxqueue.config import Consumer, FreqInfo, Pub, QueueInfo
from phxqueue.consumer import ConsumerSettings, Context, Item, Result
from phxqueue.consumer.assignment import Ring, owned
from phxqueue.consumer.handlers import Handler
from phxqueue.consumer.handling import Handling
from phxqueue.consumer.items import Place
from phxqueue.consumer.limits import LEAST_SHARE, Limit, OwnedQueues, Throttle, by_group, combined, limits_of_files
from phxqueue.consumer.sharing import HandlerSlots
from phxqueue.consumer.slots import Slot
from phxqueue.consumer.speed import Speed
from phxqueue.consumer.token_bucket import TokenBucket
from phxqueue.consumer.workshop import Stats, Workshop
from phxqueue.proto.item_pb2 import Meta, QItem
from tests.consumer.rig import Rig
from tests.producer.fake_store import make_topic

ONE_QUEUE = (QueueInfo(queue_info_id=1, ranges=((0, 0),)), QueueInfo(queue_info_id=2, ranges=((10, 10),), count=2))


# -- token buckets -----------------------------------------------------------------------------------------


@given(rate=st.floats(0.5, 5000), step=st.floats(0.0005, 0.2))
def test_a_bucket_gives_its_rate_whatever_the_steps(rate: float, step: float) -> None:
    bucket, now, given = TokenBucket(rate, 100.0), 0.0, 0
    while now < 10:
        now += step
        while bucket.has(100.0 + now):
            bucket.take()
            given += 1
    assert rate * (now - step) - 2 <= given <= rate * now + rate / 4 + 2


def test_a_bucket_without_rate_has_nothing_and_a_change_counts_from_now() -> None:
    bucket = TokenBucket(0, 0.0)
    assert not bucket.has(1e9)
    assert bucket.wait(1e9) == math.inf
    bucket.change(10, 1e9)
    assert not bucket.has(1e9)
    assert bucket.wait(1e9) == pytest.approx(0.1)
    assert bucket.has(1e9 + 0.1)
    bucket.change(1, 1e9 + 100)
    assert bucket.has(1e9 + 100)
    bucket.take()
    assert not bucket.has(1e9 + 100), "what had gathered at the higher rate is not kept"


# -- which limits, and whose share --------------------------------------------------------------------------


def test_what_was_set_later_stands_for_what_the_files_say() -> None:
    files = [Limit(1, 1, 1, -1, 60), Limit(1, 2, -1, -1, 120)]
    later = [Limit(1, 1, 1, -1, 600), Limit(2, 1, -1, -1, 30), Limit(1, 2, -1, -1, 0)]
    found = {limit: limit.per_minute for limit in combined(files, later)}
    assert found == {Limit(1, 1, 1, -1): 600, Limit(2, 1, -1, -1): 30}
    assert combined(files, ()) == tuple(files)
    topic = make_topic()
    expanded = by_group([Limit(1, -1, per_minute=60), Limit(1, 2, per_minute=5)], topic)
    assert {limit: limit.per_minute for limit in expanded} == {Limit(1, 1): 60, Limit(1, 2): 5}


def test_what_a_limit_counts() -> None:
    limit = Limit(1, -1, 3, -1)
    assert limit.matches(1, 7, 3, 5)
    assert not limit.matches(2, 7, 3, 5)
    assert not limit.matches(1, 7, 4, 5)
    topic = make_topic()
    object.__setattr__(topic, "freq_infos", (FreqInfo(limit_per_min=5, pub_id=1, handle_id=3),))
    assert limits_of_files(topic) == (limit,)


@given(st.integers(1, 12), st.integers(1, 30))
def test_the_shares_of_all_owners_are_the_whole(consumers: int, queues: int) -> None:
    topic = make_topic(
        queue_infos=(
            QueueInfo(queue_info_id=1, ranges=((0, queues - 1),)),
            QueueInfo(queue_info_id=2, ranges=((100, 100),)),
        ),
        pubs=(Pub(pub_id=1, queue_info_ids=(1, 2), consumer_group_ids=(1, 2)),),
    )  # fmt: skip
    ring = Ring({f"consumer {number}": 1000 for number in range(consumers)})
    shares = []
    for number in range(consumers):
        mine = [(1, *queue) for queue in owned(ring, f"consumer {number}", 1, topic.queues_of_group(1))]
        shares.append(OwnedQueues(topic, mine).share(Limit(1, 1)))
    later_only = sum(share == LEAST_SHARE for share in shares)
    assert sum(shares) == pytest.approx(1 + LEAST_SHARE * later_only)
    assert later_only <= 1
    assert OwnedQueues(topic, []).share(Limit(99)) == 1.0, "nothing is counted, so nothing is held back"


# -- a consumer --------------------------------------------------------------------------------------------


class Queue:
    """The handling of one queue, always full, with what it needs of a process."""

    def __init__(self, *limits: Limit, uins: int = 0, batch_items: int = 0) -> None:
        self.clock = Clock()
        self.speed = Speed(self.clock, lambda limit: 1.0)
        self.speed.configure(Throttle(limits))
        self.handled = 0
        self._uins = uins
        self._next = 0
        settings = ConsumerSettings()
        workshop = Workshop(
            clock=self.clock, settings=settings, stats=Stats(), slots=HandlerSlots(10, self.clock),
            handlers={1: Handler(self.handle, batch_items)}, retrier=None,  # type: ignore[arg-type]
            speed=self.speed, jitter=lambda: 0.5, wall=self.clock.seconds,
        )  # fmt: skip
        place = Place("test", 1, 1, 0)
        self.handling = Handling(place, workshop, self.finished, gate=self.speed.gate(1, 1))

    def handle(self, context: Any, items: Any) -> Result:
        self.handled += len(items) if isinstance(items, list) else 1
        return Result.OK

    def finished(self, slot: Slot) -> None:
        self.fill(1)

    def fill(self, count: int) -> None:
        for _ in range(count):
            self._next += 1
            uin = self._next % self._uins + 1 if self._uins else 0
            meta = Meta(handle_id=1, uin=uin, pub_id=1)
            self.handling.add(Slot(self._next, QItem(meta=meta), uin, 0, 1, 1))

    def in_seconds(self, seconds: float) -> int:
        before, end = self.handled, self.clock.seconds() + seconds
        self.handling.pump()
        while calls := [call.getTime() for call in self.clock.getDelayedCalls() if call.getTime() <= end]:
            self.clock.advance(max(0.0, min(calls) - self.clock.seconds()))
        self.clock.advance(end - self.clock.seconds())
        return self.handled - before


@pytest.mark.parametrize("per_second", [10, 97, 300, 2000])
@pytest.mark.parametrize(("uins", "batch_items"), [(0, 0), (5, 0), (50, 7)])
def test_ten_seconds_are_within_five_percent(per_second: int, uins: int, batch_items: int) -> None:
    queue = Queue(Limit(1, 1, per_minute=per_second * 60), uins=uins, batch_items=batch_items)
    queue.fill(60)
    for _ in range(3):
        assert queue.in_seconds(10) == pytest.approx(per_second * 10, rel=0.05)


def test_a_timer_that_is_late_costs_nothing() -> None:
    queue = Queue(Limit(1, 1, per_minute=60_000))
    queue.fill(300)
    before = queue.in_seconds(1)
    for _ in range(100):
        queue.clock.advance(0.1)  # nothing runs meanwhile
    assert queue.handled - before == pytest.approx(10_000, rel=0.05)


def test_an_hour_of_pause_takes_no_timer() -> None:
    queue = Queue()
    queue.fill(5)
    queue.speed.configure(Throttle((), frozenset([(1, 1)])))
    queue.handling.pump()
    assert queue.clock.getDelayedCalls() == []
    assert queue.handling.holding


class Counted:
    """A rig that counts what it handles, by pub and handle_id."""

    def __init__(self, *limits: FreqInfo, queue_infos: Any = ONE_QUEUE, **settings: Any) -> None:
        self.seen: Counter[tuple[int, int]] = Counter()
        topic = make_topic(queue_infos=queue_infos)
        object.__setattr__(topic, "freq_infos", limits)
        self.rig = Rig(self.handle, topic=topic, start=False, **settings)
        self.rig.acks.off()  # it looks at all items at each acknowledgement

    def handle(self, context: Context, item: Item) -> Result:
        self.seen[item.pub_id, item.handle_id] += 1
        return Result.OK

    def fill(self, count: int, *, pub_id: int = 1, handle_id: int = 1, uins: int = 0) -> None:
        for start in range(0, count, 20):
            for number in range(start, start + 20):
                self.rig.producer.enqueue(pub_id, handle_id, b"x", number % uins + 1 if uins else 0)
            self.rig.run(0.001)

    def start(self) -> None:
        self.rig.service.startService()
        self.rig.run(0.1)

    def in_seconds(self, seconds: float, pub_id: int = 1, handle_id: int = 1) -> int:
        before = self.seen[pub_id, handle_id]
        self.rig.run(seconds)
        return self.seen[pub_id, handle_id] - before


def test_others_go_on_beside_a_limited_kind() -> None:
    counted = Counted(FreqInfo(limit_per_min=600, handle_id=1))
    counted.fill(100, handle_id=1, uins=3)
    counted.fill(100, handle_id=2)
    counted.fill(100, pub_id=2, handle_id=2)
    counted.start()
    counted.rig.run(2)
    assert counted.seen[1, 2] == counted.seen[2, 2] == 100
    assert 15 <= counted.seen[1, 1] <= 25
    counted.rig.run(10)
    assert counted.seen[1, 1] == 100
    assert counted.rig.unacknowledged() == 0


def test_several_limits_count_one_item() -> None:
    counted = Counted(
        FreqInfo(limit_per_min=1200, pub_id=1), FreqInfo(limit_per_min=600, handle_id=1), FreqInfo(limit_per_min=0)
    )
    counted.fill(400, handle_id=1)
    counted.fill(400, handle_id=2)
    counted.start()
    counted.rig.run(1)
    counted.seen.clear()
    counted.rig.run(10)
    assert counted.seen[1, 1] == pytest.approx(100, rel=0.05)
    assert sum(counted.seen.values()) == pytest.approx(200, rel=0.05)


def test_limits_change_at_once() -> None:
    counted = Counted(FreqInfo(limit_per_min=60, pub_id=1))
    counted.fill(400)
    counted.start()
    assert counted.in_seconds(10) == pytest.approx(10, abs=1)
    counted.rig.service.set_throttle(Throttle((Limit(1, -1, -1, -1, 1200),)))
    assert counted.in_seconds(10) == pytest.approx(200, rel=0.05)
    counted.rig.service.set_throttle(Throttle((Limit(1, -1, -1, -1, 0),)))
    counted.rig.run(2)
    assert counted.seen[1, 1] == 400
    assert counted.rig.unacknowledged() == 0


def test_a_pause_stops_a_pub_and_what_is_fetched_of_it_and_nothing_else() -> None:
    counted = Counted(
        queue_infos=(QueueInfo(queue_info_id=1, ranges=((0, 3),)), QueueInfo(queue_info_id=2, ranges=((10, 10),)))
    )
    counted.start()
    counted.rig.service.set_throttle(Throttle((), frozenset([(1, 1)])))
    counted.fill(200, pub_id=1, uins=9)
    counted.fill(200, pub_id=2)
    counted.rig.run(5)
    assert counted.seen == {(2, 1): 200}
    gets = counted.rig.service.stats.gets
    counted.rig.service.set_throttle(Throttle((), frozenset([(1, 1), (1, 2)])))
    counted.rig.run(120)
    assert counted.rig.service.stats.gets - gets <= 5, "paused queues are not asked for"
    counted.rig.service.set_throttle(Throttle())
    counted.rig.run(5)
    assert counted.seen == {(1, 1): 200, (2, 1): 200}
    assert counted.rig.unacknowledged() == 0


def test_a_stop_does_not_wait_for_limits() -> None:
    counted = Counted(FreqInfo(limit_per_min=1, handle_id=1))
    counted.fill(100)
    counted.start()
    before = counted.rig.clock.seconds()
    stopped = counted.rig.stop()
    counted.rig.run(0.5)
    assert stopped == [None]
    assert counted.rig.clock.seconds() - before < 1
    assert counted.rig.service._budget.used == 0


def test_what_limits_hold_back_leaves_room_for_other_queues() -> None:
    infos = (QueueInfo(queue_info_id=1, ranges=((0, 3),)), QueueInfo(queue_info_id=2, ranges=((100, 100),)))
    counted = Counted(
        FreqInfo(limit_per_min=1, pub_id=1), queue_infos=infos, prefetch_size=20_000, min_fetch_size=10, fetch_items=5
    )
    for _ in range(300):
        counted.fill(20, pub_id=1)  # in batches, as large as those that are fetched may be
    counted.start()
    counted.rig.run(5)
    budget = counted.rig.service._budget
    assert 1000 < budget.used <= budget.held_share * 5 + 5 * 20 * 50 < 11_000


def test_two_consumers_share_a_limit_by_what_they_own() -> None:
    infos = (QueueInfo(queue_info_id=1, ranges=((0, 9),)), QueueInfo(queue_info_id=2, ranges=((100, 100),)))
    counted = Counted(FreqInfo(limit_per_min=3000, pub_id=1, consumer_group_id=1), queue_infos=infos, fetch_items=50)
    rig = counted.rig
    first, second = (Consumer(ip="127.0.0.1", port=port) for port in (8001, 8002))
    object.__setattr__(rig.topic, "consumers", (first, second))
    services = [rig.make_service(), rig.make_service()]
    for service, me in zip(services, (first, second), strict=True):
        object.__setattr__(service._node, "consumer", me)
    counted.fill(1200, uins=400)
    for service in services:
        service.startService()
    rig.run(0.5)
    queues = [len([key for key in service.queues if key[2] < 100]) for service in services]
    assert sum(queues) == 10
    assert all(queues)
    assert counted.in_seconds(10) == pytest.approx(500, rel=0.05)
    services[0].set_share(lambda limit: 0.0)
    services[1].set_share(lambda limit: 1.0)
    counted.rig.run(1)
    at_work = services[0].stats.handled
    assert counted.in_seconds(5) == pytest.approx(250, rel=0.06), "a scheduler may give all of it to one of them"
    assert services[0].stats.handled == at_work
    for service in services:
        service.stopService()
    rig.run(1)


def test_a_consumer_knows_how_far_it_is_behind() -> None:
    counted = Counted(FreqInfo(limit_per_min=600, pub_id=1))
    counted.fill(40)
    counted.start()
    counted.rig.run(2)
    lag = counted.rig.service.lag()
    [behind] = [each for each in lag.values() if each.items]
    assert behind.items == 40 - counted.seen[1, 1]
    assert 0 <= behind.oldest_s < 10
    assert behind.resting, "the limit holds it back, it does not hang"
    assert len(lag) == len(counted.rig.service.queues)
    counted.rig.run(10)
    assert all(each.items == 0 for each in counted.rig.service.lag().values())
