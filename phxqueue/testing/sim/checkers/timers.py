"""A delayed batch fires exactly once and never early; a cancelled one never.

Knows what clients were told, nothing of the insides of a store. That nothing stands in two places, and that what was
delivered was offered, is the ledger's to check.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from phxqueue.testing.sim.checkers import Violation

ROUNDING = 0.002
"""Times are whole milliseconds, rounded once by the client and once by the node."""


class Timers:
    """When each delayed item is due, by true time, and what its client was told.

    A node fires by its own wall clock, which is off by up to `skew` either way.
    """

    def __init__(self, skew: float) -> None:
        self.fired = 0
        self.cancelled_items = 0
        self._skew = skew
        self._due: dict[bytes, float] = {}
        self._accepted: set[bytes] = set()
        self._cancelled: set[bytes] = set()

    def offered(self, items: Iterable[bytes], due: float) -> None:
        """A client is about to send a batch that is due then, true time."""
        self._due.update(dict.fromkeys(items, due))

    def accepted(self, items: Iterable[bytes]) -> None:
        """It was told that the store has the batch."""
        self._accepted.update(items)

    def cancelled(self, items: Sequence[bytes]) -> None:
        """It was told that the batch will not be delivered."""
        self._cancelled.update(items)
        self.cancelled_items += len(items)

    def delivered(self, item: bytes, now: float) -> None:
        """A consumer got an item, delayed or not."""
        due = self._due.get(item)
        if due is None:
            return
        if now < due - self._skew - ROUNDING:
            raise Violation(
                f"{item[:30]!r} is due at {due:.3f} and was delivered at {now:.3f}, with clocks off by {self._skew} s"
            )
        if item in self._cancelled:
            raise Violation(f"{item[:30]!r} was delivered, though its client was told that it is cancelled")

    def check_contents(self, contents: Mapping[int, Sequence[bytes]]) -> None:
        """At the end; `contents` is every queue, read from its beginning to its end, when all timers have fired."""
        found = {item for items in contents.values() for item in items}
        self.fired = len(found & self._due.keys())
        for item in sorted(self._accepted - self._cancelled - found):
            raise Violation(f"{item[:30]!r} was accepted, due at {self._due[item]:.3f}, and is in no queue")
        for item in sorted(self._cancelled & found):
            raise Violation(f"{item[:30]!r} is in a queue, though its client was told that it is cancelled")
