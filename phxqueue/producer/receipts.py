"""What an application gets back: where its items are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, overload

from phxqueue.producer.errors import EnqueueError

NOT_STORED = -1
NO_CURSOR_YET = -2


class Receipt(NamedTuple):
    """The item is durable on a majority of the store's nodes, at this place.

    `cursor` is its position in the queue (store_id, queue_id). It is -1 when the configuration says that items
    of this queue_info are thrown away (`drop_all`): the only way to get a receipt without anything being stored.
    A delayed item has the cursor -2, for it gets one only when it is due, and a `delayed_id`, by which it can be
    cancelled until then.
    """

    store_id: int
    queue_id: int
    cursor: int
    delayed_id: str = ""

    @property
    def stored(self) -> bool:
        """False only for items of a queue_info with `drop_all`."""
        return self.cursor != NOT_STORED


class Segment(NamedTuple):
    """Some items of one enqueue_many that share their fate.

    `error` None: the item at positions[k] has cursor first_cursor + k (or all are dropped: first_cursor -1; or it is
    one delayed item: first_cursor -2).
    """

    positions: Sequence[int]
    store_id: int
    queue_id: int
    first_cursor: int
    error: EnqueueError | None
    delayed_id: str = ""


class Receipts(Sequence["Receipt | EnqueueError"]):
    """One Receipt or EnqueueError per item, in the order the items were given.

    Kept as a few ranges; the single receipts are made when somebody looks at them.
    """

    def __init__(self, count: int, segments: Sequence[Segment]) -> None:
        self._count = count
        self._segments = segments
        self._all: list[Receipt | EnqueueError] | None = None

    @property
    def all_stored(self) -> bool:
        """Whether every item was confirmed (cheap)."""
        return all(segment.error is None for segment in self._segments)

    @property
    def errors(self) -> list[tuple[int, EnqueueError]]:
        """(position, error) of the items that were not confirmed, by position."""
        found = [
            (position, segment.error)
            for segment in self._segments
            if segment.error is not None
            for position in segment.positions
        ]
        return sorted(found, key=lambda pair: pair[0])

    def raise_for_errors(self) -> None:
        """Raise the first item's error, if any item has one."""
        errors = self.errors
        if errors:
            raise errors[0][1]

    def _materialized(self) -> list[Receipt | EnqueueError]:
        if self._all is None:
            table: dict[int, Receipt | EnqueueError] = {}
            for segment in self._segments:
                for offset, position in enumerate(segment.positions):
                    if segment.error is not None:
                        table[position] = segment.error
                    elif segment.delayed_id:
                        table[position] = Receipt(segment.store_id, segment.queue_id, NO_CURSOR_YET, segment.delayed_id)
                    else:
                        cursor = NOT_STORED if segment.first_cursor == NOT_STORED else segment.first_cursor + offset
                        table[position] = Receipt(segment.store_id, segment.queue_id, cursor)
            self._all = [table[position] for position in range(self._count)]
        return self._all

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Receipt | EnqueueError: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Receipt | EnqueueError]: ...
    def __getitem__(self, index: int | slice) -> Receipt | EnqueueError | Sequence[Receipt | EnqueueError]:
        return self._materialized()[index]

    def __iter__(self) -> Iterator[Receipt | EnqueueError]:
        return iter(self._materialized())

    def __repr__(self) -> str:
        return f"<Receipts of {self._count} items, {len(self.errors)} errors>"
