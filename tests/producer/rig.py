"""A producer on a clock that only tests move, against the store in memory."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from phxqueue.config import Topic
from phxqueue.producer import Producer, ProducerSettings
from phxqueue.proto.item_pb2 import QItem
from tests.producer.fake_store import FakeStore, make_topic


class Rig:
    """Clock, store and producer."""

    def __init__(self, topic: Topic | None = None, seed: int = 1, latency_s: float = 0.001, **settings: Any) -> None:
        self.clock = Clock()
        self.clock.advance(1000.0)
        self.topic = topic or make_topic()
        self.store = FakeStore(self.clock, self.topic, latency_s)
        self.producer = Producer(
            self.topic,
            self.store,
            self.clock,
            settings=ProducerSettings(**settings) if settings else None,
            random=random.Random(seed),
            wall_clock=self.clock.seconds,
        )

    def turn(self) -> None:
        """The end of the reactor's turn."""
        self.clock.advance(0)

    def run(self, seconds: float, step: float = 0.001) -> None:
        """Let time pass, jumping over stretches in which nothing happens."""
        end = self.clock.seconds() + seconds
        while True:
            calls = self.clock.getDelayedCalls()
            due = min((call.getTime() for call in calls), default=end)
            if due >= end:
                break
            self.clock.advance(max(due - self.clock.seconds(), 0))
        self.clock.advance(max(end - self.clock.seconds(), 0))

    def written_in_order(self) -> dict[tuple[int, int], list[bytes]]:
        """Buffers by (pub, uin) in the order of their queue, over all queues."""
        found: dict[tuple[int, int], list[bytes]] = defaultdict(list)
        for item in self.store.all_items():
            if item.meta.uin:
                found[item.meta.pub_id, item.meta.uin].append(item.buffer)
        return found

    def only_item(self) -> QItem:
        """The one item in all queues."""
        [item] = self.store.all_items()
        return item


def outcome(deferred: Deferred[Any]) -> Any:
    """What a Deferred has fired with: its result or its exception; None while it has not."""
    results: list[Any] = []
    deferred.addBoth(results.append)
    if not results:
        deferred.addErrback(lambda _: None)
        return None
    return results[0].value if isinstance(results[0], Failure) else results[0]


def watch(deferred: Deferred[Any]) -> list[Any]:
    """A list that gets the result, or the exception, once there is one."""
    results: list[Any] = []
    deferred.addCallbacks(results.append, lambda failure: results.append(failure.value))
    return results
