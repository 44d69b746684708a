"""Delayed batches until they are due: columns of numbers in the order of delivery. Replicated state; pure.

The order is that of `deliver_at_ms`; equal ones come in the order in which they were chosen, which is that of their
*timer numbers*. A row says where the batch lies in the log (instance, and position in its entry), so that it moves into
its queue by reference, and what the queue's index will have to know of it: 60 bytes.

Rows are kept in chunks of bounded length, as the leaves of a B-tree are: putting one in, taking the first ones out and
finding one costs a few binary searches and moves some kilobytes, however many there are. A chunk is also the unit of
checkpoints: one that has not changed since it was written is not written again. Timers of one delay come in order and
touch the first and the last chunk only.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from phxqueue.store.columns import ColumnReader, ColumnWriter, CorruptCheckpoint

_MAGIC = b"PhxQtime"
_FORMAT = 1
_KEY = b"t"
_TYPES = "QQQQQIIIII"

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


class _Chunk:
    """Some rows, in order. `ordinal`: of the blob that holds exactly them; None: there is none."""

    __slots__ = ("_lowest", "columns", "ordinal")

    def __init__(self) -> None:
        self.columns: tuple[array[int], ...] = tuple(array(kind) for kind in _TYPES)
        self.ordinal: int | None = None
        self._lowest: int | None = None

    def __len__(self) -> int:
        return len(self.columns[0])

    @property
    def times(self) -> array[int]:
        """When each row is due."""
        return self.columns[0]

    @property
    def numbers(self) -> array[int]:
        """The timer number of each row."""
        return self.columns[1]

    @property
    def lowest_instance(self) -> int:
        """The lowest instance of its rows."""
        if self._lowest is None:
            self._lowest = min(self.columns[2])
        return self._lowest

    def insert(self, row: int, timer: Timer) -> None:
        """Put one in."""
        for column, value in zip(self.columns, timer, strict=True):
            column.insert(row, value)
        self._lowest = None

    def rows(self, first: int, last: int) -> list[Timer]:
        """Return rows first..last-1."""
        return list(map(Timer._make, zip(*(column[first:last] for column in self.columns), strict=True)))

    def take(self, first: int, last: int) -> list[Timer]:
        """Take rows first..last-1 out."""
        taken = self.rows(first, last)
        for column in self.columns:
            del column[first:last]
        self._lowest = None
        return taken

    def split(self, row: int) -> _Chunk:
        """Move the rows from `row` on into another chunk."""
        other = _Chunk()
        other.columns = tuple(column[row:] for column in self.columns)
        # Slices are made to measure; cutting a column keeps its old capacity.
        self.columns = tuple(column[:row] for column in self.columns)
        self._lowest = None
        return other


class TimerTable:
    """All delayed batches of one Paxos group.

    Args:
        chunk_rows: most rows of a chunk. It may differ between replicas: it decides how the table is kept, not what
            it says.

    Attributes:
        next_number: timer number of the next delayed batch; they are never used again.
        waiting: (queue id, mask) -> items that wait.
    """

    def __init__(self, chunk_rows: int = 2048) -> None:
        self.next_number = 1
        self.waiting: dict[tuple[int, int], int] = {}
        self._chunk_rows = max(chunk_rows, 2)
        self._chunks: list[_Chunk] = []
        self._firsts: list[int] = []  # due time of each chunk's first row
        self._count = 0
        self._cancelled: dict[int, int] = {}  # timer number -> items, the oldest cancellation first
        self._next_ordinal = 0
        self._dead: list[int] = []  # ordinals of blobs that nothing needs any more

    def __len__(self) -> int:
        return self._count

    @property
    def first_due_ms(self) -> int | None:
        """When the next one is due; None: there is none."""
        return self._firsts[0] if self._firsts else None

    @property
    def lowest_instance(self) -> int | None:
        """The lowest instance that holds a delayed batch; None: there is none."""
        return min((chunk.lowest_instance for chunk in self._chunks), default=None)

    # ---- changes ---------------------------------------------------------------------------------

    def add(self, timer: Timer) -> None:
        """Take a batch in; its number must be `next_number`."""
        self.next_number = timer.number + 1
        place = max(bisect_right(self._firsts, timer.deliver_at_ms) - 1, 0)
        if not self._chunks:
            self._put(0, _Chunk(), timer.deliver_at_ms)
        chunk = self._chunks[place]
        row = bisect_right(chunk.times, timer.deliver_at_ms)
        if len(chunk) >= self._chunk_rows:
            # At the end of a full chunk begins another: what comes in order fills chunks to the brim.
            half = len(chunk) if row == len(chunk) else len(chunk) // 2
            self._changed(chunk)
            other = chunk.split(half)
            if row >= half:
                row, chunk = row - half, other
            self._put(place + 1, other, other.times[0] if len(other) else timer.deliver_at_ms)
        self._changed(chunk)
        chunk.insert(row, timer)
        if row == 0:
            self._firsts[self._chunks.index(chunk, place)] = timer.deliver_at_ms
        self._account(timer, timer.items)

    def take_due(self, due_ms: int, most: int) -> list[Timer]:
        """Take out those due at that time or before, the first ones first, no more than `most`."""
        taken: list[Timer] = []
        while self._chunks and len(taken) < most and self._firsts[0] <= due_ms:
            chunk = self._chunks[0]
            end = min(bisect_right(chunk.times, due_ms), most - len(taken))
            self._changed(chunk)
            taken += chunk.take(0, end)
            self._settle(0)
        for timer in taken:
            self._account(timer, -timer.items)
        return taken

    def cancel(self, deliver_at_ms: int, number: int) -> int | None:
        """Drop one; return how many items it has, also when it was cancelled before. None: it is not here."""
        found = self._find(deliver_at_ms, number)
        if found is None:
            return self._cancelled.get(number)
        place, row = found
        chunk = self._chunks[place]
        self._changed(chunk)
        [timer] = chunk.take(row, row + 1)
        self._settle(place)
        self._account(timer, -timer.items)
        self._cancelled[number] = timer.items
        if len(self._cancelled) > CANCELS_REMEMBERED:
            del self._cancelled[next(iter(self._cancelled))]
        return timer.items

    def _put(self, place: int, chunk: _Chunk, first: int) -> None:
        self._chunks.insert(place, chunk)
        self._firsts.insert(place, first)

    def _settle(self, place: int) -> None:
        """After rows were taken out of a chunk."""
        chunk = self._chunks[place]
        if len(chunk):
            self._firsts[place] = chunk.times[0]
        else:
            del self._chunks[place], self._firsts[place]

    def _changed(self, chunk: _Chunk) -> None:
        if chunk.ordinal is not None:
            self._dead.append(chunk.ordinal)
            chunk.ordinal = None

    def _account(self, timer: Timer, items: int) -> None:
        self._count += 1 if items > 0 else -1
        key = timer.queue_id, timer.mask
        left = self.waiting.get(key, 0) + items
        if left:
            self.waiting[key] = left
        else:
            del self.waiting[key]

    # ---- looking ---------------------------------------------------------------------------------

    def get(self, deliver_at_ms: int, number: int) -> Timer | None:
        """Return a delayed batch that waits."""
        found = self._find(deliver_at_ms, number)
        return None if found is None else self._chunks[found[0]].rows(found[1], found[1] + 1)[0]

    def _find(self, deliver_at_ms: int, number: int) -> tuple[int, int] | None:
        place = max(bisect_left(self._firsts, deliver_at_ms) - 1, 0)
        while place < len(self._chunks) and self._firsts[place] <= deliver_at_ms:
            chunk = self._chunks[place]
            first, last = bisect_left(chunk.times, deliver_at_ms), bisect_right(chunk.times, deliver_at_ms)
            row = bisect_left(chunk.numbers, number, first, last)
            if row < last and chunk.numbers[row] == number:
                return place, row
            place += 1
        return None

    def after(self, deliver_at_ms: int, number: int) -> Iterator[Timer]:
        """Go through the rows behind (deliver_at_ms, number), in order; the table must not change meanwhile."""
        place = max(bisect_left(self._firsts, deliver_at_ms) - 1, 0)
        for chunk in self._chunks[place:]:
            first = bisect_left(chunk.times, deliver_at_ms)
            for timer in chunk.rows(first, len(chunk)):
                if timer[:2] > (deliver_at_ms, number):
                    yield timer

    # ---- checkpoints -----------------------------------------------------------------------------

    def seal(self) -> list[tuple[bytes, bytes]]:
        """Write the chunks that have changed since the last call; return them as (key, blob)."""
        blobs = []
        for chunk in self._chunks:
            if chunk.ordinal is None:
                chunk.ordinal, self._next_ordinal = self._next_ordinal, self._next_ordinal + 1
                blobs.append((chunk_key(chunk.ordinal), _written(chunk)))
        return blobs

    def take_dead(self) -> list[bytes]:
        """Return the keys of blobs that nothing refers to any more, once each."""
        dead, self._dead = self._dead, []
        return [chunk_key(ordinal) for ordinal in dead]

    def write(self, out: ColumnWriter) -> None:
        """Write what is in no blob; `seal` has been called."""
        self._write_numbers(out)
        out.u64(self._next_ordinal)
        out.u32(len(self._chunks))
        out.numbers([chunk.ordinal or 0 for chunk in self._chunks])

    def write_whole(self, out: ColumnWriter) -> None:
        """Write all there is, and nothing that may differ between replicas: for the state's hash."""
        self._write_numbers(out)
        for number in range(len(_TYPES)):
            for chunk in self._chunks:
                out.column(chunk.columns[number])

    def _write_numbers(self, out: ColumnWriter) -> None:
        out.u64(self.next_number)
        out.u64(self._count)
        out.u32(len(self._cancelled))
        out.numbers(self._cancelled)
        out.numbers(self._cancelled.values())

    def read(self, source: ColumnReader, blobs: Mapping[bytes, bytes]) -> None:
        """Read what `write` wrote, into an empty table. Raises CorruptCheckpoint."""
        self.next_number, count = source.u64(), source.u64()
        cancelled = source.u32()
        numbers, items = source.numbers(cancelled), source.numbers(cancelled)
        self._cancelled = dict(zip(numbers, items, strict=True))
        self._next_ordinal = source.u64()
        for ordinal in source.numbers(source.u32()):
            blob = blobs.get(chunk_key(ordinal))
            if blob is None:
                raise CorruptCheckpoint(f"chunk {ordinal} of delayed batches is missing")
            chunk = _read(blob, ordinal)
            self._put(len(self._chunks), chunk, chunk.times[0])
            self._count += len(chunk)
            for queue_id, mask, items_here in zip(chunk.columns[5], chunk.columns[3], chunk.columns[7], strict=True):
                key = queue_id, mask
                self.waiting[key] = self.waiting.get(key, 0) + items_here
        if self._count != count or self._firsts != sorted(self._firsts):
            raise CorruptCheckpoint(f"{self._count} delayed batches instead of {count}, or not in order")


def chunk_key(ordinal: int) -> bytes:
    """The key a chunk's blob is stored under."""
    return _KEY + ordinal.to_bytes(8, "big")


def _written(chunk: _Chunk) -> bytes:
    out = ColumnWriter(_MAGIC)
    out.u16(_FORMAT)
    out.u64(chunk.ordinal or 0)
    out.u32(len(chunk))
    for column in chunk.columns:
        out.column(column)
    return out.finish()


def _read(blob: bytes, ordinal: int) -> _Chunk:
    what = f"chunk {ordinal} of delayed batches"
    source = ColumnReader(_MAGIC, blob, what)
    version = source.u16()
    if version != _FORMAT:
        raise CorruptCheckpoint(f"{what} has format {version}; this program reads format {_FORMAT}")
    if source.u64() != ordinal:
        raise CorruptCheckpoint(f"{what} is stored under another chunk's key")
    chunk = _Chunk()
    chunk.ordinal = ordinal
    count = source.u32()
    for column in chunk.columns:
        source.column(column, count)
    source.finish()
    if not count or any(map(int.__lt__, chunk.times[1:], chunk.times)):
        raise CorruptCheckpoint(f"{what} is empty or not in order")
    return chunk
