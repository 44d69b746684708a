"""What was enqueued adds up, whatever became of it: against real queues and consumers."""

from __future__ import annotations

from typing import Any

import pytest_twisted

from phxqueue.admin.dlq.letters import Filter, revived
from phxqueue.admin.dlq.queue import DeadLetters
from phxqueue.admin.node_status import NodeReport
from phxqueue.admin.sums import sums
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
        found = places(cluster)
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
        assert places(cluster)[1][:6] == (7, 4, 0, 0, 2, 1)
        assert sum(places(cluster)[1][1:6]) == 7
