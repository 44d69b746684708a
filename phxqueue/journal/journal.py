"""The journal of one node: the real IJournal, over Berkeley DB.

Threads: the reactor submits and is told; one writer commits (`writer`); one thread takes checkpoints and one watches
the disk (`upkeep`); a small pool reads (`reader`). Everything crosses into the reactor by `callFromThread`.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from phxqueue.config.settings import JournalSettings
from phxqueue.journal import bdb, layout, recovery
from phxqueue.journal.batch import Submission, measure
from phxqueue.journal.database import Table
from phxqueue.journal.errors import JournalClosed, JournalError, JournalFailed, JournalOverloaded
from phxqueue.journal.interfaces import IJournal
from phxqueue.journal.logfiles import LogPreparer
from phxqueue.journal.opening import Opened, open_directory
from phxqueue.journal.reader import EntryReader, ReadPool, Verify
from phxqueue.journal.records import GroupState, PutChosen, StoredEntry, TrimEntries, WantedIdentity, Write
from phxqueue.journal.upkeep import Checkpointer, SpaceWatch
from phxqueue.journal.writer import Writer, WriterStats

HARD_LIMIT_FACTOR = 2
"""Beyond this many times `max_pending_bytes` a submission is refused. Not configured: callers look at `overloaded`
first, and what they had begun by then has to fit.
"""


@implementer(IJournal)
class Journal:
    """See IJournal for the contract. All methods are for the reactor's thread."""

    def __init__(
        self,
        opened: Opened,
        directory: Path,
        settings: JournalSettings,
        reactor: Any,
        on_fatal: Callable[[str], None],
        verify: Verify | None = None,
    ) -> None:
        """Use `open`."""
        self.identity = opened.identity
        self._lock = opened.lock
        self._database = opened.database
        self._marks = opened.marks
        self._settings = settings
        self._reactor = reactor
        self._on_fatal = on_fatal
        self._verify = verify
        self._log = Logger()
        self._failure: str | None = None
        self._failing = threading.Lock()
        self._closing: Deferred[None] | None = None
        self._pending_bytes = 0
        self._lazy_marks: dict[int, int] = {}
        self._lazy_call: Any = None
        self._accepting_callbacks: list[Callable[[bool], None]] = []
        self._trim_waiters: set[Deferred[None]] = set()
        self._reader = EntryReader(opened.database, opened.marks, opened.damage, verify)
        self._pool = ReadPool(reactor, settings.read_threads, settings.max_pending_reads, self._fail)
        self._writer = Writer(
            opened.database,
            settings,
            opened.marks,
            opened.damage,
            partial(reactor.callFromThread, self._committed),
            self._fail,
            reactor.callFromThread,
        )
        preparer = LogPreparer(opened.database, opened.database.home, settings)
        self._checkpointer = Checkpointer(
            opened.database, settings, lambda: self._writer.stats.bytes, self._fail, preparer
        )
        self._space = SpaceWatch(directory, settings, partial(reactor.callFromThread, self._accepting_changed))
        self.accepting = self._space.accepting

    @classmethod
    def open(
        cls,
        directory: str | Path,
        wanted: WantedIdentity,
        settings: JournalSettings,
        reactor: Any,
        on_fatal: Callable[[str], None],
        *,
        verify: Verify | None = None,
        binding: Any = None,
    ) -> Journal:
        """Open the data directory of one node, or make it. Blocks while it recovers.

        `on_fatal(reason)` is called once, in the reactor's thread, when the journal has stopped. `verify` checks the
        proposer's checksum of every entry read. `binding` is the module of the Berkeley DB binding to use.

        Raises WrongIdentity, DirectoryLocked, FormatVersion, Corrupt, Unusable.
        """
        directory = Path(directory)
        if binding is None:
            binding = bdb.load()
        opened = open_directory(directory, wanted, settings, binding)
        # Process-wide. Each call into Berkeley DB gives up the interpreter lock, and a busy reactor keeps it for this
        # long each time the writer wants it back.
        sys.setswitchinterval(min(sys.getswitchinterval(), settings.switch_interval_us / 1e6))
        journal = cls(opened, directory, settings, reactor, on_fatal, verify)
        for group, below in opened.marks.trimmed.items():
            journal._writer.trimmer.add(group, below)
        journal._writer.start()
        journal._checkpointer.start()
        journal._space.start()
        return journal

    # ---- start-up ----------------------------------------------------------------------

    def load_group(self, group: int) -> GroupState:
        """See IJournal. Raises Corrupt."""
        return recovery.load_group(self._database, self._marks, group, self._verify)

    def load_blobs(self, table: str, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """See IJournal."""
        start = layout.blob_key(table, b"")
        for key, value in self._database.scan(Table.BLOBS, start + prefix):
            if not key.startswith(start + prefix):
                return
            yield key[len(start) :], value

    # ---- writing ----------------------------------------------------------------------

    @property
    def overloaded(self) -> bool:
        """See IJournal."""
        return self._pending_bytes > self._settings.max_pending_bytes

    @property
    def pending_bytes(self) -> int:
        """Bytes submitted and not committed yet."""
        return self._pending_bytes

    @property
    def stats(self) -> WriterStats:
        """Counters of the writer."""
        return self._writer.stats

    def submit(self, writes: Sequence[Write], done: Callable[[], None] | None = None) -> None:
        """See IJournal."""
        self._submit(writes, done)

    def _submit(
        self, writes: Sequence[Write], done: Callable[[], None] | None, trimmed: Callable[[], None] | None = None
    ) -> None:
        self._check_open()
        size = measure(writes)
        if done is None and trimmed is None and all(isinstance(write, PutChosen) for write in writes):
            self._submit_lazily(writes)
            return
        limit = HARD_LIMIT_FACTOR * self._settings.max_pending_bytes
        if self._pending_bytes and self._pending_bytes + size > limit:
            raise JournalOverloaded(
                f"{self._pending_bytes} bytes wait for the disk, at most {limit} may; look at `overloaded` first"
            )
        if self._lazy_marks:
            writes = [*self._take_lazy_marks(), *writes]
        self._pending_bytes += size
        self._writer.put(Submission(writes, done, size, trimmed))

    def _check_open(self) -> None:
        if self._failure is not None:
            raise JournalFailed(f"the journal has stopped: {self._failure}; restart the node when that is mended")
        if self._closing is not None:
            raise JournalClosed("the journal is closed")

    def _submit_lazily(self, writes: Sequence[Write]) -> None:
        for write in writes:
            assert isinstance(write, PutChosen), write
            self._lazy_marks[write.group] = max(write.instance, self._lazy_marks.get(write.group, -1))
        if self._lazy_call is None and self._lazy_marks:
            self._lazy_call = self._reactor.callLater(self._settings.lazy_commit_delay_ms / 1000, self._flush_lazy)

    def _take_lazy_marks(self) -> list[Write]:
        marks, self._lazy_marks = self._lazy_marks, {}
        if self._lazy_call is not None:
            self._lazy_call.cancel()
            self._lazy_call = None
        return [PutChosen(group, instance) for group, instance in marks.items()]

    def _flush_lazy(self) -> None:
        self._lazy_call = None
        writes = self._take_lazy_marks()
        if writes and self._failure is None:
            self._writer.put(Submission(writes, None, measure(writes), lazy=True))
            self._pending_bytes += measure(writes)

    def _committed(self, submissions: list[Submission]) -> None:
        if self._failure is not None:
            return
        for submission in submissions:
            self._pending_bytes -= submission.size
        for submission in submissions:
            if submission.done is not None:
                try:
                    submission.done()
                except Exception:
                    self._log.failure("a completion callback failed; what it was told is durable nevertheless")

    # ---- reading ----------------------------------------------------------------------

    def read_entries(
        self, group: int, first: int, last: int, max_bytes: int
    ) -> Deferred[list[tuple[int, StoredEntry]]]:
        """See IJournal."""
        return self._read(partial(self._reader.entries, group, first, last, max_bytes))

    def read_instances(self, group: int, instances: Sequence[int]) -> Deferred[list[StoredEntry]]:
        """See IJournal."""
        return self._read(partial(self._reader.instances, group, tuple(instances)))

    def read_blob(self, table: str, key: bytes) -> Deferred[bytes | None]:
        """See IJournal."""
        return self._read(partial(self._database.get, Table.BLOBS, layout.blob_key(table, key)))

    def _read(self, read: Callable[[], Any]) -> Deferred[Any]:
        try:
            self._check_open()
        except JournalError:
            return fail(Failure())
        return self._pool.run(read)

    # ---- trimming ----------------------------------------------------------------------

    def delete_entries(self, group: int, below: int) -> Deferred[None]:
        """See IJournal. Fails with JournalFailed or JournalClosed when it stops first; opening goes on with it."""
        trimmed: Deferred[None] = Deferred()

        def finished() -> None:
            if trimmed in self._trim_waiters:
                self._trim_waiters.remove(trimmed)
                trimmed.callback(None)

        try:
            self._submit([TrimEntries(group, below)], None, finished)
        except JournalError:
            return fail(Failure())
        self._trim_waiters.add(trimmed)
        return trimmed

    def _drop_trim_waiters(self, error: JournalError) -> None:
        waiters, self._trim_waiters = self._trim_waiters, set()
        for waiter in waiters:
            waiter.errback(error)

    # ---- free space ----------------------------------------------------------------------

    def on_accepting_changed(self, callback: Callable[[bool], None]) -> None:
        """See IJournal."""
        self._accepting_callbacks.append(callback)

    def _accepting_changed(self, accepting: bool) -> None:
        self.accepting = accepting
        for callback in self._accepting_callbacks:
            callback(accepting)

    @property
    def free_bytes(self) -> int:
        """Free bytes of the file system, as last seen."""
        return self._space.free_bytes

    # ---- the end ----------------------------------------------------------------------

    def _fail(self, reason: str) -> None:
        """Stop for good. Any thread; the first reason counts."""
        with self._failing:
            if self._failure is not None:
                return
            self._failure = reason
        self._writer.halt()
        self._checkpointer.halt()
        self._reactor.callFromThread(self._report_failure, reason)

    def _report_failure(self, reason: str) -> None:
        self._log.error("the journal has stopped, nothing is acknowledged any more: {reason}", reason=reason)
        self._drop_trim_waiters(JournalFailed(f"the journal has stopped: {reason}"))
        self._on_fatal(reason)

    def close(self) -> Deferred[None]:
        """See IJournal. Fails with JournalFailed when the journal had stopped, or does while closing."""
        if self._closing is not None:
            return fail(JournalClosed("the journal is closed already"))
        self._flush_lazy_now()
        closed: Deferred[None] = Deferred()
        self._closing = closed
        self._writer.finish()
        late = self._reactor.callLater(self._settings.close_timeout_s, self._close_is_late)
        threading.Thread(target=self._close, args=(late,), name="phxqueue-journal-close", daemon=True).start()
        return closed

    def _flush_lazy_now(self) -> None:
        if self._lazy_call is not None:
            self._lazy_call.cancel()
        self._flush_lazy()

    def _close(self, late: Any) -> None:
        self._writer.join()
        self._checkpointer.stop()
        self._space.stop()
        self._pool.stop()
        try:
            if self._failure is None:
                self._database.checkpoint()
                self._database.remove_old_logs()
                self._database.close()
        except Exception as error:  # whatever it is, who waits has to hear of it
            self._fail(f"closing: {type(error).__name__}: {bdb.explain(error)}")
        if self._failure is not None:
            self._database.abandon()
        self._lock.release()
        self._reactor.callFromThread(self._closed, late)

    def _close_is_late(self) -> None:
        self._fail(f"closing takes longer than {self._settings.close_timeout_s} s; the disk does not answer")
        if self._closing is not None and not self._closing.called:
            self._closing.errback(JournalFailed(f"the journal could not be closed: {self._failure}"))

    def _closed(self, late: Any) -> None:
        if late.active():
            late.cancel()
        self._drop_trim_waiters(JournalClosed("the journal was closed; trimming goes on at the next start"))
        if self._closing is None or self._closing.called:
            return
        if self._failure is not None:
            self._closing.errback(JournalFailed(f"the journal has stopped: {self._failure}"))
        else:
            self._closing.callback(None)
