"""The disk of one node of a running store fails, is slow or damaged: the others serve, nothing confirmed is lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import pytest_twisted

from phxqueue.admin.processes.child import Child
from tests.faults import disk
from tests.faults.disk import DiskFaults
from tests.integration.cluster import PATIENT, TestedCluster
from tests.integration.conftest import MakeCluster
from tests.integration.ledger import LedgerClient, everything_handled

HANDLERS = {1: "tests.integration.handlers:record"}
#: A flush that takes longer than the lease.
SLOW_S, LEASE_MS = 6.0, 5000


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes disks fail, compiled."""
    try:
        return disk.build(tmp_path_factory.mktemp("shim"))
    except disk.NoCompiler as reason:
        pytest.skip(str(reason))


def struck(cluster: TestedCluster, number: int, shim: Path, *, power_loss: bool = False) -> DiskFaults:
    """Put a node's files at the mercy of the test, from its next start on."""
    faults = DiskFaults.make(cluster.directory, cluster.directory / "data" / f"store.{number}")
    cluster.stores[number]._environment.update(faults.environment(shim, power_loss=power_loss))
    return faults


async def loaded(cluster: TestedCluster) -> LedgerClient:
    await cluster.master()
    client = LedgerClient(cluster.reactor, await cluster.producer())
    client.start()
    await client.confirmed(100)
    return client


@pytest_twisted.ensureDeferred
async def test_a_node_whose_disk_lied_about_flushes_does_not_vote_again(make_cluster: MakeCluster, shim: Path) -> None:
    cluster = make_cluster(queues=1, topic=PATIENT)
    every = [struck(cluster, number, shim, power_loss=True) for number in range(3)]
    await cluster.start()
    client = await loaded(cluster)
    master = await cluster.master()
    victim = next(child for child in cluster.stores if child is not master)
    faults = every[cluster.stores.index(victim)]
    await cluster.applied_everywhere_so_far()  # a majority can do without a victim that is late
    faults.drop("sync")
    await client.confirmed(200)
    await cluster.applied_everywhere_so_far()  # what it has applied of these it has confirmed
    await victim.kill()
    assert faults.lose_unsynced() > 0
    victim.spawn()
    await victim.ended()
    said = cluster.log_of(victim)
    assert victim.exit_status == 1, said
    assert "the disk has lost what this node had confirmed" in said, said
    assert f"`phxqueue members replace {cluster.stores.index(victim)}`" in said, said
    assert "Traceback" not in said, said
    await client.confirmed(100)  # the others go on
    assert (await client.stop()).errors == []
    assert await cluster.stop() == []


@pytest_twisted.ensureDeferred
async def test_a_failing_flush_ends_that_node_and_no_other(make_cluster: MakeCluster, shim: Path) -> None:
    cluster = make_cluster(queues=2, consumers=1, handlers=HANDLERS, topic=PATIENT)
    every = [struck(cluster, number, shim) for number in range(3)]
    await cluster.start()
    client = await loaded(cluster)
    victim = await cluster.master()
    faults = every[cluster.stores.index(victim)]
    faults.fail("sync", name="log.*", times=1)
    await victim.ended()
    said = cluster.log_of(victim)
    assert victim.exit_status == 1, said
    assert "nothing is acknowledged any more" in said, said
    assert "Traceback" not in said, said
    await client.confirmed(100)  # the others go on
    faults.clear()
    await cluster.start_these(victim)  # the disk works again
    await cluster.applied_everywhere_so_far()
    books = await client.stop()
    assert books.errors == []
    await everything_handled(cluster, books)
    assert await cluster.stop() == []


@pytest.mark.parametrize("whose", ["master", "follower"])
@pytest_twisted.ensureDeferred
async def test_a_slow_disk_moves_no_mastership(make_cluster: MakeCluster, shim: Path, whose: str) -> None:
    # A long lease: a busy machine must not do what the disk must not.
    cluster = make_cluster(queues=2, consumers=1, handlers=HANDLERS, store={"master_lease_ms": LEASE_MS}, topic=PATIENT)
    every = [struck(cluster, number, shim) for number in range(3)]
    await cluster.start()
    client = await loaded(cluster)
    master = await cluster.master()
    before = await cluster.ballot()
    victim = master if whose == "master" else (await cluster.followers())[0]
    slot = every[cluster.stores.index(victim)].delay("sync", SLOW_S, name="log.*")
    while every[cluster.stores.index(victim)].struck(slot) < 2:  # the second one comes after the first
        await cluster.pause()
    assert await cluster.master() is master
    assert await cluster.ballot() == before
    every[cluster.stores.index(victim)].clear()
    books = await client.stop()
    assert books.errors == []
    await everything_handled(cluster, books)


@pytest_twisted.ensureDeferred
async def test_a_damaged_log_is_refused_with_a_remedy_that_works(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(queues=2, consumers=1, handlers=HANDLERS, topic=PATIENT)
    await cluster.start()
    client = await loaded(cluster)
    victim = (await cluster.followers())[0]
    number = cluster.stores.index(victim)
    await cluster.kill(victim)
    data = cluster.directory / "data" / f"store.{number}"
    flip_in_the_middle(data / "db" / "log.0000000001")
    said = await says_no(cluster, victim, number)
    assert "is damaged at byte" in said
    assert "empty the whole data directory and start the node" in said
    (data / "db" / "state.db").rename(data / "state.db")
    shutil.rmtree(data / "db")
    said = await says_no(cluster, victim, number)
    assert "the database beside it is empty" in said or "is missing" in said, said
    shutil.rmtree(data)
    await client.confirmed(50)
    victim.spawn()
    await cluster.does("members", "replace", str(number))
    books = await client.stop()
    assert books.errors == []
    await everything_handled(cluster, books)
    await cluster.applied_everywhere()


def flip_in_the_middle(log: Path) -> None:
    content = bytearray(log.read_bytes())
    used = len(bytes(content).rstrip(b"\0"))
    content[used // 2] ^= 0x10
    log.write_bytes(content)


async def says_no(cluster: TestedCluster, child: Child, number: int) -> str:
    """Start a node that must refuse; returns what it said about it."""
    status, said = await cluster.refused("store", cluster.node_file("store", number))
    assert status == 1, said
    assert "Traceback" not in said, said
    return said


@pytest_twisted.ensureDeferred
async def test_a_damaged_page_is_mended_from_the_others(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(consumers=1, handlers=HANDLERS, topic=PATIENT)
    await cluster.start_these(*cluster.stores)
    producer = await cluster.producer()
    for number in range(40):
        await producer.enqueue(1, 1, b"%d" % number + b" " * 3000 + b"mark%d." % number, uin=1)
    await cluster.applied_everywhere()
    victim = (await cluster.followers())[0]
    node = cluster.stores.index(victim)
    assert await cluster.stop(victim) == []  # in order: everything is in the tables
    entries = cluster.directory / "data" / f"store.{node}" / "db" / "entries.db"
    content = bytearray(entries.read_bytes())
    # (One of them may lie across two pages.)
    content[next(at for number in range(20, 40) if (at := content.find(b"mark%d." % number)) >= 0)] ^= 1
    entries.write_bytes(content)
    await cluster.start_these(victim)
    await cluster.applied_everywhere()
    while "was repaired from a peer" not in cluster.log_of(victim):  # another may be elected before it is asked
        # A node that has just started is given what there is to lead as soon as it is fit for that.
        await cluster.until(lambda status, said, errors: status == 0, "masters", "move", str(node))
        said = await cluster.does("peek", "--queue", "1:0", "--from", "0", "--count", "100")
        assert all(f"mark{number}." in said for number in range(40)), said
