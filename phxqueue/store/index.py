"""Where the items of a queue are: one row per (entry, queue), in columns instead of objects.

The Paxos log is the queue; items are stored nowhere else. A row says which cursors an entry holds for a queue, so that
a reader goes from a cursor to the instance with one binary search, and whether reading the entry is worth while for
its consumer group. A row covers all batches of one queue in one entry, however many producers they came from: 45 bytes
for up to some hundred items.

Digest sums are prefix sums: the difference of two rows is the sum over the items between them. That is what
reconciliation (section 8 of the design) compares acknowledgements with; the count's prefix sum is the cursor itself,
for cursors have no gaps.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from operator import le

from phxqueue.replica.portions import Portions, at_once
from phxqueue.store.columns import ColumnReader, ColumnWriter, CorruptCheckpoint

#: Row flag: the entry holds batches of this queue only, and every one of them was stored.
SOLE = 1
#: Row flag: all batches of the row have the same mask and pub.
UNIFORM = 2
#: Row flag: the row is one or more batches of an entry that was not stored for it: delayed ones that came long before,
#: or such as were written again; see `QueueIndex.reference`.
REFERENCE = 4

#: Rows of a column that are gone through in one step: about a millisecond.
STEP_ROWS = 1 << 14

_U64_MASK = (1 << 64) - 1
_MAX_SIZE = (1 << 32) - 1


class QueueIndex:
    """The rows of one queue, oldest first.

    Attributes:
        queue_id: which queue.
        end_cursor: one past the last item; the cursor of the next one.
        end_digest: sum of the digests of all items ever stored, mod 2^64.
        firsts: cursor of the first item of each row.
        instances: the Paxos instance that holds the items. It rises from row to row, but for rows of delayed batches.
        masks: union of the consumer-group masks of the row's batches.
        timestamps: when the entry was proposed, Unix milliseconds; never falls from row to row.
        sizes: bytes of the row's serialized items (capped at 2^32 - 1).
        digests: sum of the digests of all items before the row, mod 2^64.
        flags: SOLE and UNIFORM.
        sealed: rows that are in sealed segments already; the others travel with the checkpoint's state.
        runs: the sealed rows, as [ordinal of the segment, number of rows], oldest first.
        relocated: first cursor -> (instance, position, batches) of rows whose items were written again: what sealed
            segments do not know of them.
    """

    __slots__ = (
        "_lowest",
        "_reference_firsts",
        "_reference_places",
        "digests",
        "end_cursor",
        "end_digest",
        "firsts",
        "flags",
        "instances",
        "masks",
        "queue_id",
        "relocated",
        "runs",
        "sealed",
        "sizes",
        "timestamps",
    )

    def __init__(self, queue_id: int) -> None:
        self.queue_id = queue_id
        self.end_cursor = 0
        self.end_digest = 0
        self.sealed = 0
        self.runs: deque[list[int]] = deque()
        self.relocated: dict[int, tuple[int, int, int]] = {}
        self.firsts = array("Q")
        self.instances = array("Q")
        self.masks = array("Q")
        self.timestamps = array("Q")
        self.digests = array("Q")
        self.sizes = array("I")
        self.flags = array("B")
        # Of rows with REFERENCE: their first cursors, and which batches of their entries they are.
        self._reference_firsts = array("Q")
        self._reference_places = array("Q")  # position of the first batch << 32 | number of batches
        self._lowest: int | None = None  # of `instances`; None: looked for when it is asked for

    def __len__(self) -> int:
        return len(self.firsts)

    @property
    def first_cursor(self) -> int:
        """The oldest cursor that can still be read (`end_cursor` when the queue is empty)."""
        return self.firsts[0] if self.firsts else self.end_cursor

    def append(
        self, instance: int, count: int, mask: int, timestamp_ms: int, size: int, digest_sum: int, flags: int
    ) -> None:
        """Add the row of one entry: `count` items that get the next cursors."""
        self.firsts.append(self.end_cursor)
        self.instances.append(instance)
        self.masks.append(mask)
        self.timestamps.append(timestamp_ms)
        self.digests.append(self.end_digest)
        self.sizes.append(size if size < _MAX_SIZE else _MAX_SIZE)
        self.flags.append(flags)
        self.end_cursor += count
        self.end_digest = (self.end_digest + digest_sum) & _U64_MASK

    @property
    def has_references(self) -> bool:
        """Whether there are rows of delayed batches."""
        return bool(self._reference_firsts)

    @property
    def lowest_instance(self) -> int:
        """The lowest instance that holds items of the queue; it must have rows."""
        if not self._reference_firsts:
            return self.instances[0]
        if self._lowest is None:
            self._lowest = min(self.instances)
        return self._lowest

    def append_reference(
        self,
        instance: int,
        place: tuple[int, int],
        count: int,
        mask: int,
        timestamp_ms: int,
        size: int,
        digest: int,
        *,
        uniform: bool = True,
    ) -> None:
        """Add a row of delayed batches that were stored in `instance`; `place`: see `reference`."""
        if not self._reference_firsts:
            self._lowest = self.instances[0] if self.instances else instance
        if self._lowest is not None:
            self._lowest = min(self._lowest, instance)
        self._reference_firsts.append(self.end_cursor)
        self._reference_places.append(place[0] << 32 | place[1])
        self.append(instance, count, mask, timestamp_ms, size, digest, REFERENCE | (UNIFORM if uniform else 0))

    def reference(self, row: int) -> tuple[int, int]:
        """Which batches of its entry a row with REFERENCE is: position of the first one, and how many."""
        place = self._reference_places[bisect_left(self._reference_firsts, self.firsts[row])]
        return place >> 32, place & 0xFFFFFFFF

    def relocate(self, first_cursor: int, was: int, now: tuple[int, int, int]) -> None:
        """The items of a row lie elsewhere from now on, if the row is here and they lie in the instance `was`.

        Args:
            now: instance, position of the first batch there, number of batches.
        """
        row = self.row_at(first_cursor)
        if row is not None and self.instances[row] == was:
            self.relocated[first_cursor] = now
            self._put_elsewhere(row, now)

    def relocate_again(self, first_cursor: int, now: tuple[int, int, int]) -> None:
        """After a restore: what sealed segments do not know."""
        row = self.row_at(first_cursor)
        if row is None:
            raise CorruptCheckpoint(f"queue {self.queue_id}: no row begins at {first_cursor}, where one was relocated")
        self.relocated[first_cursor] = now
        self._put_elsewhere(row, now)

    def _put_elsewhere(self, row: int, now: tuple[int, int, int]) -> None:
        instance, position, batches = now
        first, place = self.firsts[row], position << 32 | batches
        at = bisect_left(self._reference_firsts, first)
        if self.flags[row] & REFERENCE:
            self._reference_places[at] = place
        else:
            self._reference_firsts.insert(at, first)
            self._reference_places.insert(at, place)
            self.flags[row] = self.flags[row] & UNIFORM | REFERENCE
        if self.instances[row] == self._lowest:
            self._lowest = None
        self.instances[row] = instance

    def row_at(self, first_cursor: int) -> int | None:
        """The row that begins at that cursor."""
        row = bisect_left(self.firsts, first_cursor)
        return row if row < len(self.firsts) and self.firsts[row] == first_cursor else None

    def find(self, cursor: int) -> int:
        """Return the row that holds a cursor; the number of rows when it is at or beyond the end.

        A cursor below `first_cursor` gives the first row.
        """
        if cursor >= self.end_cursor:
            return len(self.firsts)
        return max(bisect_right(self.firsts, cursor) - 1, 0)

    def find_time(self, timestamp_ms: int) -> int:
        """Return the first row stored at or after that time."""
        return bisect_left(self.timestamps, timestamp_ms)

    def row_end(self, row: int) -> int:
        """One past the last cursor of a row."""
        return self.firsts[row + 1] if row + 1 < len(self.firsts) else self.end_cursor

    def row_digest(self, row: int) -> int:
        """Sum of the digests of the items of a row, mod 2^64."""
        after = self.digests[row + 1] if row + 1 < len(self.digests) else self.end_digest
        return (after - self.digests[row]) & _U64_MASK

    # ---- trimming ------------------------------------------------------------------------------

    def drop(self, rows: int) -> list[tuple[int, int]]:
        """Forget the oldest rows. Returns (segment, rows) for those of them that are in sealed segments."""
        return at_once(self.dropping(rows))

    def dropping(self, rows: int) -> Portions[list[tuple[int, int]]]:
        """The same in portions; the index is good for nothing until it is done."""
        if self._lowest is not None and rows and min(self.instances[:rows]) <= self._lowest:
            self._lowest = None
        for column in self._columns():
            del column[:rows]
            if len(column) > STEP_ROWS:
                yield
        if self._reference_firsts:
            gone = bisect_left(self._reference_firsts, self.first_cursor)
            del self._reference_firsts[:gone], self._reference_places[:gone]
        if self.relocated:
            self.relocated = {cursor: now for cursor, now in self.relocated.items() if cursor >= self.first_cursor}
        left = min(rows, self.sealed)
        self.sealed -= left
        released = []
        while left:
            run = self.runs[0]
            taken = min(left, run[1])
            released.append((run[0], taken))
            run[1] -= taken
            left -= taken
            if not run[1]:
                self.runs.popleft()
        return released

    # ---- checkpoints ---------------------------------------------------------------------------

    def seal(self, out: ColumnWriter, count: int, segment: int, *, references: bool) -> None:
        """Write the next `count` rows that are in no segment yet into this one."""
        self.write_rows(out, self.sealed, self.sealed + count, references=references)
        self.sealed += count
        self.runs.append([segment, count])

    def write_rows(self, out: ColumnWriter, first: int, last: int, *, references: bool) -> None:
        """Write rows first..last-1 as one run; `references`: in a format that has a place for those."""
        out.u32(self.queue_id)
        out.u32(last - first)
        for column in self._columns():
            out.column(column, first, last)
        if references:
            end = self.firsts[last] if last < len(self.firsts) else self.end_cursor
            begin = self.firsts[first] if first < len(self.firsts) else end
            low, high = bisect_left(self._reference_firsts, begin), bisect_left(self._reference_firsts, end)
            out.u32(high - low)
            out.column(self._reference_firsts, low, high)
            out.column(self._reference_places, low, high)

    def read_rows(self, source: ColumnReader, count: int, *, references: bool) -> None:
        """Append a run of `count` rows (its queue_id and count are read already)."""
        for column in self._columns():
            source.column(column, count)
        if references:
            number = source.u32()
            source.column(self._reference_firsts, number)
            source.column(self._reference_places, number)
        self._lowest = None

    def checking(self, rows: int) -> Portions[None]:
        """After a restore: refuse rows that cannot be right although every checksum was.

        Raises:
            CorruptCheckpoint: when rows are missing or out of order.
        """
        if len(self.firsts) != rows:
            raise CorruptCheckpoint(f"queue {self.queue_id}: {len(self.firsts)} index rows instead of {rows}")
        referring, lowest = 0, None
        last = {"cursors": -1, "instances": -1}
        for begin in range(0, rows, STEP_ROWS):
            end = begin + STEP_ROWS
            cursors, instances = self.firsts[begin:end], self.instances[begin:end]
            if self._reference_firsts:
                lowest = min(instances if lowest is None else (lowest, *instances))
                instances = _plain(instances, self.flags[begin:end])
                referring += len(cursors) - len(instances)
            for name, column in (("cursors", cursors), ("instances", instances)):
                if column and (column[0] <= last[name] or any(map(le, column[1:], column))):
                    raise CorruptCheckpoint(f"queue {self.queue_id}: the {name} of the index do not rise")
                last[name] = column[-1] if column else last[name]
            yield
        if len(self._reference_firsts) != referring:
            raise CorruptCheckpoint(f"queue {self.queue_id}: index rows of delayed batches do not say which")
        self._lowest = lowest
        if rows and self.firsts[-1] >= self.end_cursor:
            raise CorruptCheckpoint(f"queue {self.queue_id}: the last index row begins beyond the end of the queue")

    def _columns(self) -> tuple[array[int], ...]:
        """All columns, in the order in which they are written."""
        return (
            self.firsts, self.instances, self.masks, self.timestamps, self.digests, self.sizes, self.flags,
        )  # fmt: skip


def _plain(instances: array[int], flags: array[int]) -> array[int]:
    """Those of rows without REFERENCE."""
    return array("Q", [instance for instance, flag in zip(instances, flags, strict=True) if not flag & REFERENCE])
