"""The receiving end of sd_notify(3): what a service manager hears from its daemons."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

MAX_DATAGRAM = 64 * 1024
MAX_DAEMONS = 1024


@dataclass
class DaemonState:
    """What one process has said about itself so far.

    Attributes:
        pid: the process.
        name: who it is ("store 1 node 0"); empty until it says so.
        ready: it serves.
        status: its last STATUS.
        failed: it said that it ends because of `status`.
        stopping: it is on its way out, on purpose.
    """

    pid: int
    name: str = ""
    ready: bool = False
    status: str = ""
    failed: bool = False
    stopping: bool = False
    ended: bool = False
    waiting: list[Deferred[DaemonState]] = field(default_factory=list, repr=False)

    def take(self, assignments: Mapping[str, str]) -> None:
        self.name = assignments.get("X_PHXQUEUE_NAME", self.name)
        self.status = assignments.get("STATUS", self.status)
        self.ready = self.ready or assignments.get("READY") == "1"
        self.failed = self.failed or assignments.get("ERRNO", "0") != "0"
        self.stopping = self.stopping or assignments.get("STOPPING") == "1"

    def settled(self) -> bool:
        """Whether the question "did it start?" has an answer."""
        return self.ready or self.failed or self.ended


class NotifySocket(DatagramProtocol):
    """Listens where ``NOTIFY_SOCKET`` points and keeps a `DaemonState` per process.

    The socket is abstract: there is no file to clean up, and no limit on how deep the checkout may lie. Daemons in
    other network namespaces cannot see abstract sockets: for them give a `path` (of at most 107 bytes).
    """

    noisy = False

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.name = f"phxqueue-{os.getpid()}-{secrets.token_hex(8)}"
        self._states: dict[int, DaemonState] = {}
        self._port: Any = None
        self._log = Logger(namespace="phxqueue.admin.notify")

    @property
    def environment(self) -> dict[str, str]:
        """What a daemon needs in its environment to find this socket."""
        return {"NOTIFY_SOCKET": "@" + self.name if self.path is None else str(self.path)}

    def listen(self, reactor: Any) -> None:
        """Open the socket."""
        address = "\0" + self.name if self.path is None else str(self.path)
        self._port = reactor.listenUNIXDatagram(address, self, maxPacketSize=MAX_DATAGRAM)

    def close(self) -> Any:
        """Close the socket; fires when that is done."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
        port, self._port = self._port, None
        return port.stopListening() if port is not None else None

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """Take a message; one without MAINPID cannot be attributed and is dropped."""
        lines = datagram.decode(errors="replace").split("\n")
        assignments = dict(line.split("=", 1) for line in lines if "=" in line)
        pid = assignments.get("MAINPID", "")
        if not pid.isdigit():
            self._log.debug("a notification without MAINPID: {text}", text=datagram)
            return
        state = self.state(int(pid))
        state.take(assignments)
        self._tell(state)

    def state(self, pid: int) -> DaemonState:
        """Return what is known of a process (nothing, at first)."""
        if pid not in self._states and len(self._states) >= MAX_DAEMONS:
            self._states.pop(next(iter(self._states)))
        return self._states.setdefault(pid, DaemonState(pid))

    def named(self, name: str) -> DaemonState | None:
        """Return what the newest process of that name has said; None: nothing yet."""
        return next((state for state in reversed(self._states.values()) if state.name == name), None)

    def ended(self, pid: int) -> None:
        """Say that a process is gone: it will not become ready any more."""
        if self._port is not None:
            self._port.doRead()  # what it said before its end is there already, though the reactor may tell of it later
        state = self.state(pid)
        state.ended = True
        self._tell(state)

    def when_settled(self, pid: int) -> Deferred[DaemonState]:
        """Fires when a process is ready, has failed, or is gone."""
        state = self.state(pid)
        result: Deferred[DaemonState] = Deferred()
        if state.settled():
            result.callback(state)
        else:
            state.waiting.append(result)
        return result

    def _tell(self, state: DaemonState) -> None:
        if state.settled():
            waiting, state.waiting = state.waiting, []
            for deferred in waiting:
                if not deferred.called:
                    deferred.callback(state)
