"""Batches that are kept aside: columns of numbers in the order of time. Replicated state; pure.

Equal times come in the order in which the batches were chosen, which is that of their numbers. A row says where the
batch lies in the log (instance, and position in its entry), so that it moves into its queue by reference, and what the
queue's index will have to know of it.

Rows are kept in chunks of bounded length, as the leaves of a B-tree are: putting one in, taking the first ones out and
finding one costs a few binary searches and moves some kilobytes, however many there are. A chunk is also the unit of
checkpoints: one that has not changed since it was written is not written again. Rows that come in the order of time
touch the first and the last chunk only.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from phxqueue.replica.portions import Portions
from phxqueue.store.columns import ColumnReader, ColumnWriter, CorruptCheckpoint

_MAGIC = b"PhxQtime"
_FORMAT = 1

# Where in a row what stands that the table itself has to know.
_TIME, _NUMBER, _INSTANCE, _MASK, _QUEUE, _ITEMS, _SIZE, _ORDINAL = 0, 1, 2, 3, 5, 7, 8, 9

RowT = TypeVar("RowT", bound=tuple[int, ...])


@dataclass(frozen=True, slots=True)
class Kind(Generic[RowT]):
    """What rows of a table are.

    Attributes:
        make: a row of its numbers: time, number, instance, mask, digest, queue id, pub id, items, size, ordinal, and
            what else there is.
        types: the array types of these.
        key: what the keys of its blobs begin with.
        what: its rows, for messages.
    """

    make: Callable[[Iterable[int]], RowT]
    types: str
    key: bytes
    what: str

    def chunk_key(self, ordinal: int) -> bytes:
        """The key a chunk's blob is stored under."""
        return self.key + ordinal.to_bytes(8, "big")


class _Chunk(Generic[RowT]):
    """Some rows, in order. `ordinal`: of the blob that holds exactly them; None: there is none."""

    __slots__ = ("_kind", "_lowest", "columns", "ordinal")

    def __init__(self, kind: Kind[RowT]) -> None:
        self.columns: tuple[array[int], ...] = tuple(array(code) for code in kind.types)
        self._kind = kind
        self.ordinal: int | None = None
        self._lowest: int | None = None

    def __len__(self) -> int:
        return len(self.columns[_TIME])

    @property
    def times(self) -> array[int]:
        """The time of each row."""
        return self.columns[_TIME]

    @property
    def numbers(self) -> array[int]:
        """The number of each row."""
        return self.columns[_NUMBER]

    @property
    def lowest_instance(self) -> int:
        """The lowest instance of its rows."""
        if self._lowest is None:
            self._lowest = min(self.columns[_INSTANCE])
        return self._lowest

    def insert(self, row: int, one: RowT) -> None:
        """Put one in."""
        for column, value in zip(self.columns, one, strict=True):
            column.insert(row, value)
        self._lowest = None

    def rows(self, first: int, last: int) -> list[RowT]:
        """Return rows first..last-1."""
        return list(map(self._kind.make, zip(*(column[first:last] for column in self.columns), strict=True)))

    def take(self, first: int, last: int) -> list[RowT]:
        """Take rows first..last-1 out."""
        taken = self.rows(first, last)
        for column in self.columns:
            del column[first:last]
        self._lowest = None
        return taken

    def move(self, row: int, place: tuple[int, int]) -> None:
        """A row's batch lies at another (instance, ordinal)."""
        self.columns[_INSTANCE][row], self.columns[_ORDINAL][row] = place
        self._lowest = None

    def split(self, row: int) -> _Chunk[RowT]:
        """Move the rows from `row` on into another chunk."""
        other = _Chunk(self._kind)
        other.columns = tuple(column[row:] for column in self.columns)
        # Slices are made to measure; cutting a column keeps its old capacity.
        self.columns = tuple(column[:row] for column in self.columns)
        self._lowest = None
        return other


