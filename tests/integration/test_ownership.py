"""Who owns a queue, with locks and schedulers: consumers, schedulers and lock masters that die or hang under load."""

from __future__ import annotations

import signal
import time
from collections import Counter
from typing import Any

import pytest_twisted

from phxqueue.admin.processes.child import Child
from tests.integration.cluster import TestedCluster
from tests.integration.conftest import MakeCluster
from tests.integration.ledger import HandledLog, LedgerClient, everything_handled
from tests.integration.owned import LASTING, OWNED, QUICK_TAKEOVER

RECORD = {1: "tests.integration.handlers:record"}
UINS = range(1, 40)


async def handled_by_others(cluster: TestedCluster, pid: int, uins: set[int], after: int) -> float:
    """Wait until others have handled each of these uins, in the ledger's lines from `after` on; seconds it took."""
    began = time.monotonic()
    while True:
        lines = HandledLog(cluster.ledger).look().lines[after:]
        if uins <= {line.uin for line in lines if line.pid != pid}:
            return time.monotonic() - began
        await cluster.pause()


def uins_by_process(cluster: TestedCluster, after: int = 0) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for line in HandledLog(cluster.ledger).look().lines[after:]:
        found.setdefault(line.pid, set()).add(line.uin)
    return found


async def all_at_work(cluster: TestedCluster, consumers: int, after: int = 0) -> dict[int, set[int]]:
    """Wait until so many consumers have handled something, and every uin was handled, in the lines from `after` on."""
    while True:
        found = uins_by_process(cluster, after)
        if len(found) >= consumers and set().union(*found.values()) >= set(UINS):
            return found
        await cluster.pause()


async def settled(cluster: TestedCluster, consumers: int) -> dict[int, set[int]]:
    """Wait until so many consumers share the uins out, the same way twice running; who has which.

    Those that start one after the other hand some over at first: how many consumers live is known only when the last
    of them has reported.
    """
    before: dict[int, set[int]] = {}
    while True:
        found = await all_at_work(cluster, consumers, len(HandledLog(cluster.ledger).look().lines))
        if found == before and sum(len(uins) for uins in found.values()) == len(UINS):
            return found
        before = found


async def finish(cluster: TestedCluster, client: LedgerClient) -> Counter[Any]:
    """Let everything be handled, check the books, and return how often each item was."""
    books = await client.stop()
    found = await everything_handled(cluster, books)
    return Counter(found)


def busiest(found: dict[int, set[int]], consumers: list[Child]) -> Child:
    """The consumer with the most uins."""
    return max(consumers, key=lambda child: len(found.get(child.pid, ())))


@pytest_twisted.ensureDeferred
async def test_the_queues_of_a_killed_consumer_are_taken_over(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(
        nodes=1, locks=1, schedulers=1, queues=12, consumers=3, group=OWNED, handlers=RECORD,
        topic=QUICK_TAKEOVER,
    )  # fmt: skip
    await cluster.start()
    client = LedgerClient(cluster.reactor, await cluster.producer(), uins=UINS, depth=1, rest_s=0.02)
    client.start()
    found = await all_at_work(cluster, 3)
    victim = busiest(found, cluster.consumers)
    pid = victim.pid
    await cluster.kill(victim)
    so_far = len(HandledLog(cluster.ledger).look().lines)
    took = await handled_by_others(cluster, pid, found[pid], so_far)
    print(f"taken over within {took:.1f} s")
    await finish(cluster, client)


@pytest_twisted.ensureDeferred
async def test_a_consumer_that_hangs_beyond_its_lease_does_no_harm_when_it_wakes(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(
        nodes=1, locks=1, schedulers=1, queues=12, consumers=2, group=OWNED, handlers=RECORD,
        topic=QUICK_TAKEOVER,
    )  # fmt: skip
    await cluster.start()
    client = LedgerClient(cluster.reactor, await cluster.producer(), uins=UINS, depth=1, rest_s=0.02)
    client.start()
    found = await all_at_work(cluster, 2)
    victim = busiest(found, cluster.consumers)
    pid = victim.pid
    victim.signal(signal.SIGSTOP)
    so_far = len(HandledLog(cluster.ledger).look().lines)
    await handled_by_others(cluster, pid, found[pid], so_far)
    victim.signal(signal.SIGCONT)
    so_far = len(HandledLog(cluster.ledger).look().lines)
    while not uins_by_process(cluster, so_far).get(pid):
        await cluster.pause()  # it has queues again
    await finish(cluster, client)
    while "the lock is lost" not in cluster.log_of(victim):  # of a queue whose items are handled it hears by and by
        await cluster.pause()


@pytest_twisted.ensureDeferred
async def test_consumers_keep_their_queues_while_schedulers_and_lock_masters_die(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(
        nodes=1, locks=3, schedulers=2, queues=8, consumers=2, group=OWNED, handlers=RECORD, topic=LASTING,
    )  # fmt: skip
    await cluster.start()
    client = LedgerClient(cluster.reactor, await cluster.producer(), uins=UINS, depth=1, rest_s=0.02)
    client.start()
    await all_at_work(cluster, 2)
    for pair in zip(cluster.schedulers, cluster.locks[:2], strict=True):
        await cluster.kill(*pair)  # in one of the rounds it is the master of the schedulers
        await client.confirmed(100)
        await cluster.start_these(*pair)
    counted = await finish(cluster, client)
    for child in cluster.consumers:
        assert "the lock is lost" not in cluster.log_of(child), cluster.log_of(child)
    assert set(counted.values()) == {1}, "nobody lost a queue, so nothing came twice"


@pytest_twisted.ensureDeferred
async def test_a_restart_moves_nothing_and_a_handover_handles_nothing_twice(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(
        nodes=1, locks=1, schedulers=1, queues=12, consumers=3, group=OWNED, handlers=RECORD,
        topic={
            "scheduler_warm_up_s": 1, "scheduler_restart_grace_s": 60, "scheduler_hash_keep_time_s": 60,
            **LASTING,
            "scheduler_use_init_weight": True,  # loads, of a busy machine least of all, are no reason to move anything
        },
    )  # fmt: skip
    first, second, third = cluster.consumers
    await cluster.start_these(*cluster.stores, *cluster.locks, *cluster.schedulers, first, second)
    client = LedgerClient(cluster.reactor, await cluster.producer(), uins=UINS, depth=1, rest_s=0.02)
    client.start()
    before = await settled(cluster, 2)
    others = before[second.pid]
    mine = before[first.pid]

    assert await cluster.stop(first) == []
    so_far = len(HandledLog(cluster.ledger).look().lines)
    await cluster.start_these(first)
    as_before = {first.pid: mine, second.pid: others}
    while not set(UINS) <= set().union(*(found := uins_by_process(cluster, so_far)).values()):
        await cluster.pause()
    assert found == as_before, "within its grace time"

    so_far = len(HandledLog(cluster.ledger).look().lines)
    await cluster.start_these(third)
    while not uins_by_process(cluster, so_far).get(third.pid):
        await cluster.pause()
    counted = await finish(cluster, client)
    assert set(counted.values()) == {1}, "everybody was in good health, so nothing came twice"
