"""Consumer groups that come and go at run time, with real processes."""

from __future__ import annotations

import json
from typing import Any

import pytest_twisted

from phxqueue.producer import NewItem
from tests.integration.cluster import TestedCluster
from tests.integration.conftest import MakeCluster
from tests.integration.ledger import HandledLog

HANDLER = "tests.integration.handlers:record"


async def listed(cluster: TestedCluster) -> dict[int, dict[str, Any]]:
    _, output, errors = await cluster.run("groups", "list", "--json")
    assert output, errors
    return {one["consumer_group_id"]: one for one in json.loads(output)}


@pytest_twisted.ensureDeferred
async def test_a_group_created_at_run_time_reads_what_is_retained_and_what_comes(make_cluster: MakeCluster) -> None:
    """With a strict pub: what the store counts for it is what its consumers finish."""
    cluster = make_cluster(
        queues=2, consumers=1, groups=(1,), handlers={1: HANDLER}, pub={"reconcile": "strict"},
        consumer_node={"settings_interval_s": 0.2},
    )  # fmt: skip
    [entry] = json.loads((cluster.directory / "etc" / "consumerconfig.conf").read_text())["consumers"]
    cluster.change("consumerconfig.conf", consumers=[{**entry, "run_time_group_ids": [5]}])
    await cluster.start_these(*cluster.stores, *cluster.consumers)
    producer = await cluster.producer(deadline_s=20.0)
    assert (await producer.enqueue_many([NewItem(1, 1, b"1%d" % number, number) for number in range(20)])).all_stored
    status, output, errors = await cluster.run("groups", "create", "5", "--pub", "1", "--start", "earliest")
    assert (status, "is created" in output) == (0, True), errors
    await (await cluster.master()).kill()
    assert (await producer.enqueue_many([NewItem(1, 1, b"2%d" % number, number) for number in range(20)])).all_stored
    log = HandledLog(cluster.ledger)
    while (
        len(log.look().lines) < 80
        or min(sum(line.text == text for line in log.lines) for text in {line.text for line in log.lines}) < 2
    ):
        await cluster.pause()
    assert len(log.distinct) == 40
    found = (await listed(cluster))[5]
    assert (found["run_time_pub_ids"], found["problems"], found["in_files"]) == ([1], [], False)
    assert (await cluster.run("groups", "delete", "5", "--yes"))[0] == 0
    assert 5 not in await listed(cluster)
