"""Which items may go: the retention rule, and the pace at which a master follows it. Pure.

An index row (what one entry holds of a queue) may go when every consumer group of its mask has acknowledged it *and* it
is older than `retention_s` *or* lies beyond the newest `retention_bytes` of acknowledged data. Rows go from the front
of a queue only, so a row that somebody still has to read keeps everything behind it. The mask of the rows counts, not
the configuration: a consumer group that was taken out of the files keeps what was stored for it.

What is asked for here is checked again, against the replicated cursors, by every replica that applies it
(:meth:`phxqueue.store.queues.StoreQueues._trim`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from phxqueue.store.index import QueueIndex

Acked = Callable[[int], int]
"""acked(consumer group id): every item of the queue below is done."""

#: Removing rows moves those behind them in memory: it is done when at least this part of them can go.
LEAST_SHARE = 256


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """How long a queue keeps what everybody has acknowledged.

    Attributes:
        age_ms: younger rows stay ...
        size: ... as long as the acknowledged ones are not more than this many bytes together.
    """

    age_ms: int
    size: int


class _Masks:
    """The lowest acknowledged cursor of all groups of a mask, each looked up once."""

    def __init__(self, acked: Acked) -> None:
        self._acked = acked
        self._lowest: dict[int, int] = {}

    def lowest(self, mask: int) -> int:
        """2^64 for the mask of nobody."""
        found = self._lowest.get(mask)
        if found is None:
            groups = [group for group in range(1, 65) if mask >> (group - 1) & 1]
            found = self._lowest[mask] = min(map(self._acked, groups), default=1 << 64)
        return found


def acknowledged_rows(index: QueueIndex, acked: Acked, below: int, most: int | None = None) -> int:
    """Return how many rows from the front lie whole below a cursor and are acknowledged by all of their groups."""
    lowest = _Masks(acked).lowest
    masks, last = index.masks, len(index) if most is None else min(most, len(index))
    row = 0
    while row < last:
        end = index.row_end(row)
        if end > below or end > lowest(masks[row]):
            break
        row += 1
    return row


class QueueRetention:
    """Follows one queue from look to look; each looks at a bounded number of rows.

    It remembers up to which cursor rows are known to be acknowledged, and their bytes: looking again costs only what
    has changed. Made anew with every mastership.
    """

    __slots__ = ("_end", "_first", "_size")

    def __init__(self) -> None:
        self._first = 0  # where the queue began when last looked at
        self._end = 0  # rows up to here are acknowledged
        self._size = 0  # bytes of the rows between the two

    def look(self, index: QueueIndex, acked: Acked, policy: RetentionPolicy, now_ms: int, most: int) -> int | None:
        """Return the first cursor to keep, None when everything stays for now.

        Args:
            acked: the replicated cursors.
            now_ms: Unix milliseconds; compared with the times at which entries were proposed.
            most: rows to look at.
        """
        if index.first_cursor != self._first:
            # What has been trimmed since, by us or by a master before us: begin again from the new front.
            self._first = self._end = index.first_cursor
            self._size = 0
        self._advance(index, acked, most)
        before, left, row = now_ms - policy.age_ms, self._size, 0
        sizes, timestamps = index.sizes, index.timestamps
        acknowledged = min(index.find(self._end) if self._end < index.end_cursor else len(index), most)
        while row < acknowledged and (timestamps[row] <= before or left > policy.size):
            left -= sizes[row]
            row += 1
        if not row or row < min(len(index) // LEAST_SHARE, most):
            return None
        return index.row_end(row - 1)

    def _advance(self, index: QueueIndex, acked: Acked, most: int) -> None:
        """Count the rows that have been acknowledged since the last look."""
        if self._end >= index.end_cursor:
            return
        lowest = _Masks(acked).lowest
        row = index.find(self._end)
        last = min(row + most, len(index))
        while row < last:
            end = index.row_end(row)
            if end > lowest(index.masks[row]):
                return
            self._size += index.sizes[row]
            self._end = end
            row += 1
