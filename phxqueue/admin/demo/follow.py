"""Follows log files as they grow: woken by inotify, never by a timer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from twisted.internet import inotify
from twisted.internet.defer import Deferred
from twisted.python.filepath import FilePath

Predicate = Callable[[str], bool]


class LogFollower:
    """Reads the lines that are appended to some files of one directory, and tells who waits for one of them.

    Args:
        files: to follow from their present end; they may not exist yet.
    """

    def __init__(self, reactor: Any, files: Iterable[Path]) -> None:
        self._positions = {path: path.stat().st_size if path.exists() else 0 for path in files}
        self._lines: list[tuple[Path, str]] = []
        self._waiting: tuple[Predicate, Deferred[tuple[Path, str]]] | None = None
        self._notifier = inotify.INotify(reactor)
        self._notifier.startReading()
        for directory in {path.parent for path in self._positions}:
            self._notifier.watch(
                FilePath(str(directory)), mask=inotify.IN_MODIFY | inotify.IN_CREATE, callbacks=[self._changed]
            )

    def close(self) -> None:
        """Stop following."""
        self._notifier.stopReading()

    def line(self, wanted: Predicate) -> Deferred[tuple[Path, str]]:
        """Fires with the first line, written since following began, for which `wanted` is true, and its file.

        Lines before it are passed over for good. One asker at a time.
        """
        result: Deferred[tuple[Path, str]] = Deferred(self._cancelled)
        self._waiting = (wanted, result)
        self._read_all()
        return result

    def _cancelled(self, _: Deferred[tuple[Path, str]]) -> None:
        self._waiting = None

    def _changed(self, _watch: object, _path: object, _mask: int) -> None:
        self._read_all()

    def _read_all(self) -> None:
        for path, position in self._positions.items():
            if not path.exists():
                continue
            with path.open("rb") as log:
                log.seek(position)
                data = log.read()
            complete = data[: data.rfind(b"\n") + 1]
            self._positions[path] = position + len(complete)
            self._lines += [(path, line) for line in complete.decode(errors="replace").splitlines()]
        if self._waiting is None:
            return
        wanted, result = self._waiting
        for place, (path, line) in enumerate(self._lines):
            if wanted(line):
                self._waiting = None
                del self._lines[: place + 1]
                result.callback((path, line))
                return
        self._lines.clear()
