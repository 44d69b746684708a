"""A replay happens exactly once: everything from its target on comes again to that group, and it has one outcome.

Nothing before its target does: what a replay with `skip` passes over, and was not delivered before, never is.

Knows what clients were told, what consumers got in which generation, and when a replay was chosen. That nothing comes
to other groups, and that no acknowledgement of before undoes it, is Cursors' to check.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from phxqueue.testing.sim.checkers import Violation
from phxqueue.testing.sim.checkers.cursors import Key

Outcome = dict[int, tuple[int, int]]
"""queue id -> (target, where the group stood before)."""


@dataclass(slots=True)
class _Moved:
    """One replay of one key: from `target` to `acked` everything has to come again."""

    name: str
    generation: int
    target: int
    acked: int


class Replays:
    """Told of every replay that was chosen, every answer about one, and every item delivered."""

    def __init__(self) -> None:
        self.carried_out = 0
        self._outcomes: dict[str, Outcome] = {}
        self._moved: dict[Key, list[_Moved]] = {}
        self._delivered: dict[tuple[Key, int], set[int]] = {}
        self._begins: dict[tuple[Key, int], int] = {}
        self._passed_over: dict[Key, set[int]] = {}

    def chosen(self, name: str, group: int, generation: int, outcome: Outcome) -> None:
        """A replay that had not been seen before was chosen."""
        if name in self._outcomes:
            raise Violation(f"replay {name} was carried out twice: {self._outcomes[name]}, then {outcome}")
        self.carried_out += 1
        self._outcomes[name] = outcome
        for queue_id, (target, acked) in outcome.items():
            key = queue_id, group
            for earlier in self._moved.get(key, [])[-1:]:
                earlier.acked = min(earlier.acked, acked)  # what it had not come to yet comes with this one
            self._moved.setdefault(key, []).append(_Moved(name, generation, target, acked))
            self.placed(key, generation, acked, target)

    def placed(self, key: Key, generation: int, was: int, position: int) -> None:
        """A group that stood at `was` stands at `position`, by a replay or because it was given up."""
        self._begins[key, generation] = position
        self._passed_over.setdefault(key, set()).update(range(was, position))

    def given_up(self, key: Key, was: int) -> None:
        """Nothing is kept for a group: what was to come again does not."""
        for earlier in self._moved.get(key, [])[-1:]:
            earlier.acked = min(earlier.acked, was)

    def passed_over(self, key: Key) -> Collection[int]:
        """The cursors that a group need not have got."""
        return self._passed_over.get(key, frozenset())

    def answered(self, name: str, outcome: Outcome) -> None:
        """Who asked for it was told what became of it."""
        if self._outcomes.get(name) != outcome:
            raise Violation(f"replay {name}: a client was told {outcome}, it was {self._outcomes.get(name)}")

    def delivered(self, key: Key, generation: int, cursor: int) -> None:
        """A consumer got an item."""
        if cursor < self._begins.get((key, generation), 0):
            raise Violation(
                f"queue {key[0]} group {key[1]}: item {cursor} was delivered in generation {generation}, which began "
                f"at {self._begins[key, generation]}"
            )
        if generation:
            self._delivered.setdefault((key, generation), set()).add(cursor)

    def check_delivered(self, key: Key, wanted: Collection[int]) -> None:
        """At the end; `wanted`: the cursors of all items that the queue has for the group."""
        for moved in self._moved.get(key, ()):
            found = self._delivered.get((key, moved.generation), set())
            missing = sorted(
                cursor for cursor in wanted if moved.target <= cursor < moved.acked and cursor not in found
            )
            if missing:
                raise Violation(
                    f"queue {key[0]} group {key[1]}: replay {moved.name} put it back from {moved.acked} to "
                    f"{moved.target}, and the items at {missing[:10]} did not come again"
                )
