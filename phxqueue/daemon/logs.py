"""Builds the log observer that a node's ``log:`` settings ask for."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from functools import partial
from typing import Any, TextIO

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
    textFileLogObserver,
)
from twisted.python.logfile import LogFile

DEFAULT_LOG_FILE = "twistd.log"
ROTATE_BYTES = 16 << 20
ROTATED_FILES = 10


_build: Callable[[], ILogObserver] | None = None  # one process, one log


def configure(level: str, log_format: str, twistd: Mapping[str, Any]) -> str:
    """Decide how this process logs; return the name to give to twistd as ``--logger`` (it takes only a name).

    Args:
        level: least important level that is logged.
        log_format: ``human`` or ``json`` (one object per event).
        twistd: twistd's own options, which say where the log goes (``logfile``, ``nodaemon``).
    """
    global _build
    _build = partial(_filtered_log, twistd, level, log_format)
    return f"{__name__}.{observer.__name__}"


def observer() -> ILogObserver:
    """Open the log that was configured; called by twistd when it starts logging."""
    if _build is None:
        raise RuntimeError("configure() has not been called")
    return _build()


def filtered_observer(stream: TextIO, level: str, log_format: str) -> ILogObserver:
    """Return an observer that writes events of at least `level` to `stream`."""
    write = FileLogObserver(stream, event_as_json) if log_format == "json" else textFileLogObserver(stream)
    predicate = LogLevelFilterPredicate(LogLevel.levelWithName(level))
    return FilteringLogObserver(write, [predicate])


def event_as_json(event: LogEvent) -> str:
    """Return an event as one line of JSON: time, level, logger, message, its plain fields, and the traceback if any.

    Twisted's own form keeps neither the text of an exception nor where it was raised.
    """
    line: dict[str, Any] = {
        name: value
        for name, value in event.items()
        if not name.startswith("log_") and (value is None or isinstance(value, (str, int, float, bool)))
    }
    level = event.get("log_level")
    line["time"] = datetime.fromtimestamp(event.get("log_time", 0.0), timezone.utc).isoformat(timespec="milliseconds")
    line["level"] = level.name if level is not None else "info"
    line["logger"] = event.get("log_namespace", "")
    line["message"] = formatEvent(event)
    failure = event.get("log_failure")
    if failure is not None:
        line["traceback"] = failure.getTraceback()
    return json.dumps(line, ensure_ascii=False) + "\n"


def _filtered_log(twistd: Mapping[str, Any], level: str, log_format: str) -> ILogObserver:
    return filtered_observer(_open(twistd), level, log_format)


def _open(twistd: Mapping[str, Any]) -> Any:
    path = twistd.get("logfile")
    if path == "-" or (path is None and twistd.get("nodaemon")):
        return sys.stdout
    return LogFile.fromFullPath(path or DEFAULT_LOG_FILE, rotateLength=ROTATE_BYTES, maxRotatedFiles=ROTATED_FILES)
