"""Threads beside the writer: database checkpoints with removal of old log files, and a watch on free space.

Both end the journal when something fails that writes; neither ever runs in the reactor's thread.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from twisted.logger import Logger

from phxqueue.config.settings import JournalSettings
from phxqueue.journal import bdb
from phxqueue.journal.database import Database
from phxqueue.journal.logfiles import LogPreparer

RESUME_FACTOR = 1.125
"""Enqueues are accepted again when this much more than `min_free_bytes` is free. Not configured: it only keeps the
state from changing with every file.
"""


class Checkpointer:
    """Takes a checkpoint after `checkpoint_bytes` or `checkpoint_interval_s`, if there was anything to write."""

    def __init__(
        self,
        database: Database,
        settings: JournalSettings,
        written: Callable[[], int],
        failed: Callable[[str], None],
        preparer: LogPreparer,
    ) -> None:
        """`written` returns the bytes committed so far; `failed` is called in this thread."""
        self._database = database
        self._settings = settings
        self._written = written
        self._failed = failed
        self._preparer = preparer
        self._stop = preparer.stop
        self._checkpointed_bytes = 0
        self._checkpointed_at = time.monotonic()
        self._flushed_bytes = 0
        self._log = Logger()
        self._thread = threading.Thread(target=self._run, name="phxqueue-journal-checkpoint", daemon=True)
        self.checkpoints = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def halt(self) -> None:
        """Begin nothing more: something has failed. Any thread."""
        self._stop.set()

    def stop(self) -> None:
        """End, after the step at hand. Blocks."""
        self.halt()
        self._thread.join()

    def _run(self) -> None:
        interval = self._settings.trickle_interval_s
        if self._settings.sync != "always":
            interval = min(interval, self._settings.sync_interval_ms / 1000)
        try:
            while not self._stop.wait(interval):
                self._step()
        except BaseException as error:
            self._failed(f"checkpoint: {bdb.describe(error)}")

    def _step(self) -> None:
        written = self._written()
        if written == self._flushed_bytes and written == self._checkpointed_bytes:
            return
        if self._settings.sync != "always" and written != self._flushed_bytes:
            self._database.flush_log()
        if written != self._flushed_bytes:
            self._preparer.prepare_next()
            self._database.trickle(self._settings.trickle_clean_percent)
        self._flushed_bytes = written
        if self._stop.is_set():
            return
        due = time.monotonic() - self._checkpointed_at >= self._settings.checkpoint_interval_s
        if due or written - self._checkpointed_bytes >= self._settings.checkpoint_bytes:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Take a checkpoint now and remove the log files it makes superfluous. Raises the binding's errors."""
        written = self._written()
        began = time.monotonic()
        self._database.checkpoint()
        removed = self._database.remove_old_logs()
        self._checkpointed_bytes, self._checkpointed_at = written, time.monotonic()
        self.checkpoints += 1
        self._log.debug(
            "journal checkpoint took {seconds:.3f} s, {removed} log files removed",
            seconds=self._checkpointed_at - began,
            removed=removed,
        )


class SpaceWatch:
    """Watches the free space of a file system; calls `changed(accepting)` (in its own thread) at each change."""

    def __init__(
        self,
        directory: Path,
        settings: JournalSettings,
        changed: Callable[[bool], None],
        statvfs: Callable[[Path], os.statvfs_result] = os.statvfs,
    ) -> None:
        self._directory = directory
        self._min_free = settings.min_free_bytes
        self._interval = settings.free_check_interval_s
        self._changed = changed
        self._statvfs = statvfs
        self._stop = threading.Event()
        self._log = Logger()
        self._thread = threading.Thread(target=self._run, name="phxqueue-journal-space", daemon=True)
        self.accepting = True
        self.free_bytes = 0
        self.look()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End. Blocks."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            before = self.accepting
            self.look()
            if self.accepting != before:
                self._changed(self.accepting)

    def look(self) -> None:
        """Bring `accepting` up to date. A file system that cannot be asked counts as full."""
        try:
            stat = self._statvfs(self._directory)
        except OSError as error:
            if self.accepting:
                self._log.error(
                    "free space of {directory} cannot be told ({reason}): enqueues are refused",
                    directory=self._directory,
                    reason=error.strerror,
                )
            self.accepting = False
            return
        self.free_bytes = stat.f_bavail * stat.f_frsize
        if self.accepting and self.free_bytes < self._min_free:
            self.accepting = False
            self._log.warn(
                "only {free} bytes are free on the file system of {directory}, less than {minimum}: enqueues are "
                "refused until there is room again",
                free=self.free_bytes,
                directory=self._directory,
                minimum=self._min_free,
            )
        elif not self.accepting and self.free_bytes >= self._min_free * RESUME_FACTOR:
            self.accepting = True
            self._log.info(
                "{free} bytes are free on the file system of {directory}: enqueues are accepted again",
                free=self.free_bytes,
                directory=self._directory,
            )
