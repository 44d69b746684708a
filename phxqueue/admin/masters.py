"""``phxqueue masters``: who is master of which Paxos group; move one, or have all where they belong."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click
from twisted.internet.task import deferLater

from phxqueue.admin import edge
from phxqueue.admin.clients import open_pool
from phxqueue.admin.context import ClusterContext, cluster_command
from phxqueue.admin.errors import AdminError
from phxqueue.admin.mastership import (
    Mastership,
    ReplicaSet,
    SetReport,
    as_document,
    as_text,
    ask_set,
    ask_sets,
    masterships,
    set_id,
    set_name,
)
from phxqueue.config import Cluster, Topic
from phxqueue.net.address import Address
from phxqueue.net.pool import ConnectionPool
from phxqueue.net.status import RpcError
from phxqueue.proto import methods
from phxqueue.proto.members_pb2 import HoldMasterRequest, TransferMasterRequest

ANSWER_TIMEOUT_S = 2.0
#: A transfer that fails is over within a lease; what is on top is for the way there and back.
LEASES, SLACK_S = 3, 5.0
ResultT = TypeVar("ResultT")


@click.group()
def masters() -> None:
    """Show and move the masters of the Paxos groups.

    Each group prefers one of the nodes: of the preferred region, with the highest election priority, then node g mod
    n. A preferred node that is well gets its groups back by itself (return_mastership_after_s).
    """


@masters.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@cluster_command
def list_masters(settings: ClusterContext, as_json: bool) -> None:
    """Show every group's master, and who could take it over.

    Exit status 1 when a group has none.
    """

    cluster = settings.load()
    topic = settings.topic_of(cluster)

    async def look(reactor: Any, pool: ConnectionPool) -> list[SetReport]:
        return await ask_sets(pool, topic, ANSWER_TIMEOUT_S)

    reports = _with_pool(settings, cluster, topic, look)
    click.echo(json.dumps(as_document(reports), indent=2) if as_json else "\n".join(as_text(reports)))
    if any(one.node_id is None for report in reports if report.runs for one in masterships(report)):
        raise click.exceptions.Exit(1)


@masters.command()
@click.argument("node", type=int)
@click.option("--store", type=int, metavar="ID", help="The store, when there are several.")
@click.option("--lock", type=int, metavar="ID", help="A lock group instead of a store.")
@click.option("--group", "groups", type=int, multiple=True, help="Only this Paxos group; repeatable.")
@click.option("--hold/--no-hold", default=True, show_default=True, help="Keep it there, though others are preferred.")
@cluster_command
def move(
    settings: ClusterContext, node: int, store: int | None, lock: int | None, groups: tuple[int, ...], hold: bool
) -> None:
    """Hand groups over to NODE, without a gap in service. By default all groups of the store.

    They stay there until `phxqueue masters balance`, or until that node is restarted.
    """

    cluster = settings.load()
    topic = settings.topic_of(cluster)
    replica_set = replica_set_of(topic, store, lock)
    _check(replica_set, node, groups)

    async def work(reactor: Any, pool: ConnectionPool) -> bool:
        moved = True
        for one in masterships(await ask_set(pool, topic, replica_set, ANSWER_TIMEOUT_S)):
            if groups and one.group_id not in groups:
                continue
            done = one.node_id == node or await _transfer(pool, one, node)
            moved = moved and done
            if hold and done:
                await _hold(pool, replica_set, node, one.group_id, release=False)
        return moved

    if not _with_pool(settings, cluster, topic, work):
        raise click.exceptions.Exit(1)


@masters.command()
@click.option(
    "--pause", type=click.FloatRange(min=0), default=0.2, show_default=True, help="Seconds between two transfers."
)
@cluster_command
def balance(settings: ClusterContext, pause: float) -> None:
    """Hand every group to the node that is preferred for it, and keep none elsewhere any more."""

    cluster = settings.load()
    topic = settings.topic_of(cluster)

    async def work(reactor: Any, pool: ConnectionPool) -> bool:
        good, moved = True, False
        for report in await ask_sets(pool, topic, ANSWER_TIMEOUT_S):
            for one in masterships(report) if report.runs else ():
                if one.node_id is None:
                    click.echo(f"{one.name} has no master: `phxqueue status` says who is down")
                    good = False
                    continue
                if one.state is not None and one.state.held:
                    await _hold(pool, one.replica_set, one.node_id, one.group_id, release=True)
                if one.better is not None:
                    if moved and pause:
                        await deferLater(reactor, pause, lambda: None)
                    moved = await _transfer(pool, one, one.better)
                    good = good and moved
                elif one.node_id != one.preferred:
                    click.echo(f"{one.name} stays on node {one.node_id}: {one.unfit_because(one.preferred)}")
                    good = False
        if good:
            click.echo("every group is where it belongs")
        return good

    if not _with_pool(settings, cluster, topic, work):
        raise click.exceptions.Exit(1)


def _with_pool(
    settings: ClusterContext,
    cluster: Cluster,
    topic: Topic,
    work: Callable[[Any, ConnectionPool], Awaitable[ResultT]],
) -> ResultT:
    tls = settings.tls_of(cluster)

    async def main(reactor: Any) -> ResultT:
        pool = open_pool(reactor, cluster, topic, tls)
        try:
            return await work(reactor, pool)
        finally:
            await pool.close()

    return edge.run(main)


def replica_set_of(topic: Topic, store: int | None, lock: int | None) -> ReplicaSet:
    """The store or lock group that an operator named, or the only store there is. Raises AdminError."""
    if store is not None and lock is not None:
        raise AdminError("--store and --lock: say one of them")
    sets: tuple[ReplicaSet, ...] = topic.stores if lock is None else topic.locks
    wanted = store if lock is None else lock
    kind = "store" if lock is None else "lock group"
    if wanted is None:
        if len(sets) == 1:
            return sets[0]
        raise AdminError(f"topic {topic.topic_name} has several stores: say which with --store")
    for one in sets:
        if set_id(one) == wanted:
            return one
    known = ", ".join(str(set_id(one)) for one in sets) or "none"
    raise AdminError(f"topic {topic.topic_name} has no {kind} {wanted}; there are: {known}")


def _check(replica_set: ReplicaSet, node: int, groups: tuple[int, ...]) -> None:
    voters = sorted(one.node_id for one in replica_set.nodes if one.kind == "voter")
    if node not in voters:
        raise AdminError(
            f"node {node} cannot be master of {set_name(replica_set)}: its voters are {', '.join(map(str, voters))}"
        )
    for group in groups:
        if not 0 <= group < replica_set.paxos_groups:
            raise AdminError(f"{set_name(replica_set)} has groups 0 to {replica_set.paxos_groups - 1}, not {group}")


async def _transfer(pool: ConnectionPool, one: Mastership, to: int) -> bool:
    """Have one group handed over, and say how that went."""
    if one.node_id is None:
        click.echo(f"{one.name} has no master: `phxqueue status` says who is down")
        return False
    request = TransferMasterRequest(set_id=set_id(one.replica_set), group_id=one.group_id, to_node_id=to)
    timeout = LEASES * one.replica_set.master_lease_ms / 1000 + SLACK_S
    try:
        connection = await pool.connection(_address(one.replica_set, one.node_id))
        answer = await connection.call(methods.TRANSFER_MASTER, request, timeout)
    except RpcError as error:
        click.echo(f"{one.name} was not moved: {error.message or error}")
        return False
    if answer.refusal:
        click.echo(f"{one.name} stays on node {one.node_id}: {answer.refusal}")
        return False
    click.echo(f"{one.name}: node {one.node_id} -> node {to} in {answer.took_s * 1000:.0f} ms")
    return True


async def _hold(pool: ConnectionPool, replica_set: ReplicaSet, node_id: int, group_id: int, *, release: bool) -> None:
    connection = await pool.connection(_address(replica_set, node_id))
    request = HoldMasterRequest(set_id=set_id(replica_set), group_ids=[group_id], release=release)
    await connection.call(methods.HOLD_MASTER, request, ANSWER_TIMEOUT_S)


def _address(replica_set: ReplicaSet, node_id: int) -> Address:
    node = replica_set.node(node_id)
    return Address(node.ip, node.port)
