"""A disk that survives crashes of its process with exactly what was synced, and a journal on it.

The journal keeps the contract of :class:`phxqueue.journal.interfaces.IJournal`: submissions are atomic, durable in
order, confirmed after the sync that contains them; what was not synced when the process died is gone. Berkeley DB
itself is not part of the simulation; its own tests kill real processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from twisted.internet.defer import Deferred
from zope.interface import implementer

from phxqueue.journal.errors import CorruptEntry, EntryMissing, JournalError
from phxqueue.journal.interfaces import IJournal
from phxqueue.journal.records import (
    DeleteBlob,
    GroupState,
    NodeIdentity,
    PutBlob,
    PutChosen,
    PutEntry,
    PutPromise,
    StoredEntry,
    TrimEntries,
    Write,
)
from phxqueue.paxos.entry import Entry
from phxqueue.testing.sim.world import ProcessClock, World

ResultT = TypeVar("ResultT")
Submission = tuple[Sequence[Write], Callable[[], None] | None]


@dataclass(slots=True)
class DiskFaults:
    """How slow the disk is, in seconds; `stall` is the probability of a commit that takes up to `stall_max`."""

    latency_min: float = 0.0002
    latency_max: float = 0.002
    stall: float = 0.0
    stall_max: float = 0.3
    lazy_delay: float = 0.05


@dataclass(slots=True)
class StoredGroup:
    """What is durable of one Paxos group."""

    promised: int = 0
    chosen: int = -1
    first: int = 0
    log: dict[int, StoredEntry] = field(default_factory=dict)


class Disk:
    """What is durable on one node. Outlives the processes that use it."""

    def __init__(self, identity: NodeIdentity) -> None:
        self.identity = identity
        self.groups: dict[int, StoredGroup] = {}
        self.blobs: dict[tuple[str, bytes], bytes] = {}
        self.faults = DiskFaults()
        self.commits = 0

    def group(self, group_id: int) -> StoredGroup:
        """Return what is durable of a group."""
        return self.groups.setdefault(group_id, StoredGroup())

    def commit(self, writes: Sequence[Write]) -> None:
        """Make writes durable."""
        self.commits += 1
        for write in writes:
            self._write(write)

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
            group.promised = max(group.promised, write.ballot)
        elif isinstance(write, PutPromise):
            group = self.group(write.group)
            group.promised = max(group.promised, write.ballot)
        elif isinstance(write, PutChosen):
            group = self.group(write.group)
            group.chosen = max(group.chosen, write.instance)
        elif isinstance(write, TrimEntries):
            group = self.group(write.group)
            group.first = max(group.first, write.below)
            for instance in [instance for instance in group.log if instance < write.below]:
                del group.log[instance]
        elif isinstance(write, PutBlob):
            self.blobs[write.table, write.key] = write.value
        elif isinstance(write, DeleteBlob):
            self.blobs.pop((write.table, write.key), None)


@implementer(IJournal)
class SimJournal:
    """The journal of one process on a simulated disk. A new process gets a new one on the same disk."""

    def __init__(self, world: World, clock: ProcessClock, disk: Disk) -> None:
        self.identity = disk.identity
        self.overloaded = False
        self.accepting = True
        self._world = world
        self._clock = clock
        self._disk = disk
        self._pending: list[Submission] = []
        self._in_flight: list[Submission] = []
        self._committing = False
        self._crashed = False

    def crash(self) -> None:
        """The process dies: nothing is confirmed any more, and what was not synced is lost.

        Of the commit in flight a prefix may have reached the platter, whole submissions only.
        """
        self._crashed = True
        self._pending.clear()
        for writes, _ in self._in_flight[: self._world.random.randrange(len(self._in_flight) + 1)]:
            self._disk.commit(writes)
        self._in_flight = []

    def on_accepting_changed(self, callback: Callable[[bool], None]) -> None:
        """Never called: the simulated disk does not fill up."""

    def load_group(self, group: int) -> GroupState:
        """Read what is durable."""
        stored = self._disk.group(group)
        above = sorted((instance, entry) for instance, entry in stored.log.items() if instance > stored.chosen)
        first = min(stored.log, default=stored.chosen + 1)
        return GroupState(stored.promised, stored.chosen, max(stored.first, first), above)

    def load_blobs(self, table: str, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Read what is durable, by rising key."""
        found = [
            (key, value) for (at, key), value in self._disk.blobs.items() if at == table and key.startswith(prefix)
        ]
        return iter(sorted(found))

    def submit(self, writes: Sequence[Write], done: Callable[[], None] | None = None) -> None:
        """Queue for the next commit."""
        self._pending.append((writes, done))
        if not self._committing:
            lazy = done is None and all(isinstance(write, PutChosen) for write in writes)
            self._start_commit(self._disk.faults.lazy_delay if lazy else 0.0)

    def read_entries(
        self, group: int, first: int, last: int, max_bytes: int
    ) -> Deferred[list[tuple[int, StoredEntry]]]:
        """Read a range after a while."""

        def read() -> list[tuple[int, StoredEntry]]:
            entries: list[tuple[int, StoredEntry]] = []
            taken = 0
            for instance in range(first, last + 1):
                try:
                    entry = self._read_one(group, instance)
                except JournalError:
                    if not entries:
                        raise
                    break
                taken += len(entry.payload)
                if entries and taken > max_bytes:
                    break
                entries.append((instance, entry))
            return entries

        return self._later(read)

    def read_instances(self, group: int, instances: Sequence[int]) -> Deferred[list[StoredEntry]]:
        """Read single entries after a while."""
        return self._later(lambda: [self._read_one(group, instance) for instance in instances])

    def delete_entries(self, group: int, below: int) -> Deferred[None]:
        """Trim the log."""
        trimmed: Deferred[None] = Deferred()
        self.submit([TrimEntries(group, below)], lambda: trimmed.callback(None))
        return trimmed

    def close(self) -> Deferred[None]:
        """Fire when everything submitted is durable."""
        closed: Deferred[None] = Deferred()
        self.submit([], lambda: closed.callback(None))
        return closed

    def _read_one(self, group: int, instance: int) -> StoredEntry:
        stored = self._disk.group(group)
        entry = stored.log.get(instance)
        if entry is None:
            raise EntryMissing(group, instance, stored.first)
        if not Entry(entry.ballot, entry.kind, entry.checksum, entry.payload).valid():
            raise CorruptEntry(group, instance, "checksum")
        return entry

    def _later(self, read: Callable[[], ResultT]) -> Deferred[ResultT]:
        answer: Deferred[ResultT] = Deferred()

        def run() -> None:
            try:
                result = read()
            except JournalError as error:
                answer.errback(error)
            else:
                answer.callback(result)

        self._clock.callLater(self._world.random.uniform(0.0001, 0.001), run)
        return answer

    def _start_commit(self, extra_delay: float) -> None:
        self._committing = True
        self._world.call_later(extra_delay, self._begin_commit)

    def _begin_commit(self) -> None:
        """Take everything submitted so far into one transaction; it is durable when the disk has finished."""
        if self._crashed:
            return
        self._in_flight, self._pending = self._pending, []
        faults = self._disk.faults
        latency = self._world.random.uniform(faults.latency_min, faults.latency_max)
        if self._world.random.random() < faults.stall:
            latency += self._world.random.uniform(0.0, faults.stall_max)
        self._world.call_later(latency, self._finish_commit)

    def _finish_commit(self) -> None:
        if self._crashed:
            return
        batch, self._in_flight = self._in_flight, []
        for writes, _ in batch:
            self._disk.commit(writes)
        self._clock.callLater(0, self._confirm, batch)

    def _confirm(self, batch: list[Submission]) -> None:
        if self._crashed:
            return
        self._committing = False
        for _, done in batch:
            if done is not None:
                done()
        if self._pending and not self._committing:
            self._start_commit(0.0)
