"""Delayed batches until they are due (:mod:`phxqueue.store.aside`), by `deliver_at_ms`. Replicated state; pure."""

from __future__ import annotations

from typing import NamedTuple

from phxqueue.store.aside import AsideTable, Kind
from phxqueue.store.columns import ColumnReader, ColumnWriter

#: Cancellations remembered, so that one sent again gets the same answer: a constant of the command version.
CANCELS_REMEMBERED = 4096


class Timer(NamedTuple):
    """One delayed batch. `number`: its timer number; `instance`, `ordinal`: which batch of which entry it is."""

    deliver_at_ms: int
    number: int
    instance: int
    mask: int
    digest: int
    queue_id: int
    pub_id: int
    items: int
    size: int
    ordinal: int


_KIND = Kind(Timer._make, "QQQQQIIIII", b"t", "delayed batches")


class TimerTable(AsideTable[Timer]):
    """All delayed batches of one Paxos group; what they are numbered by is their *timer number*."""

    def __init__(self, chunk_rows: int = 2048) -> None:
        super().__init__(_KIND, chunk_rows)
        self._cancelled: dict[int, int] = {}  # timer number -> items, the oldest cancellation first

    def cancel(self, deliver_at_ms: int, number: int) -> int | None:
        """Drop one; return how many items it has, also when it was cancelled before. None: it is not here."""
        timer = self.take(deliver_at_ms, number)
        if timer is None:
            return self._cancelled.get(number)
        self._cancelled[number] = timer.items
        if len(self._cancelled) > CANCELS_REMEMBERED:
            del self._cancelled[next(iter(self._cancelled))]
        return timer.items

    def _write_more(self, out: ColumnWriter) -> None:
        out.u32(len(self._cancelled))
        out.numbers(self._cancelled)
        out.numbers(self._cancelled.values())

    def _read_more(self, source: ColumnReader) -> None:
        cancelled = source.u32()
        numbers, items = source.numbers(cancelled), source.numbers(cancelled)
        self._cancelled = dict(zip(numbers, items, strict=True))
