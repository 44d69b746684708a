"""The reader process, seen from the benchmark."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol

from phxqueue.admin.processes.watch import when_ended


class Reader(ProcessProtocol):
    """Starts the reader and keeps its last report."""

    def __init__(self, reactor: Any, config: Path, *, latency: bool) -> None:
        self.report: dict[str, Any] = {"items": 0, "bytes": 0, "answers": 0, "latency_us": {}}
        self.pid = 0
        self._reactor = reactor
        self._arguments = [sys.executable, "-m", "benchmarks.reader", str(config)] + ["--latency"] * latency
        self._process: Any = None
        self._partial = b""
        self._wanted = 0
        self._started: Deferred[None] = Deferred()
        self._reached: Deferred[None] | None = None

    def start(self) -> Deferred[None]:
        """Start it; fires when it reads."""
        self._process = self._reactor.spawnProcess(
            self, self._arguments[0], self._arguments, env=dict(os.environ), childFDs={0: 0, 1: "r", 2: 2}
        )
        self.pid = self._process.pid
        return self._started

    def read(self, items: int, timeout_s: float) -> Deferred[None]:
        """Fires when it has read so many items in all."""
        self._wanted = items
        self._reached = Deferred()
        self._check()
        return self._reached.addTimeout(timeout_s, self._reactor)

    async def stop(self) -> None:
        """End it; `report` then has its last word."""
        if self._process is not None:
            ended = when_ended(self._reactor, self.pid)
            self._process.signalProcess("TERM")
            await ended

    def outReceived(self, data: bytes) -> None:
        """Reports, one a line."""
        *lines, self._partial = (self._partial + data).split(b"\n")
        if lines:
            self.report = json.loads(lines[-1])
            if not self._started.called:
                self._started.callback(None)
            self._check()

    def _check(self) -> None:
        if self._reached is not None and self.report["items"] >= self._wanted and not self._reached.called:
            self._reached.callback(None)
