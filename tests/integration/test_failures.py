"""Processes die, hang and come back under load: what was confirmed is there, in order, and the service goes on."""

from __future__ import annotations

import signal
import time

import pytest
import pytest_twisted

from phxqueue.producer import EnqueueError, Refused
from tests.integration.cluster import PATIENT
from tests.integration.conftest import MakeCluster, later
from tests.integration.ledger import LedgerClient, everything_handled

HANDLERS = {1: "tests.integration.handlers:record"}


@pytest_twisted.ensureDeferred
async def test_every_node_in_turn_is_killed_under_load(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(queues=4, consumers=1, handlers=HANDLERS, topic=PATIENT)
    await cluster.start()
    client = LedgerClient(cluster.reactor, await cluster.producer())
    client.start()
    await client.confirmed(300)
    for _ in range(2):
        victims = [await cluster.master(), (await cluster.followers())[0]]
        for victim in victims:
            await cluster.kill(victim)
            await client.confirmed(300)  # goes on without it
            await cluster.start_these(victim)
            await client.confirmed(300)
            await cluster.applied_everywhere_so_far()
    books = await client.stop()
    assert books.errors == []
    await everything_handled(cluster, books)
    assert await cluster.stop() == []


@pytest_twisted.ensureDeferred
async def test_all_are_killed_at_once_and_nothing_confirmed_is_lost(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(queues=4, consumers=1, handlers=HANDLERS)
    await cluster.start_these(*cluster.stores)
    client = LedgerClient(cluster.reactor, await cluster.producer(deadline_s=20.0))
    client.start()
    for _ in range(2):
        await client.confirmed(500)
        await cluster.kill(*cluster.stores)
        await cluster.start_these(*cluster.stores)
    await client.confirmed(100)
    books = await client.stop()
    await cluster.start_these(*cluster.consumers)  # read by a consumer that saw none of it
    await everything_handled(cluster, books)
    await cluster.applied_everywhere()
    assert await cluster.stop() == []


@pytest_twisted.ensureDeferred
async def test_two_of_three_down_fails_fast_with_a_reason_and_resumes_by_itself(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(topic={"store_paxos_propose_timeout_ms": 500})
    await cluster.start()
    producer = await cluster.producer()
    await producer.enqueue(1, 1, b"all up")
    first, second = await cluster.followers()
    await cluster.kill(first)
    await producer.enqueue(1, 1, b"two up")
    await cluster.kill(second)
    began = time.monotonic()
    with pytest.raises(EnqueueError) as caught:
        await producer.enqueue(1, 1, b"one up")
    assert time.monotonic() - began < 20  # "fast": well before the producer's deadline of 30 s
    said = str(caught.value)
    assert "1 of 3 nodes of store 1 reachable" in said, said
    assert "start" in said
    # From now on the master knows: the refusal comes within the patience for elections, a second or two.
    began = time.monotonic()
    with pytest.raises(Refused, match="1 of 3 nodes of store 1 reachable"):
        await producer.enqueue(1, 1, b"one up")
    assert time.monotonic() - began < 15
    await cluster.start_these(second)
    await producer.enqueue(1, 1, b"two up again")


@pytest_twisted.ensureDeferred
async def test_a_master_that_pauses_shorter_than_its_lease_stays_master(make_cluster: MakeCluster) -> None:
    # A long lease: seconds of a busy machine beside the pauses must not make them longer than it.
    cluster = make_cluster(store={"master_lease_ms": 5000})
    await cluster.start()
    producer = await cluster.producer()
    master = await cluster.master()  # whoever has just started waits for one lease to run out
    await producer.enqueue(1, 1, b"before")
    before = await cluster.ballot()
    for _ in range(3):
        master.signal(signal.SIGSTOP)
        await later(0.8)  # several heartbeats are missed
        master.signal(signal.SIGCONT)
        await producer.enqueue(1, 1, b"after")
    assert await cluster.master() is master
    assert await cluster.ballot() == before


@pytest_twisted.ensureDeferred
async def test_a_master_that_hangs_is_replaced_and_wakes_up_harmless(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(queues=4, consumers=1, handlers=HANDLERS)
    await cluster.start()
    client = LedgerClient(cluster.reactor, await cluster.producer())
    client.start()
    await client.confirmed(200)
    master = await cluster.master()
    master.signal(signal.SIGSTOP)
    await client.confirmed(200)
    assert (await cluster.reports(0.5))[cluster.stores.index(master)].answer is None
    master.signal(signal.SIGCONT)
    await client.confirmed(200)
    books = await client.stop()
    assert await cluster.master() is not master
    await everything_handled(cluster, books)
    await cluster.applied_everywhere()


@pytest_twisted.ensureDeferred
async def test_a_graceful_stop_of_the_master_loses_nothing(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(consumers=1, handlers=HANDLERS, topic=PATIENT)
    await cluster.start()
    client = LedgerClient(cluster.reactor, await cluster.producer())
    client.start()
    await client.confirmed(200)
    master = await cluster.master()
    assert await cluster.stop(master) == []
    assert master.outcome == "SIGTERM"  # twistd ends by the signal it was sent, after it has stopped in order
    assert "Server Shut Down" in cluster.log_of(master)
    await client.confirmed(200)
    await cluster.start_these(master)
    books = await client.stop()
    assert books.errors == []
    await everything_handled(cluster, books)
