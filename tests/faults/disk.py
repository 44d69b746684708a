"""Disk faults for real processes: builds the shim (shim.c), steers it through its control file, plays power failures.

    faults = DiskFaults.make(tmp_path, directory)
    subprocess.Popen(..., env={**os.environ, **faults.environment(shim)})
    faults.fail("sync", errno.EIO, name="log.*")     # from now on, in the running process

One rule per slot; the first one that strikes a call decides, delays add up.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_name("shim.c")
CALLS = {"write": 1, "sync": 2, "truncate": 4}
DELAY, FAIL, DROP = 1, 2, 3
ENDLESS = 1 << 60
RULES = 8

_UNDO = struct.Struct("=IIqqq")


class ChangeKind(IntEnum):
    """What a process did to a file."""

    END = 0
    WRITE = 1
    SYNC = 2
    TRUNCATE = 3


class _Rule(ctypes.Structure):
    _fields_ = (
        ("calls", ctypes.c_uint32),
        ("action", ctypes.c_uint32),
        ("error", ctypes.c_int32),
        ("delay_us", ctypes.c_uint32),
        ("skip", ctypes.c_int64),
        ("times", ctypes.c_int64),
        ("seen", ctypes.c_int64),
        ("struck", ctypes.c_int64),
        ("name", ctypes.c_char * 64),
    )


class _Control(ctypes.Structure):
    _fields_ = (("magic", ctypes.c_char * 8), ("directory", ctypes.c_char * 1016), ("rules", _Rule * RULES))


class NoCompiler(Exception):
    """There is no C compiler here."""


def build(directory: Path) -> Path:
    """Compile the shim into `directory`. Raises NoCompiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise NoCompiler("no C compiler (cc): contrib/bootstrap installs one where it has to build the binding")
    library = directory / "faults.so"
    options = ["-Wall", "-Wextra", "-Werror", "-O2", "-fPIC", "-shared", "-pthread"]
    subprocess.run([compiler, *options, "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library


class DiskFaults:
    """The control file of one process and the faults of the files below one directory."""

    def __init__(self, control: Path, directory: Path, undo: Path) -> None:
        self._path = control
        self._undo = undo
        if not control.exists():
            fresh = _Control(magic=b"PHXFAULT", directory=os.fsencode(directory.resolve()))
            control.write_bytes(bytes(fresh))
        with control.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), ctypes.sizeof(_Control))
        self._control = _Control.from_buffer(self._map)

    @classmethod
    def make(cls, place: Path, directory: Path) -> DiskFaults:
        """Faults for the files below `directory`, steered by files in `place`."""
        directory.mkdir(parents=True, exist_ok=True)
        return cls(place / f"{directory.name}.faults", directory, place / f"{directory.name}.undo")

    def environment(self, shim: Path, *, power_loss: bool = False) -> dict[str, str]:
        """Return what the process has to be started with; with `power_loss`, lose_unsynced() can be used after it."""
        found = {"LD_PRELOAD": str(shim), "PHXQUEUE_FAULTS": str(self._path)}
        if power_loss:
            found["PHXQUEUE_FAULTS_UNDO"] = str(self._undo)
        return found

    # ---- rules ----------------------------------------------------------------------

    def fail(self, call: str, error: int = errno.EIO, *, name: str = "*", skip: int = 0, times: int = ENDLESS) -> int:
        """Let calls fail with `error`: the first `skip` matching ones pass, then `times` are struck; its slot."""
        return self._set(call, FAIL, name, skip, times, error=error)

    def drop(self, call: str, *, name: str = "*", skip: int = 0, times: int = ENDLESS) -> int:
        """Let calls report success without doing anything."""
        return self._set(call, DROP, name, skip, times)

    def delay(self, call: str, seconds: float, *, name: str = "*", times: int = ENDLESS) -> int:
        """Let calls take longer."""
        return self._set(call, DELAY, name, 0, times, delay_us=int(seconds * 1e6))

    def _set(
        self, call: str, action: int, name: str, skip: int, times: int, *, error: int = 0, delay_us: int = 0
    ) -> int:
        slot = next(number for number, rule in enumerate(self._control.rules) if rule.calls == 0)
        rule = self._control.rules[slot]
        rule.action, rule.error, rule.delay_us = action, error, delay_us
        rule.skip, rule.times, rule.seen, rule.struck = skip, times, 0, 0
        rule.name = name.encode()
        rule.calls = CALLS[call]  # last: from here on it counts
        return slot

    def clear(self) -> None:
        """Let everything work again."""
        for rule in self._control.rules:
            rule.calls = 0

    def struck(self, slot: int) -> int:
        """Return how many calls this rule has struck."""
        return int(self._control.rules[slot].struck)

    # ---- power failure ----------------------------------------------------------------------

    def lose_unsynced(self) -> int:
        """After the process is dead: take every file back to what was really flushed; returns the bytes taken back.

        The cruellest outcome of a power failure: nothing unflushed survives. Names (new files, removed ones) stay.
        """
        lost = 0
        for change in reversed(self._unsynced()):
            if not change.path.exists():
                continue
            with change.path.open("r+b") as file:
                file.seek(change.offset)
                file.write(change.before)
                file.truncate(change.size)
            lost += 1 + len(change.before)
        self._undo.unlink(missing_ok=True)
        return lost

    def _unsynced(self) -> list[Change]:
        changes: list[Change] = []
        for kind, change in self.changes():
            if kind is ChangeKind.SYNC:
                changes = [other for other in changes if other.path != change.path]
            else:
                changes.append(change)
        return changes

    def changes(self) -> Iterator[tuple[ChangeKind, Change]]:
        """Yield what the process did, in that order."""
        with self._undo.open("rb") as file:
            while len(head := file.read(_UNDO.size)) == _UNDO.size:
                kind, path_length, offset, length, size = _UNDO.unpack(head)
                path, before = file.read(path_length), file.read(length)
                if len(path) < path_length or len(before) < length:
                    return  # it was killed before it did that
                yield ChangeKind(kind), Change(Path(os.fsdecode(path)), offset, before, size)


class Change(NamedTuple):
    """One of its calls: what lay at `offset` before, and the size of the file before."""

    path: Path
    offset: int
    before: bytes
    size: int
