"""Priorities within a pub, in a whole topic in memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import deferLater

from phxqueue.config import QueueInfo, Topic
from phxqueue.consumer import Result
from phxqueue.producer import InvalidItem, NewItem
from phxqueue.testing import InMemoryCluster, small_topic


def topic_with_priorities() -> Topic:
    """Pub 1: priority 1 in queues 100 to 101, weight 300; ordinary items in those of small_topic, weight 100."""
    topic = small_topic([1], attempts=2, retry_delay_s=60.0)
    first, *others = topic.queue_infos
    high = QueueInfo(queue_info_id=9, ranges=((100, 101),), weight=300)
    pub = replace(topic.pubs[0], priority_queue_info_ids=(9,))
    return replace(topic, queue_infos=(replace(first, weight=100), *others, high), pubs=(pub,))


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("waits", [False, True])
async def test_with_a_backlog_in_both_each_gets_its_share(waits: bool) -> None:
    seen: list[bytes] = []

    async def wait(context: Any, item: Any) -> Result:
        seen.append(item.buffer)
        await deferLater(reactor, 0)
        return Result.OK

    def at_once(context: Any, item: Any) -> Result:
        seen.append(item.buffer)
        return Result.OK

    async with InMemoryCluster({1: wait if waits else at_once}, topic_with_priorities()) as cluster:
        low = [NewItem(1, 1, b"low", number) for number in range(1, 401)]
        high = [NewItem(1, 1, b"high", number, priority=1) for number in range(1, 401)]
        assert (await cluster.producer.enqueue_many(low + high)).all_stored
        await cluster.settle()
    assert len(seen) == 800
    both = seen[200:400]  # the first few may have come alone
    assert 0.65 <= both.count(b"high") / len(both) <= 0.85
    assert seen[-100:] == [b"low"] * 100, "what is left when the others have nothing"


@pytest_twisted.ensureDeferred
async def test_order_attempts_and_what_is_wrong() -> None:
    seen: list[tuple[bytes, int, int]] = []

    def handle(context: Any, item: Any) -> Result:
        seen.append((item.buffer, context.attempt, context.queue_id))
        return Result.RETRY if item.buffer == b"again" and context.attempt == 1 else Result.OK

    async with InMemoryCluster({1: handle}, topic_with_priorities()) as cluster:
        enqueue = cluster.producer.enqueue
        for number in range(20):
            receipt = await enqueue(1, 1, b"%02d" % number, 7, priority=1)
            assert receipt.queue_id in (100, 101)
        await enqueue(1, 1, b"again", 8, priority=1)
        receipts = await cluster.producer.enqueue_many([NewItem(1, 1, b"both", 7, priority=1)], atomic=True)
        assert receipts[0].queue_id in (100, 101)  # type: ignore[union-attr]
        await cluster.settle()
        with pytest.raises(InvalidItem, match=r"priority must be 0 \(none\) to 1 .*, not 2"):
            await enqueue(1, 1, b"x", priority=2)
    numbers = [buffer for buffer, _, _ in seen if buffer.isdigit()]
    assert numbers == sorted(numbers)
    (_, first, place), (_, second, other) = [one for one in seen if one[0] == b"again"]
    assert (first, second) == (1, 2)
    assert place in (100, 101)
    assert other not in (100, 101)
