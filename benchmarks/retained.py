"""Ten million retained items in a cluster of real processes: memory, restart, and a node that missed all of them.

all three nodes: the throughput everything is compared with
one follower stopped: load until so many items are retained; nobody consumes them
the other follower killed: how long until it serves again?
the stopped one started: throughput while it catches up, and how long that takes
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from phxqueue.admin.clients import open_pool
from phxqueue.admin.load import Load, LoadPlan
from phxqueue.admin.node_status import NodeReport, ask_all, master_of
from phxqueue.admin.processes.child import Child
from phxqueue.admin.processes.cluster import ProcessCluster
from phxqueue.admin.processes.files import STORE_ID, TOPIC_ID, ClusterSpec
from phxqueue.net.address import Address
from phxqueue.net.pool import ConnectionPool
from phxqueue.producer import Producer
from phxqueue.proto.methods import GET
from phxqueue.proto.store_pb2 import GetRequest

BATCH = 100
SIZE = 100
IN_FLIGHT = 16
QUEUES = 4
KEPT_BYTES = 64 << 20
COMPARE_S = 10.0
CATCH_UP_TIMEOUT_S = 900.0
#: A node this many entries behind its master has caught up: they are on their way.
CLOSE = 50


@dataclass
class Retained:
    """What was found: rates in items a second, times in seconds, sizes in bytes."""

    items: int = 0
    rate: float = 0.0
    rate_of_two: float = 0.0
    rate_meanwhile: float = 0.0
    missed_entries: int = 0
    catch_up: float = 0.0
    restart: float = 0.0
    resident: dict[str, int] = field(default_factory=dict)
    disk: int = 0

    def lines(self) -> list[str]:
        """Rows of a Markdown table."""
        share = self.rate_meanwhile / self.rate if self.rate else 0.0
        resident = ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in self.resident.items())
        return [
            "| cluster | |",
            "|---|---|",
            f"| items stored, in batches of {BATCH}, {SIZE} B each | {self.items:,} |",
            f"| throughput with three nodes | {self.rate:,.0f}/s |",
            f"| with two | {self.rate_of_two:,.0f}/s |",
            f"| with two, while the third catches up | {self.rate_meanwhile:,.0f}/s ({share:.0%} of three) |",
            f"| entries it had missed | {self.missed_entries:,} |",
            f"| it has caught up after | {self.catch_up:.1f} s |",
            f"| a killed node serves again after | {self.restart:.1f} s |",
            f"| resident memory | {resident} |",
            f"| data directory | {self.disk / 1e6:,.0f} MB |",
        ]


async def retained(reactor: Any, items: int, base: Path, tell: Any, *, consumed: bool = False) -> Retained:
    """Run it all in a directory of its own below `base`.

    Args:
        consumed: acknowledge everything at once, so that all but KEPT_BYTES of each queue is trimmed, and the node that
            was away needs a checkpoint.
    """
    spec = ClusterSpec(queues=QUEUES, pub={"retention_bytes": KEPT_BYTES} if consumed else {})
    with tempfile.TemporaryDirectory(dir=base, prefix="retained-") as directory:
        cluster = ProcessCluster(reactor, Path(directory), spec)
        try:
            await cluster.start()
            return await _Run(reactor, cluster, tell, consumed).run(items)
        finally:
            await cluster.close()


class _Run:
    def __init__(self, reactor: Any, cluster: ProcessCluster, tell: Any, consumed: bool) -> None:
        self.found = Retained()
        self._consumed = consumed
        self._reactor = reactor
        self._cluster = cluster
        self._tell = tell
        self._pool: ConnectionPool = open_pool(reactor, cluster.cluster, cluster.topic, cluster.cluster.tls)

    async def run(self, items: int) -> Retained:
        producer = await Producer.connect(self._cluster.cluster, topic=self._cluster.topic.topic_name)
        try:
            await self._run(producer, items)
        finally:
            await producer.close()
            await self._pool.close()
        return self.found

    async def _run(self, producer: Producer, items: int) -> None:
        found, cluster = self.found, self._cluster
        await self._load(producer, 2.0)
        found.rate = await self._load(producer, COMPARE_S)
        self._tell(f"three nodes: {found.rate:,.0f}/s")
        away, other = await self._followers()
        await cluster.stop(away)
        missed_from = await self._applied()
        stored = producer.stats.stored
        began = time.monotonic()
        while producer.stats.stored - stored < items:
            await self._load(producer, COMPARE_S)
            self._tell(f"{producer.stats.stored - stored:,} items")
        found.rate_of_two = (producer.stats.stored - stored) / (time.monotonic() - began)
        found.items = producer.stats.stored
        found.missed_entries = await self._applied() - missed_from
        for report in await self._reports():
            if report.answer is not None:
                found.resident[f"node {report.node.node_id}"] = report.answer.resident_bytes
        found.disk = _size(cluster.directory / "data" / other.name)
        await cluster.kill(other)
        began = time.monotonic()
        await cluster.start_these(other)
        found.restart = time.monotonic() - began
        self._tell(f"restart: {found.restart:.1f} s")
        await self._load(producer, 2.0)
        await self._catch_up(producer, away)

    async def _catch_up(self, producer: Producer, away: Child) -> None:
        """Load goes on until the node that was away has applied what the master has."""
        found, cluster = self.found, self._cluster
        node_id = cluster.stores.index(away)
        load = Load(self._reactor, [producer], _plan())
        before, began = producer.stats.stored, time.monotonic()
        load.start()
        await cluster.start_these(away)
        while time.monotonic() - began < CATCH_UP_TIMEOUT_S:
            reports = await self._reports()
            lag = _lag(reports, node_id)
            if lag is not None and lag <= CLOSE:
                break
            if self._consumed:
                await self._acknowledge()
            await _sleep(self._reactor, 0.5)
        else:
            raise TimeoutError(f"node {node_id} did not catch up within {CATCH_UP_TIMEOUT_S:g} s")
        found.catch_up = time.monotonic() - began
        found.rate_meanwhile = (producer.stats.stored - before) / found.catch_up
        await load.stop()

    async def _load(self, producer: Producer, seconds: float) -> float:
        before, began = producer.stats.stored, time.monotonic()
        await Load(self._reactor, [producer], _plan()).run(seconds)
        rate = (producer.stats.stored - before) / (time.monotonic() - began)
        if self._consumed:
            await self._acknowledge()
        return rate

    async def _acknowledge(self) -> None:
        """The consumer group is done with everything there is."""
        node = (await self._master()).node
        connection = await self._pool.connection(Address(node.ip, node.port))
        for queue_id in range(QUEUES):
            request = GetRequest(topic_id=TOPIC_ID, store_id=STORE_ID, queue_id=queue_id, consumer_group_id=1)
            request.prev_cursor = (await connection.call(GET, request, 5.0)).end_cursor
            await connection.call(GET, request, 5.0)

    async def _reports(self) -> list[NodeReport]:
        return await ask_all(self._pool, self._cluster.topic, 5.0)

    async def _master(self) -> NodeReport:
        while True:
            master = master_of(await self._reports(), self._cluster.topic.stores[0].store_id, 0)
            if master is not None:
                return master
            await _sleep(self._reactor, 0.05)

    async def _applied(self) -> int:
        state = (await self._master()).group(0)
        assert state is not None
        return state.applied

    async def _followers(self) -> tuple[Child, Child]:
        master = await self._master()
        one, other = [child for number, child in enumerate(self._cluster.stores) if number != master.node.node_id]
        return one, other


def _plan() -> LoadPlan:
    content = bytes(SIZE)
    return LoadPlan(in_flight=IN_FLIGHT, batch=BATCH, make_buffer=lambda: content)


def _lag(reports: list[NodeReport], node_id: int) -> int | None:
    states = {report.node.node_id: report.group(0) for report in reports}
    master = next((state for state in states.values() if state is not None and state.is_master), None)
    own = states.get(node_id)
    return None if master is None or own is None or own.incomplete else master.applied - own.applied


def _size(directory: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in directory.rglob("*") if path.is_file())


def _sleep(reactor: Any, seconds: float) -> Deferred[None]:
    return deferLater(reactor, seconds, lambda: None)
