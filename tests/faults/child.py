"""Runs tests/faults/writer.py in a process of its own and reads what it says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
LIMIT_S = 100.0
"""A child that has said nothing final for so long is killed, and the test fails. A busy machine takes its time."""

SMALL: dict[str, Any] = {
    "cache_bytes": 2 << 20,
    "log_file_bytes": 1 << 20,
    "log_buffer_bytes": 256 << 10,
    "min_free_bytes": 0,
    "lazy_commit_delay_ms": 20,
    "checkpoint_interval_s": 0.1,
}


class Child:
    """One run of the writer."""

    def __init__(
        self,
        directory: Path,
        environment: Mapping[str, str],
        *,
        first: int = 0,
        size: int = 500,
        trim_every: int = 0,
        **settings: Any,
    ) -> None:
        command = [sys.executable, "-m", "tests.faults.writer", str(directory), str(first)]
        command += [json.dumps({**SMALL, **settings}), str(size), str(trim_every)]
        self.confirmed: list[int] = []
        self.holds: tuple[int, int] = (0, -1)
        self.incarnation = 0
        self.fatal: str | None = None
        self.refused: str | None = None
        self.other: list[str] = []
        self._process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._last = ""
        self._limited = False
        self._limit = threading.Timer(LIMIT_S, self._end_of_time)
        self._limit.start()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.kill()

    def confirm(self, count: int) -> None:
        """Read on until so many more are confirmed, or it has ended."""
        wanted = len(self.confirmed) + count
        while len(self.confirmed) < wanted and self._read():
            pass

    def ended(self) -> int:
        """Read on to the end; returns the exit status (negative: the signal)."""
        while self._read():
            pass
        assert self._process.stderr is not None
        errors = self._process.stderr.read()
        status = self._process.wait()
        self._limit.cancel()
        self._limit.join()
        self._process.stdout.close()  # type: ignore[union-attr]
        self._process.stderr.close()
        assert "Traceback" not in errors, errors
        if self._limited:
            raise AssertionError(f"not over within {LIMIT_S:g} s; it said last: {self._last!r}\n{errors}")
        return status

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        assert self.ended() == -signal.SIGKILL

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        self._process.terminate()
        return self.ended()

    def _end_of_time(self) -> None:
        self._limited = True
        self._process.kill()

    def _read(self) -> bool:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            return False
        self._last = line
        what, _, text = line.rstrip("\n").partition(" ")
        if what.isdigit():
            self.confirmed.append(int(what))
        elif what == "open":
            self.incarnation = int(text)
        elif what == "holds":
            first, _, last = text.partition(" ")
            self.holds = int(first), int(last)
        elif what == "fatal":
            self.fatal = text
        elif what == "refused":
            self.refused = text
        else:
            self.other.append(line.rstrip("\n"))
        return True
