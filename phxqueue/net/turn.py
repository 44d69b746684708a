"""Doing something at the end of the reactor's turn, however often it was asked for during it.

A store finishes a hundred calls of twenty connections in one turn (one commit, one message from a peer). Each
connection should write once, each peer get one frame, what was added go into one entry. These follow from one
another: requests make an entry, the entry makes messages, the messages make writes. A plain `callLater(0)` for each
would have the reactor look at all its sockets between two of them; here they follow each other in one go.

A `callLater(0)` made while the reactor handles input runs right after that input, before it waits again, so nothing is
delayed. Everything on one reactor shares one `TurnEnd`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

#: Actions that ask for further actions are followed so many times; the rest comes after the next look at the sockets.
MAX_ROUNDS = 16

_log = Logger(namespace="phxqueue.net.turn")


class TurnEnd:
    """Collects callables and calls each of them at the end of the current turn, with what they ask for in turn."""

    __slots__ = ("__weakref__", "_clock", "_scheduled", "_waiting")

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: list[Callable[[], None]] = []
        self._scheduled = False

    @staticmethod
    def of(clock: IReactorTime) -> TurnEnd:
        """Return the one that everything on this reactor shares."""
        shared = _shared.get(clock)
        if shared is None:
            shared = _shared[clock] = TurnEnd(clock)
        return shared

    def add(self, action: Callable[[], None]) -> None:
        """Have `action` called at the end of the turn. The caller sees to it that it adds it only once."""
        self._waiting.append(action)
        if not self._scheduled:
            self._scheduled = True
            self._clock.callLater(0, self._run)

    def _run(self) -> None:
        for _ in range(MAX_ROUNDS):
            waiting, self._waiting = self._waiting, []
            for action in waiting:
                try:
                    action()
                except Exception:
                    _log.failure("something at the end of a turn failed")
            if not self._waiting:
                self._scheduled = False
                return
        self._clock.callLater(0, self._run)


_shared: WeakKeyDictionary[Any, TurnEnd] = WeakKeyDictionary()


class SoonCall:
    """A call at the end of the turn that can be taken back, like Twisted's delayed call."""

    __slots__ = ("_active", "_args", "_callback")

    def __init__(self, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._callback = callback
        self._args = args
        self._active = True

    def active(self) -> bool:
        """Whether it is still to come."""
        return self._active

    def cancel(self) -> None:
        """Make it not happen."""
        self._active = False

    def run(self) -> None:
        """Do it, unless it was taken back."""
        if self._active:
            self._active = False
            self._callback(*self._args)


class TurnClock:
    """The reactor's clock, on which a `callLater(0)` joins the end of the turn."""

    def __init__(self, reactor: Any) -> None:
        self.seconds: Callable[[], float] = reactor.seconds
        self._call_later = reactor.callLater
        self._turn = TurnEnd.of(reactor)

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any) -> Any:
        """As the reactor's."""
        if delay > 0:
            return self._call_later(delay, callable, *args)
        call = SoonCall(callable, args)
        self._turn.add(call.run)
        return call