class AsideTable(Generic[RowT]):
    """All batches of one Paxos group that are kept aside for one reason.

    Args:
        kind: of its rows.
        chunk_rows: most rows of a chunk. It may differ between replicas: it decides how the table is kept, not what
            it says.

    Attributes:
        next_number: of the next batch; numbers are never used again.
        waiting: (queue id, mask) -> items that wait.
    """

    def __init__(self, kind: Kind[RowT], chunk_rows: int = 2048) -> None:
        self.next_number = 1
        self._kind = kind
        self.waiting: dict[tuple[int, int], int] = {}
        self._chunk_rows = max(chunk_rows, 2)
        self._chunks: list[_Chunk[RowT]] = []
        self._firsts: list[int] = []  # time of each chunk's first row
        self._count = 0
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

    @property
    def live_bytes(self) -> int:
        """Bytes of all batches that wait."""
        return sum(sum(chunk.columns[_SIZE]) for chunk in self._chunks)

    def before(self, instance: int) -> Iterator[RowT]:
        """Those that lie in an entry below that instance, in the order of time."""
        for chunk in self._chunks:
            if chunk.lowest_instance < instance:
                yield from (one for one in chunk.rows(0, len(chunk)) if one[_INSTANCE] < instance)

    @property
    def newest_time(self) -> int:
        """The time of the last row; 0: there is none."""
        return self._chunks[-1].times[-1] if self._chunks else 0

    # ---- changes ---------------------------------------------------------------------------------

    def add(self, one: RowT) -> None:
        """Take a batch in; its number must be `next_number`."""
        self.next_number = one[_NUMBER] + 1
        at_ms = one[_TIME]
        place = max(bisect_right(self._firsts, at_ms) - 1, 0)
        if not self._chunks:
            self._put(0, _Chunk(self._kind), at_ms)
        chunk = self._chunks[place]
        row = bisect_right(chunk.times, at_ms)
        if len(chunk) >= self._chunk_rows:
            # At the end of a full chunk begins another: what comes in order fills chunks to the brim.
            half = len(chunk) if row == len(chunk) else len(chunk) // 2
            self._changed(chunk)
            other = chunk.split(half)
            if row >= half:
                row, chunk = row - half, other
            self._put(place + 1, other, other.times[0] if len(other) else at_ms)
        self._changed(chunk)
        chunk.insert(row, one)
        if row == 0:
            self._firsts[self._chunks.index(chunk, place)] = at_ms
        self._account(one, one[_ITEMS])

    def take_due(self, due_ms: int, most: int) -> list[RowT]:
        """Take out those due at that time or before, the first ones first, no more than `most`."""
        taken: list[RowT] = []
        while self._chunks and len(taken) < most and self._firsts[0] <= due_ms:
            chunk = self._chunks[0]
            end = min(bisect_right(chunk.times, due_ms), most - len(taken))
            self._changed(chunk)
            taken += chunk.take(0, end)
            self._settle(0)
        for one in taken:
            self._account(one, -one[_ITEMS])
        return taken

    def take(self, at_ms: int, number: int) -> RowT | None:
        """Take one out; None: it is not here."""
        found = self._find(at_ms, number)
        if found is None:
            return None
        place, row = found
        chunk = self._chunks[place]
        self._changed(chunk)
        [one] = chunk.take(row, row + 1)
        self._settle(place)
        self._account(one, -one[_ITEMS])
        return one

    def relocate(self, at_ms: int, number: int, was: int, now: tuple[int, int]) -> None:
        """A batch lies elsewhere from now on (instance, ordinal), if it is here and lies in the instance `was`."""
        found = self._find(at_ms, number)
        if found is None:
            return
        chunk, row = self._chunks[found[0]], found[1]
        if chunk.columns[_INSTANCE][row] == was:
            self._changed(chunk)
            chunk.move(row, now)

    def _put(self, place: int, chunk: _Chunk[RowT], first: int) -> None:
        self._chunks.insert(place, chunk)
        self._firsts.insert(place, first)

    def _settle(self, place: int) -> None:
        """After rows were taken out of a chunk."""
        chunk = self._chunks[place]
        if len(chunk):
            self._firsts[place] = chunk.times[0]
        else:
            del self._chunks[place], self._firsts[place]

    def _changed(self, chunk: _Chunk[RowT]) -> None:
        if chunk.ordinal is not None:
            self._dead.append(chunk.ordinal)
            chunk.ordinal = None

    def _account(self, one: RowT, items: int) -> None:
        self._count += 1 if items > 0 else -1
        key = one[_QUEUE], one[_MASK]
        left = self.waiting.get(key, 0) + items
        if left:
            self.waiting[key] = left
        else:
            del self.waiting[key]

    # ---- looking ---------------------------------------------------------------------------------

    def get(self, at_ms: int, number: int) -> RowT | None:
        """Return one that waits."""
        found = self._find(at_ms, number)
        return None if found is None else self._chunks[found[0]].rows(found[1], found[1] + 1)[0]

    def _find(self, at_ms: int, number: int) -> tuple[int, int] | None:
        place = max(bisect_left(self._firsts, at_ms) - 1, 0)
        while place < len(self._chunks) and self._firsts[place] <= at_ms:
            chunk = self._chunks[place]
            first, last = bisect_left(chunk.times, at_ms), bisect_right(chunk.times, at_ms)
            row = bisect_left(chunk.numbers, number, first, last)
            if row < last and chunk.numbers[row] == number:
                return place, row
            place += 1
        return None

    def after(self, at_ms: int, number: int) -> Iterator[RowT]:
        """Go through the rows behind (at_ms, number), in order; the table must not change meanwhile."""
        place = max(bisect_left(self._firsts, at_ms) - 1, 0)
        for chunk in self._chunks[place:]:
            first = bisect_left(chunk.times, at_ms)
            for one in chunk.rows(first, len(chunk)):
                if one[:2] > (at_ms, number):
                    yield one

    # ---- checkpoints -----------------------------------------------------------------------------

    def seal(self) -> list[tuple[bytes, bytes]]:
        """Write the chunks that have changed since the last call; return them as (key, blob)."""
        blobs = []
        for chunk in self._chunks:
            if chunk.ordinal is None:
                chunk.ordinal, self._next_ordinal = self._next_ordinal, self._next_ordinal + 1
                blobs.append((self._kind.chunk_key(chunk.ordinal), _written(chunk)))
        return blobs

    def take_dead(self) -> list[bytes]:
        """Return the keys of blobs that nothing refers to any more, once each."""
        dead, self._dead = self._dead, []
        return [self._kind.chunk_key(ordinal) for ordinal in dead]

    def write(self, out: ColumnWriter) -> None:
        """Write what is in no blob; `seal` has been called."""
        self._write_numbers(out)
        out.u64(self._next_ordinal)
        out.u32(len(self._chunks))
        out.numbers([chunk.ordinal or 0 for chunk in self._chunks])

    def write_whole(self, out: ColumnWriter) -> None:
        """Write all there is, and nothing that may differ between replicas: for the state's hash."""
        self._write_numbers(out)
        for number in range(len(self._kind.types)):
            for chunk in self._chunks:
                out.column(chunk.columns[number])

    def _write_numbers(self, out: ColumnWriter) -> None:
        out.u64(self.next_number)
        out.u64(self._count)
        self._write_more(out)

    def reading(self, source: ColumnReader, blobs: Mapping[bytes, bytes]) -> Portions[None]:
        """Read what `write` wrote, into an empty table. Raises CorruptCheckpoint."""
        self.next_number, count = source.u64(), source.u64()
        self._read_more(source)
        self._next_ordinal = source.u64()
        for ordinal in source.numbers(source.u32()):
            blob = blobs.get(self._kind.chunk_key(ordinal))
            if blob is None:
                raise CorruptCheckpoint(f"chunk {ordinal} of {self._kind.what} is missing")
            chunk = _read(blob, ordinal, self._kind)
            self._put(len(self._chunks), chunk, chunk.times[0])
            self._count += len(chunk)
            for queue_id, mask, items_here in zip(
                chunk.columns[_QUEUE], chunk.columns[_MASK], chunk.columns[_ITEMS], strict=True
            ):
                key = queue_id, mask
                self.waiting[key] = self.waiting.get(key, 0) + items_here
            yield
        if self._count != count or self._firsts != sorted(self._firsts):
            raise CorruptCheckpoint(f"{self._count} {self._kind.what} instead of {count}, or not in order")

    def _write_more(self, out: ColumnWriter) -> None:
        """What a table of this kind has besides its rows."""

    def _read_more(self, source: ColumnReader) -> None:
        """The same, read back. Raises CorruptCheckpoint."""


def _written(chunk: _Chunk[Any]) -> bytes:
    out = ColumnWriter(_MAGIC)
    out.u16(_FORMAT)
    out.u64(chunk.ordinal or 0)
    out.u32(len(chunk))
    for column in chunk.columns:
        out.column(column)
    return out.finish()


def _read(blob: bytes, ordinal: int, kind: Kind[RowT]) -> _Chunk[RowT]:
    what = f"chunk {ordinal} of {kind.what}"
    source = ColumnReader(_MAGIC, blob, what)
    version = source.u16()
    if version != _FORMAT:
        raise CorruptCheckpoint(f"{what} has format {version}; this program reads format {_FORMAT}")
    if source.u64() != ordinal:
        raise CorruptCheckpoint(f"{what} is stored under another chunk's key")
    chunk = _Chunk(kind)
    chunk.ordinal = ordinal
    count = source.u32()
    for column in chunk.columns:
        source.column(column, count)
    source.finish()
    if not count or any(map(int.__lt__, chunk.times[1:], chunk.times)):
        raise CorruptCheckpoint(f"{what} is empty or not in order")
    return chunk
