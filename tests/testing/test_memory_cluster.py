"""The topic in memory: what an application's test may rely on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from phxqueue.config import QueueInfo
from phxqueue.consumer import Result
from phxqueue.consumer.handlers import HandlerError
from phxqueue.producer import NewItem
from phxqueue.testing import InMemoryCluster, NotSettled, small_topic

ETC = Path(__file__).parents[2] / "etc"


class Notes:
    """A handler that remembers, and answers what it is told."""

    def __init__(self, *answers: Any) -> None:
        self.seen: list[tuple[int, bytes, int]] = []
        self._answers = list(answers)

    def handle(self, context: Any, item: Any) -> Any:
        self.seen.append((context.consumer_group_id, item.buffer, context.attempt))
        return self._answers.pop(0) if self._answers else Result.OK


@pytest_twisted.ensureDeferred
async def test_everything_is_handled_once_and_in_order() -> None:
    notes = Notes()
    async with InMemoryCluster({1: notes}) as cluster:
        items = [NewItem(1, 1, b"%d" % number, number % 5 + 1) for number in range(2000)]
        receipts = await cluster.producer.enqueue_many(items)
        assert receipts.all_stored
        await cluster.settle()
        assert cluster.stats.ok == 2000
    assert len(notes.seen) == 2000
    for key in range(5):
        ours = [int(buffer) for _, buffer, _ in notes.seen if int(buffer) % 5 == key]
        assert ours == sorted(ours)


@pytest_twisted.ensureDeferred
async def test_delays_of_attempts_are_skipped_but_kept() -> None:
    notes = Notes(Result.RETRY, Result.RETRY)
    times: list[float] = []

    def handle(context: Any, item: Any) -> Any:
        times.append(cluster.clock.seconds())
        return notes.handle(context, item)

    topic = small_topic([1], attempts=3, retry_delay_s=3600.0)
    async with InMemoryCluster({1: handle}, topic) as cluster:
        await cluster.producer.enqueue(1, 1, b"x")
        await cluster.settle()
        assert await cluster.dead_letters() == []
    assert [attempt for _, _, attempt in notes.seen] == [1, 2, 3]
    assert times[1] - times[0] >= 3599
    assert times[2] - times[1] >= 3599


@pytest_twisted.ensureDeferred
async def test_settling_waits_for_handlers_that_wait_for_something_real() -> None:
    done: list[bytes] = []

    async def handle(context: Any, item: Any) -> Result:
        await deferLater(reactor, 0.05, bool)
        done.append(item.buffer)
        return Result.OK

    async with InMemoryCluster({1: handle}) as cluster:
        await cluster.producer.enqueue(1, 1, b"x")
        await cluster.settle()
        assert done == [b"x"]
        assert cluster.clock.skipped < cluster._consumer.settings.handler_timeout_s, "it was not timed out"


@pytest_twisted.ensureDeferred
async def test_a_handler_that_never_ends_is_told() -> None:
    never: Deferred[Result] = Deferred()
    async with InMemoryCluster({1: lambda context, item: never}) as cluster:
        await cluster.producer.enqueue(1, 1, b"x", uin=1)
        with pytest.raises(NotSettled, match=r"group 1 has 1 of store 1 queue \d before it; 1 at work"):
            await cluster.settle(timeout_s=0.05)
        never.callback(Result.OK)
        await cluster.settle()


@pytest_twisted.ensureDeferred
async def test_every_group_gets_its_copy_and_others_may_be_left_alone() -> None:
    notes = Notes()
    topic = small_topic([1], consumer_group_ids=(1, 2, 3))
    async with InMemoryCluster({1: notes}, topic, consumer_group_ids=(1, 3)) as cluster:
        await cluster.producer.enqueue(1, 1, b"x")
        await cluster.settle()
    assert sorted(notes.seen) == [(1, b"x", 1), (3, b"x", 1)]


@pytest_twisted.ensureDeferred
async def test_dead_letters_say_why() -> None:
    notes = Notes(Result.DEAD)
    async with InMemoryCluster({1: notes}) as cluster:
        await cluster.producer.enqueue(1, 1, b"x", client_id="me")
        await cluster.settle()
        [letter] = await cluster.dead_letters()
        assert (letter.item.buffer, letter.item.client_id, letter.attempts) == (b"x", "me", 1)
        assert (letter.reason, letter.last_error) == ("handler said DEAD", "its handler said DEAD")
        assert letter.consumer_group_id == 1


@pytest_twisted.ensureDeferred
async def test_with_the_files_of_a_cluster() -> None:
    notes = Notes()
    async with InMemoryCluster({1: notes}, ETC / "globalconfig.conf", consumer_group_ids=(1,)) as cluster:
        assert cluster.topic.topic_name == "test"
        await cluster.producer.enqueue(1, 1, b"x")
        await cluster.settle()
    assert notes.seen == [(1, b"x", 1)]


@pytest_twisted.ensureDeferred
async def test_a_delayed_queue_is_waited_for() -> None:
    notes = Notes()
    topic = small_topic([1], attempts=1)
    object.__setattr__(topic, "queue_infos", (QueueInfo(queue_info_id=1, ranges=((0, 0),), delay=600.0),))
    async with InMemoryCluster({1: notes}, topic) as cluster:
        await cluster.producer.enqueue(1, 1, b"later")
        await cluster._quiet(float("inf"))
        assert notes.seen == []
        cluster.clock.skip(599)
        await cluster._quiet(float("inf"))
        assert notes.seen == []
        cluster.clock.skip(2)
        await cluster.settle()
    assert notes.seen == [(1, b"later", 1)]


def test_what_is_no_handler_is_refused() -> None:
    with pytest.raises(HandlerError, match="handler 1"):
        InMemoryCluster({1: "nothing"})


@pytest_twisted.ensureDeferred
async def test_delayed_items_come_when_they_are_due_and_cancelled_ones_never() -> None:
    seen: list[tuple[bytes, float]] = []

    def handle(context: Any, item: Any) -> Any:
        seen.append((item.buffer, cluster.clock.skipped))
        return Result.OK

    async with InMemoryCluster({1: handle}) as cluster:
        late, cancelled = await gatherResults(
            [cluster.producer.enqueue(1, 1, buffer, 7, delay=86_400.0) for buffer in (b"late", b"cancelled")]
        )
        assert late.stored
        assert late.cursor == cancelled.cursor == -2
        receipts = await cluster.producer.enqueue_many(
            [NewItem(1, 1, b"now"), NewItem(1, 1, b"soon", delay=60.0), NewItem(1, 1, b"sooner", delay=30.0)]
        )
        assert [bool(receipt.delayed_id) for receipt in receipts] == [False, True, True]
        assert await cluster.producer.cancel_delayed(cancelled)
        assert await cluster.producer.cancel_delayed(cancelled.delayed_id)
        await cluster.settle()
        assert not await cluster.producer.cancel_delayed(late)
    assert [buffer for buffer, _ in seen] == [b"now", b"sooner", b"soon", b"late"]
    assert [skipped >= least for (_, skipped), least in zip(seen, (0, 29, 59, 86_399), strict=True)] == [True] * 4


@pytest.mark.parametrize("expired", ["dead", "drop"])
@pytest_twisted.ensureDeferred
async def test_an_item_whose_time_has_passed_is_handed_to_nobody(expired: Literal["dead", "drop"]) -> None:
    first: Deferred[Result] = Deferred()
    seen: list[bytes] = []

    def handle(context: Any, item: Any) -> Any:
        seen.append(item.buffer)
        return first if item.buffer == b"slow" else Result.OK

    topic = small_topic([1])
    topic = replace(topic, pubs=(replace(topic.pubs[0], expired=expired),))
    async with InMemoryCluster({1: handle}, topic) as cluster:
        for buffer, ttl in ((b"slow", 0.0), (b"expires", 5.0), (b"stays", 50.0)):
            await cluster.producer.enqueue(1, 1, buffer, 7, ttl=ttl)
        while not seen:
            await deferLater(reactor, 0)
        cluster.clock.skip(10.0)
        first.callback(Result.OK)
        await cluster.settle()
        dead = [(letter.item.buffer, letter.reason, letter.attempts) for letter in await cluster.dead_letters()]
        assert dead == ([(b"expires", "expired", 0)] if expired == "dead" else [])
        assert (cluster.stats.ok, cluster.stats.expired, cluster.stats.dead) == (2, 1, 0)
    assert seen == [b"slow", b"stays"]
