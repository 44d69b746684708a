"""Delayed messages, and messages that end their consumer, with real processes."""

from __future__ import annotations

from collections import Counter

import pytest_twisted

from phxqueue.producer import NewItem
from tests.integration.cluster import PATIENT
from tests.integration.conftest import MakeCluster
from tests.integration.ledger import handled_texts


@pytest_twisted.ensureDeferred
async def test_delayed_messages_survive_the_death_of_all_nodes_and_come_once(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(queues=2, consumers=1, handlers={1: "tests.integration.handlers:record"}, topic=PATIENT)
    await cluster.start_these(*cluster.stores)
    producer = await cluster.producer()
    soon = [NewItem(1, 1, b"soon %d" % number, number % 3, delay=1.0) for number in range(40)]
    late = [NewItem(1, 1, b"late %d" % number, delay=3600.0) for number in range(4)]
    receipts = await producer.enqueue_many([*soon, *late])
    assert receipts.all_stored
    assert all(receipt.delayed_id for receipt in receipts)
    await cluster.kill(*cluster.stores)
    await cluster.start_these(*cluster.stores, *cluster.consumers)
    assert await producer.cancel_delayed(receipts[-1].delayed_id)
    while len(set(handled_texts(cluster))) < len(soon):
        await cluster.pause()
    assert set(handled_texts(cluster)) == {item.buffer.decode() for item in soon}
    listed = (await cluster.does("delayed", "list")).split()
    assert Counter(str(receipt.delayed_id) in listed for receipt in receipts) == {True: 3, False: 41}, listed
    assert "it has been delivered" in await cluster.refuses("delayed", "cancel", str(receipts[0].delayed_id))
    await cluster.does("delayed", "cancel", *(str(receipt.delayed_id) for receipt in receipts[40:43]))
    assert await cluster.does("delayed", "list") == ""
    assert await cluster.stop() == []


@pytest_twisted.ensureDeferred
async def test_a_message_that_ends_its_consumer_is_a_dead_letter_in_the_end(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(consumers=1, retries=0, handlers={1: "tests.integration.handlers:harmful"}, topic=PATIENT)
    await cluster.start_these(*cluster.stores)
    producer = await cluster.producer()
    texts = ["one", "crash", "two", "three"]
    assert (await producer.enqueue_many([NewItem(1, 1, text.encode()) for text in texts])).all_stored
    [consumer] = cluster.consumers
    deaths, letters = 0, ""
    while set(handled_texts(cluster)) != {"one", "two", "three"} or not letters:
        if not consumer.running:
            deaths += 1
            assert deaths <= 8
            consumer.spawn()
        if set(handled_texts(cluster)) == {"one", "two", "three"}:
            letters = (await cluster.run("dlq", "list"))[1]
        await cluster.pause()
    assert "takes the process down" in " ".join(letters.split()) or "its consumer ended" in letters
    assert letters.count("attempts exhausted") == 1
