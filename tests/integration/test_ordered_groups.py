"""Strict order with real processes: handlers that fail or kill their process, handovers, a failover."""

from __future__ import annotations

from collections import defaultdict

import pytest_twisted

from phxqueue.producer import NewItem
from tests.integration.cluster import TestedCluster
from tests.integration.conftest import MakeCluster
from tests.integration.ledger import HandledLog, LedgerClient, everything_handled
from tests.integration.owned import OWNED, QUICK_TAKEOVER

UINS = set(range(1, 9))


async def handled_here(cluster: TestedCluster, pid: int, uins: set[int], after: int) -> set[int]:
    """Wait until a process has handled each of these uins (any: until it has handled something); which it has."""
    log = HandledLog(cluster.ledger)
    while True:
        found = {line.uin for line in log.look().lines[after:] if line.pid == pid}
        if found and uins <= found:
            return found
        await cluster.pause()


@pytest_twisted.ensureDeferred
async def test_each_uin_is_finished_in_order_through_retries_handovers_and_failover(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(
        queues=4, locks=1, schedulers=1, consumers=2, handlers={1: "tests.integration.handlers:stubborn"},
        group={"ordered": True, "ordered_retry_ms": 20, "ordered_retry_max_ms": 40, **OWNED},
        topic=QUICK_TAKEOVER,
    )  # fmt: skip
    await cluster.start()
    [first, second] = cluster.consumers
    client = LedgerClient(cluster.reactor, await cluster.producer(), uins=UINS, depth=2, rest_s=0.05)
    client.start()
    await handled_here(cluster, first.pid, set(), 0)
    while {uin for uin, number in client.books.confirmed if number % 7 == 3} < UINS:  # these are tried again
        await cluster.pause()
    await client.confirmed(100)
    await cluster.kill(first)
    await cluster.kill(await cluster.master())
    so_far = len(HandledLog(cluster.ledger).look().lines)
    await handled_here(cluster, second.pid, UINS, so_far)  # it has taken everything over
    await cluster.start_these(first)
    await handled_here(cluster, first.pid, set(), 0)  # some was handed over to it, by an owner in good health
    await client.confirmed(50)
    books = await client.stop()
    found = await everything_handled(cluster, books)

    finished: dict[int, list[int]] = defaultdict(list)
    for uin, number in dict.fromkeys(found):
        finished[uin].append(number)
    for uin, numbers in finished.items():
        enqueued = [number for other, number in books.sent if other == uin and (uin, number) in set(found)]
        assert numbers == enqueued
        assert any(number % 7 == 3 for number in numbers), "some had to be tried again"


@pytest_twisted.ensureDeferred
async def test_what_kills_its_consumer_each_time_becomes_a_dead_letter(make_cluster: MakeCluster) -> None:
    """Nobody is left to count its attempts in place: the store counts the consumers that ended there."""
    cluster = make_cluster(
        nodes=1, consumers=1, retries=0, handlers={1: "tests.integration.handlers:harmful"}, group={"ordered": True}
    )
    await cluster.start()
    [consumer] = cluster.consumers
    producer = await cluster.producer()
    texts = ["first", "crash", "behind it", "last"]
    await producer.enqueue_many([NewItem(1, 1, text.encode(), uin=5) for text in texts])
    log = HandledLog(cluster.ledger)
    while "last" not in {line.text for line in log.look().lines}:
        if not consumer.running:  # as a supervisor would
            await cluster.start_these(consumer)
        await cluster.pause()
    handled_texts = list(dict.fromkeys(line.text for line in log.lines))
    assert handled_texts == ["first", "behind it", "last"]
    status, output, errors = await cluster.run("dlq", "list", "--pub", "1")
    assert status == 0, output + errors
    assert "its consumer ended 3 times without finishing it" in output, output
