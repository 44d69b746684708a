"""The writer thread: natural group commit.

Whatever was submitted while the last commit was on its way to the disk goes into the next transaction, across all
groups of the node. One entry alone is one call into Berkeley DB (each call gives up the interpreter lock, and a busy
reactor makes the thread wait for it again), and completion is one call into the reactor.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from phxqueue.config.settings import JournalSettings
from phxqueue.journal import bdb
from phxqueue.journal.batch import Batch, Marks, Submission
from phxqueue.journal.damage import Damage
from phxqueue.journal.database import Database
from phxqueue.journal.records import TrimEntries
from phxqueue.journal.trimmer import Trimmer, TrimShare

MAX_DEADLOCKS = 20
"""How often one transaction is tried again after a deadlock with readers, before it counts as a write error. Not
configured: readers give way, so one is rare already.
"""

LATENCY_BOUNDS_MS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
"""Upper bounds of the buckets of `WriterStats.latencies`; the last bucket has none."""


@dataclass(slots=True)
class WriterStats:
    """What the writer has done; plain counters, read from any thread."""

    commits: int = 0
    submissions: int = 0
    bytes: int = 0
    seconds: float = 0.0
    longest_seconds: float = 0.0
    latencies: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS_MS) + 1))

    def count(self, submissions: int, size: int, seconds: float) -> None:
        """Take one commit into account."""
        self.commits += 1
        self.submissions += submissions
        self.bytes += size
        self.seconds += seconds
        self.longest_seconds = max(self.longest_seconds, seconds)
        bucket = sum(1 for bound in LATENCY_BOUNDS_MS if seconds * 1000 > bound)
        self.latencies[bucket] += 1


class Writer:
    """Owns everything that changes the database; runs in a thread of its own."""

    def __init__(
        self,
        database: Database,
        settings: JournalSettings,
        marks: Marks,
        damage: Damage,
        committed: Callable[[list[Submission]], None],
        failed: Callable[[str], None],
        notify: Callable[[Callable[[], None]], None],
    ) -> None:
        """`committed` and `failed` are called in the writer's thread; `notify` runs a callback in the reactor's."""
        self.stats = WriterStats()
        self.trimmer = Trimmer(database, damage, settings.trim_entries)
        self._database = database
        self._marks = marks
        self._damage = damage
        self._committed = committed
        self._failed = failed
        self._notify = notify
        self._max_bytes = settings.commit_bytes
        self._max_writes = settings.commit_writes
        self._share = TrimShare(settings.trim_share_percent)
        self._queue: SimpleQueue[Submission | None] = SimpleQueue()
        self._carried: Submission | None = None
        self._closing = False
        self._halted = False
        self._thread = threading.Thread(target=self._run, name="phxqueue-journal-writer", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def put(self, submission: Submission) -> None:
        """Queue a submission. Never blocks; who submits keeps the bound."""
        self._queue.put(submission)

    def finish(self) -> None:
        """Commit what is queued, then end."""
        self._queue.put(None)

    def halt(self) -> None:
        """Start no further transaction: something has failed. Any thread."""
        self._halted = True
        self._queue.put(None)

    def join(self) -> None:
        """Wait for the end of the thread."""
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._closing or self._carried is not None:
                batch = self._collect()
                if self._halted:
                    return
                if batch:
                    self._commit(batch)
                if self.trimmer.pending and not self._closing and (not batch or self._share.may_step()):
                    self._trim()
        except BaseException as error:  # whatever it is, nothing may be acknowledged after it
            self._failed(bdb.describe(error))

    def _collect(self) -> list[Submission]:
        """Return what goes into the next transaction; waits for something unless there is trimming to do."""
        first, self._carried = self._carried, None
        if first is None:
            try:
                first = self._queue.get(block=not self.trimmer.pending)
            except Empty:
                return []
            if first is None:
                self._closing = True
                return []
        batch = [first]
        size, writes = first.size, len(first.writes)
        while not self._queue.empty() and not self._closing:
            following = self._queue.get()
            if following is None:
                self._closing = True
                break
            size += following.size
            writes += len(following.writes)
            if size > self._max_bytes or writes > self._max_writes:
                self._carried = following
                break
            batch.append(following)
        return batch

    def _commit(self, submissions: list[Submission]) -> None:
        began = time.monotonic()
        batch = Batch(submissions)
        puts = batch.puts(self._marks, self._damage)
        if puts:
            self._retrying(
                lambda: (
                    self._database.commit_unsynced(puts)
                    if all(submission.lazy for submission in submissions)
                    else self._database.commit(puts)
                )
            )
        elif any(submission.done is not None for submission in submissions):
            # Nothing new to store, but what it repeats may still be waiting to become durable.
            self._database.flush_log()
        trims = batch.settle(puts, self._marks)
        took = time.monotonic() - began
        self.stats.count(len(submissions), sum(submission.size for submission in submissions), took)
        self._share.commit_took(took)
        self._committed(submissions)
        for group, below in trims:
            self.trimmer.add(group, below)
        for submission in submissions:
            if submission.trimmed is not None:
                self._await_trims(submission, submission.trimmed)

    def _retrying(self, transaction: Callable[[], None]) -> None:
        """Run a transaction, again when a reader was in its way. It has been aborted whole each time."""
        for _ in range(MAX_DEADLOCKS):
            try:
                return transaction()
            except self._database.deadlock:
                continue
        return transaction()

    def _await_trims(self, submission: Submission, trimmed: Callable[[], None]) -> None:
        for write in submission.writes:
            if isinstance(write, TrimEntries):
                self.trimmer.wait(write.group, write.below, lambda: self._notify(trimmed))

    def _trim(self) -> None:
        try:
            self._share.step_took(self.trimmer.step())
        except self._database.deadlock:
            return  # nothing was deleted; the next step tries again
