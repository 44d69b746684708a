"""A store loses its majority for good, and goes on with what one node has."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest_twisted

from tests.integration.cluster import PATIENT, TestedCluster
from tests.integration.conftest import MakeCluster
from tests.integration.ledger import LedgerClient, handled

HANDLERS = {1: "tests.integration.handlers:record"}


def data(cluster: TestedCluster, number: int) -> Path:
    return cluster.directory / "data" / f"store.{number}"


async def logged(cluster: TestedCluster, number: int, text: str) -> None:
    """Wait until a node has said it."""
    while text not in cluster.log_of(cluster.stores[number]):
        await cluster.pause()


@pytest_twisted.ensureDeferred
async def test_the_last_node_goes_on_alone_and_others_come_anew(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(queues=2, consumers=1, handlers=HANDLERS, topic=PATIENT)
    await cluster.start_these(*cluster.stores)
    client = LedgerClient(cluster.reactor, await cluster.producer())
    client.start()
    await client.confirmed(200)
    await client.stop()
    await cluster.applied_everywhere()
    confirmed = set(client.books.confirmed)
    force = ["members", "force-new", "--node", str(cluster.directory / "etc" / "store.0.conf")]
    said = await cluster.refuses(*force)
    assert "node 0 runs: stop it first" in said, said
    await cluster.kill(cluster.stores[0])
    said = await cluster.refuses(*force)
    assert "nodes 1, 2 of store 1 answer: they are a majority" in said, said

    await cluster.kill(*cluster.stores[1:])
    shutil.rmtree(data(cluster, 2))
    said = await cluster.refuses(*force, "--confirm", "store 2")
    assert "nothing was changed" in said, said
    said = await cluster.does(*force, "--confirm", "store 1")
    assert "node 0 alone from now on" in said

    await cluster.start_these(cluster.stores[0], *cluster.consumers)
    producer = await cluster.producer()
    await producer.enqueue(1, 1, b"alone", uin=9)
    while not confirmed <= set(handled(cluster.ledger)):
        await cluster.pause()
    cluster.stores[1].spawn()  # with what it had in the former life
    await logged(cluster, 1, "not a member of store 1")
    await cluster.kill(cluster.stores[1])
    shutil.rmtree(data(cluster, 1))
    cluster.stores[1].spawn()
    await cluster.does("members", "add", "1")
    await cluster.kill(cluster.stores[0])
    await cluster.start_these(cluster.stores[0])
    await cluster.master()
    await producer.enqueue(1, 1, b"two", uin=9)
