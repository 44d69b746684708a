"""The lock service beside etcd's: the same work on the same disk in the same minutes, one system after the other."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from benchmarks.disk_witness import DiskWitness
from phxqueue.admin.errors import AdminError
from phxqueue.admin.lock_status import ask_lock_nodes
from phxqueue.admin.processes.cluster import ProcessCluster
from phxqueue.admin.processes.files import ClusterSpec
from phxqueue.lock.client.connecting import lock_pool

WORKS = {"lock": "acquire + release", "renew": "renew", "cas": "compare-and-swap, 100 B"}
REPOSITORY = Path(__file__).resolve().parents[1]
#: Rest between two rows, so that one system's last write-back is not the next one's problem.
REST_S = 0.5
#: The master is killed this long after the measuring has begun, which goes on for twice as long.
KILL_AFTER_S, FAILOVER_S = 1.5, 8.0
FAILOVER_IN_FLIGHT = 64


@dataclass
class Row:
    """One kind of work, at one depth, on both systems."""

    work: str
    in_flight: int
    ours: list[dict[str, Any]] = field(default_factory=list)
    etcd: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Failover:
    """Seconds without an answer after each SIGKILL of the master, and for how long the disk stood still meanwhile."""

    ours: list[float] = field(default_factory=list)
    ours_disk: list[float] = field(default_factory=list)
    etcd: list[float] = field(default_factory=list)
    etcd_disk: list[float] = field(default_factory=list)


class Work(ProcessProtocol):
    """A process of benchmarks.lock_work."""

    def __init__(self, reactor: Any, *arguments: str) -> None:
        self.ready: Deferred[None] = Deferred()
        self._ended: Deferred[dict[str, Any]] = Deferred()
        self._output = b""
        command = [sys.executable, "-m", "benchmarks.lock_work", *arguments]
        reactor.spawnProcess(self, sys.executable, command, env=None, path=str(REPOSITORY), childFDs={1: "r", 2: 2})

    def childDataReceived(self, descriptor: int, data: bytes) -> None:
        self._output += data
        if b"ready\n" in self._output and not self.ready.called:
            self.ready.callback(None)

    def processEnded(self, reason: Failure) -> None:
        if not self.ready.called:
            self.ready.errback(AdminError(f"the client ended before it had begun: {reason.value}"))
        try:
            self._ended.callback(json.loads(self._output.decode().splitlines()[-1]))
        except (ValueError, IndexError):
            self._ended.errback(reason)

    def report(self) -> Deferred[dict[str, Any]]:
        return self._ended


class Comparison:
    """Both systems, running."""

    def __init__(self, reactor: Any, base: Path, *, tls: bool, etcd: str | None) -> None:
        self._reactor = reactor
        self._directory = Path(tempfile.mkdtemp(dir=base, prefix="locks-"))
        self.ours = ProcessCluster(reactor, self._directory, ClusterSpec(nodes=0, locks=3, tls=tls))
        self.etcd: Any = None
        if etcd is not None:
            from benchmarks.etcd_cluster import EtcdCluster

            self.etcd = EtcdCluster(reactor, etcd, self._directory)

    async def start(self) -> None:
        await self.ours.start()
        if self.etcd is not None:
            await self.etcd.start()

    async def close(self) -> None:
        await self.ours.close()
        if self.etcd is not None:
            await self.etcd.close()
        shutil.rmtree(self._directory)

    async def measure(self, row: Row, seconds: float) -> None:
        """One run on each system; the second begins when the first has ended."""
        work, depth = row.work, str(row.in_flight)
        row.ours.append(await self._work("phxqueue", str(self.ours.config), work, depth, str(seconds)))
        if self.etcd is not None:
            leader = self.etcd.addresses[await self.etcd.leader()]
            row.etcd.append(await self._work("etcd", leader, work, depth, str(seconds)))

    async def _work(self, *arguments: str) -> dict[str, Any]:
        working = Work(self._reactor, *arguments)
        await working.ready
        found = await working.report()
        await self._sleep(REST_S)
        return found

    async def fail_over(self, found: Failover) -> None:
        """Kill each system's master once under load."""
        depth, seconds = str(FAILOVER_IN_FLIGHT), str(FAILOVER_S)
        with DiskWitness(self._directory) as disk:
            working = Work(self._reactor, "phxqueue", str(self.ours.config), "failover", depth, seconds)
            await working.ready
            await self._sleep(KILL_AFTER_S)
            child = self.ours.locks[await self._master()]
            disk.begin()
            await self.ours.kill(child)
            found.ours.append((await working.report())["longest_gap_s"])
            found.ours_disk.append(disk.longest())
            await self.ours.start_these(child)
            if self.etcd is not None:
                await self._fail_over_etcd(found, disk, depth, seconds)

    async def _fail_over_etcd(self, found: Failover, disk: DiskWitness, depth: str, seconds: str) -> None:
        """The client talks to the followers, which need not be looked for: that is in etcd's favour."""
        leader = await self.etcd.leader()
        others = ",".join(address for node, address in enumerate(self.etcd.addresses) if node != leader)
        working = Work(self._reactor, "etcd", others, "failover", depth, seconds)
        await working.ready
        await self._sleep(KILL_AFTER_S)
        disk.begin()
        await self.etcd.nodes[leader].kill()
        found.etcd.append((await working.report())["longest_gap_s"])
        found.etcd_disk.append(disk.longest())
        await self.etcd.restart(leader)

    async def _master(self) -> int:
        pool = lock_pool(self._reactor, self.ours.cluster, self.ours.topic)
        try:
            while True:
                for report in await ask_lock_nodes(pool, self.ours.topic, 2.0):
                    group = report.group(0)
                    if group is not None and group.is_master:
                        return report.node.node_id
                await self._sleep(0.05)
        finally:
            await pool.close()

    def _sleep(self, seconds: float) -> Deferred[None]:
        return deferLater(self._reactor, seconds, lambda: None)


