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
from phxqueue.admin.backup.checking import Checked, check_group, completeness
from phxqueue.admin.backup.files import Manifest, read_manifest
from phxqueue.admin.clients import open_pool
from phxqueue.admin.context import ClusterContext, cluster_command
from phxqueue.admin.errors import AdminError
from phxqueue.admin.node_status import ask_all
from phxqueue.admin.progress import Progress
from phxqueue.admin.table import age, size, table
from phxqueue.config import ConfigError, Store, StoreNode, Topic, load_lock_node, load_store_node

RATE = 32 << 20
"""Bytes per second, unless said otherwise: clients should not notice."""


@click.group()
def backup() -> None:
    """Copy a running store to another disk, and verify such copies.

    `phxqueue restore` makes nodes of them.
    """


def _store(topic: Topic, store_id: int | None) -> Store:
    if store_id is not None:
        return topic.store(store_id)
    if len(topic.stores) == 1:
        return topic.stores[0]
    numbers = ", ".join(str(store.store_id) for store in topic.stores)
    raise AdminError(f"topic {topic.topic_name} has several stores ({numbers}): say which with --store")


@backup.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--store", "store_id", type=int, metavar="N", help="The store, when the topic has several.")
@click.option("--node", "node_id", type=int, metavar="N", help="Copy what this node has, whoever is master.")
@click.option("--rate", default=RATE, show_default=True, metavar="BYTES", help="Bytes per second at most; 0: no limit.")
@cluster_command
def create(settings: ClusterContext, directory: Path, store_id: int | None, node_id: int | None, rate: int) -> None:
    """Copy a store that is running into DIRECTORY, and verify the copy.

    Everything that was acknowledged before the command began is in it. Run again, it goes on with a copy that was
    interrupted. Lock groups are not copied: their locks end with their leases anyway.
    """
    from phxqueue.admin.backup.store_copy import StoreCopy

    cluster = settings.load()
    topic = settings.topic_of(cluster)
    tls = settings.tls_of(cluster)
    store = _store(topic, store_id)
    began = time.monotonic()

    async def main(reactor: Any) -> Manifest:
        pool = open_pool(reactor, cluster, topic, tls)
        try:
            with Progress(reactor, lambda: f"{copy.groups_done} groups, {size(copy.bytes)}") as progress:
                copy = StoreCopy(directory, topic, store, pool, reactor, node_id=node_id, rate=rate, say=progress.say)
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
        checked.append(check_group(directory, group))
        problems += checked[-1].problems
    if problems:
        raise AdminError(f"{directory} is not to be relied upon:\n" + "\n".join(f"  {problem}" for problem in problems))
    queues, items = sum(one.queues for one in checked), sum(one.items for one in checked)
    click.echo(f"verified: {len(checked)} groups, {queues} queues, {items} items; every hash and checksum is right")


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
    "--whole-store", is_flag=True, help="All nodes of the store are made from this backup, and it begins anew."
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

    for path in node_files:
        _refuse_lock_node(path)
    manifest = read_manifest(directory)
    nodes = [load_store_node(path) for path in node_files]
    for node in nodes:
        check_fit(manifest, node)
        check_target(node.data_dir)
    number = 0 if join else _token(token)
    store = nodes[0].store

    async def main(reactor: Any) -> list[Restored]:
        if whole_store:
            await _refuse_running(reactor, settings, nodes[0])
        with Progress(reactor, lambda: "") as progress:
            return [await restore_node(directory, manifest, node, number, reactor, say=progress.say) for node in nodes]

    for node, restored in zip(nodes, edge.run(main), strict=True):
        items = sum(group.items for group in restored.groups)
        click.echo(f"{node.data_dir}: node {node.node.node_id} of store {store.store_id}, {items} items")
    if join:
        node_id = nodes[0].node.node_id
        click.echo(f"Start it, then let it vote: phxqueue members replace {node_id}")
        return
    left = {node.node_id for node in store.nodes} - {node.node.node_id for node in nodes}
    click.echo(f"The store is as it was at {_when(manifest.began_at)}; what came later is lost.")
    if left and token is None:
        click.echo(
            f"Before any node is started, make nodes {', '.join(map(str, sorted(left)))} from the same backup with "
            f"--token {number:016x}"
        )


def _refuse_lock_node(path: Path) -> None:
    """Say what to do instead. Raises AdminError; whatever else is wrong with the file is told as for a store."""
    try:
        node = load_lock_node(path)
    except ConfigError:
        return
    lock_id, node_id = node.lock.lock_id, node.node.node_id
    raise AdminError(
        f"{path} is node {node_id} of lock group {lock_id}: backups are of stores only. A lock node that has lost its "
        f"disk comes back empty, and `phxqueue members replace --lock {lock_id} {node_id}` has it copy what the others "
        "have"
    )


def _token(text: str | None) -> int:
    if text is None:
        return secrets.randbits(64) | 1
    try:
        number = int(text, 16)
    except ValueError:
        number = 0
    if not 0 < number < 1 << 64:
        raise AdminError(f"--token {text}: it is not the hexadecimal number that the restore of the first node printed")
    return number


async def _refuse_running(reactor: Any, settings: ClusterContext, node: StoreNode) -> None:
    """A store that lives must not get a second life beside it."""
    pool = open_pool(reactor, node.cluster, node.topic, settings.tls_of(node.cluster))
    try:
        reports = await ask_all(pool, replace(node.topic, stores=(node.store,)))
    finally:
        await pool.close()
    up = [report.node.address for report in reports if report.up]
    if up:
        raise AdminError(
            f"{', '.join(up)} of store {node.store.store_id} still runs: stop all nodes of the store first; two lives "
            "of one store must not meet"
        )
