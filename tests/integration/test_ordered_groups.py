"""Strict order with real processes: handlers that fail, a consumer that is killed, a failover."""

from __future__ import annotations

from collections import defaultdict

import pytest_twisted

from tests.integration.conftest import MakeCluster
from tests.integration.ledger import LedgerClient, check, handled


@pytest_twisted.ensureDeferred
async def test_each_uin_is_finished_in_order_through_retries_kills_and_failover(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(
        queues=4, consumers=2, handlers={1: "tests.integration.handlers:stubborn"},
        group={"ordered": True, "ordered_retry_ms": 20, "ordered_retry_max_ms": 40},
    )  # fmt: skip
    await cluster.start()
    [first, _] = cluster.consumers
    client = LedgerClient(cluster.reactor, await cluster.producer(), uins=range(1, 9), depth=3)
    client.start()
    await client.confirmed(150)
    await cluster.kill(first)
    await cluster.kill(await cluster.master())
    await client.confirmed(100)
    await cluster.start_these(first)
    await client.confirmed(50)
    books = await client.stop()
    while books.confirmed - set(handled(cluster.ledger)):
        await cluster.pause()
    found = handled(cluster.ledger)
    check(books, found)

    finished: dict[int, list[int]] = defaultdict(list)
    for uin, number in dict.fromkeys(found):
        finished[uin].append(number)
    for uin, numbers in finished.items():
        enqueued = [number for other, number in books.sent if other == uin and (uin, number) in set(found)]
        assert numbers == enqueued
        assert any(number % 7 == 3 for number in numbers), "some had to be tried again"
