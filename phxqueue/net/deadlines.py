"""One timer for all the deadlines of a connection.

A timer per call would cost more than the call. Instead one timer runs for the earliest deadline that
has been announced, and when it fires the owner looks through its calls, which are few (bounded) and
mostly newer than the timer. A call that ends in time costs one comparison.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class DeadlineWatch:
    """Calls `look(now)` when a deadline may have passed; it returns the earliest one left (inf = none).

    Attributes:
        next_at: when it will look next; a deadline before that has to be announced by `note`.
    """

    __slots__ = ("_clock", "_granularity", "_look", "_timer", "next_at")

    def __init__(self, clock: IReactorTime, granularity: float, look: Callable[[float], float]) -> None:
        self.next_at = math.inf
        self._clock = clock
        self._granularity = granularity
        self._look = look
        self._timer: IDelayedCall | None = None

    def note(self, deadline: float) -> None:
        """Look at `deadline`, or before."""
        if deadline >= self.next_at:
            return
        self.next_at = deadline
        delay = max(deadline - self._clock.seconds(), 0.0)
        if self._timer is None:
            self._timer = self._clock.callLater(delay, self._fire)
        else:
            self._timer.reset(delay)

    def stop(self) -> None:
        """Never look again."""
        self.next_at = -math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        self.next_at = math.inf
        earliest = self._look(now)  # which may announce deadlines of its own, or stop the watch
        if earliest < math.inf:
            self.note(max(earliest, now + self._granularity))
