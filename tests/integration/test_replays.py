"""Replays with real processes: under load, with the master killed in the midst."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest_twisted

from phxqueue.producer import NewItem
from tests.integration.cluster import PATIENT, TestedCluster
from tests.integration.conftest import MakeCluster
from tests.integration.ledger import HandledLog, LedgerClient, check

OF_GROUP_1 = ("--group", "1", "--pub", "1")


async def shown(cluster: TestedCluster, name: str) -> dict[str, Any]:
    status, output, errors = await cluster.run("replay", "show", name, "--json")
    assert status == 0, output + errors
    [document] = json.loads(output)
    return dict(document)


@pytest_twisted.ensureDeferred
async def test_a_replay_under_load_happens_once_although_its_master_dies(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(
        queues=2, consumers=1, groups=(1, 2), consumer_groups=(1,), handlers={1: HANDLER}, topic=PATIENT
    )
    await cluster.start_these(*cluster.stores, *cluster.consumers)
    producer = await cluster.producer(deadline_s=60.0)
    first = [NewItem(1, 1, b"%d" % (1_000_000 + number), 100 + number % 4) for number in range(200)]
    assert (await producer.enqueue_many(first)).all_stored
    log = HandledLog(cluster.ledger)
    while len(log.look().entries) < len(first):
        await cluster.pause()
    load = LedgerClient(cluster.reactor, producer, uins=range(1, 5), depth=1, rest_s=0.005)
    load.start()
    await load.confirmed(20)
    status, output, errors = await cluster.run("replay", *OF_GROUP_1, "--to-time", "earliest", "--id", "again")
    assert status == 0, errors
    await (await cluster.master()).kill()
    status, repeated, errors = await cluster.run("replay", *OF_GROUP_1, "--to-time", "earliest", "--id", "again")
    assert status == 0, errors
    assert [line.split()[:3] for line in repeated.splitlines()] == [line.split()[:3] for line in output.splitlines()]
    while (await shown(cluster, "again"))["left"]:
        await cluster.pause()
    await load.confirmed(20)
    books = await load.stop()
    wanted = {(100 + number % 4, 1_000_000 + number) for number in range(200)}
    while not log.look().distinct >= books.confirmed:
        await cluster.pause()
    times = Counter(log.entries)
    assert all(times[entry] >= 2 for entry in wanted), "acknowledged before, and read again"
    books.sent += wanted
    check(books, log.entries)
    queues = (await shown(cluster, "again"))["queues"]
    assert [queue["moved_to"] for queue in queues] == [0, 0]
    assert not any(queue["superseded"] for queue in queues)
    while not (document := json.loads((await cluster.run("status", "--json"))[1]))["sums_complete"]:
        await cluster.pause()
    sums = {one["consumer_group_id"]: one for one in document["sums"]}
    assert (sums[1]["replayed"], sums[2]["replayed"]) == (sum(queue["stood_at"] for queue in queues), 0)
    assert not books.unknown
    assert sums[1]["enqueued"] == sums[2]["enqueued"] == len(first) + len(books.confirmed)
    assert sums[2]["finished"] == 0, "the other group has not read a thing"


HANDLER = "tests.integration.handlers:record"
