"""The clock that leases are counted by."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial


def _lease_clock() -> Callable[[], float]:
    boot_time: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic if boot_time is None else partial(time.clock_gettime, boot_time)


#: Seconds: monotonic, and going on while the machine sleeps, where there is such a clock.
LEASE_CLOCK = _lease_clock()
