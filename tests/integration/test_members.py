"""Members come, go and come back on empty disks while the store serves; whoever forgot its promises has no vote."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted

from phxqueue.admin.certificates import leaves, make_missing
from phxqueue.admin.member_changes import MemberChanges
from phxqueue.admin.processes.child import Child
from phxqueue.admin.processes.files import HOST
from phxqueue.admin.processes.ports import PortReservation
from phxqueue.config import load_cluster
from phxqueue.proto.members_pb2 import ReplicaMember
from phxqueue.proto.status_pb2 import GroupStatus
from tests.integration.cluster import PATIENT, TestedCluster
from tests.integration.conftest import MakeCluster
from tests.integration.ledger import LedgerClient, everything_handled

HANDLERS = {1: "tests.integration.handlers:record"}


@pytest.fixture
def more_ports() -> Iterator[PortReservation]:
    reservation = PortReservation(2)
    yield reservation
    reservation.close()


def empty_disk(cluster: TestedCluster, number: int) -> Path:
    directory = cluster.directory / "data" / f"store.{number}"
    shutil.rmtree(directory)
    return directory


def fourth_node(cluster: TestedCluster, ports: PortReservation) -> Child:
    """Put a fourth node into the configuration, with a certificate; returns its process, not started."""
    path = cluster.directory / "etc" / "storeconfig.conf"
    (store,) = json.loads(path.read_text())["stores"]
    client, paxos = ports.ports
    store["addrs"].append({"ip": HOST, "port": client, "paxos_port": paxos})
    cluster.change(path.name, stores=[store])
    node_file = cluster.directory / "etc" / "store.3.conf"
    node_file.write_text(json.dumps({"ip": HOST, "port": client, "data_dir": "data/store.3"}))
    loaded = load_cluster(cluster.config)
    assert loaded.certificates is not None
    make_missing(loaded.certificates, leaves(loaded))
    return cluster.child("store.3", "store", node_file)


async def members(cluster: TestedCluster) -> list[ReplicaMember]:
    """The members as the master has them; waits for an election to end."""
    changes = MemberChanges(cluster.reactor, cluster.pool, cluster.topic.stores[0], 0.0, print)
    while True:
        picture = await changes.look()
        group = picture.view(0)
        if group is not None and group.is_master:
            return list(group.members)
        await cluster.pause()


async def kinds_are(cluster: TestedCluster, *wanted: int) -> None:
    """Wait until the members are of these kinds: of what is in force a new master may hear a little later."""
    while [member.kind for member in await members(cluster)] != list(wanted):
        await cluster.pause()


async def recorded(cluster: TestedCluster) -> None:
    """Wait until the directories of all members are on record."""
    while not all(member.incarnation for member in await members(cluster)):
        await cluster.pause()


async def noticed(cluster: TestedCluster, words: str) -> None:
    """Wait until a node says something of the kind."""
    while not any(words in notice for one in await cluster.reports() if one.answer for notice in one.answer.notices):
        await cluster.pause()


async def all_handled(cluster: TestedCluster, client: LedgerClient) -> None:
    """Stop the client; what was confirmed to it arrives, and nothing else, in order."""
    books = await client.stop()
    await everything_handled(cluster, books)


async def changed(cluster: TestedCluster, *arguments: str) -> str:
    """Have it changed: again, as the refusal says, while members are not heard, as of a machine that stands still."""
    said = ""
    while True:
        status, output, errors = await cluster.run("members", *arguments)
        said += output
        if status == 0:
            return said
        assert " would be there, a majority is " in errors, said + errors


@pytest_twisted.ensureDeferred
async def test_a_node_whose_disk_was_emptied_is_replaced_while_the_store_serves(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(consumers=1, handlers=HANDLERS)
    await cluster.start()
    client = LedgerClient(cluster.reactor, await cluster.producer())
    client.start()
    await client.confirmed(50)
    await recorded(cluster)
    victim = (await cluster.followers())[0]
    number = cluster.stores.index(victim)
    before = (await members(cluster))[number]
    await cluster.kill(victim)
    empty_disk(cluster, number)
    await cluster.start_these(victim)
    await noticed(cluster, f"`phxqueue members replace {number}`")
    output = await changed(cluster, "replace", str(number))
    assert f"node {number} votes with its new data directory" in output
    assert "its former disk is not needed any more" in output
    # A new master, if there is one, may not have heard yet what it runs on.
    while not (after := (await members(cluster))[number]).running or after.incarnation == before.incarnation:
        await cluster.pause()
    assert after.incarnation == after.running != before.incarnation
    # It has a vote again: the store does without one of the others.
    other = next(child for child in await cluster.followers() if child is not victim)
    await cluster.kill(other)
    await client.confirmed(50)
    await all_handled(cluster, client)


async def states_of_all(cluster: TestedCluster) -> list[GroupStatus]:
    """What every node says of the Paxos group, once all answer."""
    while True:
        groups = [group for report in await cluster.reports() if (group := report.group(0)) is not None]
        if len(groups) == len(cluster.stores):
            return groups
        await cluster.pause()


@pytest_twisted.ensureDeferred
async def test_two_emptied_disks_of_three_do_not_outvote_the_one_that_remembers(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    await cluster.start()
    producer = await cluster.producer()
    await producer.enqueue(1, 1, b"remembered", uin=1)
    await cluster.applied_everywhere()
    assert await cluster.stop(*cluster.stores) == []
    for number in (0, 1):
        empty_disk(cluster, number)
    await cluster.start_these(*cluster.stores)
    for number in (0, 1):
        await noticed(cluster, f"`phxqueue members replace {number}`")
    status, shown, errors = await cluster.run("status")
    assert "voted before: this node replicates without a vote" in shown, shown + errors
    assert status == 1, shown + errors  # no master: nobody invents an empty store
    groups = await states_of_all(cluster)
    assert [group.is_master for group in groups] == [False, False, False]
    # They may have learned what it knows to be chosen; nobody has chosen anything new. It is asked last.
    assert max(group.chosen for group in groups[:2]) <= (await states_of_all(cluster))[2].chosen


@pytest_twisted.ensureDeferred
async def test_a_fourth_node_comes_and_the_master_goes(make_cluster: MakeCluster, more_ports: PortReservation) -> None:
    cluster = make_cluster(consumers=1, handlers=HANDLERS)
    await cluster.start()
    client = LedgerClient(cluster.reactor, await cluster.producer())
    client.start()
    await client.confirmed(50)
    await recorded(cluster)
    newcomer = fourth_node(cluster, more_ports)
    cluster.stores.append(newcomer)
    await cluster.start_these(newcomer)
    assert "node 3 is a learner now" in await changed(cluster, "add", "3", "--kind", "learner")
    await kinds_are(cluster, 0, 0, 0, 2)
    assert "node 3 is a voter of store 1" in await changed(cluster, "promote", "3")
    await kinds_are(cluster, 0, 0, 0, 0)
    leaver = await cluster.master()  # of all nodes: it finishes the change and hands over
    number = cluster.stores.index(leaver)
    output = await changed(cluster, "remove", str(number))
    assert "its data directory may be deleted" in output
    await cluster.kill(leaver)
    while number in [member.node_id for member in await members(cluster)]:
        await cluster.pause()
    await client.confirmed(50)
    await all_handled(cluster, client)


@pytest_twisted.ensureDeferred
async def test_what_would_lose_the_majority_is_refused(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    await cluster.start()
    await recorded(cluster)
    gone, other = await cluster.followers()
    await cluster.kill(gone)
    status, output, errors = await cluster.run("members", "remove", str(cluster.stores.index(other)))
    assert status == 1, output + errors
    assert "1 of 2 voters would be there, a majority is 2" in errors
    assert len(await members(cluster)) == 3
    # The one that is gone can be taken out; two are left, and both are there.
    await changed(cluster, "remove", str(cluster.stores.index(gone)))
    await kinds_are(cluster, 0, 0)


@pytest_twisted.ensureDeferred
async def test_a_first_start_waits_for_every_voter_and_says_for_whom(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    first, second, third = cluster.stores
    await cluster.start_these(first, second)
    await noticed(cluster, "first start: waiting for node 2")
    await cluster.start_these(third)
    await cluster.master()


@pytest_twisted.ensureDeferred
async def test_a_witness_makes_up_a_majority_and_is_never_master(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(topic=PATIENT)
    path = cluster.directory / "etc" / "storeconfig.conf"
    (store,) = json.loads(path.read_text())["stores"]
    store["addrs"][1]["kind"] = "witness"
    cluster.change(path.name, stores=[store])
    await cluster.start()
    producer = await cluster.producer()
    await producer.enqueue(1, 1, b"before", uin=1)
    first = await cluster.master()
    assert first is not cluster.stores[1]
    await cluster.kill(first)
    await producer.enqueue(1, 1, b"after", uin=1)
    assert await cluster.master() not in (first, cluster.stores[1])
    await kinds_are(cluster, 0, 1, 0)
