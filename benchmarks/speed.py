"""Runs a row of the speed table: a fresh cluster, a reader, load for some seconds, and what every process used."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from benchmarks.profiling import Profile, Profiler
from benchmarks.reader import TIMESTAMP
from benchmarks.reading import Reader
from benchmarks.scenarios import Scenario
from phxqueue.admin.clients import open_pool
from phxqueue.admin.load import Load, LoadPlan, LoadResult
from phxqueue.admin.node_status import ask_all, master_of
from phxqueue.admin.processes.cluster import ProcessCluster
from phxqueue.admin.processes.files import ClusterSpec
from phxqueue.producer import Producer

WARM_UP_S = 1.5
CATCH_UP_TIMEOUT_S = 60.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Measured:
    """One row's outcome. Rates are items a second; `cpu` is the share of a core each process used."""

    scenario: Scenario
    load: LoadResult
    read_rate: float
    behind: int
    latency_us: dict[float, int]
    cpu: dict[str, float]
    profiles: Sequence[Profile] = ()


async def measure(
    reactor: Any, scenario: Scenario, seconds: float, spec: ClusterSpec, base: Path, profiles: Path | None = None
) -> Measured:
    """Run one row in a directory of its own below `base`; with `profiles`, leave samples of every process there."""
    with tempfile.TemporaryDirectory(dir=base, prefix="bench-") as directory:
        cluster = ProcessCluster(reactor, Path(directory), spec)
        reader = Reader(reactor, cluster.config, latency=scenario.end_to_end)
        try:
            await cluster.start()
            await reader.start()
            return await _measure(reactor, scenario, seconds, cluster, reader, profiles)
        finally:
            await reader.stop()
            await cluster.close()


async def _measure(
    reactor: Any,
    scenario: Scenario,
    seconds: float,
    cluster: ProcessCluster,
    reader: Reader,
    profiles: Path | None,
) -> Measured:
    producer = await Producer.connect(cluster.cluster, topic=cluster.topic.topic_name)
    try:
        names = await _process_names(reactor, cluster, reader)
        warm = await _load(reactor, producer, scenario).run(WARM_UP_S)
        await reader.read(warm.confirmed, CATCH_UP_TIMEOUT_S)
        sent_before = producer.stats.stored
        read_before = reader.report["items"]
        cpu_before = {name: _cpu_seconds(pid) for pid, name in names.items()}
        began = time.monotonic()
        load = _load(reactor, producer, scenario)
        watching = _watch(reactor, names, seconds, profiles)
        result = await load.run(seconds)
        elapsed = time.monotonic() - began
        cpu = {name: (_cpu_seconds(pid) - cpu_before[name]) / elapsed for pid, name in names.items()}
        behind = producer.stats.stored - sent_before - (reader.report["items"] - read_before)
        await reader.read(producer.stats.stored, CATCH_UP_TIMEOUT_S)
        read_rate = (producer.stats.stored - sent_before) / (time.monotonic() - began)
        await deferLater(reactor, 0.2, lambda: None)  # the reader's last word comes with its next report
        latency = {float(share): value for share, value in reader.report["latency_us"].items()}
        seen = [await profile for profile in watching]
        return Measured(scenario, result, read_rate, max(behind, 0), latency, cpu, seen)
    finally:
        await producer.close()


def _watch(reactor: Any, names: dict[int, str], seconds: float, profiles: Path | None) -> list[Deferred[Profile]]:
    if profiles is None:
        return []
    profiles.mkdir(parents=True, exist_ok=True)
    profiler = Profiler(reactor, profiles)
    return [profiler.start(name, pid, seconds) for pid, name in names.items()]


def _load(reactor: Any, producer: Producer, scenario: Scenario) -> Load:
    return Load(
        reactor,
        [producer],
        LoadPlan(
            in_flight=scenario.in_flight,
            batch=scenario.batch,
            qps=scenario.qps,
            make_buffer=_buffers(scenario),
        ),
    )


def _buffers(scenario: Scenario) -> Callable[[], bytes]:
    content = os.urandom(scenario.size)
    if not scenario.end_to_end:
        return lambda: content
    rest = content[TIMESTAMP.size :]
    pack, now = TIMESTAMP.pack, time.time_ns
    return lambda: pack(now()) + rest


async def _process_names(reactor: Any, cluster: ProcessCluster, reader: Reader) -> dict[int, str]:
    """Who is who, by pid; the master first."""
    pool = open_pool(reactor, cluster.cluster, cluster.topic, cluster.cluster.tls)
    try:
        while True:
            master = master_of(await ask_all(pool, cluster.topic), cluster.topic.stores[0].store_id, 0)
            if master is not None:
                break
            await deferLater(reactor, 0.05, lambda: None)
    finally:
        await pool.close()
    names = {os.getpid(): "client"}
    followers = 0
    for number, child in enumerate(cluster.stores):
        if number == master.node.node_id:
            names[child.pid] = "master"
        else:
            followers += 1
            names[child.pid] = f"follower {followers}"
    names[reader.pid] = "reader"
    return names


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
