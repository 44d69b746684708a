"""What was enqueued adds up, whatever became of it: against real queues and consumers."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import deferLater

from phxqueue.admin.dlq.letters import Filter, revived
from phxqueue.admin.dlq.queue import DeadLetters
from phxqueue.admin.node_status import NodeReport
from phxqueue.admin.sums import sums
from phxqueue.config import ConsumerGroup, Pub, QueueInfo
from phxqueue.consumer import Result
from phxqueue.producer import NewItem
from phxqueue.proto.status_pb2 import NodeStatusResponse
from phxqueue.testing import InMemoryCluster, small_topic


def places(cluster: InMemoryCluster) -> dict[int, tuple[int, ...]]:
    """By consumer group: enqueued, finished, waiting, delayed, dead, expired, unread dead letters."""
    [service] = cluster._stores._services.values()
    answer = NodeStatusResponse(queues=service.queue_statuses(), passed_on=service.passed_on())
    store = cluster.topic.stores[0]
    return {
        one.consumer_group_id: (
            one.enqueued, one.finished, one.waiting, one.delayed, one.dead, one.expired, one.unread,
        )
        for one in sums(cluster.topic, [NodeReport(store, store.nodes[0], answer)])
    }  # fmt: skip


async def replicated(cluster: InMemoryCluster) -> dict[int, tuple[int, ...]]:
    """The same, when all cursors are in the log: nothing waits."""
    while any(found[2] for found in places(cluster).values()):
        await deferLater(reactor, 0.01)
    return places(cluster)


@pytest_twisted.ensureDeferred
async def test_every_item_is_in_exactly_one_place() -> None:
    def handle(context: Any, item: Any) -> Result:
        if context.consumer_group_id == 2:
            return Result.OK
        if item.buffer == b"dead":
            return Result.DEAD
        return Result.RETRY if item.buffer == b"again" and context.attempt < 3 else Result.OK

    async with InMemoryCluster({1: handle}, small_topic([1], consumer_group_ids=(1, 2))) as cluster:
        items = [NewItem(1, 1, buffer) for buffer in (b"ok", b"ok", b"again", b"dead", b"dead")]
        items += [NewItem(1, 1, b"expires", delay=1.0, ttl=0.0001), NewItem(1, 1, b"cancelled", delay=9.0)]
        receipts = await cluster.producer.enqueue_many(items)
        assert places(cluster)[2][0] == 7
        assert await cluster.producer.cancel_delayed(receipts[-1])
        cluster.clock.skip(1.5)
        await cluster.settle()
        await cluster.producer.enqueue(1, 1, b"later", delay=60.0)
        found = await replicated(cluster)
        # The item that expired did so for both groups.
        assert found[1] == (7, 3, 0, 1, 2, 1, 4)
        assert found[2] == (7, 5, 0, 1, 0, 1, 4)
        letters = DeadLetters(cluster._stores, cluster.topic, 1, 1)
        await letters.take(
            Filter(reason="DEAD"),
            1,
            lambda letter: cluster.producer.enqueue_again(revived(letter, 1)),
            lambda letter: cluster.producer.enqueue_again(letter.item, dead=True),
        )
        await cluster.settle()
        # It was requeued, and died again.
        assert (await replicated(cluster))[1][:6] == (7, 4, 0, 0, 2, 1)
        assert sum(places(cluster)[1][1:6]) == 7


@pytest_twisted.ensureDeferred
async def test_later_attempts_count_against_those_groups_only_that_pass_over_them() -> None:
    def handle(context: Any, item: Any) -> Result:
        return Result.OK if context.consumer_group_id == 3 else Result.RETRY

    topic = small_topic([1], consumer_group_ids=(1, 2), queues=2)
    other_info = QueueInfo(queue_info_id=3, ranges=((50, 51),), count=1)
    topic = replace(
        topic,
        queue_infos=(*topic.queue_infos, other_info),
        pubs=(*topic.pubs, Pub(pub_id=2, queue_info_ids=(3,), consumer_group_ids=(3,))),
        consumer_groups=(*topic.consumer_groups, ConsumerGroup(consumer_group_id=3)),
    )
    async with InMemoryCluster({1: handle}, topic) as cluster:
        await cluster.producer.enqueue_many([NewItem(1, 1, b"%d" % n) for n in range(5)])
        await cluster.producer.enqueue_many([NewItem(2, 1, b"%d" % n) for n in range(7)])
        await cluster.settle()
        found = places(cluster)
    assert [found[group][:6] for group in (1, 2, 3)] == [(5, 0, 0, 0, 5, 0)] * 2 + [(7, 7, 0, 0, 0, 0)]


@pytest_twisted.ensureDeferred
async def test_what_expired_and_was_dropped_is_not_finished() -> None:
    topic = small_topic([1], consumer_group_ids=(1, 2))
    topic = replace(topic, pubs=(replace(topic.pubs[0], expired="drop"),))
    async with InMemoryCluster({1: lambda context, item: Result.OK}, topic) as cluster:
        items = [NewItem(1, 1, b"%d" % n, ttl=0.0001 if n % 3 else 0.0, delay=1.0) for n in range(30)]
        await cluster.producer.enqueue_many(items)
        cluster.clock.skip(1.5)
        await cluster.settle()
        while places(cluster)[2][1] != 10:  # a cursor is replicated a little later
            await deferLater(reactor, 0.01)
        [service] = cluster._stores._services.values()
        assert [one.dropped for one in service.passed_on()] == [20, 20]
        assert [places(cluster)[group][:6] for group in (1, 2)] == [(30, 10, 0, 0, 0, 0)] * 2
        assert cluster.stats.expired == 40


@pytest.mark.parametrize("seed", range(4))
@pytest_twisted.ensureDeferred
async def test_dead_letters_are_complete(seed: int) -> None:
    random = Random(seed)
    finished: list[tuple[int, bytes]] = []

    def handle(context: Any, item: Any) -> Result:
        result = random.choice((Result.OK, Result.OK, Result.RETRY, Result.RETRY, Result.DEAD, Result.IGNORE))
        if result in (Result.OK, Result.IGNORE):
            finished.append((context.consumer_group_id, item.buffer))
        return result

    topic = small_topic([1], consumer_group_ids=(1, 2, 5), attempts=3)
    async with InMemoryCluster({1: handle}, topic) as cluster:
        delays = (0.0, 0.0, 0.0, 2.0)
        items = [NewItem(1, 1, b"%d" % n, n % 7, delay=random.choice(delays)) for n in range(200)]
        await cluster.producer.enqueue_many(items)
        await cluster.settle(30.0)
        dead = [(letter.consumer_group_id, letter.item.buffer) for letter in await cluster.dead_letters()]
        found = await replicated(cluster)
    assert sorted(finished + dead) == sorted((group, item.buffer) for group in (1, 2, 5) for item in items)
    for group in (1, 2, 5):
        done, lost = (sum(one == group for one, _ in ends) for ends in (finished, dead))
        assert found[group] == (200, done, 0, 0, lost, 0, len(dead))
