"""A journal on a simulated disk.

It keeps the contract of :class:`phxqueue.journal.interfaces.IJournal`: submissions are atomic, durable in order,
confirmed after the sync that contains them; what was not synced when the process died is gone, a lone chosen mark
even longer. Berkeley DB itself is not part of the simulation; its own tests kill real processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from twisted.internet.defer import Deferred
from zope.interface import implementer

from phxqueue.journal.batch import measure
from phxqueue.journal.errors import CorruptEntry, EntryMissing, JournalError, JournalOverloaded
from phxqueue.journal.interfaces import IJournal
from phxqueue.journal.records import GroupState, PutChosen, StoredEntry, TrimEntries, Write
from phxqueue.paxos.entry import entry_checksum
from phxqueue.replica.interfaces import DelayedCall
from phxqueue.testing.sim.disk import Disk
from phxqueue.testing.sim.world import ProcessClock, World

ResultT = TypeVar("ResultT")

LAZY_DELAY = 0.05
"""How long a lone chosen mark waits for something to ride with, in seconds."""
HARD_LIMIT_FACTOR = 2
"""As in the real journal: beyond this many times the bound a submission is refused."""


@dataclass(frozen=True, slots=True)
class _Submission:
    writes: Sequence[Write]
    done: Callable[[], None] | None
    size: int


@implementer(IJournal)
class SimJournal:
    """The journal of one process on a simulated disk. A new process gets a new one on the same disk.

    Args:
        max_pending_bytes: more waiting for the disk than this, and it is `overloaded`.
    """

    def __init__(self, world: World, clock: ProcessClock, disk: Disk, max_pending_bytes: int = 1 << 20) -> None:
        self.identity = disk.identity
        self._world = world
        self._clock = clock
        self._disk = disk
        self._max_pending_bytes = max_pending_bytes
        self._pending: list[_Submission] = []
        self._pending_bytes = 0
        self._in_flight: list[_Submission] = []
        self._committing = False
        self._marks: dict[int, int] = {}  # lone chosen marks, waiting
        self._marks_call: DelayedCall | None = None
        self._unsynced: list[Sequence[Write]] = []  # written, not synced
        self._crashed = False

    @property
    def overloaded(self) -> bool:
        """Whether more waits for the disk than should."""
        return self._pending_bytes > self._max_pending_bytes

    @property
    def accepting(self) -> bool:
        """Whether the file system has room."""
        return not self._disk.full

    def crash(self) -> None:
        """The process dies: nothing is confirmed any more, and what was not synced is lost.

        Of the commit in flight a prefix may have reached the platter, whole submissions only.
        """
        self._crashed = True
        survivors = [*self._unsynced, *(submission.writes for submission in self._in_flight)]
        for writes in survivors[: self._world.random.randrange(len(survivors) + 1)]:
            self._disk.commit(writes)
        self._pending.clear()
        self._in_flight = []
        self._unsynced = []

    def on_accepting_changed(self, callback: Callable[[bool], None]) -> None:
        """Never called: whoever simulates a full disk is asked through `accepting`."""

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

    # ---- writing ---------------------------------------------------------------------------------

    def submit(self, writes: Sequence[Write], done: Callable[[], None] | None = None) -> None:
        """Queue for the next commit."""
        size = measure(writes)
        if done is None and all(isinstance(write, PutChosen) for write in writes):
            self._submit_lazily(writes)
            return
        if self._pending_bytes and self._pending_bytes + size > HARD_LIMIT_FACTOR * self._max_pending_bytes:
            raise JournalOverloaded(f"{self._pending_bytes} bytes wait for the simulated disk already")
        if self._marks:
            writes = [*self._take_marks(), *writes]
        self._pending_bytes += size
        self._pending.append(_Submission(writes, done, size))
        self._start_commit()

    def _submit_lazily(self, writes: Sequence[Write]) -> None:
        for write in writes:
            assert isinstance(write, PutChosen), write
            self._marks[write.group] = max(write.instance, self._marks.get(write.group, -1))
        if self._marks_call is None and self._marks:
            self._marks_call = self._clock.callLater(LAZY_DELAY, self._write_marks)

    def _take_marks(self) -> list[Write]:
        marks, self._marks = self._marks, {}
        if self._marks_call is not None:
            self._marks_call.cancel()
            self._marks_call = None
        return [PutChosen(group, instance) for group, instance in marks.items()]

    def _write_marks(self) -> None:
        self._marks_call = None
        self._unsynced.append(self._take_marks())

    def _start_commit(self) -> None:
        if not self._committing:
            self._committing = True
            self._world.call_later(0, self._begin_commit)

    def _begin_commit(self) -> None:
        """Take everything submitted so far into one transaction; it is durable when the disk has finished."""
        if self._crashed:
            return
        self._in_flight, self._pending = self._pending, []
        self._world.call_later(self._disk.faults.commit_latency(self._world.random), self._finish_commit)

    def _finish_commit(self) -> None:
        if self._crashed:
            return
        batch, self._in_flight = self._in_flight, []
        unsynced, self._unsynced = self._unsynced, []
        for writes in [*unsynced, *(submission.writes for submission in batch)]:
            self._disk.commit(writes)
        self._clock.callLater(0, self._confirm, batch)
        if self._disk.after_commit is not None:
            self._disk.after_commit()

    def _confirm(self, batch: list[_Submission]) -> None:
        self._committing = False
        for submission in batch:
            self._pending_bytes -= submission.size
        for submission in batch:
            if submission.done is not None:
                submission.done()
        if self._pending:
            self._start_commit()

    def delete_entries(self, group: int, below: int) -> Deferred[None]:
        """Trim the log."""
        trimmed: Deferred[None] = Deferred()
        self.submit([TrimEntries(group, below)], lambda: trimmed.callback(None))
        return trimmed

    def close(self) -> Deferred[None]:
        """Fire when everything submitted is durable."""
        closed: Deferred[None] = Deferred()
        self.submit([*self._take_marks()], lambda: closed.callback(None))
        return closed

    # ---- reading ---------------------------------------------------------------------------------

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

    def read_blob(self, table: str, key: bytes) -> Deferred[bytes | None]:
        """Read one blob after a while."""
        return self._later(lambda: self._disk.blobs.get((table, key)))

    def _read_one(self, group: int, instance: int) -> StoredEntry:
        stored = self._disk.group(group)
        entry = stored.log.get(instance)
        if entry is None:
            raise EntryMissing(group, instance, stored.first)
        if entry_checksum(entry.kind, entry.payload) != entry.checksum:
            raise CorruptEntry(group, instance, "checksum", entry.checksum)
        return entry

    def _later(self, read: Callable[[], ResultT]) -> Deferred[ResultT]:
        answer: Deferred[ResultT] = Deferred()
        random, faults = self._world.random, self._disk.faults

        def run() -> None:
            try:
                if faults.busy_read and random.random() < faults.busy_read:
                    raise JournalOverloaded("too many reads wait for the simulated disk")
                result = read()
            except JournalError as error:
                answer.errback(error)
            else:
                answer.callback(result)

        self._clock.callLater(random.uniform(0.0001, 0.001) * faults.slowness, run)
        return answer
