"""The consumer against a store in memory: fetching, acknowledging, resets, failover, the end."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from phxqueue.config import Consumer, QueueInfo, SkipInfo, Topic, dead_letter_queue
from phxqueue.consumer import Context, Item, Result
from phxqueue.consumer.assignment import Ring
from phxqueue.consumer.limits import Limit, OwnedQueues
from phxqueue.consumer.service import my_queues, weights_of_group
from phxqueue.net.status import Status
from phxqueue.producer.items import read_cookies
from phxqueue.proto.item_pb2 import BatchHeader, QItem, QItems
from tests.consumer.rig import ME, Rig
from tests.producer.fake_store import Fault, Stored, make_store, make_topic
from tests.producer.rig import watch

ONE_QUEUE = make_topic(
    queue_infos=(QueueInfo(queue_info_id=1, ranges=((0, 0),)), QueueInfo(queue_info_id=2, ranges=((10, 10),)))
)


def numbered(count: int, first: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(first, first + count)]


def test_items_are_handled_and_acknowledged() -> None:
    rig = Rig()
    rig.enqueue(*numbered(100))
    assert rig.handled == numbered(100)
    assert rig.unacknowledged() == 0, "what is handled at once is acknowledged by the next Get"
    assert rig.acks.wrong == []
    assert rig.service.stats.acks == 0
    rig.run(100)
    assert rig.handled == numbered(100)


def test_what_a_handler_gets() -> None:
    seen: list[tuple[Context, Item]] = []

    def handle(context: Context, item: Item) -> Result:
        seen.append((context, item))
        return Result.OK

    rig = Rig(handle, handler_timeout_s=5.0)
    rig.producer.enqueue(1, 2, b"hello", 7, "me", {"k": b"v"})
    rig.run(0.1)
    [(context, item)] = seen
    assert (item.buffer, item.uin, item.handle_id, item.pub_id, item.count) == (b"hello", 7, 2, 1, 0)
    assert (item.client_id, item.user_cookies, item.sys_cookies) == ("me", {"k": b"v"}, {})
    assert item.identity == (rig.producer.producer_id, 0)
    assert item.enqueued_at == item.attempt_enqueued_at == 1000.0
    assert (context.topic, context.consumer_group_id, context.store_id, context.attempt) == ("test", 1, 1, 1)
    assert context.cursor == item.cursor == 0
    assert context.queue_id in range(4)
    assert 4.8 < context.time_left < 5.0
    assert "cursor 0" in repr(item)
    assert f"queue {context.queue_id}" in repr(context)
    context.log.debug("a handler may log")


def test_an_idle_consumer_asks_seldom() -> None:
    rig = Rig(get_wait_s=20.0)
    rig.run(0.1)
    first = len(rig.store.gets)
    assert first == 6, "one long poll per queue of the group"
    rig.run(99.0)
    assert 6 * 4 <= len(rig.store.gets) - first <= 6 * 7
    assert len({get.wait_ms for get in rig.store.gets}) > 10, "not all at the same moment"


def test_every_group_gets_its_own_copy() -> None:
    seen: list[tuple[int, bytes]] = []

    def handle(context: Context, item: Item) -> Result:
        seen.append((context.consumer_group_id, item.buffer))
        return Result.OK

    rig = Rig(handle, groups=(1, 2))
    watch(rig.producer.enqueue(1, 1, b"both", uin=1))
    watch(rig.producer.enqueue(1, 1, b"one", uin=1, consumer_group_ids=[1]))
    watch(rig.producer.enqueue(1, 1, b"two", uin=1, consumer_group_ids=[2]))
    rig.run(1)
    assert sorted(seen) == [(1, b"both"), (1, b"one"), (2, b"both"), (2, b"two")]
    assert rig.unacknowledged(1) == rig.unacknowledged(2) == 0
    assert rig.acks.wrong == [], "what is passed over in a batch is counted as finished"


def test_what_ends_while_a_get_waits_is_acknowledged_soon() -> None:
    waiting: list[Deferred[Result]] = []

    def handle(context: Context, item: Item) -> Deferred[Result]:
        waiting.append(Deferred())
        return waiting[-1]

    rig = Rig(handle, ack_interval_s=0.1)
    rig.enqueue(*numbered(3))
    assert rig.unacknowledged() == 3
    gets = len(rig.store.gets)
    waiting[1].callback(Result.OK)
    rig.run(0.5)
    assert len(rig.store.gets) == gets, "nothing to say: the first is not finished"
    waiting[0].callback(Result.OK)
    waiting[2].callback(Result.OK)
    rig.run(0.05)
    assert len(rig.store.gets) == gets
    rig.run(0.06)
    [ack] = rig.store.gets[gets:]
    assert (ack.limit, ack.prev_cursor, ack.claims[-1].count) == (0, 3, 3)
    assert rig.unacknowledged() == 0
    rig.enqueue(b"next")
    assert len(waiting) == 4, "the long poll was not disturbed"
    waiting[3].callback(Result.OK)
    rig.run(1)
    assert rig.acks.wrong == []


def test_fetching_overlaps_handling_within_bounds() -> None:
    waiting: list[Deferred[Result]] = []

    def handle(context: Context, item: Item) -> Deferred[Result]:
        waiting.append(Deferred())
        return waiting[-1]

    rig = Rig(handle, topic=ONE_QUEUE, nhandler=2, fetch_size=20_000, min_fetch_size=10_000, prefetch_size=100_000)
    for _ in range(20):
        rig.enqueue(*[b"x" * 1000] * 10)
    assert len(waiting) == 2
    worker = rig.service._tenures[1, 1, 0].worker
    assert worker is not None
    assert 20_000 <= worker._held < 45_000
    assert rig.service._budget.used == worker._held
    while waiting:
        waiting.pop().callback(Result.OK)
        rig.run(0.01)
    rig.run(1)
    assert rig.unacknowledged() == 0
    assert rig.service._budget.used == worker._held == 0
    assert rig.acks.wrong == []


def test_memory_is_bounded_over_all_queues() -> None:
    waiting: list[Deferred[Result]] = []

    def handle(context: Context, item: Item) -> Deferred[Result]:
        waiting.append(Deferred())
        return waiting[-1]

    topic = make_topic(queue_infos=(
        QueueInfo(queue_info_id=1, ranges=((0, 19),)), QueueInfo(queue_info_id=2, ranges=((30, 30),)),
    ))  # fmt: skip
    rig = Rig(
        handle, topic=topic, start=False, nhandler=1, fetch_size=50_000, min_fetch_size=5_000, prefetch_size=60_000
    )
    for number in range(40):
        rig.enqueue(*[b"x" * 1000] * 20, uin=number + 1)
    rig.service.startService()
    rig.run(1)
    assert rig.service._budget.used < 60_000 + 20 * 25_000
    for _ in range(2000):
        if waiting:
            waiting.pop(0).callback(Result.OK)
        rig.run(0.001)
    assert rig.unacknowledged() == 0
    assert rig.service._budget.used == 0
    assert rig.acks.wrong == []


# -- positions ---------------------------------------------------------------------------------------


def test_a_lost_answer_makes_no_item_handled_twice() -> None:
    rig = Rig()
    lost: list[int] = []

    def fault(name: str, request: Any) -> Fault:
        if name == "get" and request.limit and not lost and any(queue.end for queue in rig.store.queues.values()):
            lost.append(request.queue_id)
            return Fault.REPLY_LOST
        return Fault.NONE

    rig.store.fault = fault
    rig.enqueue(*numbered(10), uin=1)
    rig.run(12)
    rig.enqueue(*numbered(10, 10), uin=1)
    rig.run(12)
    rig.enqueue(*numbered(10, 20), uin=1)
    rig.run(1)
    assert lost
    assert rig.handled == numbered(30)
    assert rig.unacknowledged() == 0
    assert rig.acks.wrong == []


def test_a_reset_redelivers_only_what_is_not_here() -> None:
    """The store forgets what was delivered and starts at acked: items at work and finished ones are recognised."""
    waiting: dict[bytes, Deferred[Result]] = {}
    seen: list[bytes] = []

    def handle(context: Context, item: Item) -> Deferred[Result]:
        seen.append(item.buffer)
        waiting[item.buffer] = Deferred()
        return waiting[item.buffer]

    rig = Rig(handle, nhandler=3)
    rig.enqueue(*numbered(5), uin=0)
    waiting[b"1"].callback(Result.OK)
    rig.run(0.01)
    assert seen == numbered(4)
    [key] = [key for key in rig.store.delivered if rig.store.queues[key[:2]].end]
    rig.store.move(key, 0)  # the store has forgotten what it delivered
    rig.run(0.2)
    assert rig.service.stats.resets >= 1
    for buffer in numbered(5):
        rig.run(0.1)
        if not waiting[buffer].called:
            waiting[buffer].callback(Result.OK)
    rig.run(1)
    assert seen == numbered(5)
    assert rig.unacknowledged() == 0


def test_a_store_built_from_a_backup_is_followed_from_where_it_stands() -> None:
    """The backup has less than was consumed, and new items have taken the cursors of those that are lost."""
    rig = Rig()
    for buffer in numbered(10):
        rig.enqueue(buffer, uin=1)
    rig.run(1)
    for poll in list(rig.store.polls):  # all of its nodes are stopped
        rig.store._remove(poll)
        rig.store._fail(poll.answer, Status.UNAVAILABLE)
    [place] = [place for place, queue in rig.store.queues.items() if queue.end]
    queue = rig.store.queues[place]
    queue.batches = [batch for batch in queue.batches if batch.first < 4]
    queue.end = 4
    key = (*place, 1)
    rig.store.acked[key] = 2
    rig.store.delivered.clear()
    rig.store.history = 99
    rig.enqueue(*numbered(10, 100), uin=1)
    rig.run(30)
    assert rig.handled == [*numbered(10), *numbered(2, 2), *numbered(10, 100)]
    assert rig.unacknowledged() == 0


def test_what_somebody_else_acknowledged_is_dropped_if_it_has_not_started() -> None:
    waiting: list[Deferred[Result]] = []
    seen: list[bytes] = []

    def handle(context: Context, item: Item) -> Deferred[Result]:
        seen.append(item.buffer)
        waiting.append(Deferred())
        return waiting[-1]

    rig = Rig(handle, nhandler=1)
    rig.enqueue(*numbered(5))
    [key] = [key for key in rig.store.delivered if rig.store.queues[key[:2]].end]
    rig.store.move(key, 3)
    rig.run(0.2)
    waiting[0].callback(Result.RETRY)  # no longer ours: nobody retries it
    rig.run(0.1)
    while any(not d.called for d in waiting):
        waiting[-1].callback(Result.OK)
        rig.run(0.1)
    assert seen == [b"0", b"3", b"4"]
    assert rig.service.stats.retried == 0
    rig.run(0.2)
    assert rig.unacknowledged() == 0
    assert rig.service._budget.used == 0


def test_a_replay_delivers_everything_again() -> None:
    rig = Rig()
    rig.enqueue(*numbered(10), uin=1)
    [key] = [key for key in rig.store.delivered if rig.store.queues[key[:2]].end]
    assert rig.store.acked[key] == 10
    rig.run(11)  # the Get that acknowledged comes back
    rig.store.move(key, 4)
    rig.run(0.2)
    assert rig.handled == numbered(10) + numbered(6, 4)
    assert rig.unacknowledged() == 0
    assert rig.service._budget.used == 0


def test_after_a_failover_the_reader_goes_on_where_it_is() -> None:
    rig = Rig()
    rig.enqueue(*numbered(10), uin=1)
    rig.store.fail_over()
    rig.run(0.2)
    rig.enqueue(*numbered(10, 10), uin=1)
    assert rig.handled == numbered(20)
    assert rig.service.stats.resets == 0


def test_an_outage_is_ridden_out_logged_once_and_ended_within_100_ms() -> None:
    from twisted.logger import globalLogPublisher

    events: list[str] = []

    def observe(event: Any) -> None:
        if event.get("log_namespace") == "phxqueue.consumer.sharing.StoreHealth":
            events.append(event["log_format"])

    rig = Rig()
    rig.run(0.1)
    globalLogPublisher.addObserver(observe)
    try:
        rig.store.fault = lambda name, request: Fault.NO_MASTER
        rig.store.fail_over()
        rig.run(60)
        assert len(events) == 1
        asked = len(rig.store.gets)
        assert asked < 6 * 60 * 25
        rig.store.fault = lambda name, request: Fault.NONE
        watch(rig.producer.enqueue(1, 1, b"again"))
        rig.run(0.11)
        assert rig.handled == [b"again"]
        assert len(events) == 2
    finally:
        globalLogPublisher.removeObserver(observe)


def test_a_refusal_for_good_is_asked_about_seldom() -> None:
    rig = Rig(start=False, backoff_first_s=0.05, backoff_max_s=5.0)
    rig.store.fault = lambda name, request: Fault.DENIED
    rig.service.startService()
    rig.run(60)
    assert len(rig.store.gets) < 6 * 30
    rig.store.fault = lambda name, request: Fault.NONE
    rig.run(6)
    rig.enqueue(b"x")
    assert rig.handled == [b"x"]


# -- what is passed over -----------------------------------------------------------------------------


def test_skip_infos_and_drop_all_pass_items_over() -> None:
    topic = make_topic()
    object.__setattr__(topic, "skip_infos", (
        SkipInfo(uin=5, consumer_group_id=1),
        SkipInfo(handle_id=2, queue_info_id=1),
        SkipInfo(uin=6, consumer_group_id=2),
    ))  # fmt: skip
    rig = Rig(topic=topic)
    rig.enqueue(b"skipped by uin", uin=5)
    rig.enqueue(b"skipped by handle_id", uin=6, handle_id=2)
    rig.enqueue(b"not skipped", uin=6)
    assert rig.handled == [b"not skipped"]
    assert rig.service.stats.skipped == 2
    rig.run(1)
    assert rig.unacknowledged() == 0
    assert rig.acks.wrong == []
    dropping = Rig(topic=make_topic(), start=False)
    dropping.enqueue(b"1", b"2")
    infos = tuple(QueueInfo(queue_info_id=i.queue_info_id, ranges=i.ranges, drop_all=True) for i in topic.queue_infos)
    object.__setattr__(dropping.topic, "queue_infos", infos)
    for name in ("_queues", "_queue_infos"):
        dropping.topic.__dict__.pop(name, None)
    dropping.service.startService()
    dropping.run(1)
    assert dropping.handled == []
    assert dropping.service.stats.skipped == 2
    assert dropping.unacknowledged() == 0


@pytest.mark.parametrize("items", [b"\xff" * 5000, QItems(items=[QItem()]).SerializeToString()])
def test_a_batch_that_cannot_be_read_becomes_a_dead_letter_and_blocks_nobody(items: bytes) -> None:
    rig = Rig(start=False)
    rig.acks.off()
    header = BatchHeader(queue_id=0, pub_id=1, consumer_group_ids=1, count=3, digest_sum=7, producer_id=9, sequence=1)
    queue = rig.store.queues[1, 0]
    queue.batches.append(Stored(0, header, items, 0))
    queue.end = 3
    rig.service.startService()
    rig.run(1)
    uin = next(uin for uin in range(1, 100) if _queue_of(rig, uin) == 0)
    rig.enqueue(b"behind it", uin=uin)
    rig.run(1)
    assert rig.handled[-1] == b"behind it"
    [letter] = rig.store.items(1, dead_letter_queue(1))
    assert b"cannot be read" in read_cookies(letter.sys_cookies)["dead.last_error"]
    assert rig.service.stats.unreadable == 1
    assert rig.store.acked[1, 0, 1] == queue.end
    claims = [claim for get in rig.store.gets for claim in get.claims if claim.digest_sum == 7]
    assert {claim.count for claim in claims} == {3}, "its items count, so that the books balance"


def _queue_of(rig: Rig, uin: int) -> int:
    from phxqueue.producer.selection import choose_queue

    return choose_queue(rig.topic.queue_infos[0].queue_ids, uin)


# -- assignment --------------------------------------------------------------------------------------


def test_a_consumer_serves_the_queues_it_owns_and_follows_changes() -> None:
    other = Consumer(ip="127.0.0.1", port=8002)
    rig = Rig(start=False)
    object.__setattr__(rig.topic, "consumers", (ME, other))
    rig.service.startService()
    mine = set(rig.service.queues)
    assert 0 < len(mine) < 6
    assert mine == set(my_queues(rig.service._node))
    for uin in range(1, 30):
        rig.enqueue(b"%d" % uin, uin=uin)
    seen = len(rig.handled)
    assert seen < 29
    object.__setattr__(rig.topic, "consumers", (ME,))
    rig.service.reconfigure(rig.service._node)
    assert len(rig.service.queues) == 6
    rig.run(1)
    assert len(rig.handled) == 29
    object.__setattr__(rig.topic, "consumers", (other,))
    rig.service.reconfigure(rig.service._node)
    rig.run(1)
    assert rig.service.queues == ()
    assert rig.store.polls == []
    assert rig.unacknowledged() == 0
    rig.stop()


def test_a_queue_given_back_while_it_is_being_given_up_is_taken_again() -> None:
    waiting: list[Deferred[Result]] = []

    def handle(context: Context, item: Item) -> Deferred[Result]:
        waiting.append(Deferred())
        return waiting[-1]

    rig = Rig(handle)
    rig.enqueue(b"x")
    object.__setattr__(rig.topic, "consumers", (Consumer(ip="127.0.0.1", port=8002),))
    rig.service.reconfigure(rig.service._node)
    rig.run(0.01)
    object.__setattr__(rig.topic, "consumers", (ME,))
    rig.service.reconfigure(rig.service._node)
    assert len(rig.service.queues) == 5
    waiting[0].callback(Result.OK)
    rig.run(0.1)
    assert len(rig.service.queues) == 6
    rig.enqueue(b"y", b"z")
    assert len(waiting) == 3, "x was acknowledged before the queue was taken again"
    for d in waiting[1:]:
        d.callback(Result.OK)
    rig.run(1)
    assert rig.unacknowledged() == 0


def test_giving_queues_up_works_out_once_who_owns_what(monkeypatch: pytest.MonkeyPatch) -> None:
    rings: list[Ring] = []

    def ring(weights: Mapping[str, int]) -> Ring:
        rings.append(Ring(weights))
        return rings[-1]

    rig = Rig(groups=(1, 2))
    monkeypatch.setattr("phxqueue.consumer.service.Ring", ring)
    object.__setattr__(rig.topic, "consumers", (Consumer(ip="127.0.0.1", port=8002),))
    rig.service.reconfigure(rig.service._node)
    rig.run(1)
    assert rig.service.queues == ()
    assert len(rings) == 1


def test_the_queues_are_counted_once_for_all_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []

    def queues(topic: Topic, mine: Collection[tuple[int, int, int]]) -> OwnedQueues:
        counted.append(len(mine))
        return OwnedQueues(topic, mine)

    rig = Rig()
    monkeypatch.setattr("phxqueue.consumer.service.OwnedQueues", queues)
    shares = [rig.service.share_of_queues(Limit(1, 1, handle_id)) for handle_id in range(10)]
    assert shares == [1.0] * 10
    assert counted == [6]
    object.__setattr__(rig.topic, "consumers", ())
    rig.service.reconfigure(rig.service._node)
    rig.run(1)
    assert rig.service.share_of_queues(Limit(1, 1)) == 0.0


def test_weights_count_only_consumers_of_the_group_and_ignored_groups_are_nobodys() -> None:
    topic = make_topic(consumer_ignore_consumer_group_ids=(2,))
    object.__setattr__(topic, "consumers", (
        ME, Consumer(ip="1.1.1.1", port=1, consumer_group_ids=(2,)), Consumer(ip="1.1.1.2", port=1, scale=5),
    ))  # fmt: skip
    assert weights_of_group(topic, 1) == {"127.0.0.1:8001": 1000, "1.1.1.2:1": 5}
    rig = Rig(topic=topic, groups=(1, 2))
    assert {group for group, _, _ in rig.service.queues} == {1}


def test_several_stores_and_paxos_groups() -> None:
    topic = make_topic(stores=(make_store(1, paxos_groups=3), make_store(2)))
    rig = Rig(topic=topic)
    assert len(rig.service.queues) == 12
    for uin in range(1, 101):
        rig.enqueue(b"%d" % uin, uin=uin)
    rig.run(1)
    assert sorted(rig.handled, key=int) == numbered(100, 1)
    assert rig.unacknowledged() == 0
    assert len(rig.service._health) == 4


# -- the end -----------------------------------------------------------------------------------------


def test_stopping_finishes_what_is_at_work_and_acknowledges_it() -> None:
    waiting: dict[bytes, Deferred[Result]] = {}

    def handle(context: Context, item: Item) -> Deferred[Result]:
        waiting[item.buffer] = Deferred()
        return waiting[item.buffer]

    rig = Rig(handle, nhandler=3, ack_interval_s=50.0)
    rig.enqueue(*numbered(6))
    stopped = rig.stop()
    assert rig.store.open_polls == 0
    rig.run(1)
    waiting[b"0"].callback(Result.OK)
    waiting[b"2"].callback(Result.RETRY)
    rig.run(1)
    assert stopped == []
    waiting[b"1"].callback(Result.OK)
    rig.run(0.1)
    assert stopped == [None]
    assert len(waiting) == 3, "nothing new was started"
    assert [rig.store.acked[key] for key in rig.store.delivered if rig.store.queues[key[:2]].end] == [3]
    assert rig.acks.wrong == []
    assert rig.service._budget.used == 0
    again = rig.make_service()
    again.startService()
    rig.run(0.1)
    assert set(waiting) == {*numbered(6)}, "the rest is delivered to the next one"
    producer_closed = watch(rig.producer.close())
    rig.run(0.1)
    assert producer_closed == [None]


def test_stopping_leaves_no_gap_below_what_is_finished() -> None:
    """Lanes take turns: items of other uins are finished while earlier ones of a busy uin still wait."""
    waiting: dict[bytes, Deferred[Result]] = {}
    started: list[bytes] = []

    def handle(context: Context, item: Item) -> Result | Deferred[Result]:
        started.append(item.buffer)
        if item.uin != 7:
            return Result.OK
        waiting[item.buffer] = Deferred()
        return waiting[item.buffer]

    rig = Rig(handle, topic=ONE_QUEUE, ack_interval_s=50.0, fetch_items=4)
    for buffer, uin in ((b"a", 7), (b"b", 7), (b"c", 0), (b"d", 0), (b"e", 7)):
        rig.producer.enqueue(1, 1, buffer, uin)
    rig.run(0.02)
    assert started == [b"a", b"c", b"d"]
    stopped = rig.stop()
    waiting[b"a"].callback(Result.OK)
    rig.run(0.1)
    assert stopped == []
    assert started[3:] == [b"b"], "below what is finished: it has to be handled, too"
    waiting[b"b"].callback(Result.OK)
    rig.run(0.1)
    assert stopped == [None]
    assert rig.store.acked[1, 0, 1] == 4, "all but the last, which was not begun"
    assert rig.acks.wrong == []
    assert rig.service._budget.used == 0
    rig.make_service().startService()
    rig.run(0.1)
    assert started[4:] == [b"e"], "nothing is delivered twice"


def test_stopping_gives_up_on_handlers_that_do_not_end() -> None:
    cancelled: list[str] = []

    def handle(context: Context, item: Item) -> Deferred[Result]:
        return Deferred(lambda d: cancelled.append("yes"))

    rig = Rig(handle, stop_timeout_s=5.0)
    rig.enqueue(*numbered(3))
    stopped = rig.stop()
    rig.run(4.9)
    assert stopped == []
    rig.run(0.2)
    assert stopped == [None]
    assert cancelled == ["yes"] * 3
    assert rig.unacknowledged() == 3
    assert rig.clock.getDelayedCalls() == []


def test_stopping_with_a_store_that_does_not_answer_ends() -> None:
    waiting: list[Deferred[Result]] = []

    def handle(context: Context, item: Item) -> Deferred[Result]:
        waiting.append(Deferred())
        return waiting[-1]

    rig = Rig(handle, final_ack_s=2.0)
    rig.enqueue(b"x")
    rig.store.fault = lambda name, request: Fault.SILENT
    stopped = rig.stop()
    waiting[0].callback(Result.OK)
    rig.run(1.9)
    assert stopped == []
    rig.run(0.2)
    assert stopped == [None]
    rig.run(5)


def test_stopping_while_an_acknowledgement_is_not_answered_sends_it_again() -> None:
    waiting: list[Deferred[Result]] = []

    def handle(context: Context, item: Item) -> Deferred[Result]:
        waiting.append(Deferred())
        return waiting[-1]

    rig = Rig(handle)
    rig.enqueue(b"x")
    rig.store.fault = lambda name, request: Fault.SILENT
    waiting[0].callback(Result.OK)
    rig.run(0.2)
    assert rig.service.stats.acks == 1
    rig.store.fault = lambda name, request: Fault.NONE
    stopped = rig.stop()
    rig.run(0.1)
    assert stopped == [None]
    assert rig.unacknowledged() == 0
    rig.run(60)


def test_stopping_does_not_wait_for_a_next_attempt_that_fails() -> None:
    rig = Rig(lambda context, item: Result.RETRY, start=False)
    rig.enqueue(b"x")
    rig.store.latency_s = 0.5
    rig.store.fault = lambda name, request: Fault.NO_MASTER if name == "add" else Fault.NONE
    rig.service.startService()
    rig.run(0.7)
    assert len(rig.store.adds) == 2, "its next attempt is under way"
    stopped = rig.stop()
    rig.run(0.2)
    assert stopped == []
    rig.run(0.3)
    assert len(rig.store.adds) == 2, "it has failed, and is not enqueued again"
    rig.run(0.5)  # the store is told that we leave
    assert stopped == [None]
    rig.run(1)
    assert rig.unacknowledged() == 1
    assert rig.clock.getDelayedCalls() == []


def test_an_idle_consumer_says_that_it_leaves_and_leaves_nothing() -> None:
    rig = Rig()
    rig.run(1)
    stopped = rig.stop()
    rig.run(0.1)
    assert stopped == [None]
    assert rig.store.polls == []
    assert rig.clock.getDelayedCalls() == []
