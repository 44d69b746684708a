"""Where a command meets the reactor: run one coroutine to its end, let Ctrl-C end it early and cleanly."""

from __future__ import annotations

import signal
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

ResultT = TypeVar("ResultT")

CLEANUP_TIMEOUT_S = 5.0
"""How long an interrupted command may take to let go of what it holds; a second Ctrl-C ends it at once."""


class Interrupted(Exception):
    """The person pressed Ctrl-C, or the process was asked to end (SIGTERM)."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(signal_number).name}")
        self.exit_status = 128 + signal_number


class _Run:
    """One coroutine, from the start of the reactor to its end."""

    def __init__(self, reactor: Any, main: Callable[[Any], Coroutine[Any, Any, Any]]) -> None:
        self.outcome: Any = None
        self._reactor = reactor
        self._main = main
        self._interrupted: Interrupted | None = None
        self._running: Deferred[Any] | None = None

    def start(self) -> None:
        # After the reactor has installed its own handlers, which would only stop it.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._interrupt)
        self._running = Deferred.fromCoroutine(self._main(self._reactor))
        self._running.addBoth(self._finish)

    def _interrupt(self, number: int, _frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._cancel, number)

    def _cancel(self, number: int) -> None:
        first = self._interrupted is None
        self._interrupted = Interrupted(number)
        if first and self._running is not None:
            self._reactor.callLater(CLEANUP_TIMEOUT_S, self._finish, Failure(self._interrupted))
            self._running.cancel()
        else:
            self._finish(Failure(self._interrupted))

    def _finish(self, outcome: Any) -> None:
        if self._interrupted is not None and isinstance(outcome, Failure) and outcome.check(CancelledError):
            outcome = Failure(self._interrupted)
        if self.outcome is None:
            self.outcome = (outcome,)
            if self._reactor.running:
                self._reactor.stop()


def run(main: Callable[[Any], Coroutine[Any, Any, ResultT]]) -> ResultT:
    """Run ``main(reactor)`` in the reactor and return its result or raise its exception; once per process.

    Raises:
        Interrupted: on SIGINT or SIGTERM. The coroutine is cancelled first, so that its ``finally`` blocks run.
    """
    from twisted.internet import reactor

    state = _Run(reactor, main)
    reactor.callWhenRunning(state.start)
    reactor.run()
    if state.outcome is None:
        raise Interrupted(signal.SIGTERM)
    (outcome,) = state.outcome
    if isinstance(outcome, Failure):
        outcome.raiseException()
    result: ResultT = outcome
    return result
