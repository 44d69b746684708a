"""A half message is decided once, everybody is told the same, and nobody sees it before somebody commits it.

Knows what clients asked for and were told, nothing of the insides of a store. That nothing stands in two places is the
ledger's to check.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from phxqueue.testing.sim.checkers import Violation

COMMITTED, ROLLED_BACK, EXPIRED = "committed", "rolled back", "expired"


class Halves:
    """By their items; those of one half message have one fate.

    Attributes:
        told: how many were told to be so, by what they are.
    """

    def __init__(self) -> None:
        self.told: dict[str, int] = {COMMITTED: 0, ROLLED_BACK: 0, EXPIRED: 0}
        self._items: dict[bytes, int] = {}  # -> which half message
        self._commits: set[int] = set()  # somebody asked for it
        self._outcomes: dict[int, tuple[str, int]] = {}
        self._sizes: dict[int, int] = {}

    def offered(self, name: int, items: Sequence[bytes]) -> None:
        """A client is about to prepare them."""
        self._items.update(dict.fromkeys(items, name))
        self._sizes[name] = len(items)

    def name_of(self, item: bytes) -> int:
        """Which half message an item belongs to."""
        return self._items[item]

    def commits(self, name: int) -> None:
        """A client is about to ask for it."""
        self._commits.add(name)

    def decided(self, name: int, outcome: str, cursor: int, count: int) -> None:
        """A client was told what it is."""
        if name not in self._outcomes:
            self.told[outcome] += 1
        known = self._outcomes.setdefault(name, (outcome, cursor))
        if known != (outcome, cursor):
            raise Violation(f"half message {name} was told to be {known} and is {(outcome, cursor)} now")
        if outcome == COMMITTED and name not in self._commits:
            raise Violation(f"half message {name} is committed, and nobody has asked for that")
        if count != self._sizes[name]:
            raise Violation(f"half message {name} has {self._sizes[name]} items, and {count} were decided")

    def delivered(self, item: bytes) -> None:
        """A consumer got an item, prepared or not."""
        name = self._items.get(item)
        if name is None:
            return
        if name not in self._commits:
            raise Violation(f"{item[:30]!r} was delivered, though nobody has committed it")
        outcome = self._outcomes.get(name)
        if outcome is not None and outcome[0] != COMMITTED:
            raise Violation(f"{item[:30]!r} was delivered, though it was told to be {outcome[0]}")

    def check_contents(self, contents: Mapping[int, Sequence[bytes]]) -> None:
        """At the end; `contents` is every queue, read from its beginning to its end, when all are decided."""
        found = {item for items in contents.values() for item in items}
        for item, name in sorted(self._items.items()):
            outcome = self._outcomes.get(name)
            if (item in found) and (name not in self._commits or (outcome is not None and outcome[0] != COMMITTED)):
                raise Violation(f"{item[:30]!r} is in a queue; half message {name} is {outcome}")
            if item not in found and outcome is not None and outcome[0] == COMMITTED:
                raise Violation(f"{item[:30]!r} is in no queue, though it was told to be committed at {outcome[1]}")
