"""Processes that are not our children: whose are they, and when do they end?"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer

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


@implementer(IReadDescriptor)
class _PidWatch:
    """A pidfd in the reactor: readable once its process has ended."""

    def __init__(self, reactor: Any, descriptor: int) -> None:
        self.done: Deferred[None] = Deferred(lambda _: self._close())
        self._reactor = reactor
        self._descriptor = descriptor
        reactor.addReader(self)

    def fileno(self) -> int:
        return self._descriptor

    def logPrefix(self) -> str:
        return "pidfd"

    def doRead(self) -> None:
        self._close()
        self.done.callback(None)

    def connectionLost(self, reason: Any) -> None:
        """The reactor is shutting down."""
        self._close()

    def _close(self) -> None:
        if self._descriptor >= 0:
            self._reactor.removeReader(self)
            os.close(self._descriptor)
            self._descriptor = -1


def when_ended(reactor: Any, pid: int) -> Deferred[None]:
    """Fires when a process has ended (at once if it has). Cancel it to stop watching."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        ended: Deferred[None] = Deferred()
        ended.callback(None)
        return ended
    return _PidWatch(reactor, descriptor).done


def send_signal(pid: int, number: signal.Signals) -> bool:
    """Send a signal; False when the process is gone already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
