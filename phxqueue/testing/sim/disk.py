"""A disk that survives crashes of its process with exactly what was synced, and what may go wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from phxqueue.journal.records import (
    DeleteBlob,
    NodeIdentity,
    PutBlob,
    PutChosen,
    PutEntry,
    PutPromise,
    StoredEntry,
    TrimEntries,
    Write,
)
from phxqueue.testing.sim.checkers import Violation
from phxqueue.testing.sim.world import World

EntryObserver = Callable[[int, PutEntry], None]
"""Sees every entry at the moment it becomes durable: (node_id, write)."""


@dataclass(slots=True)
class DiskFaults:
    """How slow the disk is, in seconds, and how often it fails to serve; all probabilities per commit or read.

    stall: a commit takes up to `stall_max`. slowness: everything takes so many times as long.
    busy_read: a read is refused because too many wait.
    write_error: a sync fails, and nobody knows what of it has reached the platter.
    """

    latency_min: float = 0.0002
    latency_max: float = 0.002
    stall: float = 0.0
    stall_max: float = 0.3
    slowness: float = 1.0
    busy_read: float = 0.0
    write_error: float = 0.0

    def commit_latency(self, world: World) -> float:
        """Draw how long one sync takes."""
        random = world.random
        latency = random.uniform(self.latency_min, self.latency_max) * self.slowness
        if self.stall and random.random() < self.stall:
            world.count("slow sync")
            latency += random.uniform(0.0, self.stall_max)
        return latency


@dataclass(slots=True)
class StoredGroup:
    """What is durable of one Paxos group. Entries below `first` are trimmed, though some may still lie there.

    `votes` is for the checkers: each (instance, ballot) that was written while the promise allowed it.
    """

    promised: int = 0
    chosen: int = -1
    first: int = 0
    log: dict[int, StoredEntry] = field(default_factory=dict)
    votes: set[tuple[int, int]] = field(default_factory=set)


class Disk:
    """What is durable on one node. Outlives the processes that use it.

    Attributes:
        full: the file system is below its low-water mark.
        after_commit: called after every sync, before the process hears of it: the moment for a mean crash.
    """

    def __init__(self, identity: NodeIdentity) -> None:
        self.identity = identity
        self.groups: dict[int, StoredGroup] = {}
        self.blobs: dict[tuple[str, bytes], bytes] = {}
        self.faults = DiskFaults()
        self.full = False
        self.commits = 0
        self.after_commit: Callable[[], None] | None = None
        self.observers: list[EntryObserver] = []

    def group(self, group_id: int) -> StoredGroup:
        """Return what is durable of a group."""
        group = self.groups.get(group_id)
        if group is None:
            group = self.groups[group_id] = StoredGroup()
        return group

    def commit(self, transaction: Sequence[Write]) -> None:
        """Make the writes of one transaction durable, all of them."""
        self.commits += 1
        for write in transaction:
            self._write(write)

    def sweep(self, group_id: int, most: int) -> bool:
        """Delete up to `most` trimmed entries of a group; tell whether there are more."""
        group = self.group(group_id)
        below = sorted(instance for instance in group.log if instance < group.first)
        for instance in below[:most]:
            del group.log[instance]
        return len(below) > most

    def flip(self, group_id: int, instance: int, position: int) -> None:
        """Alter one byte of a stored payload, as a failing disk does."""
        stored = self.group(group_id).log[instance]
        payload = bytearray(stored.payload)
        payload[position % len(payload)] ^= 0x40
        self.group(group_id).log[instance] = StoredEntry(stored.ballot, stored.checksum, stored.kind, bytes(payload))

    def _write(self, write: Write) -> None:
        if isinstance(write, PutEntry):
            group = self.group(write.group)
            group.log[write.instance] = StoredEntry(write.ballot, write.checksum, write.kind, write.payload)
            if write.ballot >= group.promised:
                group.promised = write.ballot
                group.votes.add((write.instance, write.ballot))
            for observe in self.observers:
                observe(self.identity.node_id, write)
        elif isinstance(write, PutPromise):
            group = self.group(write.group)
            group.promised = max(group.promised, write.ballot)
        elif isinstance(write, PutChosen):
            group = self.group(write.group)
            group.chosen = max(group.chosen, write.instance)
        elif isinstance(write, TrimEntries):
            group = self.group(write.group)
            if write.below > group.chosen + 1:
                raise Violation(
                    f"node {self.identity.node_id} trims group {write.group} below {write.below}, while its disk knows "
                    f"of no more than {group.chosen} that it is chosen: a vote could be forgotten"
                )
            group.first = max(group.first, write.below)
        elif isinstance(write, PutBlob):
            self.blobs[write.table, write.key] = write.value
        elif isinstance(write, DeleteBlob):
            self.blobs.pop((write.table, write.key), None)
