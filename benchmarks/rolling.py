"""Restarts every store in turn under load, in good order, and measures how long enqueues wait at worst."""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from benchmarks.disk_witness import DiskWitness
from benchmarks.failover import CATCH_UP_TIMEOUT_S, IN_FLIGHT, QPS, SIZE, caught_up, pause
from phxqueue.admin.clients import open_pool
from phxqueue.admin.load import Load, LoadPlan
from phxqueue.admin.mastership import ask_set, masterships
from phxqueue.admin.processes.cluster import ProcessCluster
from phxqueue.admin.processes.files import ClusterSpec
from phxqueue.net.pool import ConnectionPool
from phxqueue.producer import NewItem, Producer, Receipt, Receipts

#: A preferred node gets its group back so soon: it is waited for.
RETURN_AFTER_S = 1.0
SETTLE_S = 0.5
GROUPS = 3


@dataclass
class RollingGaps:
    """Seconds that the slowest enqueue took around each event, and how long the disk alone stood still meanwhile."""

    stopped: list[tuple[float, float]] = field(default_factory=list)
    started: list[tuple[float, float]] = field(default_factory=list)
    returned: list[tuple[float, float]] = field(default_factory=list)
    confirmed: int = 0
    errors: int = 0
    first_error: str = ""


class Waits:
    """A producer that knows how long its callers wait. With several Paxos groups no gap in one of them is hidden by
    what is confirmed in the others.
    """

    def __init__(self, reactor: Any, producer: Producer) -> None:
        self._reactor = reactor
        self._producer = producer
        self._since: dict[Deferred[Receipt], float] = {}  # in the order of the calls
        self._longest = 0.0

    def enqueue(self, pub_id: int, handle_id: int, buffer: bytes, uin: int = 0) -> Deferred[Receipt]:
        """As the producer does."""
        answer = self._producer.enqueue(pub_id, handle_id, buffer, uin)
        self._since[answer] = self._reactor.seconds()
        return answer.addBoth(self._answered, answer)

    def enqueue_many(self, items: list[NewItem]) -> Deferred[Receipts]:
        """As the producer does; not measured."""
        return self._producer.enqueue_many(items)

    def begin(self) -> None:
        """Forget what was before."""
        self._longest = 0.0

    def longest(self) -> float:
        """The longest wait that ended since `begin`, or goes on."""
        now = self._reactor.seconds()
        return max([self._longest, *(now - since for since in self._since.values())])

    def _answered(self, outcome: Receipt, answer: Deferred[Receipt]) -> Receipt:
        self._longest = max(self._longest, self._reactor.seconds() - self._since.pop(answer))
        return outcome


async def rolling(reactor: Any, rounds: int, base: Path, tell: Any) -> RollingGaps:
    """Restart all three stores one after the other, `rounds` times; each time wait until every group is back home."""
    spec = ClusterSpec(
        queues=GROUPS,
        store={"paxos_groups": GROUPS},
        store_node={"replica": {"return_mastership_after_s": RETURN_AFTER_S, "transfer_interval_s": 0.2}},
    )
    with tempfile.TemporaryDirectory(dir=base, prefix="rolling-") as directory:
        cluster = ProcessCluster(reactor, Path(directory), spec)
        try:
            await cluster.start()
            with DiskWitness(Path(directory)) as disk:
                return await _run(reactor, cluster, rounds, disk, tell)
        finally:
            await cluster.close()


async def _run(reactor: Any, cluster: ProcessCluster, rounds: int, disk: DiskWitness, tell: Any) -> RollingGaps:
    producer = await Producer.connect(cluster.cluster, topic=cluster.topic.topic_name)
    pool = open_pool(reactor, cluster.cluster, cluster.topic, cluster.cluster.tls)
    seen = Waits(reactor, producer)
    content = bytes(SIZE)
    load = Load(reactor, [seen], LoadPlan(in_flight=IN_FLIGHT, qps=QPS, make_buffer=lambda: content))
    gaps = RollingGaps()

    def note(where: list[tuple[float, float]]) -> None:
        where.append((seen.longest(), disk.longest()))
        seen.begin()
        disk.begin()

    try:
        await producer.enqueue(1, 1, content)
        load.start()
        await _at_home(reactor, pool, cluster)
        for number in range(rounds):
            for node_id, child in enumerate(cluster.stores):
                seen.begin()
                disk.begin()
                await cluster.stop(child)
                await pause(reactor, SETTLE_S)
                note(gaps.stopped)
                await cluster.start_these(child)
                for group_id in range(GROUPS):
                    await caught_up(reactor, pool, cluster, node_id, group_id)
                note(gaps.started)
                await _at_home(reactor, pool, cluster)
                await pause(reactor, SETTLE_S)
                note(gaps.returned)
                tell(f"round {number + 1}, node {node_id}: {_latest(gaps)}")
        await load.stop()
        gaps.confirmed = load.result.confirmed
        gaps.errors = sum(load.result.statuses.values()) - load.result.confirmed
        gaps.first_error = load.result.first_error
        return gaps
    finally:
        await load.stop()
        await producer.close()
        await pool.close()


async def _at_home(reactor: Any, pool: ConnectionPool, cluster: ProcessCluster) -> None:
    """Wait until every group has the master it prefers."""
    deadline = reactor.seconds() + CATCH_UP_TIMEOUT_S
    while reactor.seconds() < deadline:
        report = await ask_set(pool, cluster.topic, cluster.topic.stores[0], 2.0)
        if all(one.node_id == one.preferred for one in masterships(report)):
            return
        await pause(reactor, 0.05)
    raise TimeoutError(f"the groups did not get back to their preferred nodes within {CATCH_UP_TIMEOUT_S:g} s")


def _latest(gaps: RollingGaps) -> str:
    events = (("stopped", gaps.stopped), ("started", gaps.started), ("groups returned", gaps.returned))
    return "; ".join(f"{name}: {seen[-1][0]:.3f} s (disk {seen[-1][1]:.3f} s)" for name, seen in events)


def rolling_summary(gaps: RollingGaps) -> list[str]:
    """Return rows of a Markdown table."""
    lines = ["| event | median | worst | all: slowest enqueue (longest write of the disk alone) |", "|---|---|---|---|"]
    for event, pairs in (
        ("a node is stopped (SIGTERM): hands over and ends", gaps.stopped),
        ("it is started again and catches up", gaps.started),
        ("it gets its group back", gaps.returned),
    ):
        values = [gap for gap, _ in pairs]
        shown = ", ".join(f"{gap:.2f} ({stall:.2f})" for gap, stall in pairs)
        lines.append(f"| {event} | {statistics.median(values):.3f} s | {max(values):.3f} s | {shown} |")
    lines.append("")
    failed = f", {gaps.errors} FAILED (first: {gaps.first_error})" if gaps.errors else ", none failed"
    lines.append(f"enqueues: {gaps.confirmed:,} confirmed{failed}")
    return lines
