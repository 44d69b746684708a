"""The examples of docs/api.md, "Batches" and "Middleware", at work."""

from __future__ import annotations

from dataclasses import replace

import pytest_twisted

from phxqueue.consumer import Result
from phxqueue.testing import InMemoryCluster, small_topic


class Ledger:
    """Books transfers, many with one statement."""

    batch_items = 50
    timeout_s = 10

    def __init__(self):
        self.booked = []

    def handle_batch(self, context, items):
        results = []
        for item in items:
            if item.buffer.startswith(b"transfer "):
                self.booked.append(item.buffer)
                results.append(Result.OK)
            else:
                results.append(Result.DEAD)
        return results


class Stopwatch:
    """Tells how long items were under way."""

    def __init__(self):
        self.delays = []

    def before(self, context, item):
        self.delays.append(context.delay)

    def after(self, context, item, result):
        if isinstance(result, Exception):
            context.log.warn("{item} failed: {error}", item=item, error=result)


@pytest_twisted.ensureDeferred
async def test_batches_and_middleware():
    ledger, stopwatch = Ledger(), Stopwatch()
    async with InMemoryCluster({1: ledger}, middleware=[stopwatch]) as cluster:
        for text in (b"transfer 1", b"nonsense", b"transfer 2"):
            await cluster.producer.enqueue(pub_id=1, handle_id=1, buffer=text, uin=4711)
        await cluster.settle()
        assert ledger.booked == [b"transfer 1", b"transfer 2"]
        assert len(stopwatch.delays) == 3
        [letter] = await cluster.dead_letters()
        assert letter.item.buffer == b"nonsense"


@pytest_twisted.ensureDeferred
async def test_an_ordered_group_waits_for_what_failed():
    seen = []

    def handle(context, item):
        seen.append((item.buffer, context.attempt))
        return Result.RETRY if item.buffer == b"first" and context.attempt < 3 else Result.OK

    topic = small_topic([1])
    topic = replace(topic, consumer_groups=tuple(replace(group, ordered=True) for group in topic.consumer_groups))
    async with InMemoryCluster({1: handle}, topic) as cluster:
        for text in (b"first", b"second"):
            await cluster.producer.enqueue(pub_id=1, handle_id=1, buffer=text, uin=4711)
        await cluster.settle()
    assert seen == [(b"first", 1), (b"first", 2), (b"first", 3), (b"second", 1)]
