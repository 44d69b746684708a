"""Nothing is delivered before its time: a queue's delay is kept, as far as the clocks of the nodes agree."""

from __future__ import annotations

from phxqueue.testing.sim.checkers import Violation

ROUNDING = 0.002
"""Timestamps are whole milliseconds, once when stored and once when compared."""


class Delays:
    """Knows when each item was offered, by true time.

    An item is stamped by the wall clock of the node that proposes it and becomes due by that of the node that delivers
    it: with clocks that are off by up to `skew` either way, delivery is early by twice that at most.
    """

    def __init__(self, skew: float) -> None:
        self._skew = skew
        self._offered: dict[bytes, float] = {}

    def offered(self, item: bytes, now: float) -> None:
        """A producer sends an item for the first time."""
        self._offered[item] = now

    def delivered(self, item: bytes, delay: float, now: float) -> None:
        """A consumer got an item from a queue with that delay, in seconds."""
        earliest = self._offered[item] + delay - 2 * self._skew - ROUNDING
        if now < earliest:
            raise Violation(
                f"{item[:30]!r} was offered at {self._offered[item]:.3f} to a queue with a delay of {delay} s and "
                f"delivered at {now:.3f}; with clocks off by {self._skew} s it must not come before {earliest:.3f}"
            )
