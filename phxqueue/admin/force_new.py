"""``phxqueue members force-new``: a store that has lost its majority for good goes on with what one node has."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from phxqueue.admin import edge
from phxqueue.admin.clients import open_pool
from phxqueue.admin.context import ClusterContext, cluster_command
from phxqueue.admin.errors import AdminError
from phxqueue.admin.journal_watch import JournalWatch
from phxqueue.admin.node_status import NodeReport, ask_whether_up
from phxqueue.admin.table import table
from phxqueue.config import StoreNode, load_store_node
from phxqueue.journal.directory import NODE_FILE
from phxqueue.journal.journal import Journal
from phxqueue.journal.records import PutBlob, PutChosen, PutEntry, StoredEntry, WantedIdentity, Write
from phxqueue.net.address import Address
from phxqueue.net.identity import Role
from phxqueue.paxos.config import GroupConfig, Member, MemberKind
from phxqueue.paxos.entry import EntryKind, entry_checksum, make_entry
from phxqueue.paxos.membership import Membership
from phxqueue.replica.admission import begin_by_force
from phxqueue.replica.census import KINDS
from phxqueue.replica.checkpoint_table import GROUP_KEY, MEMBERSHIP, CheckpointTable, durable
from phxqueue.replica.roster import MemberPlace
from phxqueue.store.queues import StoreQueues, new_history


@dataclass(frozen=True, slots=True)
class Held:
    """What the surviving directory has of one group.

    Attributes:
        chosen: known to be chosen up to here.
        accepted: the highest entry accepted above; -1: none. Those will be chosen.
        problem: why the group cannot go on from here; "": it can.
    """

    group_id: int
    chosen: int
    accepted: int
    problem: str
    writes: list[Write]


@click.command("force-new")
@click.option(
    "--node",
    "node_file",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="File of the node that survived (etc/store.0.conf), on its machine. It must not run.",
)
@click.option("--confirm", metavar="NAME", help="The store, as it would have to be typed: 'store 1'.")
@cluster_command
def force_new(settings: ClusterContext, node_file: Path, confirm: str | None) -> None:
    """Let ONE node go on alone when the majority of its store is lost for good.

    What was acknowledged by a majority that this node was not part of is LOST, and nobody can say what that is. Choose
    the survivor that has come furthest: this command shows how far its directory is before it asks. Prefer starting
    the other nodes, and, if they are gone, prefer this to a backup only when the backup is older.

    Stores only: a lock group that is lost comes back from a backup, by `phxqueue restore --whole-group`.
    """
    node = load_store_node(node_file)
    name = f"store {node.store.store_id}"
    if not (node.data_dir / NODE_FILE).exists():
        raise AdminError(f"{node.data_dir} holds no data: run this where the node that survived has its directory")

    async def main(reactor: Any) -> bool:
        refuse_while_alive(node, await _ask(reactor, settings, node))
        return await _force(reactor, node, name, confirm)

    if edge.run(main):
        others = [str(other.node_id) for other in node.store.nodes if other.node_id != node.node.node_id]
        click.echo(f"{name} is node {node.node.node_id} alone from now on. Start it. Then, for each of the others")
        click.echo(f"({', '.join(others)}): empty its data directory, start it, and `phxqueue members add` it.")


def refuse_while_alive(node: StoreNode, reports: list[NodeReport]) -> None:
    """Raises AdminError while a majority answers, or this very node."""
    up = [report.node.node_id for report in reports if report.up]
    voters = {voter.node_id for voter in node.store.voters}
    if node.node.node_id in up:
        raise AdminError(f"node {node.node.node_id} runs: stop it first")
    if 2 * len(voters.intersection(up)) > len(voters):
        raise AdminError(
            f"nodes {', '.join(map(str, up))} of store {node.store.store_id} answer: they are a majority, and nothing "
            f"is lost; start this node, or let it come back empty and `phxqueue members replace {node.node.node_id}`"
        )
    if up:
        raise AdminError(
            f"nodes {', '.join(map(str, up))} of store {node.store.store_id} run: stop them first, and take the one "
            "that has come furthest (`phxqueue members list`)"
        )


async def _ask(reactor: Any, settings: ClusterContext, node: StoreNode) -> list[NodeReport]:
    pool = open_pool(reactor, node.cluster, node.topic, settings.tls_of(node.cluster))
    try:
        return await ask_whether_up(pool, replace(node.topic, stores=(node.store,)))
    finally:
        await pool.close()


async def _force(reactor: Any, node: StoreNode, name: str, confirm: str | None) -> bool:
    watch = JournalWatch()
    journal = Journal.open(
        node.data_dir,
        WantedIdentity(
            node.cluster.name, node.store.store_id, node.node.node_id, node.store.paxos_groups, Role.STORE.value
        ),
        node.journal,
        reactor,
        watch.failed,
        verify=lambda kind, payload, checksum: entry_checksum(kind, payload) == checksum,
    )
    try:
        lineage = secrets.randbits(64) | 1
        groups = [held(journal, node, group_id, lineage) for group_id in range(node.store.paxos_groups)]
        rows = [(f"group {one.group_id}", one.chosen, max(one.accepted, one.chosen)) for one in groups]
        click.echo(f"{node.data_dir}: node {node.node.node_id} of {name}")
        click.echo("\n".join(table(("", "known to be chosen up to", "has entries up to"), rows)))
        problems = [one.problem for one in groups if one.problem]
        if problems:
            raise AdminError("this node cannot go on alone: " + "; ".join(problems))
        if confirm is None:
            click.echo(
                "What was acknowledged and is not in this directory will be lost for ever. The other nodes' data will "
                "never be taken in again."
            )
            confirm = click.prompt(f"Type {name!r} to go on", default="", show_default=False)
        if confirm != name:
            raise AdminError(f"not confirmed ({confirm!r} is not {name!r}): nothing was changed")
        writes = [*begin_by_force(lineage), *(write for one in groups for write in one.writes)]
        await watch.while_it_works(_write(journal, writes), node.data_dir)
    finally:
        await journal.close()
    return True


async def _write(journal: Journal, writes: list[Write]) -> None:
    await durable(journal, writes)


def held(journal: Journal, node: StoreNode, group_id: int, lineage: int) -> Held:
    """Look at one group, and prepare what makes this node its only member in another life of the store."""
    stored = journal.load_group(group_id)
    checkpoints = CheckpointTable(journal, group_id)
    machine = StoreQueues(node.limits.index_segment_rows)
    checkpoints.restore(machine)
    chosen = max(stored.chosen, machine.applied)
    tail = {instance: entry for instance, entry in stored.entries if instance > chosen}
    problem = ""
    if checkpoints.gap is not None:
        gap = checkpoints.gap
        problem = f"group {group_id} lacks entries {gap.first} to {gap.last}, which it was fetching from the others"
    key = GROUP_KEY.pack(group_id)
    state = next((value for at, value in journal.load_blobs(MEMBERSHIP, key) if at == key), None)
    config = _config(node, group_id, journal.identity.incarnation)
    writes = ending(config, state, chosen, tail, max(stored.promised, 1), lineage)
    return Held(group_id, chosen, max(tail, default=-1), problem, writes)


def _config(node: StoreNode, group_id: int, incarnation: int) -> GroupConfig:
    return GroupConfig(
        group_id=group_id,
        node_id=node.node.node_id,
        members=tuple(
            Member(
                one.node_id,
                KINDS[one.kind],
                info=MemberPlace(Address(one.ip, one.paxos_port), Address(one.ip, one.port)).encode(),
            )
            for one in node.store.nodes
        ),
        incarnation=incarnation,
        window=node.store.window,
        accept_ahead=4 * node.store.window,
    )


def ending(
    config: GroupConfig, state: bytes | None, chosen: int, tail: Mapping[int, StoredEntry], ballot: int, lineage: int
) -> list[Write]:
    """Return what ends the log of a former life by decree, where a majority would have to decide.

    What this node has accepted counts as chosen. Behind it come the command that begins another history of the queues,
    a change of the membership that leaves this node alone, and no-ops up to where that is in force. All of it is in the
    log, so that nodes which learn the log later learn that, too.
    """
    writes: list[Write] = []
    membership = Membership(config, state, chosen)
    at = chosen

    def append(kind: EntryKind, payload: bytes = b"") -> None:
        nonlocal at
        at += 1
        entry = make_entry(ballot, kind, payload)
        writes.append(PutEntry(config.group_id, at, ballot, entry.checksum, int(kind), payload))

    for instance in range(chosen + 1, max(tail, default=-1) + 1):
        found = tail.get(instance)
        if found is None:
            append(EntryKind.NOOP)
            continue
        at = instance
        if found.kind == EntryKind.MEMBERSHIP:
            membership.chosen(instance, found.payload)
        membership.advance(at)
    append(EntryKind.VALUE, new_history(lineage))
    while at + 1 < membership.last.effective:  # a change that is on its way is in force before ours
        append(EntryKind.NOOP)
        membership.advance(at)
    own = next(member for member in config.members if member.node_id == config.node_id)
    alone = replace(own, kind=MemberKind.VOTER, priority=0, incarnation=config.incarnation)
    change = membership.proposal((alone,))
    append(EntryKind.MEMBERSHIP, change)
    step = membership.chosen(at, change)
    assert step is not None
    while at + 1 < step.effective:
        append(EntryKind.NOOP)
    writes += [
        PutChosen(config.group_id, at),
        PutBlob(MEMBERSHIP, GROUP_KEY.pack(config.group_id), membership.state()),
    ]
    return writes
