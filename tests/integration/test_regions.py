"""Three regions, 50 to 100 ms apart: one is cut off and healed, one is killed; nobody works under a lock he has lost.

In each region clients contend for one lock. Whoever holds it writes into a register, in this process, and acknowledges
at a queue of the store, with his fencing token; both refuse a token lower than one they have seen.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from phxqueue.admin.clients import open_master_client, open_pool
from phxqueue.admin.gather import gather
from phxqueue.admin.lock_status import ask_lock_nodes
from phxqueue.lock.client import Held, LockClient, LockError
from phxqueue.lock.client.connecting import lock_pool
from phxqueue.net.routing import MasterClient
from phxqueue.net.status import RpcError, Status
from phxqueue.producer import Producer
from phxqueue.producer.routes import store_route
from phxqueue.proto.item_pb2 import QItems
from phxqueue.proto.methods import GET
from phxqueue.proto.store_pb2 import GetRequest
from tests.integration.ledger import Entry, LedgerClient
from tests.integration.regions import LEASE_S, PREFERRED, REGIONS, RegionalCluster

pytestmark = pytest.mark.shared_reactor

LOCK = "the lock"
QUEUE = 0
PAUSE_S = 0.03
#: On a machine that has better things to do; what it takes on a quiet one is in docs/lock.md.
TAKEOVER_S = 4 * (LEASE_S + 2.0)


@dataclass
class Register:
    """Something that is protected by a lock, and knows fencing tokens.

    Attributes:
        writes: (token, region) of each that was accepted.
        refused: so many were not.
        broken: what must not have happened.
    """

    highest: int = 0
    writes: list[tuple[int, str]] = field(default_factory=list)
    refused: int = 0
    broken: list[str] = field(default_factory=list)
    owners: dict[int, str] = field(default_factory=dict)
    holders: dict[Held, str] = field(default_factory=dict)
    acknowledged: list[tuple[int, float]] = field(default_factory=list)  # token, when the store had answered
    _waiting: list[tuple[set[str], int, Deferred[None]]] = field(default_factory=list)

    def write(self, held: Held, token: int, region: str) -> bool:
        """Change it, if the token is not an old one."""
        believers = {other: where for other, where in self.holders.items() if other.valid}
        if len(believers) > 1:
            self.broken.append(f"these believe to hold the lock at once: {believers}")
        if self.owners.setdefault(token, held.client_id) != held.client_id:
            self.broken.append(f"token {token} was given to {self.owners[token]} and to {held.client_id}")
        if token < self.highest:
            self.refused += 1
            return False
        self.highest = token
        self.writes.append((token, region))
        for regions, wanted, reached in [*self._waiting]:
            if sum(where in regions for _, where in self.writes) >= wanted:
                self._waiting.remove((regions, wanted, reached))
                reached.callback(None)
        return True

    async def written(self, *regions: str, more: int = 5) -> None:
        """Wait until clients of these regions have written so often more."""
        among, reached = set(regions), Deferred[None]()
        self._waiting.append((among, sum(where in among for _, where in self.writes) + more, reached))
        await reached


class Contender:
    """A client of one region."""

    def __init__(self, cluster: RegionalCluster, region: str, register: Register) -> None:
        self.stopping = False
        self._cluster = cluster.views[region]
        self._topic = self._cluster.topics[0]
        self._region = region
        self._register = register

    async def run(self) -> None:
        """Contend until told to stop."""
        pool = open_pool(reactor, self._cluster, self._topic, self._cluster.tls)
        store = open_master_client(reactor, self._cluster, self._topic, pool)
        async with await LockClient.connect(self._cluster, self._topic.topic_id) as client:
            while not self.stopping:
                try:
                    held = await client.acquire(LOCK, lease=LEASE_S, wait=5)
                except LockError:
                    continue
                self._register.holders[held] = self._region
                await self._work(held, store)
                self._register.holders.pop(held, None)
        await pool.close()

    async def _work(self, held: Held, store: MasterClient) -> None:
        try:
            for _ in range(3):
                if self._register.write(held, held.token, self._region):
                    await self._acknowledge(held.token, store)
                await deferLater(reactor, PAUSE_S)
            await held.release()
        except LockError:
            assert not held.valid

    async def _acknowledge(self, token: int, store: MasterClient) -> None:
        """At the store: one that was accepted before this began must not have had a higher token."""
        before = [other for other, _ in self._register.acknowledged]
        request = GetRequest(
            topic_id=self._topic.topic_id,
            store_id=1,
            queue_id=QUEUE,
            consumer_group_id=1,
            limit=0,
            fencing_token=token,
        )
        try:
            await store.call(store_route(self._topic, 1, QUEUE % 2), GET, request, LEASE_S)
        except RpcError as error:
            if error.status is Status.FENCED and not any(other > token for other in self._register.owners):
                self._register.broken.append(f"token {token} was refused, and nobody has a higher one: {error}")
            return
        if any(other > token for other in before):
            self._register.broken.append(f"the store accepted token {token} after {max(before)}")
        self._register.acknowledged.append((token, time.monotonic()))


@pytest_twisted.async_yield_fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RegionalCluster]:
    started = RegionalCluster(reactor, tmp_path_factory.mktemp("regions") / "cluster")
    try:
        await started.start_these(*started.stores, *started.locks)
        yield started
    finally:
        await started.close()


@dataclass
class Load:
    """Contenders for the lock in every region; a producer, and a client that looks whether locks are given, in one."""

    register: Register
    probe: LockClient
    contenders: list[Contender]
    running: Deferred[Any]
    producer: Producer
    ledger: LedgerClient

    async def end(self) -> None:
        for contender in self.contenders:
            contender.stopping = True
        await self.running
        await self.ledger.stop()
        await self.producer.close()
        await self.probe.close()

    async def taken_over(self, what: str) -> None:
        """Wait until locks are given and items stored under other masters than before."""
        began = time.monotonic()

        async def locks() -> float:
            await self.probe.acquire(what, wait=60)
            return time.monotonic() - began

        async def items() -> float:
            await self.ledger.confirmed(5)
            return time.monotonic() - began

        times = await gather([locks(), items()])
        print(f"{what}: locks after {times[0]:.2f} s, enqueues after {times[1]:.2f} s (lease {LEASE_S} s)")
        assert max(times) < TAKEOVER_S


async def load(cluster: RegionalCluster, region: str) -> Load:
    register, view = Register(), cluster.views[region]
    probe = await LockClient.connect(view, cluster.topic.topic_id)
    await probe.acquire(f"ready in {region}", wait=60)
    contenders = [Contender(cluster, region, register) for region in REGIONS for _ in range(2)]
    running = Deferred.fromCoroutine(gather(contender.run() for contender in contenders))
    producer = await Producer.connect(view, topic=cluster.topic.topic_name)
    ledger = LedgerClient(reactor, producer, uins=range(1, 5), depth=1)
    ledger.start()
    return Load(register, probe, contenders, running, producer, ledger)


async def masters(cluster: RegionalCluster) -> list[str]:
    """The regions of the masters of all Paxos groups of both sets; less than all while there are elections."""
    pool = lock_pool(reactor, cluster.cluster, cluster.topic)
    try:
        reports = [*await cluster.reports(1.0), *await ask_lock_nodes(pool, cluster.topic, 1.0)]
    finally:
        await pool.close()
    groups = [(report.node.region, report.group(number)) for report in reports for number in range(2)]
    return [region for region, group in groups if group is not None and group.is_master and group.lease_remaining_s > 0]


async def masters_are_in(cluster: RegionalCluster, region: str) -> None:
    while await masters(cluster) != [region] * 4:
        await cluster.pause()


async def stored(cluster: RegionalCluster) -> set[Entry]:
    """Everything that is in the queues."""
    client = open_master_client(reactor, cluster.cluster, cluster.topic, cluster.pool)
    found: set[Entry] = set()
    for queue_id in range(4):
        request = GetRequest(topic_id=cluster.topic.topic_id, store_id=1, queue_id=queue_id, random=True, limit=1000)
        request.next_cursor = 0
        more = True
        while more:
            answer = await client.call(store_route(cluster.topic, 1, queue_id % 2), GET, request, 10.0)
            for batch in answer.batches:
                found |= {(item.meta.uin, int(item.buffer)) for item in QItems.FromString(batch.items).items}
            request.next_cursor = answer.next_cursor
            more = answer.next_cursor < answer.end_cursor
    return found


async def nothing_was_broken(cluster: RegionalCluster, under: Load) -> None:
    await under.end()
    register = under.register
    assert register.broken == []
    tokens = [token for token, _ in register.writes]
    assert tokens == sorted(tokens)
    assert len(set(tokens)) > 5
    assert register.acknowledged
    assert under.ledger.books.confirmed <= await stored(cluster)


@pytest_twisted.ensureDeferred
async def test_a_region_is_cut_off_and_healed(cluster: RegionalCluster) -> None:
    """The masters' own region: the others take over; when it is back they return, and its clients contend again."""
    await masters_are_in(cluster, PREFERRED)
    under = await load(cluster, "west")
    register, others = under.register, [region for region in REGIONS if region != PREFERRED]
    for region in REGIONS:
        await register.written(region, more=2)
    await under.ledger.confirmed(10)
    cluster.cut_off(PREFERRED)
    await under.taken_over("a region was cut off")
    await register.written(*others)
    assert not [held for held, region in register.holders.items() if region == PREFERRED and held.valid]
    cluster.heal()
    await masters_are_in(cluster, PREFERRED)
    await register.written(PREFERRED, more=2)
    await under.ledger.confirmed(10)
    await nothing_was_broken(cluster, under)


@pytest_twisted.ensureDeferred
async def test_a_region_is_killed_and_comes_back(cluster: RegionalCluster) -> None:
    await masters_are_in(cluster, PREFERRED)
    under = await load(cluster, "south")
    register = under.register
    await register.written(*REGIONS)
    await under.ledger.confirmed(10)
    await cluster.kill(*cluster.of(PREFERRED))
    await under.taken_over("a region was killed")
    await cluster.start_these(*cluster.of(PREFERRED))
    await masters_are_in(cluster, PREFERRED)
    await register.written(*REGIONS)
    await nothing_was_broken(cluster, under)
