"""What producers were told and what consumers got: nothing acknowledged is lost, invented, moved or out of order."""

from __future__ import annotations

from phxqueue.testing.sim.checkers import Violation

Queue = tuple[int, int]  # (store_id, queue_id)


class Ledger:
    """Keeps books on every item: offered by a producer, acknowledged at a cursor, delivered at a cursor.

    Items are byte strings that no two calls of `offered` share. Producers in the simulation have one batch in flight
    each, so the items of one producer must stand in a queue in the order they were offered.
    """

    def __init__(self) -> None:
        self.acknowledged: dict[bytes, tuple[Queue, int]] = {}
        self._offered: dict[bytes, tuple[int, int]] = {}  # item -> (producer, number)
        self._at: dict[Queue, dict[int, bytes]] = {}

    def offered(self, producer: int, number: int, item: bytes) -> None:
        """A producer is about to send an item."""
        if item in self._offered:
            raise ValueError(f"{item!r} is offered twice")
        self._offered[item] = (producer, number)

    def was_acknowledged(self, queue: Queue, cursor: int, item: bytes) -> None:
        """A producer was told that its item stands at `cursor`."""
        if self.acknowledged.setdefault(item, (queue, cursor)) != (queue, cursor):
            raise Violation(f"{item!r} was acknowledged at {self.acknowledged[item]} and again at {(queue, cursor)}")
        self._stands(queue, cursor, item)

    def was_delivered(self, queue: Queue, cursor: int, item: bytes) -> None:
        """A consumer got an item (for the first time or again)."""
        if item not in self._offered:
            raise Violation(f"queue {queue} cursor {cursor} delivered {item!r}, which nobody offered")
        self._stands(queue, cursor, item)

    def _stands(self, queue: Queue, cursor: int, item: bytes) -> None:
        known = self._at.setdefault(queue, {}).setdefault(cursor, item)
        if known != item:
            raise Violation(f"queue {queue} cursor {cursor} was {known!r} and is {item!r} now")

    def check_complete(self, delivered: dict[Queue, list[tuple[int, bytes]]]) -> None:
        """At the end: `delivered` is every queue read from its beginning, as (cursor, item) in the order of reading."""
        found: dict[bytes, tuple[Queue, int]] = {}
        for queue, items in delivered.items():
            last: dict[int, int] = {}
            for position, (cursor, item) in enumerate(items):
                if cursor != position:
                    raise Violation(f"queue {queue}: cursor {cursor} where {position} should be: there is a gap")
                self.was_delivered(queue, cursor, item)
                if item in found:
                    raise Violation(
                        f"{item!r} stands at {found[item]} and at {(queue, cursor)}: a retry was stored twice"
                    )
                found[item] = (queue, cursor)
                producer, number = self._offered[item]
                if number <= last.get(producer, -1):
                    raise Violation(f"queue {queue}: item {number} of producer {producer} after item {last[producer]}")
                last[producer] = number
        for item, place in self.acknowledged.items():
            if found.get(item) != place:
                raise Violation(f"{item!r} was acknowledged at {place} and is at {found.get(item)}: an item was lost")
