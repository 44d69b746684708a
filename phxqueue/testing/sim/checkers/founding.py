"""A consumer group created at run time gets exactly what is enqueued after, and what is retained when it begins there.

Knows when clients offered an item and were told that it is stored, and when the creation was asked for and confirmed.
What lies between may have come before or after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from phxqueue.testing.sim.checkers import Violation


class Founding:
    """Of one group, which begins at the earliest or at the latest item."""

    def __init__(self) -> None:
        self.earliest = False
        self._offered: dict[bytes, float] = {}
        self._stored: dict[bytes, float] = {}
        self._asked: dict[int, float] = {}  # queue -> when its Paxos group was asked to create the group
        self._created: dict[int, float] = {}
        self._starts: dict[int, int] = {}  # queue -> where the group stood at first
        self._received: dict[int, dict[int, bytes]] = {}

    def offered(self, item: bytes, now: float) -> None:
        """A producer sends an item for the first time."""
        self._offered[item] = now

    def stored(self, items: Iterable[bytes], now: float) -> None:
        """A producer was told that they are stored, or kept aside until they are due."""
        self._stored.update(dict.fromkeys(items, now))

    def asked(self, queue_id: int, now: float) -> None:
        """The group is going to be created in a queue."""
        self._asked.setdefault(queue_id, now)

    def created(self, queue_id: int, now: float) -> None:
        """It was confirmed that it is."""
        self._created.setdefault(queue_id, now)

    def began(self, queue_id: int, position: int) -> None:
        """A reader was told where the group stands, before it acknowledged anything."""
        self._starts.setdefault(queue_id, position)

    def received(self, queue_id: int, items: Mapping[int, bytes]) -> None:
        """A reader of the group got these, by cursor."""
        self._received.setdefault(queue_id, {}).update(items)

    def check_contents(self, contents: Mapping[int, Sequence[bytes]]) -> None:
        """At the end; `contents`: every queue, read from its beginning to its end."""
        for queue_id in self._created:
            received, start = self._received.get(queue_id, {}), self._starts.get(queue_id, 0)
            for cursor, item in enumerate(contents.get(queue_id, ())):
                got = received.get(cursor)
                if got is not None and got != item:
                    raise Violation(
                        f"queue {queue_id} cursor {cursor}: {got[:30]!r} was delivered, {item[:30]!r} is there"
                    )
                if got is None and self._must(queue_id, item, cursor >= start):
                    raise Violation(f"queue {queue_id} cursor {cursor}: {item[:30]!r} did not come to the new group")
                if got is not None and self._must_not(queue_id, item):
                    raise Violation(f"queue {queue_id} cursor {cursor}: {item[:30]!r} came, which was there before")

    def _must(self, queue_id: int, item: bytes, later: bool) -> bool:
        if self.earliest:
            return later
        return self._offered.get(item, 0.0) > self._created[queue_id]

    def _must_not(self, queue_id: int, item: bytes) -> bool:
        return not self.earliest and self._stored.get(item, float("inf")) < self._asked[queue_id]
