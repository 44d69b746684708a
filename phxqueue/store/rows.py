"""Finding what a Get may return: a walk over index rows, before anything is read. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from phxqueue.store.index import QueueIndex
from phxqueue.store.views import View


@dataclass(slots=True, kw_only=True)
class Wanted:
    """What a reader wants of a queue.

    Attributes:
        view: what is its consumer group's: rows that have nothing of it are passed over.
        items: most items.
        size: most bytes of items.
        stored_before_ms: only rows stored before this time are due; Unix milliseconds.
    """

    view: View
    items: int
    size: int
    stored_before_ms: int


@dataclass(slots=True)
class Plan:
    """Which rows to read.

    Attributes:
        rows: the rows, in order; at least one when anything is wanted and due.
        position: where the reader stands if it gets nothing: behind what was passed over.
        not_due: the row at which the walk stopped because it is not due yet, or None.
        unfinished: the walk stopped at its bound, with nothing found: go on at `position`.
    """

    rows: list[int]
    position: int
    not_due: int | None
    unfinished: bool


def plan(index: QueueIndex, position: int, wanted: Wanted, scan_rows: int) -> Plan:
    """Choose the rows from `position` on that satisfy a reader, looking at no more than `scan_rows`.

    One row is chosen whatever its size; the last one may exceed the limits, which then apply between its batches.
    """
    rows: list[int] = []
    items = size = 0
    row, end = index.find(position), len(index)
    last = min(end, row + scan_rows)
    timestamps, sizes, firsts, may_have = index.timestamps, index.sizes, index.firsts, wanted.view.may_have
    while row < last and items < wanted.items and size < wanted.size:
        if timestamps[row] >= wanted.stored_before_ms:
            return Plan(rows, position, row, unfinished=False)
        if may_have(index, row):
            rows.append(row)
            items += index.row_end(row) - max(firsts[row], position)
            size += sizes[row]
        elif not rows:
            position = index.row_end(row)
        row += 1
    return Plan(rows, position, None, unfinished=not rows and last < end)


#: Rows of other consumer groups that oldest_waiting looks at; beyond them it is content with the next row's time.
_LOOKED_AT = 1000


def oldest_waiting(index: QueueIndex, acked: int, view: View) -> int | None:
    """When the oldest item that a group has not acknowledged was taken, Unix milliseconds; None: there is none."""
    row = index.find(acked)
    last = min(row + _LOOKED_AT, len(index))
    for candidate in range(row, last):
        if view.may_have(index, candidate):
            return index.timestamps[candidate]
    return index.timestamps[last] if last < len(index) else None
