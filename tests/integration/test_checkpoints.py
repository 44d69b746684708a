"""The log is trimmed past a node that is away; it gets a checkpoint when it is back, and serves with everything."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest_twisted

from phxqueue.net.address import Address
from phxqueue.net.status import RpcError
from phxqueue.proto.item_pb2 import QItems
from phxqueue.proto.methods import GET
from phxqueue.proto.status_pb2 import GroupStatus
from phxqueue.proto.store_pb2 import GetRequest
from tests.integration.cluster import TestedCluster
from tests.integration.conftest import MakeCluster, later
from tests.integration.ledger import LedgerClient, everything_handled

HANDLERS = {1: "tests.integration.handlers:record"}
QUEUES = 2
EAGER: dict[str, Any] = {
    "replica": {"checkpoint_interval_s": 0.2, "checkpoint_entries": 50, "keep_entries": 0},
    "limits": {"retention_interval_s": 0.05, "index_segment_rows": 16},
}
KEPT_BYTES = 30_000


async def group_of(cluster: TestedCluster, number: int) -> GroupStatus:
    """Wait until a node answers; returns what it says of its group."""
    while True:
        for one in await cluster.reports():
            if one.node.node_id == number and (group := one.group(0)) is not None:
                return group
        await cluster.pause()


async def left_behind(cluster: TestedCluster, applied: int) -> None:
    """Wait until every log begins behind that instance."""
    while True:
        groups = [group for one in await cluster.reports() if (group := one.group(0)) is not None]
        if groups and min(group.first for group in groups) > applied:
            return
        await cluster.pause()


async def caught_up(cluster: TestedCluster, number: int) -> None:
    """Wait until a node has applied what the master has by now, and has the log that belongs to it."""
    wanted = (await group_of(cluster, cluster.stores.index(await cluster.master()))).applied
    while (group := await group_of(cluster, number)).applied < wanted or group.incomplete:
        await cluster.pause()


async def retained(cluster: TestedCluster, number: int, queue_id: int) -> tuple[int, int, int]:
    """Have a node lead, and read a queue there from its beginning; returns first cursor, items read and end cursor."""
    while True:  # another may be preferred, or elected, meanwhile; and what is read may be trimmed
        await cluster.until(lambda status, said, errors: status == 0, "masters", "move", str(number))
        with suppress(RpcError):
            return await read(cluster, number, queue_id)


async def read(cluster: TestedCluster, number: int, queue_id: int) -> tuple[int, int, int]:
    node = cluster.topic.stores[0].nodes[number]
    connection = await cluster.pool.connection(Address(node.ip, node.port))
    first, position, items = -1, None, 0
    while True:
        request = GetRequest(topic_id=1000, store_id=1, queue_id=queue_id, limit=1000, random=True)
        if position is not None:
            request.next_cursor = position
        answer = await connection.call(GET, request, 5.0)
        if first < 0:
            first = answer.batches[0].first_cursor if answer.batches else answer.next_cursor
        for batch in answer.batches:
            assert batch.first_cursor == first + items
            items += len(QItems.FromString(batch.items).items)
        position = answer.next_cursor
        if position >= answer.end_cursor:
            return first, items, answer.end_cursor


@pytest_twisted.ensureDeferred
async def test_a_node_behind_the_log_catches_up_through_kills_and_serves_as_master(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(
        queues=QUEUES,
        consumers=1,
        handlers=HANDLERS,
        pub={"retention_bytes": KEPT_BYTES},
        store_node={**EAGER, "replica": {**EAGER["replica"], "catch_up_rate": 500_000}},
    )
    await cluster.start()
    client = LedgerClient(cluster.reactor, await cluster.producer())
    client.start()
    await client.confirmed(100)
    away = (await cluster.followers())[0]
    number = cluster.stores.index(away)
    before = await group_of(cluster, number)
    await cluster.kill(away)
    await left_behind(cluster, before.applied + 10)
    await cluster.start_these(away)
    await later(0.2)
    await cluster.kill(away)  # again, while it fetches
    await cluster.start_these(away)
    await caught_up(cluster, number)
    assert "has the checkpoint of node" in cluster.log_of(away)
    while await cluster.master() is not away:
        other = await cluster.master()
        await cluster.kill(other)
        await client.confirmed(50)
        await cluster.start_these(other)
        await cluster.applied_everywhere_so_far()
    books = await client.stop()
    await everything_handled(cluster, books)
    for queue_id in range(QUEUES):
        first, items, end = await retained(cluster, number, queue_id)
        assert 0 < first < end
        assert items == end - first
    assert await cluster.stop() == []


@pytest_twisted.ensureDeferred
async def test_what_is_trimmed_gives_its_space_back(make_cluster: MakeCluster) -> None:
    journal = {
        "log_file_bytes": 1 << 20,
        "log_buffer_bytes": 1 << 18,
        "checkpoint_bytes": 1 << 20,
        "checkpoint_interval_s": 0.2,
        "cache_bytes": 4 << 20,
    }
    cluster = make_cluster(
        nodes=1, pub={"retention_bytes": 1 << 20}, store_node={**EAGER, "journal": journal}, retries=0
    )
    await cluster.start()
    producer = await cluster.producer()
    content = bytes(100_000)
    data = cluster.directory / "data" / "store.0"
    node = cluster.topic.stores[0].nodes[0]
    connection = await cluster.pool.connection(Address(node.ip, node.port))
    rounds, grown = 0, 0
    while rounds < 6 or grown > 5 << 20:  # until pages are used again: what is trimmed is freed a little later
        rounds, used = rounds + 1, size(data / "db", "entries.db")
        before = (await group_of(cluster, 0)).applied
        for sent in [producer.enqueue(1, 1, content) for _ in range(100)]:
            receipt = await sent
        acknowledge = GetRequest(
            topic_id=1000, store_id=1, queue_id=0, consumer_group_id=1, limit=0, prev_cursor=receipt.cursor
        )
        await connection.call(GET, acknowledge, 5.0)
        await left_behind(cluster, before)
        grown = size(data / "db", "entries.db") - used
    while size(data / "db", "log.*") > 8 << 20:  # 60 MB went through
        await cluster.pause()
    assert await cluster.stop() == []


def size(directory: Path, name: str = "*") -> int:
    """Bytes on disk; files come and go meanwhile."""
    total = 0
    for path in directory.rglob(name):
        with suppress(FileNotFoundError):
            total += path.stat().st_blocks * 512
    return total
