"""Whether a backup is whole and good: every hash, every checksum, and that the queues can be built from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf.message import DecodeError

from phxqueue.admin.backup.files import (
    ENTRIES,
    SEGMENTS,
    Damaged,
    GroupRecord,
    Manifest,
    damage,
    group_directory,
    read_records,
    read_state,
)
from phxqueue.lock.snapshot import CorruptState
from phxqueue.lock.table import LockTable
from phxqueue.paxos.entry import entry_checksum
from phxqueue.proto.backup_pb2 import BackupSegment
from phxqueue.proto.paxos_pb2 import PaxosEntry
from phxqueue.proto.store_pb2 import StoreCommand
from phxqueue.store.columns import CorruptCheckpoint
from phxqueue.store.index import QueueIndex
from phxqueue.store.queues import VALUE_KIND, StoreQueues

MAX_PROBLEMS = 20
"""Told of one group; a disk that is broken has thousands."""


@dataclass(slots=True)
class Checked:
    """What was found out about one group."""

    group: GroupRecord
    problems: list[str] = field(default_factory=list)
    queues: int = 0
    items: int = 0
    locks: int = 0
    strings: int = 0
    longest_lease_ms: int = 0
    highest_version: int = 0

    def problem(self, text: str) -> None:
        """Note it, if there is room."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(text)


def completeness(manifest: Manifest) -> list[str]:
    """What is wrong with the manifest itself."""
    numbers = [group.group_id for group in manifest.groups]
    if numbers != list(range(manifest.paxos_groups)):
        return [f"it holds the groups {numbers}, where {manifest.paxos_groups} groups are expected"]
    return []


def content(role: str, groups: Sequence[Checked]) -> str:
    """What is in these groups of a backup, for people."""
    if role == "lock":
        return f"{sum(one.locks for one in groups)} locks, {sum(one.strings for one in groups)} strings"
    return f"{sum(one.queues for one in groups)} queues, {sum(one.items for one in groups)} items"


def check_group(root: Path, group: GroupRecord, role: str = "store") -> Checked:
    """Read everything that a backup holds of a group of a store, or of a lock group (role "lock")."""
    checked = Checked(group)
    for file in group.files:
        found = damage(root, file)
        if found is not None:
            checked.problem(found)
    if not checked.problems:  # else what follows is known to fail, and would hide where the damage is
        try:
            (_check_queues if role == "store" else _check_table)(root, group, checked)
        except (Damaged, CorruptCheckpoint, CorruptState, OSError) as error:
            checked.problem(f"group {group.group_id}: {error}")
    return checked


def segments_of(root: Path, group: GroupRecord) -> Iterator[tuple[bytes, bytes]]:
    """Yield (key, value) of the segments of a group. Raises Damaged, OSError."""
    path = root / group_directory(group.group_id) / SEGMENTS
    for segment in read_records(path, BackupSegment.FromString):
        yield segment.key, segment.value


def entries_of(root: Path, group: GroupRecord) -> Iterator[PaxosEntry]:
    """Yield the entries of a group, each one checked. Raises Damaged, OSError."""
    expected = group.needed
    for file in group.files:
        path = root / file.name
        if not path.name.startswith(ENTRIES):
            continue
        for entry in read_records(path, PaxosEntry.FromString):
            if entry.instance != expected:
                raise Damaged(f"{path} has entry {entry.instance} where {expected} is expected")
            if entry_checksum(entry.kind, entry.payload) != entry.checksum:
                raise Damaged(f"{path}: entry {entry.instance} does not match its checksum")
            expected += 1
            yield entry
    if expected != group.applied + 1:
        raise Damaged(f"group {group.group_id} ends at entry {expected - 1}, not at {group.applied}")


def machine_of(root: Path, group: GroupRecord) -> StoreQueues:
    """Build the queues of a group. Raises CorruptCheckpoint, Damaged, OSError."""
    machine = StoreQueues()
    machine.restore(read_state(root, group), segments_of(root, group))
    return machine


def _check_table(root: Path, group: GroupRecord, checked: Checked) -> None:
    """A lock table rests on no entries: what is in it is in the checkpoint."""
    table = LockTable()
    table.restore(read_state(root, group), segments_of(root, group))
    if table.applied != group.applied:
        checked.problem(f"group {group.group_id}: its table is as of instance {table.applied}, not {group.applied}")
    for _ in entries_of(root, group):
        pass
    checked.locks, checked.strings = len(table.locks), len(table.strings)
    checked.longest_lease_ms = max((lock.lease_ms for lock in table.locks.values()), default=0)
    checked.highest_version = table.highest_version


def _check_queues(root: Path, group: GroupRecord, checked: Checked) -> None:
    machine = machine_of(root, group)
    if machine.applied != group.applied:
        checked.problem(f"group {group.group_id}: its state is as of instance {machine.applied}, not {group.applied}")
    if machine.first_needed() < group.needed:
        checked.problem(
            f"group {group.group_id}: its queues need entries from {machine.first_needed()} on, the copy begins at "
            f"{group.needed}"
        )
    checked.queues = len(machine.queues)
    checked.items = sum(index.end_cursor - index.first_cursor for index in machine.queues.values())
    rows = _rows(machine)
    for entry in entries_of(root, group):
        expected = rows.pop(entry.instance, None)
        if expected is not None:
            _check_entry(entry, machine.refused.get(entry.instance, ()), expected, checked)
    for instance in rows:
        checked.problem(f"group {group.group_id}: entry {instance}, which holds items, is not in the copy")


def _rows(machine: StoreQueues) -> dict[int, list[tuple[QueueIndex, int]]]:
    """The rows of all queues by the entry that holds their items."""
    rows: dict[int, list[tuple[QueueIndex, int]]] = {}
    for index in machine.queues.values():
        for row, instance in enumerate(index.instances):
            rows.setdefault(instance, []).append((index, row))
    return rows


def _check_entry(
    entry: PaxosEntry, refused: tuple[int, ...], rows: list[tuple[QueueIndex, int]], checked: Checked
) -> None:
    """Whether an entry holds as many items of each queue, with the same digests, as the index says."""
    where = f"group {checked.group.group_id}, entry {entry.instance}"
    if entry.kind != VALUE_KIND:
        checked.problem(f"{where}: holds no items, though the index says so")
        return
    try:
        command = StoreCommand.FromString(entry.payload)
    except DecodeError as error:
        checked.problem(f"{where}: does not parse: {error}")
        return
    skipped = set(refused)
    headers = [batch.header for place, batch in enumerate(command.batches) if place not in skipped]
    for queue_id in {index.queue_id for index, _ in rows}:
        ours = [header for header in headers if header.queue_id == queue_id]
        mine = [(index, row) for index, row in rows if index.queue_id == queue_id]
        held = sum(header.count for header in ours), sum(header.digest_sum for header in ours) % (1 << 64)
        count = sum(index.row_end(row) - index.firsts[row] for index, row in mine)
        digest = sum(index.row_digest(row) for index, row in mine) % (1 << 64)
        # Of delayed batches those that are not due yet are in no row.
        delayed = any(getattr(header, "deliver_at_ms", 0) for header in ours)
        if held != (count, digest) and not (delayed and held[0] >= count):
            checked.problem(f"{where}: has {held[0]} items of queue {queue_id}, not those that the index says")
