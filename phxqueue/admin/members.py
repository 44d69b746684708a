"""``phxqueue members``: who belongs to a store or lock group; to add, promote, replace and remove while it serves."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import click

from phxqueue.admin import edge
from phxqueue.admin.clients import open_pool
from phxqueue.admin.context import ClusterContext, cluster_command
from phxqueue.admin.errors import AdminError
from phxqueue.admin.force_new import force_new
from phxqueue.admin.masters import replica_set_of
from phxqueue.admin.mastership import ReplicaSet
from phxqueue.admin.member_changes import MemberChanges, Place
from phxqueue.admin.memberships import as_document, as_text
from phxqueue.net.address import Address
from phxqueue.paxos.config import MemberKind
from phxqueue.replica.census import KINDS

FunctionT = Callable[..., Any]


@click.group()
def members() -> None:
    """Show and change who the nodes of a store (or lock group) are, while it serves.

    A new node is a learner first: it copies what there is, and gets its vote when it has caught up. What would lose the
    majority is refused. Everything here may be broken off, and asked for again.
    """


def _options(function: FunctionT) -> FunctionT:
    for option in (
        click.option("--lock", type=int, metavar="ID", help="A lock group instead of a store."),
        click.option("--store", type=int, metavar="ID", help="The store, when there are several."),
    ):
        function = option(function)
    return cluster_command(function)


def _changing(function: FunctionT) -> FunctionT:
    timeout = click.option(
        "--timeout",
        type=click.FloatRange(min=0),
        default=600.0,
        show_default=True,
        help="Seconds to wait for what has to happen first, such as catching up.",
    )
    return _options(timeout(function))


def _placing(function: FunctionT) -> FunctionT:
    for option in (
        click.option("--paxos-address", metavar="HOST:PORT", help="Where it listens for the other nodes."),
        click.option("--address", metavar="HOST:PORT", help="Where it listens for clients [storeconfig.conf]."),
    ):
        function = option(function)
    return function


@members.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@_options
def list_members(settings: ClusterContext, as_json: bool, store: int | None, lock: int | None) -> None:
    """Show the members of every Paxos group, and what the nodes have to say about them."""

    async def work(changes: MemberChanges) -> None:
        picture = await changes.look()
        click.echo(json.dumps(as_document(picture), indent=2) if as_json else "\n".join(as_text(picture)))

    _run(settings, store, lock, 0.0, work)


@members.command()
@click.argument("node", type=click.IntRange(0, 65_535))
@click.option("--kind", type=click.Choice(list(KINDS)), default="voter", show_default=True, help="What it becomes.")
@click.option("--priority", type=int, default=0, show_default=True, help="The highest is preferred as master.")
@_placing
@_changing
def add(
    settings: ClusterContext,
    node: int,
    kind: str,
    priority: int,
    address: str | None,
    paxos_address: str | None,
    store: int | None,
    lock: int | None,
    timeout: float,
) -> None:
    """Make NODE a member: a learner, then, when it has caught up, what --kind says.

    Put it into storeconfig.conf (or lockconfig.conf) first, start it, then run this.
    """

    async def work(changes: MemberChanges) -> None:
        place = _place(changes.replica_set, node, address, paxos_address)
        if place is None:
            raise AdminError(
                f"node {node} is not in the configuration: put it there first, or say --address and --paxos-address"
            )
        await changes.add(node, place, priority)
        if KINDS[kind] is not MemberKind.LEARNER:
            await changes.promote(node, KINDS[kind])

    _run(settings, store, lock, timeout, work)


@members.command()
@click.argument("node", type=click.IntRange(0, 65_535))
@click.option("--kind", type=click.Choice(list(KINDS)), default="voter", show_default=True, help="What it becomes.")
@_changing
def promote(
    settings: ClusterContext, node: int, kind: str, store: int | None, lock: int | None, timeout: float
) -> None:
    """Give the member NODE a vote when it has caught up (or, by --kind, another part to play)."""

    async def work(changes: MemberChanges) -> None:
        await changes.promote(node, KINDS[kind])

    _run(settings, store, lock, timeout, work)


@members.command()
@click.argument("node", type=click.IntRange(0, 65_535))
@_placing
@_changing
def replace(
    settings: ClusterContext,
    node: int,
    address: str | None,
    paxos_address: str | None,
    store: int | None,
    lock: int | None,
    timeout: float,
) -> None:
    """Let NODE come back with another data directory, or at another address.

    Start it first. It copies what there is, and votes again when it has caught up.
    """

    async def work(changes: MemberChanges) -> None:
        await changes.replace(node, _place(changes.replica_set, node, address, paxos_address))

    _run(settings, store, lock, timeout, work)


@members.command()
@click.argument("node", type=click.IntRange(0, 65_535))
@_changing
def remove(settings: ClusterContext, node: int, store: int | None, lock: int | None, timeout: float) -> None:
    """Make NODE a member no more. Keep its disk until this command says that nothing rests on it."""

    async def work(changes: MemberChanges) -> None:
        await changes.remove(node)

    _run(settings, store, lock, timeout, work)


members.add_command(force_new)


def _run(
    settings: ClusterContext,
    store: int | None,
    lock: int | None,
    timeout: float,
    work: Callable[[MemberChanges], Awaitable[None]],
) -> None:
    cluster = settings.load()
    topic = settings.topic_of(cluster)
    replica_set = replica_set_of(topic, store, lock)
    tls = settings.tls_of(cluster)

    async def main(reactor: Any) -> None:
        pool = open_pool(reactor, cluster, topic, tls)
        try:
            await work(MemberChanges(reactor, pool, replica_set, timeout, click.echo))
        finally:
            await pool.close()

    edge.run(main)


def _place(replica_set: ReplicaSet, node: int, address: str | None, paxos_address: str | None) -> Place | None:
    """Where a node is: what was said, else what the configuration says; None: nobody knows."""
    known = next((one for one in replica_set.nodes if one.node_id == node), None)
    service = address or (None if known is None else known.address)
    paxos = paxos_address or (None if known is None else known.paxos_address)
    if paxos is None or service is None:
        if (address or paxos_address) is not None:
            raise AdminError(f"node {node} is not in the configuration: say both --address and --paxos-address")
        return None
    return Place(str(Address.parse(service)), str(Address.parse(paxos)))
