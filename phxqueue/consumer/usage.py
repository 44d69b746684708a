"""How busy a consumer process is: what its reports to the scheduler say."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from phxqueue.consumer.source import QueueLag
from phxqueue.consumer.weights import Usage
from phxqueue.daemon.processor_time import processor_time

#: More queues than these are not counted every time, but every so many seconds.
FEW, COUNT_S = 100, 5.0


class UsageMeter:
    """Measures from one reading to the next.

    The processor time is that of this process, or the mean of its handler processes, whichever is more: either of them
    can be what holds the others up.

    Args:
        slots: the part of the handler slots in use, 0 to 1.
        lag: of each queue.
        pids: of the handler processes.
    """

    def __init__(
        self,
        slots: Callable[[], float],
        lag: Callable[[], Mapping[Any, QueueLag]] = dict,
        pids: Callable[[], Sequence[int]] = list,
        *,
        clock: Callable[[], float] = time.monotonic,
        own_time: Callable[[], float] = time.process_time,
        time_of: Callable[[int], float | None] = processor_time,
    ) -> None:
        self._slots = slots
        self._lag = lag
        self._pids = pids
        self._clock = clock
        self._own_time = own_time
        self._time_of = time_of
        self._read_at = clock()
        self._own = own_time()
        self._others: dict[int, float] = {}
        self._counted_at: float | None = None
        self._counted = 0, 0

    def read(self) -> Usage:
        """Since it was last read."""
        now, own = self._clock(), self._own_time()
        passed = max(now - self._read_at, 1e-3)
        cpu = max((own - self._own) / passed, self._of_others() / passed)
        self._read_at, self._own = now, own
        if self._counted_at is None or self._counted[0] <= FEW or now - self._counted_at >= COUNT_S:
            lags = self._lag()
            self._counted_at, self._counted = now, (len(lags), sum(lag.items for lag in lags.values()))
        queues, backlog = self._counted
        return Usage(cpu=100 * cpu, slots=100 * self._slots(), queues=queues, backlog=backlog)

    def _of_others(self) -> float:
        """Seconds that the handler processes have used, divided by their number; those that are new count from now."""
        found = {pid: used for pid in self._pids() if (used := self._time_of(pid)) is not None}
        used = sum(used - self._others.get(pid, used) for pid, used in found.items())
        self._others = found
        return used / len(found) if found else 0.0
