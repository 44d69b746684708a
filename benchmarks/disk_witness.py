"""Tells how long the disk itself stood still, while something else is measured on it."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from benchmarks.calibration import DISK_RECORD_BYTES

PAUSE_S = 0.005


class DiskWitness:
    """Makes one record durable after another, always in the same place of a file of its own, in a thread.

    It allocates nothing and shares no file with anybody: when it waits, it is the disk that everybody waits for.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "witness"
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._longest = 0.0
        self._since: float | None = None  # of the write under way
        self._thread = threading.Thread(target=self._watch, name="disk witness", daemon=True)

    def __enter__(self) -> DiskWitness:
        self._path.write_bytes(bytes(DISK_RECORD_BYTES))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._path.unlink()

    def begin(self) -> None:
        """Forget what was before; a write under way counts from now on."""
        with self._lock:
            self._longest = 0.0
            if self._since is not None:
                self._since = time.monotonic()

    def longest(self) -> float:
        """The longest write since `begin`, seconds; one that goes on included."""
        with self._lock:
            going_on = 0.0 if self._since is None else time.monotonic() - self._since
            return max(self._longest, going_on)

    def _watch(self) -> None:
        record = os.urandom(DISK_RECORD_BYTES)
        file = os.open(self._path, os.O_WRONLY)
        try:
            while not self._stop.wait(PAUSE_S):
                with self._lock:
                    self._since = time.monotonic()
                os.pwrite(file, record, 0)
                os.fdatasync(file)
                with self._lock:
                    self._longest = max(self._longest, time.monotonic() - self._since)
                    self._since = None
        finally:
            os.close(file)
