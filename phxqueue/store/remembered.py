"""Rows of numbers that are found by a key and forgotten from the front: what happened lately. Replicated state; pure.

A row begins with the time at which it came, Unix milliseconds, and the two halves of its key; what follows is its
owner's. Rows come in the order of time and leave in it, so a checkpoint writes each of them once: whole segments of
them as immutable blobs, the few newest with its state. A row costs 8 bytes per number, and about 130 for finding it.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Mapping, Sequence
from operator import lt

from phxqueue.replica.portions import Portions, emptying
from phxqueue.store.columns import ColumnReader, ColumnWriter, CorruptCheckpoint

_MAGIC = b"PhxQrmbr"
_FORMAT = 1
#: Compacted when so many rows at the front are forgotten and they are the larger half.
_COMPACT_ROWS = 1024
#: Rows gone through in one step when a checkpoint is restored.
_STEP_ROWS = 4096
_U64_MASK = (1 << 64) - 1


class Remembered:
    """The rows of one owner.

    Args:
        key: what the keys of its blobs begin with; no other owner of the same state may have it.
        numbers: in a row, time and key included.
        segment_rows: rows of a blob. It may differ between replicas: it decides how the rows are kept, not what they
            say.
    """

    def __init__(self, key: bytes, numbers: int, segment_rows: int = 1024) -> None:
        self._key = key
        self._segment_rows = segment_rows
        self._columns = tuple(array("Q") for _ in range(numbers))
        self._base = 0  # the number, counted from the beginning, of the first row in the columns
        self._first = 0  # the same of the first row that is not forgotten
        self._rows: dict[int, int] = {}  # key -> number of the row
        self._segments: deque[tuple[int, int, int]] = deque()  # ordinal, number of its first row, rows
        self._next_ordinal = 0
        self._dead: list[bytes] = []

    def __len__(self) -> int:
        return self._end - self._first

    @property
    def _end(self) -> int:
        return self._base + len(self._columns[0])

    def add(self, time_ms: int, key: int, values: Sequence[int]) -> None:
        """Remember another; its key (128 bits) must not be known, and its time not before that of the last."""
        self._rows[key] = self._end
        for column, value in zip(self._columns, (time_ms, key >> 64, key & _U64_MASK, *values), strict=True):
            column.append(value)

    def find(self, key: int) -> tuple[int, tuple[int, ...]] | None:
        """Return (time, values) of a key; None: it is not known, or not any more."""
        number = self._rows.get(key)
        if number is None:
            return None
        row = [column[number - self._base] for column in self._columns]
        return row[0], tuple(row[3:])

    def newest(self, most: int) -> list[tuple[int, int, tuple[int, ...]]]:
        """Return (time, key, values) of the last ones, the newest first."""
        first = max(self._first - self._base, len(self._columns[0]) - most)
        rows = zip(*(column[first:] for column in self._columns), strict=True)
        return [(time_ms, high << 64 | low, tuple(values)) for time_ms, high, low, *values in reversed(list(rows))]

    def forget(self, before_ms: int, most: int | None = None) -> None:
        """Forget the rows up to that time, and the oldest beyond so many."""
        times, highs, lows, *_ = self._columns
        row = start = self._first - self._base
        end = len(times)
        while row < end and (times[row] <= before_ms or (most is not None and end - row > most)):
            del self._rows[highs[row] << 64 | lows[row]]
            row += 1
        if row == start:
            return
        self._first += row - start
        if row >= _COMPACT_ROWS and row * 2 >= end:
            for column in self._columns:
                del column[:row]
            self._base = self._first
        while self._segments and self._segments[0][1] + self._segments[0][2] <= self._first:
            self._dead.append(self._blob_key(self._segments.popleft()[0]))

    # ---- checkpoints -----------------------------------------------------------------------------

    @property
    def _sealed(self) -> int:
        """The number of the first row that is in no segment."""
        last = self._segments[-1] if self._segments else None
        return self._first if last is None else max(last[1] + last[2], self._first)

    def seal(self) -> list[tuple[bytes, bytes]]:
        """Write the full segments that are in no blob yet; return them as (key, blob)."""
        blobs = []
        while self._end - self._sealed >= self._segment_rows:
            first = self._sealed
            out = ColumnWriter(_MAGIC)
            out.u16(_FORMAT)
            out.u64(first)
            out.u32(self._segment_rows)
            self._write_rows(out, first, first + self._segment_rows)
            self._segments.append((self._next_ordinal, first, self._segment_rows))
            blobs.append((self._blob_key(self._next_ordinal), out.finish()))
            self._next_ordinal += 1
        return blobs

    def take_dead(self) -> list[bytes]:
        """Return the keys of blobs that nothing refers to any more, once each."""
        dead, self._dead = self._dead, []
        return dead

    def write(self, out: ColumnWriter) -> None:
        """Write what is in no blob; `seal` has been called."""
        out.u64(self._next_ordinal)
        out.u32(len(self._segments))
        for segment in self._segments:
            out.numbers(segment)
        out.u64(self._first)
        out.u64(self._end)
        self._write_rows(out, self._sealed, self._end)

    def write_whole(self, out: ColumnWriter) -> None:
        """Write all there is, and nothing that may differ between replicas: for the state's hash."""
        out.u64(self._first)
        out.u64(self._end)
        self._write_rows(out, self._first, self._end)

    def _write_rows(self, out: ColumnWriter, first: int, last: int) -> None:
        for column in self._columns:
            out.column(column, first - self._base, last - self._base)

    def reading(self, source: ColumnReader, blobs: Mapping[bytes, bytes]) -> Portions[None]:
        """Read what `write` wrote, into an empty object. Raises CorruptCheckpoint."""
        self._next_ordinal = source.u64()
        for _ in range(source.u32()):
            ordinal, first, rows = source.numbers(3)
            self._segments.append((ordinal, first, rows))
        self._first, end = source.u64(), source.u64()
        self._base = self._segments[0][1] if self._segments else self._first
        for ordinal, first, rows in self._segments:
            self._read_segment(ordinal, first, rows, blobs)
            yield
        if self._end != self._sealed or end < self._end:
            raise CorruptCheckpoint(f"rows remembered under {self._key!r}: numbered up to {self._end}, not {end}")
        sealed = self._sealed
        for column in self._columns:
            source.column(column, end - sealed)
        yield from self._finding(end)

    def _finding(self, end: int) -> Portions[None]:
        """Make the rows up to `end` found by their keys. Raises CorruptCheckpoint."""
        times, highs, lows, *_ = self._columns
        rising = True
        for begin in range(0, end - self._base, _STEP_ROWS):
            rising = rising and not any(map(lt, times[begin + 1 : begin + _STEP_ROWS + 1], times[begin:]))
            for row in range(max(begin, self._first - self._base), min(begin + _STEP_ROWS, end - self._base)):
                self._rows[highs[row] << 64 | lows[row]] = self._base + row
            yield
        if len(self._rows) != end - self._first or not rising:
            raise CorruptCheckpoint(f"rows remembered under {self._key!r} are not in order, or the same")

    def letting_go(self) -> Portions[None]:
        """Free the rows: nobody looks at them any more."""
        return emptying([self._rows])

    def _read_segment(self, ordinal: int, first: int, rows: int, blobs: Mapping[bytes, bytes]) -> None:
        what = f"segment {ordinal} of the rows remembered under {self._key!r}"
        blob = blobs.get(self._blob_key(ordinal))
        if blob is None:
            raise CorruptCheckpoint(f"{what} is missing")
        source = ColumnReader(_MAGIC, blob, what)
        version = source.u16()
        if version != _FORMAT:
            raise CorruptCheckpoint(f"{what} has format {version}; this program reads format {_FORMAT}")
        if (source.u64(), source.u32()) != (first, rows) or first != self._end:
            raise CorruptCheckpoint(f"{what} does not hold what the checkpoint expects")
        for column in self._columns:
            source.column(column, rows)
        source.finish()

    def _blob_key(self, ordinal: int) -> bytes:
        return self._key + ordinal.to_bytes(8, "big")
