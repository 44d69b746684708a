"""What the queues of one consumer process share: handler slots, the bound on memory, what is known of the stores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from phxqueue.consumer.turns import ORDINARY, Turns


class Handler(Protocol):
    """Somebody who has items to handle."""

    def handle_one(self) -> bool:
        """Start one item; the slot is the handler's to give back. Returns whether there are more."""


class HandlerSlots:
    """At most so many handlers at work at the same time; who has to wait is served in turns, one item each.

    With weights everybody waits for his turn, also while there are slots: handlers that are done at once would
    otherwise be served by who comes first.
    """

    #: Items started in one go before the reactor gets its turn.
    AT_ONCE = 64

    def __init__(self, count: int, clock: IReactorTime) -> None:
        self.count = count
        self.free = count
        self._clock = clock
        self._line: Turns[Handler] = Turns()
        self._call: IDelayedCall | None = None

    def set_weights(self, weights: Mapping[int, int]) -> None:
        """Follow these, by kind; none: all are equal."""
        self._line.weights = weights

    def take(self, handler: Handler, kind: int = ORDINARY) -> bool:
        """Take a slot. False: there is none; `handler.handle_one` is called when there is."""
        if self.free > 0 and not self._line and not self._line.weights:
            self.free -= 1
            return True
        self._line.add(handler, kind)
        self._serve_soon()
        return False

    def give(self) -> None:
        """Give a slot back."""
        self.free += 1
        self._serve_soon()

    def leave(self, handler: Handler) -> None:
        """Wait no longer."""
        self._line.remove(handler)

    def _serve_soon(self) -> None:
        if self._line and self.free > 0 and self._call is None:
            self._call = self._clock.callLater(0, self._serve)

    def _serve(self) -> None:
        self._call = None
        for _ in range(self.AT_ONCE):
            if not self._line or self.free <= 0:
                return
            handler, kind = self._line.next()
            self.free -= 1
            if handler.handle_one():
                self._line.add(handler, kind)
        self._serve_soon()


class Waiter(Protocol):
    """Somebody who wants to fetch."""

    def fetch(self) -> None:
        """There may be room now."""


class Budget:
    """Bytes fetched and not finished, over all queues.

    Every Get asks for its share of what is left, so that many of them answered at once stay within the limit (but for
    `floor` bytes each: a Get has to ask for something, and a single batch is returned however large it is).
    """

    def __init__(self, limit: int, floor: int, clock: IReactorTime) -> None:
        self.used = 0
        self.queues = 0
        """Queues that share it."""
        self._limit = limit
        self._floor = floor
        self._clock = clock
        self._polls = 0
        self._line: dict[Waiter, None] = {}
        self._call: IDelayedCall | None = None

    @property
    def held_share(self) -> int:
        """What a queue may hold while its items wait for a limit on their speed: together, a quarter of all."""
        return max(self._floor, self._limit // 4 // max(self.queues, 1))

    def begin(self, waiter: Waiter, wish: int) -> int:
        """A Get begins: what it may ask for. 0: nothing; `waiter.fetch` is called when there is room again."""
        free = self._limit - self.used
        if free <= 0:
            self._line[waiter] = None
            return 0
        self._polls += 1
        return min(wish, max(self._floor, free // self._polls))

    def end(self) -> None:
        """A Get that had begun is over."""
        self._polls -= 1

    def add(self, size: int) -> None:
        """So much was fetched."""
        self.used += size

    def release(self, size: int) -> None:
        """So much is finished, or forgotten."""
        self.used -= size
        if self._line and self._call is None and self.used < self._limit:
            self._call = self._clock.callLater(0, self._wake)

    def _wake(self) -> None:
        self._call = None
        line, self._line = self._line, {}
        for waiter in line:
            waiter.fetch()


class StoreHealth:
    """Whether a Paxos group of a store answers: logged when that changes, not by each of its queues again and again."""

    log = Logger()

    def __init__(self, what: str, clock: IReactorTime) -> None:
        self._what = what
        self._clock = clock
        self._failing_since: float | None = None

    @property
    def failing(self) -> bool:
        """Whether the last that was heard of it was a failure."""
        return self._failing_since is not None

    def failed(self, error: object) -> None:
        """A call failed."""
        if self._failing_since is None:
            self._failing_since = self._clock.seconds()
            self.log.warn("{what}: cannot fetch: {error}; trying until it works again", what=self._what, error=error)

    def worked(self) -> None:
        """A call succeeded."""
        if self._failing_since is not None:
            seconds = self._clock.seconds() - self._failing_since
            self._failing_since = None
            self.log.info("{what}: fetching again, after {seconds:.1f} s", what=self._what, seconds=seconds)
