"""For how long a queue stands still when a process dies or hangs: with the default leases, under steady load."""

from __future__ import annotations

import signal
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import LoopingCall, deferLater

from benchmarks.takeover_handler import FILE
from phxqueue.admin.demo.owners import locked_queues, owners
from phxqueue.admin.lock_status import ask_lock_nodes
from phxqueue.admin.processes.child import Child
from phxqueue.admin.processes.cluster import ProcessCluster
from phxqueue.admin.processes.files import ClusterSpec
from phxqueue.consumer.service import Owned
from phxqueue.lock.client import LockClient
from phxqueue.lock.client.connecting import lock_pool
from phxqueue.producer import EnqueueError, Producer
from phxqueue.producer.routes import RouteTable

QUEUES = 12
#: A message for each queue this often.
EVERY_S = 0.05
#: Load before a drill, and after it: longer than any takeover may take.
BEFORE_S, AFTER_S = 3.0, 16.0


@dataclass(frozen=True, slots=True)
class Gap:
    """What one drill did: the longest pause of each queue, in seconds."""

    seconds: dict[int, float]

    @property
    def worst(self) -> float:
        return max(self.seconds.values())


class Drills:
    """A cluster under load, and what happens to it."""

    def __init__(self, reactor: Any, directory: Path) -> None:
        self._reactor = reactor
        self._log = directory / "handled.txt"
        spec = ClusterSpec(
            nodes=1, locks=3, schedulers=3, queues=QUEUES, consumers=3, retries=0,
            group={"use_dynamic_scale": 1, "skip_lock": 0}, handlers={1: "benchmarks.takeover_handler:note"},
        )  # fmt: skip
        environment = {FILE: str(self._log), "PYTHONPATH": str(Path(__file__).parents[1])}
        directory.mkdir()
        self.cluster = ProcessCluster(reactor, directory / "cluster", spec, environment=environment)
        self._closing: list[Callable[[], Any]] = [lambda: Deferred.fromCoroutine(self.cluster.close())]  # last first

    async def start(self) -> None:
        """Start everything, and the load; wait until every queue has an owner."""
        cluster = self.cluster
        for children in (cluster.locks, cluster.stores, cluster.schedulers, cluster.consumers):
            await cluster.start_these(*children)
        topic = self.cluster.topic
        self.locks = await LockClient.connect(self.cluster.cluster, topic.topic_id, reactor=self._reactor)
        self._closing.append(self.locks.close)
        self.lock_pool = lock_pool(self._reactor, self.cluster.cluster, topic)
        self._closing.append(self.lock_pool.close)
        self.producer = await Producer.connect(self.cluster.cluster, topic=topic.topic_name)
        self._closing.append(self.producer.close)
        routes = RouteTable(topic).pub(1)
        info = topic.attempt_queue_info(1, 0)
        keys = {routes.target(info, uin, 1).queue_id: uin for uin in range(1, 2000)}
        await owners(self.locks, locked_queues(topic))
        load = LoopingCall(self._send, list(keys.values()))
        load.clock = self._reactor
        self._closing.append(load.stop)
        load.start(EVERY_S)

    def _send(self, uins: list[int]) -> None:
        for uin in uins:
            self.producer.enqueue(1, 1, b"x", uin=uin).addErrback(lambda failure: failure.trap(EnqueueError) and None)

    async def close(self) -> None:
        """Leave nothing running."""
        for close in reversed(self._closing):
            await maybeDeferred(close)

    async def run(self, do: Callable[[], Awaitable[tuple[Child, ...]]]) -> Gap:
        """Do something to a process, see what becomes of the queues, and start what is gone again."""
        await self._pause(BEFORE_S)
        began = time.monotonic()
        gone = await do()
        await self._pause(AFTER_S)
        found = self._gaps(began - 0.5, time.monotonic())
        for child in gone:
            child.signal(signal.SIGCONT)
        await self.cluster.start_these(*(child for child in gone if not child.running))
        await owners(self.locks, locked_queues(self.cluster.topic))
        return found

    def _gaps(self, since: float, until: float) -> Gap:
        last = dict.fromkeys(range(QUEUES), since)
        gaps = dict.fromkeys(range(QUEUES), 0.0)
        for line in self._log.read_text().splitlines():
            queue_id, _, at = line.split()
            if since <= float(at) <= until:
                gaps[int(queue_id)] = max(gaps[int(queue_id)], float(at) - last[int(queue_id)])
                last[int(queue_id)] = float(at)
        return Gap({queue_id: max(gap, until - last[queue_id]) for queue_id, gap in gaps.items()})

    def _pause(self, seconds: float) -> Deferred[None]:
        return deferLater(self._reactor, seconds, lambda: None)

    # ---- what happens ------------------------------------------------------------------

    async def _busiest(self) -> Child:
        found: dict[Owned, str] = await owners(self.locks, locked_queues(self.cluster.topic))
        [(address, _)] = Counter(found.values()).most_common(1)
        consumers = zip(self.cluster.topic.consumers, self.cluster.consumers, strict=True)
        return next(child for consumer, child in consumers if consumer.address == address)

    async def _lock_master(self) -> Child:
        while True:
            reports = await ask_lock_nodes(self.lock_pool, self.cluster.topic, 2.0)
            for report in reports:
                group = report.group(0)
                if group is not None and group.is_master:
                    return self.cluster.locks[report.node.node_id]
            await self._pause(0.05)

    async def _scheduler_master(self) -> Child:
        key = self.cluster.topic.settings.scheduler_lock_key
        while True:
            state = await self.locks.lock_state(key)
            for child in self.cluster.schedulers:
                if state is not None and int(state.holder.rsplit(":", 1)[1]) == child.pid:
                    return child
            await self._pause(0.05)

    async def kill_consumer(self) -> tuple[Child, ...]:
        """SIGKILL of the consumer with the most queues."""
        return await self._kill(await self._busiest())

    async def stop_consumer(self) -> tuple[Child, ...]:
        """SIGSTOP of the same, for longer than its lease."""
        child = await self._busiest()
        child.signal(signal.SIGSTOP)
        return (child,)

    async def kill_scheduler(self) -> tuple[Child, ...]:
        """SIGKILL of the schedulers' master."""
        return await self._kill(await self._scheduler_master())

    async def kill_lock(self) -> tuple[Child, ...]:
        """SIGKILL of the lock group's master."""
        return await self._kill(await self._lock_master())

    async def kill_consumer_and_scheduler(self) -> tuple[Child, ...]:
        """Both at once."""
        return await self._kill(await self._busiest(), await self._scheduler_master())

    async def kill_consumer_and_lock(self) -> tuple[Child, ...]:
        """Both at once."""
        return await self._kill(await self._busiest(), await self._lock_master())

    async def _kill(self, *children: Child) -> tuple[Child, ...]:
        await self.cluster.kill(*children)
        return children


DRILLS: dict[str, tuple[str, Callable[[Drills], Awaitable[tuple[Child, ...]]]]] = {
    "kill": ("consumer killed", Drills.kill_consumer),
    "stop": ("consumer stopped (SIGSTOP)", Drills.stop_consumer),
    "scheduler": ("schedulers' master killed", Drills.kill_scheduler),
    "lock": ("lock master killed", Drills.kill_lock),
    "kill+scheduler": ("consumer and schedulers' master killed", Drills.kill_consumer_and_scheduler),
    "kill+lock": ("consumer and lock master killed", Drills.kill_consumer_and_lock),
}


async def measure(
    reactor: Any, directory: Path, rounds: int, chosen: Collection[str], say: Callable[[str], None]
) -> None:
    """The chosen drills, so many times, and what they cost."""
    drills = Drills(reactor, directory / "takeover")
    try:
        await drills.start()
        for key in chosen:
            name, do = DRILLS[key]
            worst = [(await drills.run(partial(do, drills))).worst for _ in range(rounds)]
            shown = ", ".join(f"{seconds:.2f}" for seconds in worst)
            say(f"  {name}: the longest pause of a queue {statistics.median(worst):.2f} s at the median ({shown})")
    finally:
        await drills.close()