async def compare(
    reactor: Any, base: Path, depths: Sequence[int], seconds: float, rounds: int, kills: int, *, tls: bool, tell: Any
) -> tuple[list[Row], Failover]:
    """All rows, `rounds` times in turn, then the failovers."""
    etcd = shutil.which("etcd")
    if etcd is None:
        tell("there is no etcd on the PATH (Debian: etcd-server): nothing to compare with")
    comparison = Comparison(reactor, base, tls=tls, etcd=etcd)
    rows = [Row(work, depth) for work in WORKS for depth in depths]
    failover = Failover()
    try:
        await comparison.start()
        for number in range(rounds):
            for row in rows:
                await comparison.measure(row, seconds)
                tell(f"round {number + 1}: {WORKS[row.work]}, {row.in_flight} in flight: {_rates(row)}")
        for _ in range(kills):
            await comparison.fail_over(failover)
            tell(f"kill: {_last(failover.ours)} s, etcd {_last(failover.etcd)} s")
    finally:
        await comparison.close()
    return rows, failover


def _rates(row: Row) -> str:
    ours, etcd = row.ours[-1]["rate"], row.etcd[-1]["rate"] if row.etcd else 0.0
    return f"{ours:,.0f}/s, etcd {etcd:,.0f}/s"


def _last(gaps: Sequence[float]) -> str:
    return f"{gaps[-1]:.2f}" if gaps else "-"


def table(rows: Sequence[Row], failover: Failover) -> list[str]:
    """The Markdown table: of several rounds the median."""
    lines = [
        "| work | in flight | here | p50 / p99 ms | etcd | p50 / p99 ms | ratio | failed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ours, etcd = _middle(row.ours), _middle(row.etcd)
        ratio = f"{ours['rate'] / etcd['rate']:.2f}" if etcd and etcd["rate"] else ""
        failed = sum(one["errors"] for one in (*row.ours, *row.etcd))
        lines.append(
            f"| {WORKS[row.work]} | {row.in_flight} | {_shown(ours)} | {_shown(etcd)} | {ratio} | {failed or ''} |"
        )
    for name, gaps, disk in (
        ("here", failover.ours, failover.ours_disk),
        ("etcd", failover.etcd, failover.etcd_disk),
    ):
        if gaps:
            each = ", ".join(f"{gap:.2f} ({stood:.2f})" for gap, stood in zip(gaps, disk, strict=True))
            median = sorted(gaps)[len(gaps) // 2]
            lines += ["", f"{name}, SIGKILL of the master under load: {median:.2f} s without an answer"]
            lines.append(f"(each, and for how long the disk stood still meanwhile: {each})")
    return lines


def _middle(runs: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    ordered = sorted(runs, key=lambda run: float(run["rate"]))
    return ordered[len(ordered) // 2] if ordered else None


def _shown(run: dict[str, Any] | None) -> str:
    if run is None or run["p50_ms"] is None:
        return "| "
    return f"{run['rate']:,.0f}/s | {run['p50_ms']:.2f} / {run['p99_ms']:.2f}"
