"""Half messages until they are decided, and for a while after. Replicated state; pure.

A half message is a batch that is kept aside (:mod:`phxqueue.store.aside`) without a time: somebody commits it or rolls
it back. It is known by its *half number* (unique in its Paxos group, never used again), and lies in the table in the
order of these numbers, which is also that of the times at which it was prepared.

What became of it is remembered for a day, as far as there is room, so that a decision sent again gets the same
answer. One that is not remembered any more is not undecided either: it cannot be committed twice.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from phxqueue.proto.store_pb2 import HalfState
from phxqueue.replica.portions import Portions
from phxqueue.store.aside import AsideTable, Kind
from phxqueue.store.columns import ColumnReader, ColumnWriter
from phxqueue.store.remembered import Remembered

#: Constants of the command version: for how long, and of how many, the outcome is remembered ...
DECIDED_MS = 24 * 3600 * 1000
MOST_DECIDED = 1 << 16
#: Undecided ones that are counted in one step when a checkpoint is restored.
_STEP_ROWS = 1024
#: ... and how many of those that the store rolled back by itself are shown.
MOST_EXPIRED = 4096

COMMITTED, ROLLED_BACK, EXPIRED = HalfState.COMMITTED, HalfState.ROLLED_BACK, HalfState.EXPIRED


class Half(NamedTuple):
    """One half message.

    `name`: number of the name of the producers that are asked; `check_after_ms`: 0 = as configured.
    """

    prepared_ms: int
    number: int
    instance: int
    mask: int
    digest: int
    queue_id: int
    pub_id: int
    items: int
    size: int
    ordinal: int
    name: int
    check_after_ms: int


def minute_of(half: Half) -> int:
    """When it was prepared, in minutes since 1970."""
    return half.prepared_ms // 60_000


class Decided(NamedTuple):
    """What became of one. `cursor`: of its first item, if it was committed."""

    state: int
    queue_id: int
    pub_id: int
    items: int
    cursor: int
    prepared_ms: int


_KIND = Kind(Half._make, "QQQQQIIIIIII", b"h", "half messages")


class _Rows(AsideTable[Half]):
    """The undecided ones; times and numbers rise together, so that either finds a row."""

    def row(self, number: int) -> Half | None:
        """The one with that number."""
        place = bisect_left(self._chunks, number, key=lambda chunk: chunk.numbers[-1])
        if place == len(self._chunks):
            return None
        chunk = self._chunks[place]
        row = bisect_left(chunk.numbers, number)
        return chunk.rows(row, row + 1)[0] if chunk.numbers[row] == number else None

    def behind(self, number: int) -> Iterator[Half]:
        """Those with higher numbers, in order."""
        place = bisect_left(self._chunks, number + 1, key=lambda chunk: chunk.numbers[-1])
        for chunk in self._chunks[place:]:
            yield from chunk.rows(bisect_left(chunk.numbers, number + 1), len(chunk))


class HalfTable:
    """All half messages of one Paxos group.

    Attributes:
        ended: (queue id, ROLLED_BACK or EXPIRED) -> items, ever.
        undecided: (minute, pub id, mask) -> items of undecided ones; follows from these, so it is in no checkpoint.
    """

    def __init__(self, chunk_rows: int = 2048) -> None:
        self.ended: dict[tuple[int, int], int] = {}
        self.undecided: dict[tuple[int, int, int], int] = {}
        self._rows = _Rows(_KIND, chunk_rows)
        self._names: dict[int, tuple[str, int]] = {}  # number -> name, and how many half messages have it
        self._numbers: dict[str, int] = {}
        self._next_name = 1
        self._decided = Remembered(b"d", 8)
        self._expired = Remembered(b"e", 8)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def next_number(self) -> int:
        """Half number of the next one."""
        return self._rows.next_number

    @property
    def waiting(self) -> dict[tuple[int, int], int]:
        """(queue id, mask) -> items of undecided ones."""
        return self._rows.waiting

    @property
    def lowest_instance(self) -> int | None:
        """The lowest instance that holds an undecided one; None: there is none."""
        return self._rows.lowest_instance

    # ---- changes ---------------------------------------------------------------------------------

    def add(self, half: Half, name: str) -> None:
        """Take one in; its number must be `next_number`, and its `name` is filled in here."""
        number = self._numbers.get(name)
        if number is None:
            number, self._next_name = self._next_name, self._next_name + 1
            self._numbers[name] = number
        self._names[number] = name, self._names.get(number, ("", 0))[1] + 1
        last = self._rows.newest_time
        half = half._replace(name=number, prepared_ms=max(half.prepared_ms, last))
        self._rows.add(half)
        self._account(half, half.items)

    def _account(self, half: Half, items: int) -> None:
        key = minute_of(half), half.pub_id, half.mask
        left = self.undecided.get(key, 0) + items
        if left:
            self.undecided[key] = left
        else:
            del self.undecided[key]

    def take(self, number: int) -> Half | None:
        """Take an undecided one out; None: there is none with that number."""
        half = self._rows.row(number)
        if half is None:
            return None
        self._rows.take(half.prepared_ms, number)
        self._account(half, -half.items)
        name, count = self._names[half.name]
        if count > 1:
            self._names[half.name] = name, count - 1
        else:
            del self._names[half.name], self._numbers[name]
        return half

    @property
    def live_bytes(self) -> int:
        """Bytes of all undecided ones."""
        return self._rows.live_bytes

    def before(self, instance: int) -> Iterator[Half]:
        """Undecided ones that lie in an entry below that instance."""
        return self._rows.before(instance)

    def relocate(self, number: int, was: int, now: tuple[int, int]) -> None:
        """An undecided one lies elsewhere from now on (instance, ordinal), if it lies in the instance `was`."""
        half = self._rows.row(number)
        if half is not None:
            self._rows.relocate(half.prepared_ms, number, was, now)

    def remember(self, number: int, decided: Decided, now_ms: int) -> None:
        """What became of one that was taken out."""
        values = (
            decided.state, decided.queue_id << 32 | decided.items, decided.pub_id, decided.cursor, decided.prepared_ms
        )  # fmt: skip
        self._decided.add(now_ms, number, values)
        if decided.state == EXPIRED:
            self._expired.add(now_ms, number, values)
            self._expired.forget(-1, MOST_EXPIRED)
        if decided.state != COMMITTED:
            key = decided.queue_id, decided.state
            self.ended[key] = self.ended.get(key, 0) + decided.items

    def begin(self, now_ms: int) -> None:
        """Start an entry: forget what was decided long ago."""
        if len(self._decided):
            self._decided.forget(now_ms - DECIDED_MS, MOST_DECIDED)

    # ---- looking ---------------------------------------------------------------------------------

    def find(self, number: int) -> Half | None:
        """An undecided one; None: there is none with that number."""
        return self._rows.row(number)

    def name_of(self, half: Half) -> str:
        """The name of the producers that are asked about it."""
        return self._names[half.name][0]

    def decided(self, number: int) -> tuple[int, Decided] | None:
        """When one was decided, and how; None: it is undecided, never was, or nobody knows any more."""
        found = self._decided.find(number) or self._expired.find(number)
        return None if found is None else (found[0], _decided(found[1]))

    def expired(self) -> list[tuple[int, int, Decided]]:
        """(time, number, what) of the last ones that the store rolled back by itself, the newest first."""
        return [(at_ms, number, _decided(values)) for at_ms, number, values in self._expired.newest(MOST_EXPIRED)]

    def after(self, number: int) -> Iterator[Half]:
        """Go through the undecided ones behind a number, in order; the table must not change meanwhile."""
        return self._rows.behind(number)

    # ---- checkpoints -----------------------------------------------------------------------------

    def seal(self) -> list[tuple[bytes, bytes]]:
        """Write what has changed, or is new, since the last call; return it as (key, blob)."""
        return self._rows.seal() + self._decided.seal() + self._expired.seal()

    def take_dead(self) -> list[bytes]:
        """Return the keys of blobs that nothing refers to any more, once each."""
        return self._rows.take_dead() + self._decided.take_dead() + self._expired.take_dead()

    def write(self, out: ColumnWriter, *, whole: bool = False) -> None:
        """Write what is in no blob; `whole`: all there is, as replicas have it alike."""
        out.u64(self._next_name)
        out.u32(len(self._names))
        for number, (name, count) in sorted(self._names.items()):
            raw = name.encode()
            out.numbers((number, count, len(raw)))
            out.raw(raw)
        out.u32(len(self.ended))
        for (queue_id, state), items in sorted(self.ended.items()):
            out.numbers((queue_id, state, items))
        for part in (self._rows, self._decided, self._expired):
            if whole:
                part.write_whole(out)
            else:
                part.write(out)

    def reading(self, source: ColumnReader, blobs: Mapping[bytes, bytes]) -> Portions[None]:
        """Read what `write` wrote, into an empty table. Raises CorruptCheckpoint."""
        self._next_name = source.u64()
        for _ in range(source.u32()):
            number, count, size = source.numbers(3)
            name = source.raw(size).decode()
            self._names[number] = name, count
            self._numbers[name] = number
        for _ in range(source.u32()):
            queue_id, state, items = source.numbers(3)
            self.ended[queue_id, state] = items
        for part in (self._rows, self._decided, self._expired):
            yield from part.reading(source, blobs)
        for number, half in enumerate(self._rows.behind(0)):
            self._account(half, half.items)
            if not number % _STEP_ROWS:
                yield


def _decided(values: tuple[int, ...]) -> Decided:
    state, packed, pub_id, cursor, prepared_ms = values
    return Decided(state, packed >> 32, pub_id, packed & 0xFFFFFFFF, cursor, prepared_ms)
