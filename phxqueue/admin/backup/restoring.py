"""Makes the data directory of a node from a backup, while the node is not running.

Everything is written into a directory `restoring` inside the node's data directory, by the journal itself, and moved
to its place when it is complete. A node does not start beside such a directory: half a store must not look like one.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from phxqueue.admin.backup.checking import Checked, check_group, completeness, content, entries_of, segments_of
from phxqueue.admin.backup.files import GroupRecord, Manifest, read_state, sync_directory
from phxqueue.admin.backup.roles import Node, beginning, check_token, identity_of, replica_set_of
from phxqueue.admin.errors import AdminError
from phxqueue.admin.journal_watch import JournalWatch
from phxqueue.journal.directory import LOCK_FILE, NODE_FILE, DirectoryLock
from phxqueue.journal.interfaces import IJournal
from phxqueue.journal.journal import Journal
from phxqueue.journal.opening import DATABASE_DIRECTORY, RESTORING_DIRECTORY
from phxqueue.journal.records import PutBlob, PutChosen, PutEntry, PutPromise, TrimEntries, WantedIdentity, Write
from phxqueue.paxos.entry import EntryKind, entry_checksum, make_entry
from phxqueue.replica.admission import begin_from_backup, join_from_backup
from phxqueue.replica.checkpoint_table import CHECKPOINTS, GROUP_KEY, MEMBERSHIP, SEGMENTS, durable
from phxqueue.replica.formation import Beginning

SUBMISSION_BYTES = 4 << 20
"""Written in one transaction."""

ROUNDS_AHEAD = 1 << 20
"""Elections that the former store may have held after the backup: the restored one begins with ballots above them, so
that no ballot means two things."""

RESTORED = "restored"
"""The table that says what a directory was made from: key `backup`, JSON."""

_HARMLESS = {LOCK_FILE, "lost+found", RESTORING_DIRECTORY}


@dataclass(frozen=True, slots=True)
class Restored:
    """What was made."""

    incarnation: int
    groups: list[Checked]


def check_target(data_dir: Path) -> None:
    """Refuse a directory with anything in it. Raises AdminError."""
    if not data_dir.exists():
        return
    found = {path.name for path in data_dir.iterdir()}
    if RESTORING_DIRECTORY in found and found - _HARMLESS:
        raise AdminError(
            f"{data_dir}: a restore was interrupted at its very end; remove what is in the directory and restore again"
        )
    if found - _HARMLESS:
        raise AdminError(
            f"{data_dir} is not empty ({', '.join(sorted(found - _HARMLESS)[:3])}, ...): a restore never overwrites "
            "anything; move away what is there"
        )


def check_fit(manifest: Manifest, node: Node) -> None:
    """Refuse a backup of something else than the node is configured for. Raises AdminError."""
    problems = completeness(manifest)
    if (manifest.role, manifest.set_id) != identity_of(node):
        problems.append(f"it is a backup of {manifest.name}, the node is of {replica_set_of(node).title}")
    paxos_groups = replica_set_of(node).paxos_groups
    if manifest.paxos_groups != paxos_groups:
        problems.append(
            f"it has {manifest.paxos_groups} Paxos groups, the configuration says {paxos_groups}: what is in them "
            "would belong to others; set paxos_groups to what it was"
        )
    if manifest.cluster != node.cluster.name:
        problems.append(
            f"it is of cluster {manifest.cluster!r}, the node of {node.cluster.name!r}: give the cluster the same name"
        )
    if problems:
        raise AdminError("this backup cannot be restored here: " + "; ".join(problems))


async def restore(
    root: Path,
    manifest: Manifest,
    node: Node,
    token: int,
    reactor: Any,
    *,
    say: Callable[[str], None],
    wall: Callable[[], float] = time.time,
) -> Restored:
    """Make the data directory of `node`. Raises AdminError, JournalError, OSError; nothing is usable then.

    Args:
        token: names this restore; 0: one node that joins the others, which live. The nodes of the set must be given
            the same, and no other restore ever: it becomes the history of the queues, by which readers notice that
            their cursors mean nothing any more, and the fence of a lock group (`roles.new_token`).
        wall: Unix seconds.
    """
    check_fit(manifest, node)
    check_target(node.data_dir)
    lock = DirectoryLock(node.data_dir)
    try:
        check_target(node.data_dir)
        workplace = node.data_dir / RESTORING_DIRECTORY
        shutil.rmtree(workplace, ignore_errors=True)
        workplace.mkdir(mode=0o700)
        sync_directory(node.data_dir)
        restored = await _fill(root, manifest, node, workplace, token, reactor, say, wall)
        for name in (DATABASE_DIRECTORY, NODE_FILE):
            (workplace / name).rename(node.data_dir / name)
        sync_directory(node.data_dir)
        shutil.rmtree(workplace)
        sync_directory(node.data_dir)
        return restored
    finally:
        lock.release()


async def _fill(
    root: Path,
    manifest: Manifest,
    node: Node,
    workplace: Path,
    token: int,
    reactor: Any,
    say: Callable[[str], None],
    wall: Callable[[], float],
) -> Restored:
    watch = JournalWatch()
    journal = Journal.open(
        workplace,
        WantedIdentity(manifest.cluster, manifest.set_id, node.node.node_id, manifest.paxos_groups, manifest.role),
        node.journal,
        reactor,
        watch.failed,
        verify=lambda kind, payload, checksum: entry_checksum(kind, payload) == checksum,
    )
    try:
        restored = await watch.while_it_works(_write(root, manifest, node, journal, token, say, wall), workplace)
    except BaseException:
        await journal.close().addErrback(lambda failure: None)
        raise
    await journal.close()
    return restored


async def _write(
    root: Path,
    manifest: Manifest,
    node: Node,
    journal: Journal,
    token: int,
    say: Callable[[str], None],
    wall: Callable[[], float],
) -> Restored:
    checked = []
    marks: dict[int, tuple[int, int]] = {}
    for group in manifest.groups:
        found = check_group(root, group, manifest.role)
        checked.append(found)
        if found.problems:
            raise AdminError("; ".join(found.problems) + ": use another backup")
        first: bytes | None = None
        if token:
            check_token(manifest.role, token, wall(), manifest.ended_at, found)
            first = beginning(manifest.role, token, found)
        marks[group.group_id] = await _fill_group(root, group, first, journal)
        say(f"group {group.group_id}: {group.entries} entries, {content(manifest.role, [found])}")
    origin = {"backup": f"{manifest.identity:016x}", "began_at": manifest.began_at, "token": f"{token:016x}"}
    begun = begin_from_backup(Beginning(token, marks)) if token else join_from_backup(manifest.lineage)
    await durable(journal, [PutBlob(RESTORED, b"backup", json.dumps(origin).encode()), *begun])
    return Restored(journal.identity.incarnation, checked)


async def _fill_group(root: Path, group: GroupRecord, first: bytes | None, journal: IJournal) -> tuple[int, int]:
    """Write one group; returns its promise and chosen mark. What makes it a group comes last.

    The command that begins another life, `first`, is an entry of the log, so that whoever learns the log learns that,
    too; None: there is none.
    """
    key = GROUP_KEY.pack(group.group_id)
    highest = 0
    waiting: Deferred[None] | None = None
    for writes in _submissions(_entries(root, group)):
        highest = max([highest, *(write.ballot for write in writes if isinstance(write, PutEntry))])
        waiting = await _next(waiting, journal, writes)
    for writes in _submissions(PutBlob(SEGMENTS, key + name, value) for name, value in segments_of(root, group)):
        waiting = await _next(waiting, journal, writes)
    promised, chosen = highest, group.applied
    last: list[Write] = [PutBlob(CHECKPOINTS, key, read_state(root, group))]
    if first is not None:
        promised = ((highest >> 16) + ROUNDS_AHEAD) << 16
        chosen += 1
        entry = make_entry(promised, EntryKind.VALUE, first)
        last.append(PutEntry(group.group_id, chosen, entry.ballot, entry.checksum, int(entry.kind), entry.payload))
    elif group.membership is not None:
        # In a set that lives its ballots are what they are, and this node has no vote before it is admitted.
        last.append(PutBlob(MEMBERSHIP, key, bytes.fromhex(group.membership)))
    last += [
        PutChosen(group.group_id, chosen),
        TrimEntries(group.group_id, group.needed),
        PutPromise(group.group_id, promised),
    ]
    waiting = await _next(waiting, journal, last)
    await waiting
    return promised, chosen


def _entries(root: Path, group: GroupRecord) -> Iterator[Write]:
    for entry in entries_of(root, group):
        yield PutEntry(group.group_id, entry.instance, entry.ballot, entry.checksum, entry.kind, entry.payload)


def _submissions(writes: Iterator[Write]) -> Iterator[list[Write]]:
    """Portions for one transaction each."""
    portion: list[Write] = []
    size = 0
    for write in writes:
        portion.append(write)
        size += len(write.payload) if isinstance(write, PutEntry) else len(getattr(write, "value", b""))
        if size >= SUBMISSION_BYTES or len(portion) >= 1000:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


async def _next(waiting: Deferred[None] | None, journal: IJournal, writes: list[Write]) -> Deferred[None]:
    """Submit while the last one is on its way to the disk, and no more than that."""
    submitted = durable(journal, writes)
    if waiting is not None:
        await waiting
    return submitted
