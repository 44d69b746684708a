"""Which minute, pub and consumer groups the items of a queue belong to: runs of equal ones, in columns. Pure.

Batches of one pub and mask that were stored in the same minute and lie side by side are one run, so a busy queue has
about one a minute. They are kept as long as the queue's items, because a replay may go back to any of them.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Container, Iterator
from itertools import islice


class Runs:
    """The runs of one queue. The last one reaches to the end of the queue.

    A mask of 0 stands for items that are not in the books (delayed before those were opened).
    """

    __slots__ = ("_compacted", "masks", "minutes", "pubs", "starts")

    def __init__(self) -> None:
        self.starts = array("Q")
        self.minutes = array("I")
        self.pubs = array("I")
        self.masks = array("Q")
        self._compacted = 64  # runs after the last compaction

    def __len__(self) -> int:
        return len(self.starts)

    def open(self, cursor: int, minute: int, pub_id: int, mask: int) -> None:
        """Items of this kind follow, from the end of the queue on."""
        if self.starts and (self.masks[-1], self.pubs[-1], self.minutes[-1]) == (mask, pub_id, minute):
            return
        self._append(cursor, minute, pub_id, mask)

    def _append(self, cursor: int, minute: int, pub_id: int, mask: int) -> None:
        self.starts.append(cursor)
        self.minutes.append(minute)
        self.pubs.append(pub_id)
        self.masks.append(mask)

    def pieces(self, first: int, last: int) -> Iterator[tuple[int, int, int, int]]:
        """What lies in [first, last): (minute, pub id, mask, items), in order. `last`: no more than the queue's end."""
        starts = self.starts
        run = max(bisect_right(starts, first) - 1, 0)
        while run < len(starts) and starts[run] < last:
            low = max(starts[run], first)
            high = min(starts[run + 1] if run + 1 < len(starts) else last, last)
            if high > low:
                yield self.minutes[run], self.pubs[run], self.masks[run], high - low
            run += 1

    def of_minutes(self, minutes: Container[int], end: int) -> Iterator[tuple[int, int, int, int, int]]:
        """The runs of some minutes: (first cursor, one past the last, minute, pub id, mask). `end`: of the queue."""
        for run, minute in enumerate(self.minutes):
            if minute in minutes:
                stop = self.starts[run + 1] if run + 1 < len(self.starts) else end
                yield self.starts[run], stop, minute, self.pubs[run], self.masks[run]

    def forget(self, first_cursor: int) -> None:
        """The queue has no items below this cursor any more."""
        gone = bisect_right(self.starts, first_cursor) - 1
        if gone > 0:
            for column in self._columns():
                del column[:gone]

    def compact(self, floor: int) -> None:
        """Make one run of neighbours that differ in their minutes only, when those are below `floor` both."""
        if len(self) < 2 * self._compacted:
            return
        rows = list(zip(*self._columns(), strict=True))
        for column in self._columns():
            del column[:]
        for cursor, minute, pub_id, mask in rows:
            self.open(cursor, minute if minute >= floor else 0, pub_id, mask)
        self._compacted = max(len(self), 64)

    def dump(self) -> list[int]:
        """All of it, as numbers."""
        return [self._compacted, len(self), *(number for column in self._columns() for number in column)]

    @classmethod
    def load(cls, numbers: Iterator[int]) -> Runs:
        """Take what `dump` gave off the front."""
        runs = cls()
        runs._compacted = next(numbers)
        count = next(numbers)
        for column in runs._columns():
            column.extend(islice(numbers, count))
        return runs

    def _columns(self) -> tuple[array[int], ...]:
        return self.starts, self.minutes, self.pubs, self.masks
