"""Our side of the benchmark of locks: the LockClient as applications use it, one connection."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from benchmarks.lock_work import Report, Round, worker
from phxqueue.admin import edge
from phxqueue.admin.gather import gather
from phxqueue.config import load_cluster
from phxqueue.lock.client import LockClient
from phxqueue.net.clock import use_monotonic_time

LEASE_S = 60.0
VALUE = bytes(100)


def run(where: str, work: str, in_flight: int, seconds: float) -> dict[str, Any]:
    """Do one kind of work; returns the report."""
    cluster = load_cluster(where)

    async def main(reactor: Any) -> dict[str, Any]:
        use_monotonic_time(reactor)
        async with await LockClient.connect(cluster, cluster.topics[0].topic_id) as client:
            rounds = [await _round(client, work, f"{work} {number}") for number in range(in_flight)]
            report = Report(seconds)
            print("ready", flush=True)

            def pause(delay: float) -> Deferred[None]:
                return deferLater(reactor, delay, lambda: None)

            await gather(worker(do, report, pause) for do in rounds)
            return report.document()

    return edge.run(main)


async def _round(client: LockClient, work: str, key: str) -> Round:
    if work == "lock":

        async def lock() -> None:
            held = await client.acquire(key, LEASE_S)
            await held.release()

        return lock
    if work == "renew":
        held = await client.acquire(key, LEASE_S)

        async def renew() -> None:
            await held.renew()

        return renew
    version = 0

    async def cas() -> None:
        nonlocal version
        try:
            version = await client.set(key, VALUE, expected_version=version)
        except Exception:
            found = await client.get(key)
            version = 0 if found is None else found.version
            raise

    found = await client.get(key)
    version = 0 if found is None else found.version
    return cas
