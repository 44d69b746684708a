"""Items that were sent as one are stored as one: all of them, or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from phxqueue.testing.sim.checkers import Violation


class Together:
    """Groups of items.

    Attributes:
        stored: groups whose client was told so.
    """

    def __init__(self) -> None:
        self.stored = 0
        self._groups: list[tuple[bytes, ...]] = []

    def offered(self, items: Sequence[bytes]) -> None:
        """A client is about to send them as one."""
        self._groups.append(tuple(items))

    def accepted(self) -> None:
        """It was told that they are stored."""
        self.stored += 1

    def check_contents(self, contents: Mapping[int, Sequence[bytes]]) -> None:
        """At the end; `contents` is every queue, read from its beginning to its end. That what was told to be stored
        is there is the ledger's to check.
        """
        found = {item for items in contents.values() for item in items}
        for group in self._groups:
            there = [item for item in group if item in found]
            if there and len(there) < len(group):
                missing = next(item for item in group if item not in found)
                raise Violation(f"{there[0]!r} is stored and {missing!r} is not: they were sent as one")
