"""From a call of enqueue() to the handler, while next to nothing happens: queues owned by locks and a scheduler."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.task import deferLater

from benchmarks.takeover_handler import FILE
from phxqueue.admin.demo.owners import locked_queues, owners
from phxqueue.admin.processes.cluster import ProcessCluster
from phxqueue.admin.processes.files import ClusterSpec
from phxqueue.lock.client import LockClient
from phxqueue.producer import Producer

#: Before the first message that counts.
SETTLE_S = 3.0


async def measure(
    reactor: Any, directory: Path, queues: int, rate: float, seconds: float, say: Callable[[str], None]
) -> None:
    """One message after another, so many a second, each into a queue of its own choice."""
    log = directory / "delays.txt"
    spec = ClusterSpec(
        nodes=3, locks=1, schedulers=1, queues=queues, consumers=1, retries=0,
        group={"use_dynamic_scale": 1, "skip_lock": 0}, handlers={1: "benchmarks.takeover_handler:delay"},
    )  # fmt: skip
    environment = {FILE: str(log), "PYTHONPATH": str(Path(__file__).parents[1])}
    cluster = ProcessCluster(reactor, directory / "cluster", spec, environment=environment)
    try:
        await cluster.start()
        async with await LockClient.connect(cluster.cluster, cluster.topic.topic_id, reactor=reactor) as locks:
            await owners(locks, locked_queues(cluster.topic))
        await deferLater(reactor, SETTLE_S, lambda: None)
        producer = await Producer.connect(cluster.cluster, topic=cluster.topic.topic_name)
        confirmed: list[float] = []
        count = round(rate * seconds)
        for _ in range(count):
            began = time.monotonic()
            sent = producer.enqueue(1, 1, str(began).encode(), uin=random.getrandbits(60))
            sent.addCallback(lambda _, began: confirmed.append(time.monotonic() - began), began)
            await deferLater(reactor, random.expovariate(rate), lambda: None)
        while len(confirmed) < count or len(handled := log.read_text().splitlines()) < count:
            await deferLater(reactor, 0.05, lambda: None)
        await producer.close()
    finally:
        await cluster.close()
    say(f"{count} messages, {rate:g} a second, {queues} queues")
    say(f"  until confirmed: {_percentiles(confirmed)}")
    say(f"  until handled: {_percentiles([float(line) for line in handled])}")


def _percentiles(seconds: Sequence[float]) -> str:
    delays = sorted(1000 * delay for delay in seconds)
    shown = ", ".join(f"p{part} {delays[len(delays) * part // 100]:.1f} ms" for part in (50, 90, 99))
    return f"{shown}, longest {delays[-1]:.1f} ms"
