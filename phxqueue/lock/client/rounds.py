"""Timers that go off together: what is due at about the same time is done in one turn of the reactor.

Times are rounded down to a whole tick, so a thousand locks whose renewals are due within a tenth of a second need one
timer, and can share a call (renewing.py). Nothing is done later than it was to be done.
"""

from __future__ import annotations

from collections.abc import Callable
from math import floor

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

#: A pause is rounded down by this part of it at most.
_MOST_PART = 0.25


class Turn:
    """Something to be done; like Twisted's delayed call it can be taken back."""

    __slots__ = ("_act", "_bucket", "_rounds")

    def __init__(self, rounds: Rounds, bucket: float, act: Callable[[], None]) -> None:
        self._rounds = rounds
        self._bucket = bucket
        self._act: Callable[[], None] | None = act

    def active(self) -> bool:
        """Whether it is still to come."""
        return self._act is not None

    def cancel(self) -> None:
        """Make it not happen."""
        if self._act is not None:
            self._act = None
            self._rounds.drop(self._bucket, self)

    def run(self) -> None:
        """Do it, unless it was taken back."""
        act, self._act = self._act, None
        if act is not None:
            act()


class Rounds:
    """The timers of one client.

    Args:
        tick_s: what is due within so many seconds is done together.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, tick_s: float) -> None:
        self._clock = clock
        self._tick_s = tick_s
        self._turns: dict[float, dict[Turn, None]] = {}
        self._timers: dict[float, IDelayedCall] = {}

    def after(self, pause_s: float, act: Callable[[], None]) -> Turn:
        """Do something about so many seconds from now, no later, and no earlier by more than a tick."""
        now = self._clock.seconds()
        tick = min(self._tick_s, pause_s * _MOST_PART)
        due = max(now, floor((now + pause_s) / tick) * tick) if tick > 0 else now + pause_s
        turn = Turn(self, due, act)
        turns = self._turns.get(due)
        if turns is None:
            turns = self._turns[due] = {}
            self._timers[due] = self._clock.callLater(due - now, self._go, due)
        turns[turn] = None
        return turn

    def drop(self, due: float, turn: Turn) -> None:
        """A turn was taken back."""
        turns = self._turns.get(due)
        if turns is None:
            return
        turns.pop(turn, None)
        if not turns:
            del self._turns[due]
            self._timers.pop(due).cancel()

    def _go(self, due: float) -> None:
        del self._timers[due]
        for turn in self._turns.pop(due):
            try:
                turn.run()
            except Exception:
                self.log.failure("a defect of the lock client itself")
