"""What producers were told and what consumers got: nothing acknowledged is lost, invented, moved or out of order.

The ledger knows clients only, nothing of the insides of a store: it is the check that a user could make.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from phxqueue.testing.sim.checkers import Violation

Queue = tuple[int, int]  # (store_id, queue_id)
Place = tuple[Queue, int]  # queue and cursor


@dataclass(frozen=True, slots=True)
class _Offer:
    lane: tuple[int, ...]
    number: int
    mask: int  # of consumer groups


class Ledger:
    """Keeps books on every item: offered by a producer, acknowledged at a cursor, delivered at a cursor.

    Items are byte strings that no two calls of `offered` share. A *lane* is what must stay in order: the items of one
    producer with one key, which are sent one batch after another.
    """

    def __init__(self) -> None:
        self.acknowledged: dict[bytes, Place] = {}
        self._offers: dict[bytes, _Offer] = {}
        self._refused: set[bytes] = set()
        self._at: dict[Queue, dict[int, bytes]] = {}

    def offered(self, lane: tuple[int, ...], number: int, item: bytes, mask: int) -> None:
        """A producer is about to send an item, the `number`th of its lane, for the consumer groups in `mask`."""
        if item in self._offers:
            raise ValueError(f"{item!r} is offered twice")
        self._offers[item] = _Offer(lane, number, mask)

    def knows(self, item: bytes) -> bool:
        """Whether it was offered."""
        return item in self._offers

    def mask(self, item: bytes) -> int:
        """The consumer groups an item was offered for."""
        return self._offers[item].mask

    def was_acknowledged(self, queue: Queue, cursor: int, item: bytes) -> None:
        """A producer was told that its item stands at `cursor`."""
        if self.acknowledged.setdefault(item, (queue, cursor)) != (queue, cursor):
            raise Violation(f"{item!r} was acknowledged at {self.acknowledged[item]} and again at {(queue, cursor)}")
        self._stands(queue, cursor, item)

    def was_refused(self, item: bytes) -> None:
        """A producer was told, each time it sent the item, that it surely was not stored; it gave up."""
        self._refused.add(item)

    def was_delivered(self, queue: Queue, cursor: int, item: bytes, mask: int = 0) -> None:
        """A consumer got an item (for the first time or again). `mask`: the bit of its group; 0: it asked for all."""
        offer = self._offers.get(item)
        if offer is None:
            raise Violation(f"queue {queue} cursor {cursor} delivered {item!r}, which nobody offered")
        if mask and not offer.mask & mask:
            raise Violation(f"{item!r} is for the groups {offer.mask:#x} and was delivered to {mask:#x}")
        self._stands(queue, cursor, item)

    def _stands(self, queue: Queue, cursor: int, item: bytes) -> None:
        if item in self._refused:
            raise Violation(f"{item!r} stands at {(queue, cursor)}, though its producer was told it was not stored")
        known = self._at.setdefault(queue, {}).setdefault(cursor, item)
        if known != item:
            raise Violation(f"queue {queue} cursor {cursor} was {known!r} and is {item!r} now")

    # ---- at the end ---------------------------------------------------------------------------------

    def check_contents(self, contents: Mapping[Queue, Sequence[bytes]]) -> None:
        """`contents` is every queue, read from its beginning to its end."""
        found: dict[bytes, Place] = {}
        for queue, items in contents.items():
            self._check_queue(queue, items, found)
        for item, place in self.acknowledged.items():
            if found.get(item) != place:
                raise Violation(f"{item!r} was acknowledged at {place} and is at {found.get(item)}: an item was lost")

    def _check_queue(self, queue: Queue, items: Sequence[bytes], found: dict[bytes, Place]) -> None:
        last: dict[tuple[int, ...], int] = {}
        for cursor, item in enumerate(items):
            self.was_delivered(queue, cursor, item)
            if item in found:
                raise Violation(f"{item!r} stands at {found[item]} and at {(queue, cursor)}: a retry was stored twice")
            found[item] = (queue, cursor)
            offer = self._offers[item]
            before = last.get(offer.lane, -1)
            if offer.number <= before:
                raise Violation(f"queue {queue}: item {offer.number} of lane {offer.lane} comes after item {before}")
            last[offer.lane] = offer.number

    def check_delivered(
        self,
        queue: Queue,
        mask: int,
        items: Sequence[bytes],
        received: Mapping[int, bytes],
        passed_over: Collection[int] = (),
    ) -> None:
        """`received` is what one consumer group (its bit is `mask`) got of a queue whose whole content is `items`.

        `passed_over`: cursors that it need not have got.
        """
        for cursor, item in enumerate(items):
            if not self._offers[item].mask & mask or (cursor in passed_over and cursor not in received):
                continue
            if received.get(cursor) != item:
                raise Violation(f"queue {queue}: group {mask:#x} never got {item!r} at cursor {cursor}")
        known = sum(1 for cursor in received if cursor < len(items))
        if known > sum(1 for item in items if self._offers[item].mask & mask):
            raise Violation(f"queue {queue}: group {mask:#x} got more than the queue holds for it")
