"""Builds the log observer that a node's ``log:`` settings ask for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    jsonFileLogObserver,
    textFileLogObserver,
)
from twisted.python.logfile import LogFile

DEFAULT_LOG_FILE = "twistd.log"
ROTATE_BYTES = 16 << 20
ROTATED_FILES = 10


def observer_factory(level: str, log_format: str, twistd: Mapping[str, Any]) -> Callable[[], ILogObserver]:
    """Return what twistd's ``--logger`` expects: a callable that opens the log and returns its observer.

    Args:
        level: least important level that is logged.
        log_format: ``human`` or ``json`` (one object per event).
        twistd: twistd's own options, which say where the log goes (``logfile``, ``nodaemon``).
    """

    def build() -> ILogObserver:
        return filtered_observer(_open(twistd), level, log_format)

    return build


def filtered_observer(stream: TextIO, level: str, log_format: str) -> ILogObserver:
    """Return an observer that writes events of at least `level` to `stream`."""
    write = jsonFileLogObserver(stream) if log_format == "json" else textFileLogObserver(stream)
    predicate = LogLevelFilterPredicate(LogLevel.levelWithName(level))
    return FilteringLogObserver(write, [predicate])


def _open(twistd: Mapping[str, Any]) -> Any:
    path = twistd.get("logfile")
    if path == "-" or (path is None and twistd.get("nodaemon")):
        return sys.stdout
    return LogFile.fromFullPath(path or DEFAULT_LOG_FILE, rotateLength=ROTATE_BYTES, maxRotatedFiles=ROTATED_FILES)
