"""Times that run out, many at once and few different ones: one timer for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime

KeyT = TypeVar("KeyT")


class Timeouts(Generic[KeyT]):
    """What has to end in time.

    Args:
        expired: called with a key, which is forgotten by then, and its time-out in seconds.
    """

    def __init__(self, clock: IReactorTime, expired: Callable[[KeyT, float], None]) -> None:
        self._clock = clock
        self._expired = expired
        self._deadlines: dict[float, dict[KeyT, float]] = {}  # by time-out: each in the order of the deadlines
        self._timeouts: dict[KeyT, float] = {}
        self._call: IDelayedCall | None = None
        self._call_at = 0.0

    def add(self, key: KeyT, timeout_s: float) -> None:
        """A key's time begins."""
        deadline = self._clock.seconds() + timeout_s
        self._timeouts[key] = timeout_s
        self._deadlines.setdefault(timeout_s, {})[key] = deadline
        if self._call is None or deadline < self._call_at:
            self._look_at(deadline)

    def remove(self, key: KeyT) -> None:
        """A key is done with, if it is known at all."""
        timeout_s = self._timeouts.pop(key, None)
        if timeout_s is not None:
            of_this_length = self._deadlines[timeout_s]
            del of_this_length[key]
            if not of_this_length:
                del self._deadlines[timeout_s]

    def clear(self) -> None:
        """Forget everything."""
        self._deadlines.clear()
        self._timeouts.clear()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _look_at(self, when: float) -> None:
        if self._call is not None:
            self._call.cancel()
        self._call_at = when
        self._call = self._clock.callLater(max(0.0, when - self._clock.seconds()), self._look)

    def _look(self) -> None:
        self._call = None
        now = self._clock.seconds() + 1e-6
        late = [
            (key, timeout_s)
            for timeout_s, of_this_length in self._deadlines.items()
            for key, deadline in _late(of_this_length, now)
        ]
        for key, timeout_s in late:
            if key in self._timeouts:
                self.remove(key)
                self._expired(key, timeout_s)
        if self._deadlines and self._call is None:
            self._look_at(min(next(iter(keys.values())) for keys in self._deadlines.values()))


def _late(deadlines: dict[KeyT, float], now: float) -> list[tuple[KeyT, float]]:
    found = []
    for key, deadline in deadlines.items():
        if deadline > now:
            break
        found.append((key, deadline))
    return found
