"""Limits, pauses and lag with real processes: set by a command, kept to within seconds, kept through a failover."""

from __future__ import annotations

import json
from typing import Any

import pytest_twisted

from phxqueue.producer import NewItem
from tests.integration.cluster import TestedCluster
from tests.integration.conftest import MakeCluster
from tests.integration.ledger import HandledLog


async def lag_of(cluster: TestedCluster) -> dict[str, Any]:
    status, output, errors = await cluster.run("lag", "--json", "--interval", "0.2")
    assert status == 0, errors
    [group] = json.loads(output)["groups"]
    assert isinstance(group, dict)
    return group


@pytest_twisted.ensureDeferred
async def test_a_pause_holds_through_a_failover_and_lag_tells_of_it(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(
        consumers=1, handlers={1: "tests.integration.handlers:record"}, consumer_node={"settings_interval_s": 0.1}
    )
    await cluster.start()
    [consumer] = cluster.consumers
    log = HandledLog(cluster.ledger)
    status, output, errors = await cluster.run("pause", "--group", "1", "--pub", "1")
    assert (status, output) == (0, "group 1 pauses with pub 1; handlers at work finish their items\n"), errors
    while "paused are (group, pub) [(1, 1)]" not in cluster.log_of(consumer):
        await cluster.pause()
    producer = await cluster.producer()
    await producer.enqueue_many([NewItem(1, 1, b"item %d" % number) for number in range(50)])
    await cluster.kill(await cluster.master())
    await cluster.master()
    group = await lag_of(cluster)
    assert (group["backlog"], group["rate_out"], group["drain_s"]) == (50, 0.0, None)
    assert group["oldest_s"] > 0
    assert log.look().lines == []

    status, output, errors = await cluster.run("limits", "set", "--pub", "1", "--per-minute", "60000")
    assert status == 0, errors
    status, output, _ = await cluster.run("limits", "list", "--json")
    document = json.loads(output)
    assert document["paused"] == [{"consumer_group_id": 1, "pub_id": 1}]
    assert [each["per_minute"] for each in document["limits"]] == [60_000]
    status, _, errors = await cluster.run("resume", "--group", "1", "--pub", "1")
    assert status == 0, errors
    while len(log.look().lines) < 50:
        await cluster.pause()
    while (await lag_of(cluster))["backlog"]:
        await cluster.pause()
    assert (await cluster.run("limits", "unset", "--pub", "1"))[0] == 0
    status, _, errors = await cluster.run("limits", "unset", "--pub", "1")
    assert status == 1
    assert "no such limit was set" in errors
