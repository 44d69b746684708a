"""Asks the stores the same question every now and then, one at a time, until it is stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from phxqueue.net.status import RpcError

AnswerT = TypeVar("AnswerT")


class Asking(Generic[AnswerT]):
    """One question, again and again.

    Args:
        ask: asks once; None: there is nothing to ask just now.
        answered: told every answer, but none after `stop`.
        what: it is about, for the log: "the settings of the topic".
        interval_s: from an answer, or an error, to the next question.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        ask: Callable[[], Deferred[AnswerT] | None],
        answered: Callable[[AnswerT], None],
        what: str,
        interval_s: float,
    ) -> None:
        self._clock = clock
        self._question = ask
        self._tell = answered
        self._what = what
        self._interval_s = interval_s
        self._asking: Deferred[Any] | None = None
        self._timer: IDelayedCall | None = None
        self._failing = False
        self._stopped = False

    def start(self) -> None:
        """Ask now, and again and again."""
        self._ask()

    def stop(self) -> None:
        """Ask no more."""
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._asking is not None:
            self._asking.cancel()

    def _ask(self) -> None:
        self._timer = None
        asking: Deferred[Any] | None = None
        try:
            asking = self._question()
        except Exception:
            self.log.failure("a defect of the consumer itself: {what} cannot be asked for", what=self._what)
        if asking is None:
            self._again(None)
            return
        self._asking = asking
        asking.addCallbacks(self._answered, self._failed)
        asking.addErrback(lambda failure: self.log.failure("a defect of the consumer itself", failure))
        asking.addCallback(self._again)

    def _answered(self, answer: AnswerT) -> None:
        self._failing = False
        if not self._stopped:
            self._tell(answer)

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        error = failure.value
        if not isinstance(error, RpcError):
            failure.raiseException()
        elif not self._failing:
            self._failing = True  # everybody who fetches says so as well
            self.log.debug("{what} are not known at the moment: {error}", what=self._what, error=error)

    def _again(self, _: None) -> None:
        self._asking = None
        if not self._stopped:
            self._timer = self._clock.callLater(self._interval_s, self._ask)
