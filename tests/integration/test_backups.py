"""A running store is copied, and comes back from the copy on empty disks."""

from __future__ import annotations

import shutil

import pytest
import pytest_twisted

from phxqueue.admin.node_status import ask_all
from phxqueue.lock.client import LockClient, LockError
from tests.integration.cluster import PATIENT, TestedCluster
from tests.integration.conftest import MakeCluster
from tests.integration.ledger import LedgerClient, everything_handled, handled
from tests.integration.locks import lock_master

HANDLERS = {1: "tests.integration.handlers:record"}
EAGER = {"replica": {"checkpoint_interval_s": 0.2, "checkpoint_entries": 50}, "limits": {"index_segment_rows": 16}}


def node_files(cluster: TestedCluster) -> list[str]:
    """``--node FILE`` for every node of the store."""
    found: list[str] = []
    for number in range(len(cluster.stores)):
        found += ["--node", str(cluster.directory / "etc" / f"store.{number}.conf")]
    return found


def empty(cluster: TestedCluster, *numbers: int) -> None:
    """Take disks away."""
    for number in numbers:
        shutil.rmtree(cluster.directory / "data" / f"store.{number}")


async def equally_applied(cluster: TestedCluster) -> tuple[int, list[int]]:
    """Wait until all nodes answer and have applied the same, which consumers still change; returns how much, and the
    hashes of their states.
    """
    while True:
        reports = await ask_all(cluster.pool, cluster.topic, 5.0, state_hash=True)
        groups = [group for report in reports if (group := report.group(0)) is not None]
        if len(groups) == len(reports) and len({group.applied for group in groups}) == 1:
            return groups[0].applied, [group.state_hash for group in groups]
        await cluster.pause()


@pytest_twisted.ensureDeferred
async def test_a_store_that_lost_all_its_disks_comes_back_from_a_backup(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(
        queues=4, consumers=1, handlers=HANDLERS, store={"paxos_groups": 2}, store_node=EAGER, topic=PATIENT
    )
    await cluster.start_these(*cluster.stores)
    client = LedgerClient(cluster.reactor, await cluster.producer())
    client.start()
    await client.confirmed(500)
    before = set(client.books.confirmed)
    said = await cluster.does("backup", "create", "copy")  # under load
    assert int(said.split(" items;")[0].rsplit(" ", 1)[-1]) >= len(before)
    await client.confirmed(200)
    await client.stop()

    assert "is not empty" in await cluster.refuses("restore", "copy", "--whole-store", *node_files(cluster))
    await cluster.kill(cluster.stores[0])
    empty(cluster, 0)
    said = await cluster.refuses("restore", "copy", "--whole-store", *node_files(cluster)[:2])
    assert "still runs: stop all nodes of the store first" in said, said
    await cluster.kill(*cluster.stores[1:])
    empty(cluster, 1, 2)
    said = await cluster.does("restore", "copy", "--whole-store", *node_files(cluster))
    assert "what came later is lost" in said

    await cluster.start()
    await (await cluster.producer()).enqueue(1, 1, b"after", uin=9)
    while not before <= set(handled(cluster.ledger)):
        await cluster.pause()
    assert await cluster.stop() == []


@pytest_twisted.ensureDeferred
async def test_a_node_is_filled_from_a_backup_and_learns_the_rest(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(queues=2, consumers=1, handlers=HANDLERS, store_node=EAGER, topic=PATIENT)
    await cluster.start()
    client = LedgerClient(cluster.reactor, await cluster.producer())
    client.start()
    await client.confirmed(200)
    await cluster.does("backup", "create", "copy")
    victim = (await cluster.followers())[0]
    number = cluster.stores.index(victim)
    await cluster.kill(victim)
    empty(cluster, number)
    await client.confirmed(200)
    file = str(cluster.directory / "etc" / f"store.{number}.conf")
    said = await cluster.does("restore", "copy", "--join", "--node", file)
    assert f"phxqueue members replace {number}" in said
    victim.spawn()
    await cluster.does("members", "replace", str(number))
    books = await client.stop()
    await everything_handled(cluster, books)
    applied, hashes = await equally_applied(cluster)
    assert len(set(hashes)) == 1, f"after {applied}: {hashes}"
    assert await cluster.stop() == []


@pytest_twisted.ensureDeferred
async def test_a_lock_group_that_lost_all_its_disks_gives_no_token_again(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(nodes=0, locks=1)
    await cluster.start()
    await lock_master(cluster)
    file = str(cluster.directory / "etc" / "lock.0.conf")
    async with await LockClient.connect(cluster.cluster, cluster.topic.topic_id) as client:
        await client.set("s", b"kept")
        known = await client.acquire("known", lease=600)  # nothing else is granted for so long after the restore
        said = await cluster.does("backup", "create", "copy", "--lock", "1")
        assert "1 locks, 1 strings" in said
        tokens = [known.token]
        for _ in range(50):  # no backup knows of these
            async with client.lock("a", lease=60) as held:
                tokens.append(held.token)
        await cluster.kill(*cluster.locks)
        shutil.rmtree(cluster.directory / "data" / "lock.0")
        said = await cluster.does("restore", "copy", "--whole-group", "--node", file)
        assert "node 0 of lock group 1, 1 locks, 1 strings" in said
        await cluster.start()
        await lock_master(cluster)
        found = await client.get("s")
        assert found is not None
        assert found.value == b"kept"
        await known.renew()
        with pytest.raises(LockError):  # somebody may hold it that the backup does not know of
            await client.acquire("a", lease=5, wait=0.5)
        status, _, errors = await cluster.run("locks", "acquire", "a", "--wait", "0.5", "--", "true")
        assert status == 1
        assert "waiting for lock a; the lock service says: this lock group was restored" in errors
        taken = await client.acquire("a", lease=5, force=True)
        assert taken.token > max(tokens)
    assert await cluster.stop() == []
