"""One client's work on a lock service, ours or etcd's, as a process of its own: the same loops, the same report.

    python -m benchmarks.lock_work (phxqueue CONFIG | etcd HOST:PORT,...) WORK IN_FLIGHT SECONDS

Workers, each with a key of its own, do one thing after the other, IN_FLIGHT of them at the same time. WORK: `lock`
(acquire and release), `renew`, `cas` (write a string that has the version last seen), `failover` (`cas`, for a longer
time, while the master dies). A call that fails is followed by the next one. The last line printed is a JSON object; a
line `ready` before it says that the measuring begins.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

#: One worker's next round: does its work once.
Round = Callable[[], Awaitable[None]]
#: Nothing is counted in the first part of the time: connections open, leases and masters are found.
WARM_UP_S = 0.5
#: After a call that failed, before the next.
RETRY_S = 0.01


class Report:
    """What was done since the warm-up."""

    def __init__(self, seconds: float) -> None:
        self.begin = time.monotonic() + WARM_UP_S
        self.end = self.begin + seconds
        self.delays: list[float] = []
        self.errors = 0
        self.first_error = ""
        self.longest_gap = 0.0
        self._last: float | None = None

    def done(self, began: float) -> bool:
        """A round is done; whether there is time for another."""
        now = time.monotonic()
        if self.begin <= now < self.end:
            self.delays.append(now - began)
            if self._last is not None:
                self.longest_gap = max(self.longest_gap, now - self._last)
            self._last = now
        return now < self.end

    def failed(self, error: Exception) -> None:
        self.errors += 1
        self.first_error = self.first_error or f"{type(error).__name__}: {error}"[:300]

    def document(self) -> dict[str, Any]:
        delays = sorted(self.delays)
        measured = self.end - self.begin
        return {
            "rate": len(delays) / measured,
            "p50_ms": delays[len(delays) // 2] * 1e3 if delays else None,
            "p99_ms": delays[int(len(delays) * 0.99)] * 1e3 if delays else None,
            "longest_gap_s": self.longest_gap,
            "errors": self.errors,
            "first_error": self.first_error,
        }


async def worker(do: Round, report: Report, pause: Callable[[float], Awaitable[Any]]) -> None:
    """Do rounds until the time is over; one that fails is told, and the next follows soon."""
    while True:
        began = time.monotonic()
        try:
            await do()
        except Exception as error:
            report.failed(error)
            await pause(RETRY_S)
            if time.monotonic() >= report.end:
                return
        else:
            if not report.done(began):
                return


def main() -> None:
    service, where, work, in_flight, seconds = sys.argv[1:]
    if service == "etcd":
        from benchmarks.etcd_client import run
    else:
        from benchmarks.lock_client import run
    document = run(where, work, int(in_flight), float(seconds))
    print(json.dumps(document), flush=True)


if __name__ == "__main__":
    main()
