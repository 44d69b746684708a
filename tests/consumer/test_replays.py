"""A replay meets consumers at work: everything comes again, in order, and nothing of before counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from phxqueue.consumer import Result
from phxqueue.producer import NewItem
from phxqueue.producer.routes import store_route
from phxqueue.proto.methods import REPLAY
from phxqueue.proto.store_pb2 import ReplayRequest, ReplayResponse
from phxqueue.testing import InMemoryCluster, small_topic


async def replayed(cluster: InMemoryCluster, group: int = 1, name: str = "r1", **target: Any) -> ReplayResponse:
    request = ReplayRequest(topic_id=1, store_id=1, id=name, consumer_group_id=group, pub_id=1)
    for field, value in (target or {"to_earliest": True}).items():
        setattr(request, field, value)
    response = await cluster._stores.call(store_route(cluster.topic, 1, 0), REPLAY, request, 1.0)
    assert isinstance(response, ReplayResponse)
    return response


class Recorder:
    """Notes what is handled, and uins that are in work `twice`; `hold`: handlers wait until they are let go."""

    def __init__(self) -> None:
        self.hold = False
        self.handled: list[tuple[int, bytes, int]] = []
        self.twice: list[tuple[int, int]] = []
        self.waiting: list[Deferred[None]] = []
        self._at_work: Counter[tuple[int, int]] = Counter()

    async def handle(self, context: Any, item: Any) -> Result:
        lane = context.consumer_group_id, item.uin
        self._at_work[lane] += 1
        if item.uin and self._at_work[lane] > 1:
            self.twice.append(lane)
        if self.hold:
            self.waiting.append(Deferred())
            await self.waiting[-1]
        self._at_work[lane] -= 1
        self.handled.append((context.consumer_group_id, item.buffer, context.attempt))
        return Result.RETRY if item.buffer == b"again" and context.attempt == 1 else Result.OK

    def let_go(self) -> None:
        self.hold = False
        waiting, self.waiting = self.waiting, []
        for one in waiting:
            one.callback(None)

    def of(self, group: int) -> list[bytes]:
        return [buffer for handled_by, buffer, _ in self.handled if handled_by == group]


async def turns() -> None:
    for _ in range(20):
        await deferLater(reactor, 0, lambda: None)


@pytest.mark.parametrize("ordered", [False, True])
@pytest_twisted.ensureDeferred
async def test_what_is_at_work_counts_for_nothing_and_comes_again(ordered: bool) -> None:
    recorder = Recorder()
    topic = small_topic([1], consumer_group_ids=(1, 2), queues=1)
    groups = tuple(replace(group, ordered=ordered) for group in topic.consumer_groups)
    async with InMemoryCluster({1: recorder}, replace(topic, consumer_groups=groups)) as cluster:
        items = [NewItem(1, 1, b"%d" % number, uin=1 + number % 3) for number in range(12)]
        assert (await cluster.producer.enqueue_many(items[:6])).all_stored
        await cluster.settle()
        recorder.hold = True
        assert (await cluster.producer.enqueue_many(items[6:])).all_stored
        await turns()
        assert len(recorder.waiting) == 6, "one of each uin of each group"
        [queue] = (await replayed(cluster)).replay.queues
        assert (queue.target, queue.acked) == (0, 6)
        await turns()
        recorder.let_go()
        await cluster.settle()
        found = recorder.of(1)
        assert {buffer: found.count(buffer) >= 2 for buffer in found} == {
            b"%d" % number: number < 9 for number in range(12)
        }
        assert all(found.count(b"%d" % number) >= 2 for number in range(9)), found
        for uin in range(3):  # the second time in order, too
            again = [int(buffer) for buffer in found[-12:] if int(buffer) % 3 == uin]
            assert again == sorted(again)
        assert sorted(map(int, recorder.of(2))) == list(range(12)), "the other group notices nothing"
        assert cluster.stats.resets == 1
        assert not recorder.twice


@pytest_twisted.ensureDeferred
async def test_delayed_and_retried_items_come_again() -> None:
    recorder = Recorder()
    async with InMemoryCluster({1: recorder}, small_topic([1], queues=1)) as cluster:
        await cluster.producer.enqueue_many([NewItem(1, 1, b"again"), NewItem(1, 1, b"late", delay=5.0)])
        await cluster.settle()
        before = Counter(recorder.handled)
        assert before == {(1, b"again", 1): 1, (1, b"again", 2): 1, (1, b"late", 1): 1}
        response = await replayed(cluster)
        assert sorted(queue.queue_id for queue in response.replay.queues) == [0, 1]
        await cluster.settle()
        # The second attempt comes again, and the first one leads to another second attempt.
        assert Counter(recorder.handled) - before == {(1, b"again", 1): 1, (1, b"again", 2): 2, (1, b"late", 1): 1}


@pytest_twisted.ensureDeferred
async def test_forward_as_well() -> None:
    recorder = Recorder()
    async with InMemoryCluster({1: recorder}, small_topic([1], queues=1)) as cluster:
        recorder.hold = True
        await cluster.producer.enqueue_many([NewItem(1, 1, b"%d" % number, uin=7) for number in range(5)])
        await turns()
        [queue] = (await replayed(cluster, queue_id=0, to_cursor=4, skip=True)).replay.queues
        assert (queue.acked, queue.target) == (0, 4)
        await turns()
        recorder.let_go()
        await cluster.settle()
        assert recorder.of(1) == [b"0", b"4"], "what was at work ends; what lay between is passed over"
