"""The search for an order: depth first over the operations that may come next, with a memory of where it has been.

Wing and Gong: an operation may come next when no other one that is left returned before it was called. Lowe: two
partial orders that contain the same operations and lead to the same state have the same future, so each pair
(operations taken, state) is looked at once. The list of calls and returns from which operations are taken out and put
back in constant time is Lowe's too.

Operations of unknown outcome may be taken at any point after their call, or never; one that would change nothing at
some point is not taken there, since leaving it out is as good.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from typing import Any, Generic, Protocol, TypeVar

from phxqueue.testing.linearizability.history import Operation

StateT = TypeVar("StateT", bound=Hashable)

MAX_STATES = 1_000_000
"""How many (operations, state) pairs one search looks at unless told otherwise."""


class Model(Protocol[StateT]):
    """The sequential meaning of one kind of object. A state may stand for several that nobody can tell apart yet."""

    def initial(self) -> StateT:
        """Return the state before the first operation."""

    def step(self, state: StateT, operation: Operation) -> StateT | None:
        """Return the state after `operation`, or None when it cannot have its result in `state`.

        An operation without a result may have had any. Raises HistoryError for an operation the object does not have.
        """


class Verdict(Enum):
    """What a search found."""

    LINEARIZABLE = "linearizable"
    NOT_LINEARIZABLE = "not linearizable"
    UNDECIDED = "undecided"
    """The bound on states was reached first."""


@dataclass(frozen=True, slots=True)
class Result:
    """The verdict, and how it came about.

    Attributes:
        states: how many pairs (operations taken, state) were looked at.
        order: an order of the operations if there is one, else the longest that was found.
        stuck: when there is none: the operations of which one must come next behind `order`, and none can.
    """

    verdict: Verdict
    states: int
    order: tuple[Operation, ...]
    stuck: tuple[Operation, ...] = ()


@dataclass(slots=True)
class _Event:
    """A call or a return in the doubly linked list of those left. `match`: the return of a call, None for a return."""

    operation: Operation
    bit: int
    match: _Event | None = None
    before: _Event | None = None
    after: _Event | None = None

    def lift(self) -> None:
        """Take a call and its return out."""
        for event in (self, self.match):
            assert event is not None
            assert event.before is not None
            event.before.after = event.after
            if event.after is not None:
                event.after.before = event.before

    def unlift(self) -> None:
        """Put them back where they were."""
        for event in (self.match, self):
            assert event is not None
            assert event.before is not None
            event.before.after = event
            if event.after is not None:
                event.after.before = event


def search(model: Model[Any], operations: Sequence[Operation], max_states: int = MAX_STATES) -> Result:
    """Look for an order of the operations of one object that `model` agrees with."""
    return _Search(model, operations, max_states).run()


@dataclass(slots=True)
class _Search(Generic[StateT]):
    model: Model[StateT]
    operations: Sequence[Operation]
    max_states: int
    _taken: list[tuple[_Event, StateT]] = field(default_factory=list)  # with the state before each
    _longest: tuple[Operation, ...] = ()
    _stuck: tuple[Operation, ...] = ()

    def run(self) -> Result:
        """Search."""
        head = _link(self.operations)
        left = sum(operation.required for operation in self.operations)
        state, taken_bits = self.model.initial(), 0
        seen: set[tuple[int, StateT]] = {(0, state)}
        event = head.after
        while left:
            if event is not None and event.match is not None:  # a call: can it come next?
                following = self._step(state, event.operation)
                place = (taken_bits | event.bit, following)
                if following is None or place in seen:
                    event = event.after
                    continue
                if len(seen) >= self.max_states:
                    return Result(Verdict.UNDECIDED, len(seen), self._longest)
                seen.add((place[0], following))
                self._taken.append((event, state))
                state, taken_bits = following, place[0]
                left -= event.operation.required
                event.lift()
                event = head.after
                continue
            # Something returned before anything else could be taken: whatever was taken last was wrong.
            self._remember(head)
            if not self._taken:
                return Result(Verdict.NOT_LINEARIZABLE, len(seen), self._longest, self._stuck)
            event, state = self._taken.pop()
            taken_bits &= ~event.bit
            left += event.operation.required
            event.unlift()
            event = event.after
        return Result(Verdict.LINEARIZABLE, len(seen), tuple(event.operation for event, _ in self._taken))

    def _step(self, state: StateT, operation: Operation) -> StateT | None:
        following = self.model.step(state, operation)
        return None if following == state and not operation.required else following

    def _remember(self, head: _Event) -> None:
        """Keep the longest partial order as an explanation."""
        if self._stuck and len(self._taken) <= len(self._longest):
            return
        self._longest = tuple(event.operation for event, _ in self._taken)
        stuck = []
        event = head.after
        while event is not None and event.match is not None:
            stuck.append(event.operation)
            event = event.after
        self._stuck = tuple(stuck)


def _link(operations: Sequence[Operation]) -> _Event:
    """Build the list. Of events at one moment the calls come first: they overlap, as far as anybody can tell."""
    events: list[tuple[float, int, int, _Event]] = []
    for number, operation in enumerate(operations):
        end = _Event(operation, 1 << number)
        start = _Event(operation, 1 << number, match=end)
        events.append((operation.call, 0, number, start))
        events.append((inf if operation.returned is None else operation.returned, 1, number, end))
    events.sort(key=lambda event: event[:3])
    head = last = _Event(_NOTHING, 0)
    for *_, event in events:
        last.after, event.before = event, last
        last = event
    return head


_NOTHING = Operation(object="", key="", client="", name="", arguments={}, call=0.0, returned=None, result=None)
