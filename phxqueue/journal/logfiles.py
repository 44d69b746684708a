"""Prepares the next log file of Berkeley DB: full size, filled with zeros, on disk.

Berkeley DB makes its log files sparse. Every commit that reaches a new block then also has to have the file system
commit the allocation, which about doubles the time of a flush of more than a few kilobytes. `DB_LOG_ZERO` would fill
the file inside a commit; this does it ahead, in the checkpoint thread. Berkeley DB takes the file as it finds it: a log
file without a header is one that a crash interrupted right after it was made, a case it has to know anyway.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from twisted.logger import Logger

from phxqueue.config.settings import JournalSettings
from phxqueue.journal.database import Database
from phxqueue.journal.directory import sync_directory

PIECE_BYTES = 1 << 20
"""Zeros written and flushed at a time: commits go on between two pieces."""

PAUSE_S = 0.002
"""Pause between two pieces."""

PREPARE_WHEN_FULL = 0.25
"""The next file is prepared when this part of the current one is used: an idle node prepares nothing."""

_TEMPORARY = "prepared.tmp"


def log_file_name(number: int) -> str:
    """Return Berkeley DB's name of a log file."""
    return f"log.{number:010d}"


def fill_with_zeros(path: Path, size: int, stop: threading.Event | None = None) -> bool:
    """Make a file of zeros and have it on disk. Raises OSError.

    With `stop` it is done piece by piece beside commits, and given up (False is returned) once that is set.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    zeros = bytes(PIECE_BYTES)
    try:
        while size > 0:
            size -= os.write(fd, zeros[:size])
            if stop is not None:
                os.fdatasync(fd)
                if stop.wait(PAUSE_S):
                    return False
        os.fsync(fd)
    finally:
        os.close(fd)
    return True


def prepare_first(home: Path, size: int) -> None:
    """Prepare the first log file of a directory that is being made. Raises OSError."""
    fill_with_zeros(home / log_file_name(1), size)
    sync_directory(home)


class LogPreparer:
    """Keeps one log file ready."""

    def __init__(self, database: Database, home: Path, settings: JournalSettings) -> None:
        self.stop = threading.Event()
        """Set to have the preparation at hand given up."""
        self._database = database
        self._home = home
        self._file_bytes = settings.log_file_bytes
        self._min_free_bytes = settings.min_free_bytes
        # When the log fills faster, commits are large, allocation is a small part of them, and the zeros, which are as
        # many bytes again as are logged, take disk and processor from them.
        self._max_rate = settings.prepare_max_rate
        self._prepared = 0
        self._seen = (0, 0, time.monotonic())
        self._log = Logger()
        (home / _TEMPORARY).unlink(missing_ok=True)

    def prepare_next(self) -> None:
        """Prepare the next log file when it is time to. What fails here costs speed only."""
        current, offset = self._database.log_position()
        fast = self._fill_rate(current, offset) > self._max_rate or not self._max_rate
        if fast or self._prepared > current or offset < self._file_bytes * PREPARE_WHEN_FULL:
            return
        self._prepared = current + 1
        temporary, target = self._home / _TEMPORARY, self._home / log_file_name(current + 1)
        try:
            space = os.statvfs(self._home)
            if target.exists() or space.f_bavail * space.f_frsize < self._min_free_bytes + 2 * self._file_bytes:
                return
            if fill_with_zeros(temporary, self._file_bytes, self.stop):
                # A link, not a rename: when Berkeley DB was faster and has made the file, it must stay.
                os.link(temporary, target)
                sync_directory(self._home)
        except FileExistsError:
            pass
        except OSError as error:
            self._log.warn("log file {name} could not be prepared: {reason}", name=target, reason=str(error))
        finally:
            temporary.unlink(missing_ok=True)

    def _fill_rate(self, current: int, offset: int) -> float:
        """Return the bytes per second logged since this was last asked."""
        file, before, at = self._seen
        self._seen = (current, offset, time.monotonic())
        grown = (current - file) * self._file_bytes + offset - before
        return grown / max(self._seen[2] - at, 0.001)
