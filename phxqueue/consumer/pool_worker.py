"""The daemon's side of one process of its pool: starts it, gives it one call at a time, kills it, hears of its end.

The process gets no descriptor of the daemon's but its own pipes (Twisted closes all others in it), so that neither a
socket nor a lock file lives on in it.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import Any, Protocol

from google.protobuf.message import DecodeError
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from phxqueue.consumer.pool_child import ANSWERS, CALLS, MAX_FRAME
from phxqueue.daemon.memory import resident_bytes
from phxqueue.daemon.pidfd import when_ended
from phxqueue.net.framing import FrameDecoder, FrameError, encode_frame
from phxqueue.proto.pool_pb2 import PoolAnswer, PoolCall, PoolReady, PoolStart

#: Longest line of a process's output that is logged whole, in bytes.
_LINE = 8192
#: How long a process that is let go, with nothing to do, may take to end (`atexit` of its handlers' modules).
RETIRE_S = 5.0


class PoolWorkerOwner(Protocol):
    """Who is told what becomes of a process."""

    def worker_ready(self, worker: PoolWorker, ready: PoolReady) -> None:
        """It has said that it is ready, or why it cannot be."""

    def worker_answered(self, worker: PoolWorker, answer: PoolAnswer) -> None:
        """It has finished its call."""

    def worker_ended(self, worker: PoolWorker, how: str) -> None:
        """It is gone."""


class PoolWorker(ProcessProtocol):
    """One process.

    Attributes:
        items: handled so far.
        ready: it has said so.
        killed_because: why we killed it, or "".
    """

    log = Logger()

    def __init__(self, reactor: Any, owner: PoolWorkerOwner, start: PoolStart) -> None:
        self.items = 0
        self.ready = False
        self.killed_because = ""
        self._reactor = reactor
        self._owner = owner
        self._start = start
        self._answers = FrameDecoder(MAX_FRAME)
        self._lines = {1: b"", 2: b""}
        self._process: Any = None
        self._overdue: IDelayedCall | None = None
        self.pid = 0

    def spawn(self) -> None:
        """Start it; `worker_ready` or `worker_ended` follows."""
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        with open(os.devnull, "rb") as nothing:
            self._process = self._reactor.spawnProcess(
                self,
                sys.executable,
                [sys.executable, "-m", "phxqueue.consumer.pool_child", str(os.getpid())],
                env=environment,
                childFDs={0: nothing.fileno(), 1: "r", 2: "r", CALLS: "w", ANSWERS: "r"},
            )
        self.pid = self._process.pid
        # Twisted hears of an ended child by SIGCHLD, where its handlers are installed. The pidfd tells in any case.
        when_ended(self._reactor, self.pid).addCallback(lambda _: self._reap())
        self._write(self._start.SerializeToString())

    @property
    def open(self) -> bool:
        """Whether it can be given something: else it has ended, and the news is on its way."""
        return self._process is not None and CALLS in self._process.pipes

    def send(self, call: PoolCall) -> None:
        """Give it something to do; it must have nothing, and be open."""
        self._write(call.SerializeToString())

    def retire(self) -> None:
        """Let it end when it has finished what it has; it is killed if it does not."""
        if self.open:
            self._process.closeChildFD(CALLS)
            self._overdue = self._reactor.callLater(RETIRE_S, self.kill, "it did not end by itself")

    def kill(self, why: str) -> None:
        """End it now, with whatever it has started."""
        self.killed_because = self.killed_because or why
        if self._process is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        with suppress(ProcessExitedAlready):  # it may not lead its group yet
            self._process.signalProcess(signal.SIGKILL)

    def resident_bytes(self) -> int:
        """What it has in memory now; 0 when it is gone."""
        return resident_bytes(self.pid)

    def _write(self, payload: bytes) -> None:
        self._process.writeToChild(CALLS, encode_frame(payload))

    def _reap(self) -> None:
        if self._process is not None:
            self._process.reapProcess()

    # -- what Twisted tells ---------------------------------------------------------------------------

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """An answer, or something that it prints."""
        if childFD in self._lines:
            self._printed(childFD, data)
            return
        try:
            for frame in self._answers.feed(data):
                self._received(frame)
        except (FrameError, DecodeError) as error:
            self.kill(f"its process {self.pid} sent what is no answer ({error})")

    def _received(self, frame: bytes) -> None:
        if self.ready:
            self._owner.worker_answered(self, PoolAnswer.FromString(frame))
        else:
            self.ready = True
            self._owner.worker_ready(self, PoolReady.FromString(frame))

    def _printed(self, descriptor: int, data: bytes) -> None:
        *lines, rest = (self._lines[descriptor] + data).split(b"\n")
        if len(rest) > _LINE:
            lines, rest = [*lines, rest], b""
        self._lines[descriptor] = rest
        for line in lines:
            self._log_line(line)

    def _log_line(self, line: bytes) -> None:
        if text := line[:_LINE].decode("utf-8", "replace").rstrip():
            self.log.info("handler process {pid}: {text}", pid=self.pid, text=text)

    def processExited(self, reason: Failure) -> None:
        """It is over; somebody it has started may still hold its pipes."""
        process, self._process = self._process, None
        if self._overdue is not None and self._overdue.active():
            self._overdue.cancel()
        for line in self._lines.values():
            self._log_line(line)
        if process is not None:
            process.loseConnection()
        self._owner.worker_ended(self, _how(reason))


def _how(reason: Failure) -> str:
    number = getattr(reason.value, "signal", None)
    if number is not None:
        return f"killed by {signal.Signals(number).name}"
    return f"exit status {getattr(reason.value, 'exitCode', None)}"
