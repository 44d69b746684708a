"""Simulated time: one queue of events for the whole world, and a clock of its own for every process in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any

from phxqueue.testing.sim.kinds import KINDS


class ScheduledCall:
    """A callback at a moment of the world; it can be cancelled like Twisted's delayed call."""

    __slots__ = ("args", "callback", "cancelled", "clock", "ran")

    def __init__(self, clock: ProcessClock | None, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.clock = clock
        self.callback = callback
        self.args = args
        self.ran = False
        self.cancelled = False

    def active(self) -> bool:
        """Whether it is still to come."""
        return not self.ran and not self.cancelled

    def cancel(self) -> None:
        """Make it not happen."""
        self.cancelled = True


class World:
    """True time, which no process in it can see. Everything that happens is one event at a time.

    Attributes:
        after_each_step: called after each event with the clock of the process it happened in (None: in none).
        faults: how often each kind of fault (see :mod:`.kinds`) has happened.
    """

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.steps = 0
        self.after_each_step: list[Callable[[ProcessClock | None], None]] = []
        self.faults: Counter[str] = Counter()
        self._events: list[tuple[float, int, ScheduledCall]] = []
        self._order = 0
        self._failure: BaseException | None = None

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any) -> ScheduledCall:
        """Have `callback` called `delay` true seconds from now; calls for one moment keep their order."""
        return self.schedule(self.now + max(delay, 0.0), ScheduledCall(None, callback, args))

    def schedule(self, moment: float, call: ScheduledCall) -> ScheduledCall:
        """Let a call happen at a moment, which is not in the past."""
        self._order += 1
        heappush(self._events, (moment, self._order, call))
        return call

    def count(self, kind: str) -> None:
        """A fault of this kind has happened. Raises KeyError for one that is not in the list."""
        assert KINDS[kind]
        self.faults[kind] += 1

    def report(self, failure: BaseException) -> None:
        """Note something that must not happen, from wherever: it ends the run when the current event is over."""
        if self._failure is None:
            self._failure = failure

    def run_until(self, moment: float, finished: Callable[[], bool] | None = None) -> bool:
        """Let events happen until `moment`, or until `finished()`; tell whether it was the latter.

        Raises what was reported, or what an event or a check raised.
        """
        events = self._events
        while events and events[0][0] <= moment:
            at, _, call = heappop(events)
            if call.cancelled:
                continue
            clock = call.clock
            if clock is not None:
                if clock.dead:
                    continue
                if at < clock.paused_until:
                    self.schedule(clock.paused_until, call)
                    continue
            self.now = at
            self.steps += 1
            call.ran = True
            call.callback(*call.args)
            for check in self.after_each_step:
                check(clock)
            if self._failure is not None:
                raise self._failure
            if finished is not None and finished():
                return True
        self.now = max(self.now, moment)
        return finished is not None and finished()


class ProcessClock:
    """The clock of one process: monotonic, with its own origin and rate; dies with the process; can be paused.

    `rate` above 1 is a fast clock. While the process is paused (SIGSTOP, a long collection, a stalled hypervisor)
    time goes on but nothing of it runs; what fell due meanwhile happens when it wakes. Twisted's reactor then runs
    timers before it looks at its sockets, others do not: `pause` is told which.
    """

    def __init__(self, world: World, node_id: int, rate: float, origin: float) -> None:
        self.node_id = node_id
        self.dead = False
        self.paused_until = 0.0
        self._input_delay = 0.0
        self._world = world
        self._rate = rate
        self._origin = origin

    def seconds(self) -> float:
        """Return this process's time."""
        return self._origin + self._world.now * self._rate

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any) -> ScheduledCall:
        """Call after `delay` seconds of this clock, unless the process has died by then."""
        world = self._world
        return world.schedule(world.now + max(delay, 0.0) / self._rate, ScheduledCall(self, callable, args))

    def receive(self, callback: Callable[..., Any], *args: Any) -> None:
        """Hand input (a frame, a request) to the process: now, or when it wakes."""
        world = self._world
        moment = world.now
        if moment < self.paused_until:
            moment = self.paused_until + self._input_delay
        world.schedule(moment, ScheduledCall(self, callback, args))

    def pause(self, duration: float, timers_first: bool = False) -> None:
        """Stop the process for `duration` true seconds; `timers_first`: before the input that waits meanwhile."""
        self.paused_until = max(self.paused_until, self._world.now + duration)
        self._input_delay = 1e-5 if timers_first else 0.0

    def kill(self) -> None:
        """Nothing scheduled on this clock happens any more."""
        self.dead = True


class WallClocks:
    """What the nodes believe the time of day to be: all of them wrong, and set right now and then."""

    EPOCH = 1_700_000_000.0

    def __init__(self, world: World, nodes: int, skew: float) -> None:
        self.skew = skew
        self._world = world
        self._offsets = [world.random.uniform(-skew, skew) for _ in range(nodes)]

    def seconds(self, node_id: int) -> float:
        """Return Unix time as a node sees it."""
        return self.EPOCH + self._offsets[node_id] + self._world.now

    def jump(self, node_id: int) -> None:
        """Set a node's clock, forward or back, within `skew` of true time."""
        self._offsets[node_id] = self._world.random.uniform(-self.skew, self.skew)
