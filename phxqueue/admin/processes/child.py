"""One daemon as our own child, in the foreground, its output kept in a file."""

from __future__ import annotations

import os
import signal
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from phxqueue.admin.errors import AdminError
from phxqueue.admin.processes.notify import DaemonState, NotifySocket
from phxqueue.admin.processes.watch import when_ended

TAIL_LINES = 15


def twistd() -> list[str]:
    """Return the command that runs twistd with this interpreter, whether or not its directory is on the PATH."""
    return [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]


def log_tail(path: Path, lines: int = TAIL_LINES) -> str:
    """Return the last lines of a log for an error message; a remark when there is none."""
    try:
        with path.open(errors="replace") as log:
            tail = deque(log, maxlen=lines)
    except OSError:
        return f"(there is no {path})"
    return "".join(tail).rstrip() or f"({path} is empty)"


class StartError(AdminError):
    """A daemon did not come up; `reason` is what it said, `log` the end of its log."""

    def __init__(self, name: str, reason: str, log: str) -> None:
        super().__init__(f"{name} did not start: {reason}\nThe end of its log:\n{log}")
        self.reason = reason


class Child(ProcessProtocol):
    """A process we started: `ready` and `ended` are its two events.

    Args:
        name: for messages.
        arguments: the whole command.
        output: file that takes stdout and stderr, appended.
    """

    def __init__(
        self,
        reactor: Any,
        name: str,
        arguments: Sequence[str],
        output: Path,
        notify: NotifySocket,
        *,
        directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.arguments = list(arguments)
        self.output = output
        self.exit_status: int | None = None
        self.exit_signal: int | None = None
        self._reactor = reactor
        self._notify = notify
        self._directory = directory
        self._environment = dict(environment or {})
        self._process: Any = None
        self._pid = 0
        self._watchers: list[Deferred[Child]] = []

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def running(self) -> bool:
        return self._process is not None

    @property
    def state(self) -> DaemonState:
        """What it has said so far."""
        return self._notify.state(self._pid)

    def spawn(self) -> None:
        """Start the process."""
        self.output.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, **self._environment, **self._notify.environment}
        with self.output.open("ab") as log, open(os.devnull, "rb") as nothing:
            self._process = self._reactor.spawnProcess(
                self,
                self.arguments[0],
                self.arguments,
                env=environment,
                path=None if self._directory is None else str(self._directory),
                childFDs={0: nothing.fileno(), 1: log.fileno(), 2: log.fileno()},
            )
        self._pid = self._process.pid
        self.exit_status = self.exit_signal = None
        # Twisted hears of an ended child by SIGCHLD, where its handlers are installed (in a test runner they are
        # not). The pidfd tells in any case.
        when_ended(self._reactor, self._pid).addCallback(lambda _: self._reap())

    def _reap(self) -> None:
        if self._process is not None:
            self._process.reapProcess()

    async def ready(self, timeout_s: float) -> None:
        """Wait until it serves.

        Raises:
            StartError: it ended, said why it cannot, or took longer.
        """
        settled = self._notify.when_settled(self._pid)
        try:
            state = await settled.addTimeout(timeout_s, self._reactor)
        except TimeoutError:
            raise StartError(self.name, f"not ready within {timeout_s:g} s", log_tail(self.output)) from None
        if not state.ready:
            await self.ended()
            reason = state.status or f"it ended with {self.outcome}"
            raise StartError(self.name, reason, log_tail(self.output))

    @property
    def outcome(self) -> str:
        """How it ended, for messages."""
        if self.exit_signal is not None:
            return signal.Signals(self.exit_signal).name
        return f"status {self.exit_status}"

    def ended(self) -> Deferred[Child]:
        """Fires when the process has ended (at once when it is not running)."""
        result: Deferred[Child] = Deferred()
        if self.running:
            self._watchers.append(result)
        else:
            result.callback(self)
        return result

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when it has ended."""
        if self._process is not None:
            # Should it have ended meanwhile, the news is on the way to us.
            with suppress(ProcessExitedAlready):
                self._process.signalProcess(number)

    async def stop(self, timeout_s: float) -> bool:
        """SIGTERM, then SIGKILL when that is not heeded in time; False says that it had to be killed."""
        self.signal(signal.SIGTERM)
        try:
            await self.ended().addTimeout(timeout_s, self._reactor)
        except TimeoutError:
            await self.kill()
            return False
        return True

    async def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.signal(signal.SIGKILL)
        await self.ended()

    def processEnded(self, reason: Failure) -> None:
        """Twisted's word that it is over."""
        self._process = None
        self.exit_status = getattr(reason.value, "exitCode", None)
        self.exit_signal = getattr(reason.value, "signal", None)
        self._notify.ended(self._pid)
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            if not watcher.called:
                watcher.callback(self)
