"""The demo's daemons as processes: which of them run, starting one, stopping all."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList, TimeoutError
from twisted.internet.utils import getProcessOutputAndValue
from twisted.python.failure import Failure

from phxqueue.admin.demo.layout import RUN, DaemonPlan
from phxqueue.admin.processes.child import StartError, log_tail, twistd
from phxqueue.admin.processes.notify import NotifySocket
from phxqueue.admin.processes.watch import (
    PROC,
    command_line,
    is_running,
    read_pid_file,
    send_signal,
    when_ended,
    working_directory,
)

#: A store replays its log before it is ready; a demo's is short, but the machine may be busy.
START_TIMEOUT_S = 60.0
#: How long a daemon may take over SIGTERM.
STOP_TIMEOUT_S = 20.0

_ROLES = frozenset(f"phxqueue-{role}" for role in ("store", "lock", "scheduler", "consumer"))


@dataclass(frozen=True, slots=True)
class RunningDaemon:
    """A daemon of a demo that runs."""

    name: str
    pid: int


def running_daemons(directory: Path) -> list[RunningDaemon]:
    """Return the daemons of the demo in a directory, by name: processes started there with one of its pid files.

    The pid files themselves are not asked: after a crash they name processes that are gone, or other ones, and a daemon
    whose pid file was lost runs all the same.
    """
    found = []
    for pid in _processes():
        name = _name_of(pid, directory)
        if name is not None and is_running(pid):
            found.append(RunningDaemon(name, pid))
    return sorted(found, key=lambda daemon: daemon.name)


def _processes() -> Iterator[int]:
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            yield int(entry.name)


def _name_of(pid: int, directory: Path) -> str | None:
    """The name of the demo's daemon that a process is; None: it is something else."""
    arguments = command_line(pid)
    if not any(argument in _ROLES for argument in arguments):
        return None
    try:
        pid_file = Path(arguments[arguments.index("--pidfile") + 1])
    except (ValueError, IndexError):
        return None
    if pid_file.parent != Path(RUN) or working_directory(pid) != directory.resolve():
        return None
    return pid_file.stem


def remove_stale_pid_files(directory: Path, running: Iterable[RunningDaemon]) -> None:
    """Remove pid files whose daemon is gone: twistd refuses to start while the number belongs to anybody."""
    alive = {daemon.name for daemon in running}
    for pid_file in (directory / RUN).glob("*.pid"):
        if pid_file.stem not in alive:
            pid_file.unlink(missing_ok=True)


class Launcher:
    """Starts daemons in a directory."""

    def __init__(self, reactor: Any, directory: Path, notify: NotifySocket) -> None:
        self._reactor = reactor
        self._directory = directory
        self._notify = notify
        self._forking: list[Deferred[Any]] = []

    async def start(self, plan: DaemonPlan) -> RunningDaemon:
        """Start a daemon and wait until it says that it is ready.

        Raises:
            StartError: with what it said and the end of its log.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        output, status = await self._fork(plan)
        pid = read_pid_file(self._directory / plan.pid_file)
        if status or pid is None:
            # A daemon that has ended by now took its pid file with it.
            state = self._notify.named(plan.announced)
            last_word = state.status if state is not None else f"it ended at once (twistd: status {status})"
            raise self._error(plan, output.strip() or last_word)
        gone = when_ended(self._reactor, pid)
        gone.addCallbacks(lambda _: self._notify.ended(pid), lambda failure: failure.trap(CancelledError))
        try:
            patience = max(deadline - time.monotonic(), 0.1)
            state = await self._notify.when_settled(pid).addTimeout(patience, self._reactor)
        except TimeoutError:
            raise self._error(plan, f"not ready within {START_TIMEOUT_S:g} s") from None
        finally:
            gone.cancel()
        if not state.ready:
            raise self._error(plan, state.status or "it ended")
        return RunningDaemon(plan.name, pid)

    async def settled(self) -> None:
        """Wait until every daemon that is being started has forked, or failed to: then all there are can be seen."""
        await DeferredList(self._forking)

    def _fork(self, plan: DaemonPlan) -> Deferred[tuple[str, int]]:
        """Run twistd; it returns once the daemon has forked, and tells a mistake in the configuration on its output."""
        command = [*twistd(), *plan.arguments]
        process = getProcessOutputAndValue(
            command[0],
            command[1:],
            env={**os.environ, **self._notify.environment},
            path=str(self._directory),
            reactor=self._reactor,
        )
        # Nobody may cancel the process itself: it goes on, and settled() waits for it.
        forked: Deferred[tuple[str, int]] = Deferred()
        process.addCallbacks(_output_and_status, _killed).addCallback(_tell, forked)
        self._forking.append(process)
        return forked

    def _error(self, plan: DaemonPlan, reason: str) -> StartError:
        return StartError(plan.name, reason, log_tail(self._directory / plan.log_file))


def _tell(told: tuple[str, int], forked: Deferred[tuple[str, int]]) -> None:
    if not forked.called:
        forked.callback(told)


def _killed(failure: Failure) -> tuple[str, int]:
    return f"twistd was killed: {failure.value}", 1


def _output_and_status(result: tuple[bytes, bytes, int]) -> tuple[str, int]:
    output, errors, status = result
    return (errors or output).decode(errors="replace"), status


async def kill_daemon(reactor: Any, pid: int) -> None:
    """SIGKILL, and wait until the process is gone."""
    if send_signal(pid, signal.SIGKILL):
        await when_ended(reactor, pid)


async def stop_daemons(
    reactor: Any, directory: Path, daemons: Sequence[RunningDaemon], say: Callable[[str], None]
) -> None:
    """SIGTERM to all, SIGKILL to those that do not heed it in time; leaves no process and no pid file."""
    started = time.monotonic()
    ended = [(daemon, when_ended(reactor, daemon.pid)) for daemon in daemons]
    for daemon in daemons:
        send_signal(daemon.pid, signal.SIGTERM)
    for daemon, gone in ended:
        try:
            await gone.addTimeout(max(STOP_TIMEOUT_S - (time.monotonic() - started), 0.1), reactor)
        except TimeoutError:
            say(f"{daemon.name} (pid {daemon.pid}) does not stop: killing it")
            await kill_daemon(reactor, daemon.pid)
        else:
            say(f"{daemon.name} stopped")
    remove_stale_pid_files(directory, ())
