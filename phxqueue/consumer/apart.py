"""Fetching the batches one by one of what a store has merged into one and cannot be read. Pure.

Stores merge neighbouring batches: one byte that is wrong in one of them can make all of them unreadable. Fetched again,
each by itself, that batch stands alone, and the others are as good as ever.
"""

from __future__ import annotations

from phxqueue.proto.store_pb2 import GetBatch


class Apart:
    """What of one queue is fetched batch by batch."""

    def __init__(self) -> None:
        self._first = self._stop = 0

    def limit(self, position: int, most: int) -> int:
        """Items to ask for from a cursor on, `most` at most."""
        if self._first <= position < self._stop:
            return 1  # a store gives whole batches
        return min(most, self._first - position) if position < self._first else most

    def takes(self, batch: GetBatch) -> bool:
        """Whether this unreadable batch may be several, and is to be fetched again; once, then it is what it is.

        Merged ones have no sequence; single ones of some clients have none either.
        """
        first, stop = batch.first_cursor, batch.first_cursor + batch.header.count
        if batch.header.count == 1 or batch.header.sequence or (self._first <= first and stop <= self._stop):
            return False
        self._first, self._stop = first, stop
        return True
