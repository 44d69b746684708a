"""Doing something once at the end of the reactor's turn, however often it was asked for during it.

A store finishes a hundred calls of twenty connections in one turn (one commit, one message from a
peer). Each connection should write once. A `callLater(0)` made while the reactor handles input runs
right after that input, before it waits again, so nothing is delayed; and one such call serves all
connections that share this object.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime


class TurnEnd:
    """Collects callables and calls each of them once, at the end of the current turn."""

    __slots__ = ("_clock", "_waiting")

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: list[Callable[[], None]] = []

    def add(self, action: Callable[[], None]) -> None:
        """Have `action` called at the end of the turn. The caller sees to it that it adds it only once."""
        if not self._waiting:
            self._clock.callLater(0, self._run)
        self._waiting.append(action)

    def _run(self) -> None:
        waiting = self._waiting
        self._waiting = []
        for action in waiting:
            action()
