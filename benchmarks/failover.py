"""Kills the master again and again under load, and measures how long nothing is confirmed."""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from benchmarks.disk_witness import DiskWitness
from phxqueue.admin.clients import open_pool
from phxqueue.admin.load import Load, LoadPlan
from phxqueue.admin.node_status import NodeReport, ask_all, master_of
from phxqueue.admin.processes.cluster import ProcessCluster
from phxqueue.admin.processes.files import ClusterSpec
from phxqueue.net.pool import ConnectionPool
from phxqueue.producer import Producer

QPS = 500.0
IN_FLIGHT = 256
SIZE = 100
#: Load runs so long before and after each event: longer than any gap worth measuring.
SETTLE_S = 3.0
CATCH_UP_TIMEOUT_S = 60.0


@dataclass
class Gaps:
    """Seconds without a confirmation, around each kill and around each return of the killed node; and for how long
    the disk itself stood still meanwhile (see DiskWitness).
    """

    killed: list[float] = field(default_factory=list)
    killed_disk: list[float] = field(default_factory=list)
    returned: list[float] = field(default_factory=list)
    returned_disk: list[float] = field(default_factory=list)
    errors: int = 0
    first_error: str = ""

    def latest(self) -> str:
        """The last kill and return, for a person who waits."""
        return (
            f"killed: gap {self.killed[-1]:.3f} s (disk {self.killed_disk[-1]:.3f} s); "
            f"returned: gap {self.returned[-1]:.3f} s (disk {self.returned_disk[-1]:.3f} s)"
        )


class Confirmations:
    """When enqueues were confirmed, since the last look."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._last = reactor.seconds()
        self._longest = 0.0

    def __call__(self, count: int) -> None:
        now = self._reactor.seconds()
        self._longest = max(self._longest, now - self._last)
        self._last = now

    def begin(self) -> None:
        """Forget what was before; the next gap counts from the last confirmation before now."""
        self._longest = 0.0

    def longest(self) -> float:
        """The longest time without one since `begin`, one that goes on included."""
        going_on: float = self._reactor.seconds() - self._last
        return max(self._longest, going_on)


async def failover(reactor: Any, kills: int, base: Path, tell: Any) -> Gaps:
    """Kill the master `kills` times; each time start it again and wait until it has caught up."""
    with tempfile.TemporaryDirectory(dir=base, prefix="failover-") as directory:
        cluster = ProcessCluster(reactor, Path(directory), ClusterSpec())
        try:
            await cluster.start()
            with DiskWitness(Path(directory)) as disk:
                return await _run(reactor, cluster, kills, disk, tell)
        finally:
            await cluster.close()


async def _run(reactor: Any, cluster: ProcessCluster, kills: int, disk: DiskWitness, tell: Any) -> Gaps:
    producer = await Producer.connect(cluster.cluster, topic=cluster.topic.topic_name)
    pool = open_pool(reactor, cluster.cluster, cluster.topic, cluster.cluster.tls)
    seen = Confirmations(reactor)
    content = bytes(SIZE)
    plan = LoadPlan(in_flight=IN_FLIGHT, qps=QPS, make_buffer=lambda: content)
    load = Load(reactor, [producer], plan, on_confirmed=seen)
    gaps = Gaps()
    try:
        await producer.enqueue(1, 1, content)  # from here on there is a master
        load.start()
        for number in range(kills):
            await pause(reactor, SETTLE_S)
            master = await _master(reactor, pool, cluster)
            child = cluster.stores[master.node.node_id]
            seen.begin()
            disk.begin()
            await cluster.kill(child)
            await pause(reactor, SETTLE_S)
            gaps.killed.append(seen.longest())
            gaps.killed_disk.append(disk.longest())
            seen.begin()
            disk.begin()
            await cluster.start_these(child)
            await caught_up(reactor, pool, cluster, master.node.node_id)
            await pause(reactor, SETTLE_S)
            gaps.returned.append(seen.longest())
            gaps.returned_disk.append(disk.longest())
            tell(f"{number + 1}: node {master.node.node_id} {gaps.latest()}")
        await load.stop()
        gaps.errors = sum(load.result.statuses.values()) - load.result.confirmed
        gaps.first_error = load.result.first_error
        return gaps
    finally:
        await load.stop()
        await producer.close()
        await pool.close()


def pause(reactor: Any, seconds: float) -> Deferred[None]:
    """Let time pass under load."""
    return deferLater(reactor, seconds, lambda: None)


async def _master(reactor: Any, pool: ConnectionPool, cluster: ProcessCluster) -> NodeReport:
    while True:
        master = master_of(await ask_all(pool, cluster.topic), cluster.topic.stores[0].store_id, 0)
        if master is not None:
            return master
        await pause(reactor, 0.05)


async def caught_up(
    reactor: Any, pool: ConnectionPool, cluster: ProcessCluster, node_id: int, group_id: int = 0
) -> None:
    """Wait until a node has applied what the master had applied when it was asked."""
    deadline = reactor.seconds() + CATCH_UP_TIMEOUT_S
    while reactor.seconds() < deadline:
        reports = await ask_all(pool, cluster.topic)
        master = master_of(reports, cluster.topic.stores[0].store_id, group_id)
        wanted = master.group(group_id) if master is not None else None
        state = next((report.group(group_id) for report in reports if report.node.node_id == node_id), None)
        if wanted is not None and state is not None and state.applied >= wanted.applied - 5:
            return
        await pause(reactor, 0.1)
    raise TimeoutError(f"node {node_id} did not catch up within {CATCH_UP_TIMEOUT_S:g} s")


def summary(gaps: Gaps) -> list[str]:
    """Return rows of a Markdown table."""
    lines = ["| event | median | worst | all: gap (longest write of the disk alone) |", "|---|---|---|---|"]
    events = (
        ("master killed (SIGKILL)", gaps.killed, gaps.killed_disk),
        ("killed node returns", gaps.returned, gaps.returned_disk),
    )
    for event, values, disk in events:
        shown = ", ".join(f"{value:.2f} ({stall:.2f})" for value, stall in zip(values, disk, strict=True))
        lines.append(f"| {event} | {statistics.median(values):.3f} s | {max(values):.3f} s | {shown} |")
    lines.append("")
    lines.append(f"enqueues that failed: {gaps.errors}" + (f" (first: {gaps.first_error})" if gaps.errors else ""))
    return lines
