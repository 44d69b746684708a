"""When a master looks again at what waits for its time: at the earliest of the times that were asked for."""

from __future__ import annotations

from collections.abc import Callable

from phxqueue.replica.interfaces import Clock, DelayedCall


class NextLook:
    """One timer."""

    def __init__(self, clock: Clock, look: Callable[[], None]) -> None:
        self._clock = clock
        self._look = look
        self._timer: DelayedCall | None = None
        self._at = 0.0

    def within(self, seconds: float) -> None:
        """Look in so many seconds, or before, if that was asked for."""
        at = self._clock.seconds() + seconds
        if self._timer is not None and self._timer.active():
            if self._at <= at + 1e-6:
                return
            self._timer.cancel()
        self._at = at
        self._timer = self._clock.callLater(seconds, self._look)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
