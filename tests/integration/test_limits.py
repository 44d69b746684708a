"""Limits, pauses and lag with real processes: set by a command, kept to within seconds, kept through a failover."""

from __future__ import annotations

import json
import time
from collections import deque
from typing import Any

import pytest_twisted

from phxqueue.producer import NewItem
from phxqueue.producer.routes import RouteTable
from tests.integration.cluster import PATIENT, TestedCluster
from tests.integration.conftest import MakeCluster
from tests.integration.ledger import HandledLog

#: Items that may gather while nobody takes them: a quarter of a second's worth, and one at each consumer.
BURST = 20
#: More than all that may be handled within the time of a test.
ENOUGH = 8000


async def lag_of(cluster: TestedCluster) -> dict[str, Any]:
    """What a master with a lease says of the group."""
    while (ran := await cluster.run("lag", "--json", "--interval", "0.2"))[0]:
        assert ": its queues are missing here" in ran[2], ran
    [group] = json.loads(ran[1])["groups"]
    assert isinstance(group, dict)
    return group


async def fastest(cluster: TestedCluster, since: int, wanted: float, most: float, items: int) -> None:
    """Wait until so many items, one after another, were handled at `wanted` per second; never faster than `most`.

    Args:
        since: lines of the ledger that do not count.
    """
    log = HandledLog(cluster.ledger)
    seen: deque[tuple[float, int]] = deque(maxlen=500)
    while True:
        before = time.monotonic()
        count = max(len(log.look().lines) - since, 0)
        after = time.monotonic()
        for then, had in seen:
            assert count - had <= most * (after - then) + BURST, (after - then, count - had)
        began = next((then for then, had in reversed(seen) if had <= count - items), None)
        if began is not None and items / (after - began) >= wanted:
            return
        seen.append((before, count))
        await cluster.pause()


@pytest_twisted.ensureDeferred
async def test_a_limit_goes_to_who_has_something_to_do(make_cluster: MakeCluster) -> None:
    per_second = 60
    cluster = make_cluster(
        nodes=1, queues=2, consumers=2, schedulers=1, handlers={1: "tests.integration.handlers:record"},
        consumer_node={"settings_interval_s": 0.1},
        topic={"scheduler_share_lease_ms": 600},
        further={"freq_infos": [{"pub_id": 1, "limit_per_min": per_second * 60}]},
    )  # fmt: skip
    await cluster.start()
    producer = await cluster.producer()
    routes = RouteTable(cluster.topic).pub(1)
    info = cluster.topic.attempt_queue_info(1, 0)
    busy = next(uin for uin in range(1, 100) if routes.target(info, uin, 1).queue_id == 0)
    other = next(uin for uin in range(1, 100) if routes.target(info, uin, 1).queue_id == 1)
    await producer.enqueue_many([NewItem(1, 1, b"busy %d" % number, uin=busy) for number in range(ENOUGH)])
    await fastest(cluster, 0, 0.8 * per_second, 1.05 * per_second, per_second)  # by its queues it would have half

    # Now somebody else wants its part, and has it at once.
    await producer.enqueue_many([NewItem(1, 1, b"other %d" % number, uin=other) for number in range(ENOUGH)])
    log = HandledLog(cluster.ledger)
    while sum(line.uin == other for line in log.look().lines) < per_second:
        await cluster.pause()
    [victim] = [child for child in cluster.consumers if child.pid == log.look().lines[0].pid]
    await cluster.kill(victim)
    await fastest(cluster, len(log.look().lines), 0.8 * per_second, 1.05 * per_second, per_second)


@pytest_twisted.ensureDeferred
async def test_a_pause_holds_through_a_failover_and_lag_tells_of_it(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(
        consumers=1, handlers={1: "tests.integration.handlers:record"}, consumer_node={"settings_interval_s": 0.1},
        topic=PATIENT,
    )  # fmt: skip
    await cluster.start()
    [consumer] = cluster.consumers
    log = HandledLog(cluster.ledger)
    status, output, errors = await cluster.run("pause", "--group", "1", "--pub", "1")
    assert (status, output) == (0, "group 1 pauses with pub 1 when its consumers hear of it, in seconds\n"), errors
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
    status, output, errors = await cluster.run("limits", "list", "--json")
    assert status == 0, errors
    document = json.loads(output)
    assert document["paused"] == [{"consumer_group_id": 1, "pub_id": 1}]
    assert [each["per_minute"] for each in document["limits"]] == [60_000]
    status, _, errors = await cluster.run("resume", "--group", "1", "--pub", "1")
    assert status == 0, errors
    while len(log.look().lines) < 50:
        await cluster.pause()
    while (await lag_of(cluster))["backlog"]:
        await cluster.pause()
    status, output, errors = await cluster.run("limits", "unset", "--pub", "1")
    assert status == 0, output + errors
    status, output, errors = await cluster.run("limits", "unset", "--pub", "1")
    assert (status, "no such limit was set" in errors) == (1, True), output + errors
