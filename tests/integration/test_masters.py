"""Masters move between real processes: on SIGTERM, by command, by themselves; and no request under load is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest_twisted

from phxqueue.admin.processes.child import Child
from tests.integration.cluster import PATIENT, TestedCluster
from tests.integration.conftest import MakeCluster
from tests.integration.ledger import LedgerClient

GROUPS = 3
#: A lease that a busy machine does not outlast.
SPEC = {
    "queues": 6,
    "store": {"paxos_groups": GROUPS, "master_lease_ms": 1500},
    "store_node": {"replica": {"return_mastership_after_s": 0.5, "transfer_interval_s": 0.1}},
    "topic": PATIENT,
}


async def masters(cluster: TestedCluster) -> list[int | None]:
    """Which node says that it is master, by group."""
    found: list[int | None] = [None] * GROUPS
    for report in await cluster.reports():
        for group in report.answer.groups if report.answer is not None else ():
            if group.is_master:
                found[group.group_id] = report.node.node_id
    return found


async def masters_are(cluster: TestedCluster, wanted: list[int]) -> None:
    while await masters(cluster) != wanted:
        await cluster.pause()


async def all_fit(cluster: TestedCluster) -> None:
    """Wait until every node could take every group over."""
    while True:
        _, output, errors = await cluster.run("masters", "list", "--json")
        assert errors == ""
        told: list[dict[str, Any]] = json.loads(output)
        if all(group["could_lead"] == [0, 1, 2] for group in told):
            return


async def says(cluster: TestedCluster, status: int, words: str, *arguments: str) -> None:
    """Run ``phxqueue masters`` again until it says this: a node may be unfit, or a master away, for a moment."""
    said = ""
    while True:
        ended, output, errors = await cluster.run("masters", *arguments)
        said += output
        print(ended, output, errors)  # shown if the test fails
        if ended == status and words in said:
            return


async def restart(cluster: TestedCluster, client: LedgerClient, child: Child) -> None:
    """Stop a node in order and start it again, under load."""
    assert await cluster.stop(child) == []
    assert "handed over" in cluster.log_of(child), cluster.log_of(child)
    await client.confirmed(100)
    await cluster.start_these(child)
    await client.confirmed(100)


@pytest_twisted.ensureDeferred
async def test_a_rolling_restart_under_load_refuses_nothing(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(**SPEC)
    await cluster.start_these(*cluster.stores)
    client = LedgerClient(cluster.reactor, await cluster.producer())
    client.start()
    await client.confirmed(100)
    for child in cluster.stores:
        await masters_are(cluster, [0, 1, 2])  # at the start, and again each time, by themselves
        await restart(cluster, client, child)
    await masters_are(cluster, [0, 1, 2])
    books = await client.stop()
    assert books.errors == []
    assert (books.unknown, books.refused) == (set(), set())
    assert books.confirmed == set(books.sent)
    await cluster.applied_everywhere()


@pytest_twisted.ensureDeferred
async def test_the_commands(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(**SPEC)
    await cluster.start_these(*cluster.stores)
    await (await cluster.producer()).enqueue(1, 1, b"from here on there are masters")
    await masters_are(cluster, [0, 1, 2])
    await all_fit(cluster)
    await says(cluster, 0, "store 1 group 0: node 0 -> node 2 in", "move", "2", "--group", "0")
    await says(cluster, 0, "2 (held)", "list")
    await says(cluster, 0, "stays there until `phxqueue masters balance`", "list")
    await masters_are(cluster, [2, 1, 2])
    await says(cluster, 0, "every group is where it belongs\n", "balance", "--pause", "0")
    await masters_are(cluster, [0, 1, 2])
    await says(cluster, 0, "every group is where it belongs\n", "balance")
    assert await cluster.stop(cluster.stores[1]) == []
    await says(cluster, 1, "store 1 group 0 stays on node 0: ", "move", "1", "--group", "0")
    status, output, errors = await cluster.run("masters", "move", "7")
    assert (status, "its voters are 0, 1, 2" in errors) == (1, True), output + errors
