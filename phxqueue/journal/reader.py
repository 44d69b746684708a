"""Cold reads, in a small thread pool of the journal's own.

Readers use no transactions and read through uncommitted changes (`DB_READ_UNCOMMITTED`), so they never wait for the
writer's commit. That is right here because an entry that is chosen never changes its content, and nobody asks for
entries that are not. Every read is one point lookup: a page is locked only inside that one call, never while the thread
waits for the interpreter lock, so a busy reactor cannot make a reader hold up the writer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from phxqueue.journal import layout
from phxqueue.journal.batch import Marks
from phxqueue.journal.damage import Damage
from phxqueue.journal.database import Database, Table
from phxqueue.journal.errors import CorruptEntry, EntryMissing, JournalError, JournalOverloaded
from phxqueue.journal.records import StoredEntry

Verify = Callable[[int, bytes, int], bool]
"""verify(kind, payload, checksum): whether the proposer's checksum fits."""

T = TypeVar("T")


class EntryReader:
    """Looks entries up; its methods block and run in any thread."""

    def __init__(self, database: Database, marks: Marks, damage: Damage, verify: Verify | None) -> None:
        self._database = database
        self._marks = marks
        self._damage = damage
        self._verify = verify

    def entry(self, group: int, instance: int) -> StoredEntry:
        """Return one entry. Raises EntryMissing, CorruptEntry, and the binding's errors when it is worse."""
        first = self._marks.trimmed.get(group, 0)
        if instance < first:
            raise EntryMissing(group, instance, first)
        key = layout.entry_key(group, instance)
        value = self._repaired(key) if key in self._damage else self._stored(key)
        if value is None:
            if key in self._damage:
                raise CorruptEntry(group, instance, "its page in the database is damaged")
            raise EntryMissing(group, instance, first)
        try:
            entry, _ = layout.unpack_entry(key, value)
        except layout.Unreadable as error:
            raise CorruptEntry(group, instance, str(error)) from error
        if self._verify is not None and not self._verify(entry.kind, entry.payload, entry.checksum):
            raise CorruptEntry(group, instance, "its checksum does not fit", entry.checksum)
        return entry

    def _stored(self, key: bytes) -> bytes | None:
        try:
            return self._database.get(Table.ENTRIES, key)
        except self._database.error as error:
            self._damage.note(key, error)
        return self._repaired(key)

    def _repaired(self, key: bytes) -> bytes | None:
        return self._database.get(Table.REPAIRS, key)

    def entries(self, group: int, first: int, last: int, max_bytes: int) -> list[tuple[int, StoredEntry]]:
        """Return a contiguous run from `first`, as IJournal.read_entries says."""
        found: list[tuple[int, StoredEntry]] = []
        size = 0
        for instance in range(first, last + 1):
            try:
                entry = self.entry(group, instance)
            except (EntryMissing, CorruptEntry):
                if not found:
                    raise
                break
            size += len(entry.payload)
            if found and size > max_bytes:
                break
            found.append((instance, entry))
        return found

    def instances(self, group: int, instances: Sequence[int]) -> list[StoredEntry]:
        """Return these entries, in this order."""
        return [self.entry(group, instance) for instance in instances]


class ReadPool:
    """Runs reads off the reactor, a bounded number of them."""

    def __init__(self, reactor: Any, threads: int, max_pending: int, failed: Callable[[str], None]) -> None:
        """`failed` is called, in the reactor's thread, for an error that is worse than one bad entry."""
        self._reactor = reactor
        self._pool = ThreadPool(0, threads, "phxqueue-journal-read")
        self._pool.start()
        self._max_pending = max_pending
        self._pending = 0
        self._failed = failed

    def run(self, read: Callable[[], T]) -> Deferred[T]:
        """Run `read` in a thread. Fails with JournalOverloaded, or as `read` does."""
        if self._pending >= self._max_pending:
            return fail(JournalOverloaded(f"{self._pending} reads are waiting for the disk already; try again later"))
        self._pending += 1
        answer: Deferred[T] = Deferred()
        self._pool.callInThreadWithCallback(
            lambda success, result: self._reactor.callFromThread(self._answer, answer, success, result), read
        )
        return answer

    def _answer(self, answer: Deferred[T], success: bool, result: Any) -> None:
        self._pending -= 1
        if success:
            answer.callback(result)
            return
        failure: Failure = result
        if failure.check(JournalError) is None:
            reason = f"reading failed: {failure.type.__name__ if failure.type else ''}: {failure.getErrorMessage()}"
            self._failed(reason)
            failure = Failure(JournalError(reason))
        answer.errback(failure)

    def stop(self) -> None:
        """Finish what was asked for, then end the threads. Blocks."""
        self._pool.stop()
