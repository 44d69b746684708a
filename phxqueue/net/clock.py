"""A reactor whose time cannot be set by the administrator.

`reactor.seconds()` of Twisted is the wall clock. When NTP or a person sets it, every timer of the
process fires early or late, and no lease or deadline can be trusted.
"""

from __future__ import annotations

import time
from typing import Any


def use_monotonic_time(reactor: Any) -> None:
    """Let `reactor.seconds()` and all its timers follow the monotonic clock. For the start of a process.

    Raises:
        RuntimeError: timers are pending already, whose times would mean nothing afterwards.
    """
    if reactor.seconds is time.monotonic:
        return
    if reactor.getDelayedCalls():
        raise RuntimeError("the reactor's clock must be changed before the first timer is set")
    reactor.seconds = time.monotonic
