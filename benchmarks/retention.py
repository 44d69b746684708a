"""Gigabytes enqueued and consumed through nodes that may keep some hundred megabytes: how much lies on their disks?

Real processes on a real disk: a producer here, a reader that acknowledges in a process of its own. The data directory
of every node is measured again and again, by the blocks that the file system gave it.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twisted.internet.task import LoopingCall, deferLater

from benchmarks.reading import Reader
from phxqueue.admin.load import Load, LoadPlan
from phxqueue.admin.processes.cluster import ProcessCluster
from phxqueue.admin.processes.files import ClusterSpec
from phxqueue.producer import Producer

BATCH = 20
IN_FLIGHT = 8
SAMPLE_S = 0.5
TURN_S = 3.0
#: So much may wait to be read before the producer pauses: what nobody has read is not retention's to drop.
BACKLOG_BYTES = 64 << 20
READ_TIMEOUT_S = 300.0
#: How long sizes are watched after the last item.
SETTLE_S = 40.0


@dataclass
class Kept:
    """What was found; sizes in bytes, the directories' by the name of the node."""

    enqueued: int = 0
    kept: int = 0
    item: int = 0
    seconds: float = 0.0
    samples: int = 0
    most: dict[str, int] = field(default_factory=dict)
    at_the_end: dict[str, int] = field(default_factory=dict)
    pinned: bool = False

    def lines(self) -> list[str]:
        """Rows of a Markdown table."""
        most = ", ".join(f"{size / 1e6:,.0f}" for size in self.most.values())
        left = ", ".join(f"{size / 1e6:,.0f}" for size in self.at_the_end.values())
        return [
            "| | |",
            "|---|---|",
            f"| enqueued, read and acknowledged | {self.enqueued / 1e9:.2f} GB in items of {self.item:,} B |",
            f"| `retention_bytes` | {self.kept / 1e6:,.0f} MB |",
            *(["| at the beginning of the log | one message that is due in a day |"] if self.pinned else []),
            f"| within | {self.seconds:,.0f} s ({self.enqueued / 1e6 / max(self.seconds, 1e-9):,.0f} MB/s) |",
            f"| largest data directory, by node (of {self.samples} samples) | {most} MB |",
            f"| {SETTLE_S:g} s after the last item | {left} MB |",
        ]


async def retention(
    reactor: Any, total: int, kept: int, item: int, nodes: int, base: Path, tell: Any, *, relocate: int | None = None
) -> Kept:
    """Run it in a directory of its own below `base`.

    Args:
        relocate: enqueue a message first that is due in a day, and have `relocate_bytes` be this.
    """
    limits = {} if relocate is None else {"limits": {"relocate_bytes": relocate}}
    spec = ClusterSpec(nodes=nodes, pub={"retention_bytes": kept}, store_node=limits)
    with tempfile.TemporaryDirectory(dir=base, prefix="retention-") as directory:
        cluster = ProcessCluster(reactor, Path(directory), spec)
        try:
            await cluster.start()
            found = Kept(kept=kept, item=item, pinned=relocate is not None)
            return await _Run(reactor, cluster, found, tell).run(total)
        finally:
            await cluster.close()


class _Run:
    def __init__(self, reactor: Any, cluster: ProcessCluster, found: Kept, tell: Any) -> None:
        self._reactor = reactor
        self._cluster = cluster
        self._found = found
        self._tell = tell

    async def run(self, total: int) -> Kept:
        cluster, found = self._cluster, self._found
        reader = Reader(self._reactor, cluster.cluster.path, latency=False)
        await reader.start()
        producer = await Producer.connect(cluster.cluster, topic=cluster.topic.topic_name)
        if found.pinned:
            await producer.enqueue(1, 1, b"due tomorrow", delay=86_400.0)
        sampling = LoopingCall(self._sample)
        sampling.start(SAMPLE_S)
        began = time.monotonic()
        try:
            while self._stored(producer) * found.item < total:
                await Load(self._reactor, [producer], self._plan()).run(TURN_S)
                await reader.read(self._stored(producer) - BACKLOG_BYTES // found.item, READ_TIMEOUT_S)
                sizes = ", ".join(f"{size / 1e6:,.0f}" for size in self._sizes().values())
                self._tell(f"{self._stored(producer) * found.item / 1e6:,.0f} MB enqueued; on disk {sizes} MB")
            await reader.read(self._stored(producer), READ_TIMEOUT_S)
            found.seconds = time.monotonic() - began
            found.enqueued = self._stored(producer) * found.item
            await deferLater(self._reactor, SETTLE_S, lambda: None)
            found.at_the_end = self._sizes()
        finally:
            sampling.stop()
            await producer.close()
            await reader.stop()
        return found

    def _stored(self, producer: Producer) -> int:
        """Items that are there to be read."""
        return producer.stats.stored - self._found.pinned

    def _plan(self) -> LoadPlan:
        content = bytes(self._found.item)
        return LoadPlan(in_flight=IN_FLIGHT, batch=BATCH, make_buffer=lambda: content)

    def _sample(self) -> None:
        found = self._found
        found.samples += 1
        for name, size in self._sizes().items():
            found.most[name] = max(found.most.get(name, 0), size)

    def _sizes(self) -> dict[str, int]:
        data = self._cluster.directory / "data"
        return {child.name: _allocated(data / child.name) for child in self._cluster.stores}


def _allocated(directory: Path) -> int:
    size = 0
    for path in directory.rglob("*"):
        try:
            size += path.stat().st_blocks * 512
        except FileNotFoundError:
            continue  # a log file that was removed while we looked
    return size
