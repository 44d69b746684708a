"""Consumer daemons: handlers that fail, graceful and ungraceful ends."""

from __future__ import annotations

from collections import Counter

import pytest_twisted

from phxqueue.config import dead_letter_queue
from phxqueue.producer import NewItem
from tests.integration.cluster import PATIENT
from tests.integration.conftest import MakeCluster
from tests.integration.ledger import HandledLog, LedgerClient, everything_handled, handled_texts

#: Where the claim is that something is handled once. A change of masters may take back the acknowledgements of the last
#: moment, and a busy machine may cause one; a store of one node has none.
ALONE = 1


@pytest_twisted.ensureDeferred
async def test_a_handler_that_raises_costs_its_item_one_attempt(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(
        nodes=ALONE, consumers=1, retries=2, handlers={1: "tests.integration.handlers:moody"}, topic=PATIENT
    )
    await cluster.start()
    producer = await cluster.producer()
    texts = [f"fine {number}" for number in range(50)]
    texts[10], texts[20] = "raise once", "poison"
    receipts = await producer.enqueue_many([NewItem(1, 1, text.encode()) for text in texts])
    assert receipts.all_stored
    wanted = set(texts) - {"poison"}
    while set(handled_texts(cluster)) < wanted:
        await cluster.pause()
    assert Counter(handled_texts(cluster)) == Counter(wanted)

    dead = str(dead_letter_queue(1))
    consume = ("consume", "--group", "1", "--queue", dead, "--peek", "--format", "json")
    while not (output := (await cluster.run(*consume))[1]):
        await cluster.pause()
    assert '"buffer": "poison"' in output
    assert "does not like" in output
    log = cluster.log_of(cluster.consumers[0])
    assert log.count("RuntimeError: the handler does not like 'poison'") >= 3  # each attempt, with its traceback
    assert "Traceback" in log


@pytest_twisted.ensureDeferred
async def test_a_graceful_stop_acknowledges_what_is_finished(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(
        nodes=ALONE, queues=3, consumers=1, handlers={1: "tests.integration.handlers:record"}, topic=PATIENT
    )
    await cluster.start()
    [consumer] = cluster.consumers
    client = LedgerClient(cluster.reactor, await cluster.producer())
    client.start()
    for _ in range(3):
        await client.confirmed(300)
        assert await cluster.stop(consumer) == []
        assert "Server Shut Down" in cluster.log_of(consumer)
        await cluster.start_these(consumer)
    books = await client.stop()
    found = await everything_handled(cluster, books)
    twice = {entry: times for entry, times in Counter(found).items() if times > 1}
    assert twice == {}, f"a graceful stop redelivers nothing:\n{cluster.log_of(consumer)}"


@pytest_twisted.ensureDeferred
async def test_a_killed_consumer_goes_on_where_it_had_acknowledged(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(queues=3, consumers=1, handlers={1: "tests.integration.handlers:record"})
    await cluster.start()
    [consumer] = cluster.consumers
    client = LedgerClient(cluster.reactor, await cluster.producer())
    client.start()
    for _ in range(2):
        await client.confirmed(300)
        await cluster.kill(consumer)
        await cluster.start_these(consumer)
    books = await client.stop()
    await everything_handled(cluster, books)


@pytest_twisted.ensureDeferred
async def test_every_queue_has_one_owner(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(queues=8, consumers=3, handlers={1: "tests.integration.handlers:record"})
    await cluster.start()
    client = LedgerClient(cluster.reactor, await cluster.producer(), uins=range(1, 60), depth=1)
    client.start()
    await client.confirmed(2000)
    books = await client.stop()
    await everything_handled(cluster, books)
    uins_of: dict[int, set[int]] = {}
    for line in HandledLog(cluster.ledger).look().lines:
        uins_of.setdefault(line.pid, set()).add(line.uin)
    owned = list(uins_of.values())
    assert sum(len(uins) for uins in owned) == len(set().union(*owned)), "a uin was handled by two"
    assert len(owned) > 1, "one consumer owns everything"
