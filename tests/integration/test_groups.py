"""Consumer groups that come and go at run time, with real processes."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest_twisted

from phxqueue.producer import NewItem
from tests.integration.cluster import PATIENT, TestedCluster
from tests.integration.conftest import MakeCluster
from tests.integration.ledger import HandledLog

HANDLER = "tests.integration.handlers:record"


async def listed(cluster: TestedCluster) -> dict[int, dict[str, Any]]:
    output = await cluster.does("groups", "list", "--json")
    return {one["consumer_group_id"]: one for one in json.loads(output)}


@pytest_twisted.ensureDeferred
async def test_a_group_created_at_run_time_reads_what_is_retained_and_what_comes(make_cluster: MakeCluster) -> None:
    """With a strict pub: what the store counts for it is what its consumers finish."""
    cluster = make_cluster(
        queues=2, consumers=1, groups=(1,), handlers={1: HANDLER}, pub={"reconcile": "strict"},
        consumer_node={"settings_interval_s": 0.2}, topic=PATIENT,
    )  # fmt: skip
    [entry] = json.loads((cluster.directory / "etc" / "consumerconfig.conf").read_text())["consumers"]
    cluster.change("consumerconfig.conf", consumers=[{**entry, "run_time_group_ids": [5]}])
    await cluster.start_these(*cluster.stores, *cluster.consumers)
    producer = await cluster.producer()
    assert (await producer.enqueue_many([NewItem(1, 1, b"1%d" % number, number) for number in range(20)])).all_stored
    await cluster.does("groups", "create", "5", "--pub", "1", "--start", "earliest")
    await (await cluster.master()).kill()
    assert (await producer.enqueue_many([NewItem(1, 1, b"2%d" % number, number) for number in range(20)])).all_stored
    log = HandledLog(cluster.ledger)
    everything = {f"{half}{number}" for half in (1, 2) for number in range(20)}
    while {text for text, times in Counter(line.text for line in log.look().lines).items() if times > 1} != everything:
        await cluster.pause()
    assert len(log.distinct) == 40
    found = (await listed(cluster))[5]
    assert (found["run_time_pub_ids"], found["problems"], found["in_files"]) == ([1], [], False)
    await cluster.does("groups", "delete", "5", "--yes")
    assert 5 not in await listed(cluster)
