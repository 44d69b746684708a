"""A journal on a simulated disk.

It keeps the contract of :class:`phxqueue.journal.interfaces.IJournal` the way Berkeley DB and the journal's writer do:

- whatever was submitted while the last commit was on its way goes into the next transaction, up to a bound; a
  transaction is all or nothing, entries, marks, blobs and trims alike, and transactions become durable in order;
- a submission is confirmed after the sync that contains it; what was not synced when the process died is gone, except
  for a beginning of it, whole transactions only, that nobody had heard of;
- a lone chosen mark is written without a sync;
- trimmed entries count as absent at once, and are deleted bit by bit, also after a restart;
- after a failed sync nothing is confirmed and nothing is taken any more.

Berkeley DB itself is not part of the simulation; its own tests kill real processes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from twisted.internet.defer import Deferred
from zope.interface import implementer

from phxqueue.journal.batch import measure
from phxqueue.journal.errors import CorruptEntry, EntryMissing, JournalError, JournalFailed, JournalOverloaded
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
COMMIT_WRITES = 40
"""How many writes one transaction holds, unless a single submission has more."""
SWEEP_ENTRIES = 20
"""How many trimmed entries are deleted at a time."""
SWEEP_PAUSE = 0.01
"""Seconds between two such deletions."""


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
        on_fatal: called once when a sync has failed: the process has to end.

    Attributes:
        failed: why it has stopped, if it has.
    """

    def __init__(
        self,
        world: World,
        clock: ProcessClock,
        disk: Disk,
        max_pending_bytes: int = 1 << 20,
        on_fatal: Callable[[str], None] | None = None,
    ) -> None:
        self.identity = disk.identity
        self.failed: str | None = None
        self._world = world
        self._clock = clock
        self._disk = disk
        self._max_pending_bytes = max_pending_bytes
        self._on_fatal = on_fatal
        self._pending: deque[_Submission] = deque()
        self._pending_bytes = 0
        self._in_flight: list[_Submission] = []
        self._committing = False
        self._marks: dict[int, int] = {}  # lone chosen marks, waiting
        self._marks_call: DelayedCall | None = None
        self._unsynced: list[Sequence[Write]] = []  # transactions written, not synced
        self._crashed = False
        self._sweeping = {group_id for group_id, group in disk.groups.items() if group.first > 0}
        if self._sweeping:
            clock.callLater(SWEEP_PAUSE, self._sweep)

    @property
    def overloaded(self) -> bool:
        """Whether more waits for the disk than should."""
        return self._pending_bytes > self._max_pending_bytes

    @property
    def accepting(self) -> bool:
        """Whether the file system has room."""
        return not self._disk.full

    def crash(self) -> None:
        """The process dies: nothing is confirmed any more, and what was not synced is lost, or a part of it."""
        if not self._crashed and self.failed is None:
            self._lose_tail()
        self._crashed = True

    def _lose_tail(self) -> None:
        """Of the transactions written and not synced, the first few may have reached the platter."""
        written = [*self._unsynced, *([_transaction(self._in_flight)] if self._in_flight else [])]
        kept = self._world.random.randrange(len(written) + 1)
        for transaction in written[:kept]:
            self._disk.commit(transaction)
        if kept:
            self._world.count("kept tail")
        if kept < len(written):
            self._world.count("lost tail")
        self._pending.clear()
        self._in_flight = []
        self._unsynced = []

    def on_accepting_changed(self, callback: Callable[[bool], None]) -> None:
        """Never called: whoever simulates a full disk is asked through `accepting`."""

    def load_group(self, group: int) -> GroupState:
        """Read what is durable."""
        stored = self._disk.group(group)
        above = sorted((instance, entry) for instance, entry in stored.log.items() if instance > stored.chosen)
        first = min((instance for instance in stored.log if instance >= stored.first), default=stored.chosen + 1)
        return GroupState(stored.promised, stored.chosen, first, above)

    def load_blobs(self, table: str, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Read what is durable, by rising key."""
        found = [
            (key, value) for (at, key), value in self._disk.blobs.items() if at == table and key.startswith(prefix)
        ]
        return iter(sorted(found))

    # ---- writing ---------------------------------------------------------------------------------

    def submit(self, writes: Sequence[Write], done: Callable[[], None] | None = None) -> None:
        """Queue for the next commit."""
        self._check_open()
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

    def _check_open(self) -> None:
        if self.failed is not None:
            raise JournalFailed(f"the journal has stopped: {self.failed}")

    def _start_commit(self) -> None:
        if not self._committing:
            self._committing = True
            self._clock.callLater(0, self._begin_commit)

    def _begin_commit(self) -> None:
        """Take what was submitted so far into one transaction; it is durable when the disk has finished."""
        writes = 0
        while self._pending:
            writes += len(self._pending[0].writes)
            if self._in_flight and writes > COMMIT_WRITES:
                break
            self._in_flight.append(self._pending.popleft())
        self._world.call_later(self._disk.faults.commit_latency(self._world), self._finish_commit)

    def _finish_commit(self) -> None:
        if self._crashed:
            return
        faults = self._disk.faults
        if faults.write_error and self._world.random.random() < faults.write_error:
            self._fail()
            return
        batch, self._in_flight = self._in_flight, []
        unsynced, self._unsynced = self._unsynced, []
        for transaction in [*unsynced, _transaction(batch)]:
            self._disk.commit(transaction)
        self._clock.callLater(0, self._confirm, batch)
        if self._pending:
            self._clock.callLater(0, self._begin_commit)
        else:
            self._committing = False
        if self._disk.after_commit is not None:
            self._disk.after_commit()

    def _fail(self) -> None:
        """The sync has failed. What of it is on the platter nobody knows; it is never tried again."""
        self._world.count("write error")
        self._lose_tail()
        self.failed = "simulated write error"
        if self._on_fatal is not None:
            self._clock.callLater(0, self._on_fatal, self.failed)

    def _confirm(self, batch: list[_Submission]) -> None:
        if self.failed is not None:
            return
        for submission in batch:
            self._pending_bytes -= submission.size
        for submission in batch:
            self._sweeping.update(write.group for write in submission.writes if isinstance(write, TrimEntries))
            if submission.done is not None:
                submission.done()
        if self._sweeping:
            self._clock.callLater(SWEEP_PAUSE, self._sweep)

    def _sweep(self) -> None:
        """Delete some of what was trimmed."""
        self._sweeping = {group for group in self._sweeping if self._disk.sweep(group, SWEEP_ENTRIES)}
        if self._sweeping:
            self._clock.callLater(SWEEP_PAUSE, self._sweep)

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
        if entry is None or instance < stored.first:
            raise EntryMissing(group, instance, stored.first)
        if entry_checksum(entry.kind, entry.payload) != entry.checksum:
            raise CorruptEntry(group, instance, "checksum", entry.checksum)
        return entry

    def _later(self, read: Callable[[], ResultT]) -> Deferred[ResultT]:
        answer: Deferred[ResultT] = Deferred()
        random, faults = self._world.random, self._disk.faults

        def run() -> None:
            try:
                self._check_open()
                if faults.busy_read and random.random() < faults.busy_read:
                    self._world.count("busy read")
                    raise JournalOverloaded("too many reads wait for the simulated disk")
                result = read()
            except JournalError as error:
                answer.errback(error)
            else:
                answer.callback(result)

        self._clock.callLater(random.uniform(0.0001, 0.001) * faults.slowness, run)
        return answer


def _transaction(submissions: Sequence[_Submission]) -> list[Write]:
    return [write for submission in submissions for write in submission.writes]
