"""Whole histories: split by object, each part searched alone.

A history is linearizable exactly if its parts are, one per object (Herlihy and Wing, theorem 1), and the parts are
exponentially easier.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from phxqueue.testing.linearizability.cursor import Cursor
from phxqueue.testing.linearizability.history import HistoryError, Operation
from phxqueue.testing.linearizability.lock import Lock
from phxqueue.testing.linearizability.queue_end import QueueEnd
from phxqueue.testing.linearizability.register import Register
from phxqueue.testing.linearizability.search import MAX_STATES, Model, Result, Verdict, search
from phxqueue.testing.linearizability.versioned_register import VersionedRegister

MODELS: Mapping[str, Model[Any]] = {
    "register": Register(),
    "versioned-register": VersionedRegister(),
    "queue-end": QueueEnd(),
    "cursor": Cursor(),
    "lock": Lock(),
}
"""The models by the name that a history calls its objects by."""

_EXPLAINED = 8
"""How many operations before and behind the point of failure are shown."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was found in a history: per object, by (object, key)."""

    results: Mapping[tuple[str, str], Result]
    operations: int

    @property
    def verdict(self) -> Verdict:
        """The worst of all objects."""
        verdicts = {result.verdict for result in self.results.values()}
        for verdict in (Verdict.NOT_LINEARIZABLE, Verdict.UNDECIDED):
            if verdict in verdicts:
                return verdict
        return Verdict.LINEARIZABLE

    def __str__(self) -> str:
        states = sum(result.states for result in self.results.values())
        lines = [f"{self.operations} operations on {len(self.results)} objects, {states} states: {self.verdict.value}"]
        for (kind, key), result in sorted(self.results.items()):
            if result.verdict is not Verdict.LINEARIZABLE:
                lines += [f"{kind} {key}: {result.verdict.value} ({result.states} states); the longest order ends in"]
                lines += [f"    {operation}" for operation in result.order[-_EXPLAINED:]]
                lines += ["  and none of these can follow:"] if result.stuck else []
                lines += [f"    {operation}" for operation in result.stuck[:_EXPLAINED]]
        return "\n".join(lines)


def check_history(
    operations: Iterable[Operation], models: Mapping[str, Model[Any]] = MODELS, max_states: int = MAX_STATES
) -> Report:
    """Check every object of a history, each with the model of its kind.

    Args:
        max_states: bound on the search of each object; beyond it the object is undecided.

    Raises:
        HistoryError: an operation of an unknown kind of object, or one its object does not have.
    """
    objects: dict[tuple[str, str], list[Operation]] = {}
    for operation in operations:
        objects.setdefault((operation.object, operation.key), []).append(operation)
    for kind, key in objects:
        if kind not in models:
            raise HistoryError(f"{kind} {key}: no such kind of object; known are {', '.join(sorted(models))}")
    results = {place: search(models[place[0]], part, max_states) for place, part in objects.items()}
    return Report(results, sum(len(part) for part in objects.values()))
