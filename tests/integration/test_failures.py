"""Processes die, hang and come back under load: what was confirmed is there, in order, and the service goes on."""

from __future__ import annotations

import signal
import time
from contextlib import suppress

import pytest
import pytest_twisted

from phxqueue.producer import EnqueueError, Producer, Refused
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
    producer = await cluster.producer(deadline_s=100.0)
    await stored(producer, b"all up")
    first, second = await cluster.followers()
    await cluster.kill(first)
    await stored(producer, b"two up")
    await cluster.kill(second)
    said = str(await failure(producer, b"one up"))
    while "0 of 3 nodes of store 1 reachable" in said:  # the one that is left was not given the processor just then
        said = str(await failure(producer, b"one up"))
    assert "1 of 3 nodes of store 1 reachable" in said, said
    assert "start another" in said, said
    # From now on the node knows: nothing is taken that nobody could say the outcome of.
    while not isinstance(error := await failure(producer, b"one up"), Refused):
        pass
    assert "of 3 nodes of store 1 reachable" in str(error)
    await cluster.start_these(second)
    await stored(producer, b"two up again")


async def stored(producer: Producer, content: bytes) -> None:
    """Enqueue it, again and again: the patience of a producer for an election is less than a busy machine may need."""
    while True:
        with suppress(EnqueueError):
            await producer.enqueue(1, 1, content)
            return


async def failure(producer: Producer, content: bytes) -> EnqueueError:
    """Enqueue what cannot be stored; returns the reason, which has to come well before the producer's deadline."""
    began = time.monotonic()
    with pytest.raises(EnqueueError) as caught:
        await producer.enqueue(1, 1, content)
    assert time.monotonic() - began < 50, caught.value  # the patience is 2 s, the deadline 100 s
    return caught.value


@pytest_twisted.ensureDeferred
async def test_a_master_that_pauses_shorter_than_its_lease_stays_master(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(store={"master_lease_ms": 5000}, topic=PATIENT)
    await cluster.start()
    producer = await cluster.producer()
    master = await cluster.master()  # whoever has just started waits for one lease to run out
    await producer.enqueue(1, 1, b"before")
    before = await cluster.ballot()
    pauses = 0
    while pauses < 3:
        began = time.monotonic()
        master.signal(signal.SIGSTOP)
        await later(0.8)  # several heartbeats are missed
        master.signal(signal.SIGCONT)
        await producer.enqueue(1, 1, b"after")
        after = await cluster.ballot()
        if time.monotonic() - began < 3.0:
            assert await cluster.master() is master
            assert after == before
            pauses += 1
        else:  # a busy machine has made the pause longer, perhaps than the lease: that says nothing
            master, before = await cluster.master(), await cluster.ballot()


@pytest_twisted.ensureDeferred
async def test_a_master_that_hangs_is_replaced_and_wakes_up_harmless(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(queues=4, consumers=1, handlers=HANDLERS)
    await cluster.start()
    client = LedgerClient(cluster.reactor, await cluster.producer())
    client.start()
    await client.confirmed(200)
    master = await cluster.master()
    number = cluster.stores.index(master)
    before = await cluster.ballot()
    master.signal(signal.SIGSTOP)
    await client.confirmed(200)
    assert (await cluster.reports(0.5))[number].answer is None
    assert await cluster.master() is not master
    master.signal(signal.SIGCONT)
    await client.confirmed(200)
    while (woken := (await cluster.reports())[number].group(0)) is None or woken.ballot <= before:
        await cluster.pause()  # until it knows of the other; it may be elected again, and then at a ballot of its own
    books = await client.stop()
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
