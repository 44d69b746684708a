"""Consumers under a speed limit and a scheduler that shares it out, in virtual time: real parts, a made-up wire."""

from __future__ import annotations

import random
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from phxqueue.config import Consumer, NodeAddress, Topic, TopicSettings
from phxqueue.consumer.limits import Limit, Throttle
from phxqueue.consumer.lineup import Gate
from phxqueue.consumer.shares import Shares
from phxqueue.consumer.slots import Slot
from phxqueue.consumer.speed import Speed
from phxqueue.net.identity import Identity, Role
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.item_pb2 import Meta, QItem
from phxqueue.scheduler.roll import RollRule
from phxqueue.scheduler.service import SchedulerService

STEP_S = 0.005
WINDOW_S = 10
#: Items that a consumer has fetched at most, however many there are.
FETCHED = 500


class Wire:
    """Calls from consumers to the scheduler."""

    def __init__(self, clock: Clock, latency_s: float) -> None:
        self.clock = clock
        self.latency_s = latency_s
        self.scheduler: SchedulerService | None = None
        self.cut: set[str] = set()
        self.calls = 0

    def caller(self, name: str) -> Any:
        return SimpleNamespace(call=lambda *arguments, **_: self._call(name, *arguments))

    def _call(self, name: str, route: Any, method: Any, request: Any, deadline_s: float) -> Deferred[Any]:
        self.calls += 1
        at_server: list[Deferred[Any]] = []

        def arrive() -> None:
            if outer.called or name in self.cut:
                return
            if self.scheduler is None:
                fail(RpcError(Status.UNAVAILABLE, "nobody is there"))
                return
            context: Any = SimpleNamespace(peer=Identity(Role.CONSUMER, name))
            try:
                inner = self.scheduler.shares(request, context)
            except RpcError as error:
                fail(error)
                return
            at_server.append(inner)
            inner.addCallbacks(answer, lambda failure: fail(failure.value))

        def answer(response: Any) -> None:
            self.clock.callLater(self.latency_s, lambda: outer.called or name in self.cut or outer.callback(response))

        def fail(error: Exception) -> None:
            if not isinstance(error, RpcError):
                return  # cancelled
            self.clock.callLater(self.latency_s, lambda: outer.called or outer.errback(error))

        def cancelled(_: Any) -> None:
            if name not in self.cut:
                self.clock.callLater(self.latency_s, lambda: [inner.cancel() for inner in at_server])

        outer: Deferred[Any] = Deferred(cancelled)
        late = self.clock.callLater(deadline_s, lambda: fail(RpcError(Status.DEADLINE_EXCEEDED, "no answer")))

        def over(result: Any) -> Any:
            if late.active():
                late.cancel()
            return result

        outer.addBoth(over)
        self.clock.callLater(self.latency_s, arrive)
        return outer


class SimulatedConsumer:
    """Items arrive, wait for the limit, and are gone."""

    def __init__(self, rig: Rig, name: str, part: float) -> None:
        self.name = name
        self.part = part  # of the queues
        self.arriving = 0.0  # items per second
        self.backlog = 0.0
        self.handled = 0
        self.alive = True
        self._random = random.Random(name)
        clock = rig.clock
        self.speed = Speed(clock, lambda limit: self.part)
        self.shares = Shares(rig.topic, name, rig.wire.caller(name), clock, self.speed, lambda limit: self.part)
        self.speed.share = self.shares.share
        self.speed.configure(Throttle((rig.limit,)))
        slot = Slot(0, QItem(meta=Meta(pub_id=1, handle_id=1)), 0, 0, 0, 1)
        gate = self.speed.gate(1, 1)(slot)
        assert gate is not None
        self._gate = gate
        self.shares.start()

    def step(self, seconds: float) -> None:
        if not self.alive:
            return
        expected = self.arriving * seconds
        self.backlog += int(expected) + (self._random.random() < expected - int(expected))
        self.pump()

    def pump(self) -> None:
        while self.alive and self.backlog >= 1 and self._gate.admit():
            self.backlog -= 1
            self.handled += 1
        if self.backlog >= 1:
            self.speed.wait(self)

    def held_by_gate(self) -> Iterator[tuple[Gate, int]]:
        yield self._gate, min(int(self.backlog), FETCHED)

    def die(self) -> None:
        """The process is gone: its connections with it."""
        self.alive = False
        self.speed.leave(self)
        self.shares.stop()


class Rig:
    """One limit, its consumers, a scheduler."""

    def __init__(self, per_second: float, *parts: float, latency_s: float = 0.002) -> None:
        self.clock = Clock()
        self.per_second = per_second
        self.limit = Limit(1, 1, 1, -1, round(per_second * 60))
        names = [f"10.0.0.{number}:8001" for number in range(len(parts))]
        self.topic = Topic(
            topic_id=1000, topic_name="test", settings=TopicSettings(), queue_infos=(), pubs=(), consumer_groups=(),
            stores=(), consumers=tuple(Consumer(ip=name.split(":")[0], port=8001) for name in names),
            scheduler=(NodeAddress(node_id=0, ip="10.0.1.1", port=6100, paxos_port=0),),
        )  # fmt: skip
        self.wire = Wire(self.clock, latency_s)
        self._term = 0
        self.start_scheduler()
        self.consumers = [SimulatedConsumer(self, name, part) for name, part in zip(names, parts, strict=True)]
        self.totals = [0]

    def start_scheduler(self) -> None:
        self._term += 1
        self.wire.scheduler = SchedulerService(self.topic, RollRule(), self.clock)
        self.wire.scheduler.begin(self._term)

    def kill_scheduler(self) -> None:
        scheduler, self.wire.scheduler = self.wire.scheduler, None
        assert scheduler is not None
        scheduler.end()

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP_S)):
            self.clock.advance(STEP_S)
            for consumer in self.consumers:
                consumer.step(STEP_S)
            self.totals.append(sum(consumer.handled for consumer in self.consumers))

    def windows(self, since_s: float = 0.0, until_s: float | None = None, seconds: float = WINDOW_S) -> list[float]:
        """What went through in each stretch of so many seconds, as part of what was allowed."""
        size = round(seconds / STEP_S)
        first = round(since_s / STEP_S)
        last = len(self.totals) if until_s is None else round(until_s / STEP_S)
        return [
            (self.totals[at + size] - self.totals[at]) / (self.per_second * seconds)
            for at in range(first, last - size, 20)
        ]
