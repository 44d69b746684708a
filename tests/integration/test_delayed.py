"""Delayed messages, and messages that end their consumer, with real processes."""

from __future__ import annotations

from collections import Counter

import pytest_twisted

from phxqueue.producer import NewItem
from tests.integration.conftest import MakeCluster
from tests.integration.ledger import handled_texts


@pytest_twisted.ensureDeferred
async def test_delayed_messages_survive_the_death_of_all_nodes_and_come_once(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(queues=2, consumers=1, handlers={1: "tests.integration.handlers:record"})
    await cluster.start_these(*cluster.stores)
    producer = await cluster.producer(deadline_s=20.0)
    soon = [NewItem(1, 1, b"soon %d" % number, number % 3, delay=1.0) for number in range(40)]
    late = [NewItem(1, 1, b"late %d" % number, delay=3600.0) for number in range(4)]
    receipts = await producer.enqueue_many([*soon, *late])
    assert all(receipt.delayed_id for receipt in receipts)
    await cluster.kill(*cluster.stores)
    await cluster.start_these(*cluster.stores, *cluster.consumers)
    assert await producer.cancel_delayed(receipts[-1].delayed_id)
    while len(set(handled_texts(cluster))) < len(soon):
        await cluster.pause()
    assert set(handled_texts(cluster)) == {item.buffer.decode() for item in soon}
    status, listed, _ = await cluster.run("delayed", "list")
    assert status == 0
    assert Counter(receipt.delayed_id in listed for receipt in receipts) == {True: 3, False: 41}
    status, _, _ = await cluster.run("delayed", "cancel", receipts[0].delayed_id)
    assert status == 1
    await cluster.run("delayed", "cancel", *(receipt.delayed_id for receipt in receipts[40:43]))
    assert (await cluster.run("delayed", "list"))[1] == ""
    assert await cluster.stop() == []


@pytest_twisted.ensureDeferred
async def test_a_message_that_ends_its_consumer_is_a_dead_letter_in_the_end(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(consumers=1, retries=0, handlers={1: "tests.integration.handlers:harmful"})
    await cluster.start_these(*cluster.stores)
    producer = await cluster.producer()
    texts = ["one", "crash", "two", "three"]
    assert (await producer.enqueue_many([NewItem(1, 1, text.encode()) for text in texts])).all_stored
    [consumer] = cluster.consumers
    deaths = 0
    while set(handled_texts(cluster)) != {"one", "two", "three"} or not consumer.running:
        if not consumer.running:
            deaths += 1
            assert deaths <= 8
            consumer.spawn()
        await cluster.pause()
    while not (letters := (await cluster.run("dlq", "list"))[1]):
        await cluster.pause()
    assert "takes the process down" in " ".join(letters.split()) or "its consumer ended" in letters
    assert letters.count("attempts exhausted") == 1
