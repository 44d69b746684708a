"""The reactor's clock, with the power to skip what nobody wants to wait for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

#: Calls that are over are forgotten when there are so many more than were left the last time.
_FORGET_AFTER = 256


@implementer(IReactorTime)
class SkippingClock:
    """Runs at the reactor's pace; `skip` moves it forward, and with it everything that waits.

    The delayed calls it returns are the reactor's own.

    Attributes:
        on_call: called whenever a delayed call is made or run.
        ran: delayed calls that have run so far.
        skipped: seconds it is ahead of the reactor's clock.
    """

    def __init__(self, reactor: Any) -> None:
        self.on_call: Callable[[], None] = _nothing
        self.ran = 0
        self.skipped = 0.0
        self._reactor = reactor
        self._calls: list[IDelayedCall] = []
        self._forget_at = _FORGET_AFTER

    def seconds(self) -> float:
        """The time, in seconds."""
        return float(self._reactor.seconds()) + self.skipped

    def callLater(self, delay: float, callable: Callable[..., object], *args: object, **kw: object) -> IDelayedCall:
        """Call something after so many seconds of this clock."""
        call: IDelayedCall = self._reactor.callLater(delay, self._run, callable, args, kw)
        self._calls.append(call)
        self.on_call()
        if len(self._calls) >= self._forget_at:
            self._forget_at = len(self.getDelayedCalls()) + _FORGET_AFTER
        return call

    def getDelayedCalls(self) -> list[IDelayedCall]:
        """What is still to be called."""
        self._calls = [call for call in self._calls if call.active()]
        return list(self._calls)

    def next_call(self) -> float | None:
        """Seconds until the next delayed call; None: there is none."""
        now = self._reactor.seconds()
        return min((max(call.getTime() - now, 0.0) for call in self.getDelayedCalls()), default=None)

    def skip(self, seconds: float) -> None:
        """Move forward. What becomes due is called from the reactor, not from here."""
        self.skipped += seconds
        now = self._reactor.seconds()
        for call in self.getDelayedCalls():
            call.reset(max(call.getTime() - now - seconds, 0.0))

    def close(self) -> None:
        """Call nothing any more."""
        for call in self.getDelayedCalls():
            call.cancel()

    def _run(self, callable: Callable[..., object], args: tuple[object, ...], kw: dict[str, object]) -> None:
        self.ran += 1
        self.on_call()
        callable(*args, **kw)


def _nothing() -> None:
    """Nobody listens."""
