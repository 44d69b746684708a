"""What a consumer costs that owns many empty queues: its processor time, and that of the lock node it renews with."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.task import deferLater

from phxqueue.admin.demo.owners import locked_queues, owners
from phxqueue.admin.processes.child import Child
from phxqueue.admin.processes.cluster import ProcessCluster
from phxqueue.admin.processes.files import ClusterSpec
from phxqueue.daemon.processor_time import processor_time
from phxqueue.lock.client import LockClient

#: How long what follows from taking over that many queues may still be going on.
SETTLE_S = 10.0


async def measure(reactor: Any, directory: Path, queues: int, seconds: float, say: Callable[[str], None]) -> None:
    """Start a cluster with one consumer, wait until it owns every queue, and measure."""
    spec = ClusterSpec(
        nodes=1, locks=1, schedulers=1, queues=queues, consumers=1, retries=0,
        group={"use_dynamic_scale": 1, "skip_lock": 0}, handlers={1: "phxqueue.consumer.echo:QuietHandler"},
    )  # fmt: skip
    cluster = ProcessCluster(reactor, directory, spec)
    try:
        await cluster.start()
        async with await LockClient.connect(cluster.cluster, cluster.topic.topic_id, reactor=reactor) as locks:
            owned = await owners(locks, locked_queues(cluster.topic))
        say(f"one consumer owns {len(owned)} queues by locks; {seconds:g} s")
        await deferLater(reactor, SETTLE_S, lambda: None)
        measured = {"consumer": cluster.consumers[0], "lock node": cluster.locks[0], "store": cluster.stores[0]}
        found = await _used(reactor, measured, seconds)
        for name, percents in found.items():
            say(f"  {name}: {statistics.mean(percents):.1f} % of a core ({min(percents):.1f} to {max(percents):.1f})")
    finally:
        await cluster.close()


async def _used(reactor: Any, measured: dict[str, Child], seconds: float) -> dict[str, list[float]]:
    """Percent of a core, for each of ten parts of the time."""
    found: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(10):
        before = {name: processor_time(child.pid) or 0.0 for name, child in measured.items()}
        began = reactor.seconds()
        await deferLater(reactor, seconds / 10, lambda: None)
        for name, child in measured.items():
            found[name].append(100 * ((processor_time(child.pid) or 0.0) - before[name]) / (reactor.seconds() - began))
    return found
