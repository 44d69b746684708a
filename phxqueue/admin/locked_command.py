"""Runs a command for as long as a lock is held, and ends it, its whole process group, when the lock is lost.

A command whose input is no terminal gets a process group of its own, so that whatever it has started ends with it. At a
terminal it stays in ours, where Ctrl-C and Ctrl-Z reach both; then only the command itself is ended.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

_LAUNCHER = Path(__file__).with_name("launcher.py")


class LockedCommand(ProcessProtocol):
    """One command, with our own input and output.

    Attributes:
        exit_status: once it has ended: its own, or 128 and the signal that ended it, as a shell has it.
    """

    def __init__(
        self, reactor: Any, command: Sequence[str], environment: Mapping[str, str], *, own_group: bool
    ) -> None:
        self.exit_status: int | None = None
        self._reactor = reactor
        self._command = list(command)
        self._environment = {**os.environ, **environment}
        self._own_group = own_group
        self._waiting: list[Deferred[None]] = []
        self._pid = 0

    def start(self) -> None:
        """Run it."""
        launcher = [sys.executable, "-I", "-S", str(_LAUNCHER), "group" if self._own_group else "-", str(os.getpid())]
        process = self._reactor.spawnProcess(
            self, sys.executable, [*launcher, *self._command], env=self._environment, childFDs={0: 0, 1: 1, 2: 2}
        )
        self._pid = process.pid

    def ended(self) -> Deferred[None]:
        """Fires when it has ended."""
        waiting: Deferred[None] = Deferred()
        if self.exit_status is not None:
            waiting.callback(None)
        else:
            self._waiting.append(waiting)
        return waiting

    async def end(self, grace_s: float) -> None:
        """Ask it to end (SIGTERM), and end it (SIGKILL) when it has not after `grace_s` seconds."""
        if self.exit_status is not None:
            return
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # a stopped one would not notice
        try:
            await self.ended().addTimeout(grace_s, self._reactor)
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await self.ended()
        if self._own_group:  # what it has started, and what has not heeded the first signal
            with suppress(ProcessLookupError):
                os.killpg(self._pid, signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self._own_group:
            with suppress(ProcessLookupError):  # it has not come so far as to have a group
                os.killpg(self._pid, number)
                return
        with suppress(ProcessLookupError):
            os.kill(self._pid, number)

    def processEnded(self, reason: Failure) -> None:
        ending: Any = reason.value
        if ending.signal is not None:
            self.exit_status = 128 + ending.signal
        else:
            self.exit_status = ending.exitCode
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.called:
                waiter.callback(None)
