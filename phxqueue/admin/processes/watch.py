"""Processes that are not our children: whose are they, and when do they end?"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from phxqueue.daemon.pidfd import when_ended

__all__ = ["command_line", "is_running", "read_pid_file", "send_signal", "when_ended", "working_directory"]

PROC = Path("/proc")


def is_running(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not yet collected by its parent does not."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in ("Z", "X")


def command_line(pid: int) -> list[str]:
    """Return the arguments a process was started with; empty when it is gone or hidden from us."""
    try:
        raw = (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return []
    return [os.fsdecode(argument) for argument in raw.split(b"\0") if argument]


def working_directory(pid: int) -> Path | None:
    """Return where a process runs, when we may know."""
    try:
        return Path(os.readlink(PROC / str(pid) / "cwd"))
    except OSError:
        return None


def read_pid_file(path: Path) -> int | None:
    """Return the process id in a pid file; None when there is no such file, or no number in it."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() and int(text) > 0 else None


def send_signal(pid: int, number: signal.Signals) -> bool:
    """Send a signal; False when the process is gone already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
