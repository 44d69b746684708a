"""``phxqueue backup create|verify|show`` and ``phxqueue restore``."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click

from phxqueue.admin import edge
from phxqueue.admin.backup.checking import Checked, check_group, completeness, content
from phxqueue.admin.backup.files import Manifest, read_manifest
from phxqueue.admin.backup.roles import Node, as_store, load_node, new_token, replica_set_of
from phxqueue.admin.clients import open_pool
from phxqueue.admin.context import ClusterContext, cluster_command
from phxqueue.admin.errors import AdminError
from phxqueue.admin.node_status import ask_whether_up
from phxqueue.admin.progress import Progress
from phxqueue.admin.table import age, size, table
from phxqueue.config import LockGroup, Store, StoreNode, Topic
from phxqueue.lock.client.connecting import lock_pool

RATE = 32 << 20
"""Bytes per second, unless said otherwise: clients should not notice."""


@click.group()
def backup() -> None:
    """Copy a running store or lock group to another disk, and verify such copies.

    `phxqueue restore` makes nodes of them.
    """


def _chosen(topic: Topic, store_id: int | None, lock_id: int | None) -> Store | LockGroup:
    if store_id is not None and lock_id is not None:
        raise AdminError("a backup is of one store or one lock group: give --store or --lock")
    if lock_id is not None:
        for lock in topic.locks:
            if lock.lock_id == lock_id:
                return lock
        known = ", ".join(str(lock.lock_id) for lock in topic.locks) or "none"
        raise AdminError(f"topic {topic.topic_name} has no lock group {lock_id}; it has {known}")
    if store_id is not None:
        return topic.store(store_id)
    if len(topic.stores) == 1:
        return topic.stores[0]
    numbers = ", ".join(str(store.store_id) for store in topic.stores)
    raise AdminError(f"topic {topic.topic_name} has several stores ({numbers}): say which with --store")


@backup.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--store", "store_id", type=int, metavar="N", help="The store, when the topic has several.")
@click.option("--lock", "lock_id", type=int, metavar="N", help="A lock group instead.")
@click.option("--node", "node_id", type=int, metavar="N", help="Copy what this node has, whoever is master.")
@click.option("--rate", default=RATE, show_default=True, metavar="BYTES", help="Bytes per second at most; 0: no limit.")
@cluster_command
def create(
    settings: ClusterContext,
    directory: Path,
    store_id: int | None,
    lock_id: int | None,
    node_id: int | None,
    rate: int,
) -> None:
    """Copy a store or lock group that is running into DIRECTORY, and verify the copy.

    Everything that was acknowledged before the command began is in it. Run again, it goes on with a copy that was
    interrupted.
    """
    from phxqueue.admin.backup.store_copy import StoreCopy

    cluster = settings.load()
    topic = settings.topic_of(cluster)
    tls = settings.tls_of(cluster)
    of = _chosen(topic, store_id, lock_id)
    began = time.monotonic()

    async def main(reactor: Any) -> Manifest:
        pool = (open_pool if isinstance(of, Store) else lock_pool)(reactor, cluster, topic, tls)
        try:
            with Progress(reactor, lambda: f"{copy.groups_done} groups, {size(copy.bytes)}") as progress:
                copy = StoreCopy(directory, topic, of, pool, reactor, node_id=node_id, rate=rate, say=progress.say)
                return await copy.run()
        finally:
            await pool.close()

    manifest = edge.run(main)
    total = sum(group.bytes for group in manifest.groups)
    click.echo(f"{directory}: {size(total)} in {age(time.monotonic() - began)}")
    _verify(directory, manifest)
    if node_id is not None and any(group.confirmed is None for group in manifest.groups):
        click.echo(
            "Some groups had no master: nobody could say whether the copy has everything that was acknowledged.",
            err=True,
        )


@backup.command()
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
def verify(directory: Path) -> None:
    """Read a whole backup and compare every hash and checksum; exit status 1 when anything is wrong."""
    _verify(directory, read_manifest(directory))


def _verify(directory: Path, manifest: Manifest) -> None:
    problems = completeness(manifest)
    checked: list[Checked] = []
    for group in manifest.groups:
        checked.append(check_group(directory, group, manifest.role))
        problems += checked[-1].problems
    if problems:
        raise AdminError(f"{directory} is not to be relied upon:\n" + "\n".join(f"  {problem}" for problem in problems))
    found = content(manifest.role, checked)
    click.echo(f"verified: {len(checked)} groups, {found}; every hash and checksum is right")


@backup.command()
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def show(directory: Path, as_json: bool) -> None:
    """Say what a backup holds, without reading all of it."""
    manifest = read_manifest(directory)
    if as_json:
        click.echo(json.dumps({**asdict(manifest), "identity": f"{manifest.identity:016x}"}, indent=2))
        return
    click.echo(
        f"cluster {manifest.cluster}, {manifest.name}, {_when(manifest.began_at)} to {_when(manifest.ended_at)}, "
        f"backup {manifest.identity:016x}"
    )
    rows = [
        (
            f"group {group.group_id}",
            group.node_id,
            group.applied,
            group.entries,
            group.segments,
            size(group.bytes),
            "yes" if group.confirmed is not None else "nobody could say",
        )
        for group in manifest.groups
    ]
    header = ("", "from node", "instance", "entries", "segments", "size", "all acknowledged before")
    click.echo("\n".join(table(header, rows)))


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--node",
    "node_files",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    metavar="FILE",
    help="File of a node (etc/store.0.conf) whose data directory is made here; may be given several times.",
)
@click.option(
    "--whole-store",
    "--whole-group",
    "whole_store",
    is_flag=True,
    help="All nodes of the store (or lock group) are made from this backup, and it begins anew.",
)
@click.option(
    "--join", is_flag=True, help="One node is made to save it the transfer; the others live and admit it afterwards."
)
@click.option(
    "--token", metavar="HEX", help="What the restore of the first node printed, when the others are made elsewhere."
)
@cluster_command
def restore(
    settings: ClusterContext,
    directory: Path,
    node_files: tuple[Path, ...],
    whole_store: bool,
    join: bool,
    token: str | None,
) -> None:
    """Make the data directories of nodes from the backup in DIRECTORY.

    With --whole-store all nodes of the store must be stopped, and their data directories empty. What was enqueued or
    acknowledged after the backup is not in it: those items are lost, and what was consumed since then is delivered
    again. With --join nothing is lost: the node learns the rest from the others, and has no vote before
    `phxqueue members replace`.

    A lock group is restored the same way (--whole-group is another name of --whole-store). Its fencing tokens go on
    above all that were ever given, and for half a minute, or the longest lease in the backup, it grants no lock:
    somebody may still hold one that the backup does not know of.
    """
    if whole_store == join:
        raise AdminError(
            "say --whole-store, and make every node of the store from this backup, before any is started; or --join "
            "for one node of a store that lives"
        )
    if join and (len(node_files) > 1 or token is not None):
        raise AdminError("--join is for one node at a time, without --token")
    from phxqueue.admin.backup.restoring import Restored, check_fit, check_target
    from phxqueue.admin.backup.restoring import restore as restore_node

    manifest = read_manifest(directory)
    nodes = [load_node(path, manifest) for path in node_files]
    for node in nodes:
        check_fit(manifest, node)
        check_target(node.data_dir)
    number = 0 if join else _token(token, manifest.role)
    of = replica_set_of(nodes[0])

    async def main(reactor: Any) -> list[Restored]:
        if whole_store:
            await _refuse_running(reactor, settings, manifest, nodes[0])
        with Progress(reactor, lambda: "") as progress:
            return [await restore_node(directory, manifest, node, number, reactor, say=progress.say) for node in nodes]

    for node, restored in zip(nodes, edge.run(main), strict=True):
        found = f"{sum(group.items for group in restored.groups)} items"
        if manifest.role == "lock":
            found = content(manifest.role, restored.groups)
        click.echo(f"{node.data_dir}: node {node.node.node_id} of {manifest.name}, {found}")
    if join:
        node_id = nodes[0].node.node_id
        lock = f"--lock {manifest.set_id} " if manifest.role == "lock" else ""
        click.echo(f"Start it, then let it vote: phxqueue members replace {lock}{node_id}")
        return
    left = {node.node_id for node in of.nodes} - {node.node.node_id for node in nodes}
    click.echo(f"{manifest.name.capitalize()} is as it was at {_when(manifest.began_at)}; what came later is lost.")
    if left and token is None:
        click.echo(
            f"Before any node is started, make nodes {', '.join(map(str, sorted(left)))} from the same backup with "
            f"--token {number:016x}"
        )


def _token(text: str | None, role: str) -> int:
    if text is None:
        return new_token(role, time.time(), secrets.randbits(64))
    try:
        number = int(text, 16)
    except ValueError:
        number = 0
    if not 0 < number < 1 << 64:
        raise AdminError(f"--token {text}: it is not the hexadecimal number that the restore of the first node printed")
    return number


async def _refuse_running(reactor: Any, settings: ClusterContext, manifest: Manifest, node: Node) -> None:
    """A store or lock group that lives must not get a second life beside it."""
    make = open_pool if isinstance(node, StoreNode) else lock_pool
    pool = make(reactor, node.cluster, node.topic, settings.tls_of(node.cluster))
    of = as_store(node.store if isinstance(node, StoreNode) else node.lock)
    try:
        reports = await ask_whether_up(pool, replace(node.topic, stores=(of,)))
    finally:
        await pool.close()
    up = [report.node.address for report in reports if report.up]
    if up:
        raise AdminError(
            f"{', '.join(up)} of {manifest.name} still runs: stop all nodes of the {manifest.kind} first; two "
            "lives of one must not meet"
        )
