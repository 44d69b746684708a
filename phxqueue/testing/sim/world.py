"""Simulated time: one queue of events for the whole world, and a clock of its own for every process in it."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random
from typing import Any


class ScheduledCall:
    """A callback at a moment of the world; it can be cancelled like Twisted's delayed call."""

    __slots__ = ("_active", "args", "at", "callback", "order")

    def __init__(self, at: float, order: int, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.at = at
        self.order = order
        self.callback = callback
        self.args = args
        self._active = True

    def __lt__(self, other: ScheduledCall) -> bool:
        return (self.at, self.order) < (other.at, other.order)

    def active(self) -> bool:
        """Whether it is still to come."""
        return self._active

    def cancel(self) -> None:
        """Make it not happen."""
        self._active = False

    def run(self) -> None:
        """Do it."""
        self._active = False
        self.callback(*self.args)


class World:
    """True time, which no process in it can see. Everything that happens is one event at a time."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.steps = 0
        self.after_each_step: list[Callable[[], None]] = []
        self._events: list[ScheduledCall] = []
        self._order = 0

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any) -> ScheduledCall:
        """Have `callback` called `delay` true seconds from now; calls for one moment keep their order."""
        self._order += 1
        call = ScheduledCall(self.now + max(delay, 0.0), self._order, callback, args)
        heapq.heappush(self._events, call)
        return call

    def run_until(self, moment: float, finished: Callable[[], bool] = lambda: False) -> bool:
        """Let events happen until `moment`, or until `finished()`; tell whether it was the latter."""
        while self._events and self._events[0].at <= moment:
            event = heapq.heappop(self._events)
            if not event.active():
                continue
            self.now = event.at
            self.steps += 1
            event.run()
            for check in self.after_each_step:
                check()
            if finished():
                return True
        self.now = max(self.now, moment)
        return finished()


class ProcessClock:
    """The clock of one process: monotonic, with its own origin and rate; dies with the process; can be paused.

    `rate` above 1 is a fast clock. While the process is paused (SIGSTOP, a long collection, a stalled hypervisor)
    time goes on but nothing of it runs; what fell due meanwhile happens when it wakes.
    """

    def __init__(self, world: World, rate: float, origin: float) -> None:
        self._world = world
        self._rate = rate
        self._origin = origin
        self._paused_until = 0.0
        self._dead = False

    def seconds(self) -> float:
        """Return this process's time."""
        return self._origin + self._world.now * self._rate

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any) -> ScheduledCall:
        """Call after `delay` seconds of this clock, unless the process has died by then."""
        return self._world.call_later(delay / self._rate, self._run, callable, args)

    def pause(self, duration: float) -> None:
        """Stop the process for `duration` true seconds."""
        self._paused_until = max(self._paused_until, self._world.now + duration)

    def kill(self) -> None:
        """Nothing scheduled on this clock happens any more."""
        self._dead = True

    def _run(self, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if self._dead:
            return
        if self._world.now < self._paused_until:
            self._world.call_later(self._paused_until - self._world.now, self._run, callback, args)
            return
        callback(*args)
