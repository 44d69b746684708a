"""What a checkpoint of a lock table rests on: records sealed in pieces as they change, so that none is large. Pure.

What has changed is written into a new segment, which never changes again, whenever there is a certain amount of it, and
with every checkpoint. A later segment wins over an earlier one; what is gone leaves a mark. So a table is what its
segments say, one after the other, and a checkpoint writes what is new since the last one, however large the table is.

Segments whose records have mostly changed since are only in the way: there are more records in all segments together
than twice those of the table. Then the oldest ones are taken out, and what of them is still so goes into the new
segment with the rest: at most `CLEANED` of them each time. A mark in the oldest segment has nothing left to hide.
"""

from __future__ import annotations

import struct
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import xxhash

from phxqueue.lock.records import LOCKS, STRINGS, Lock, Record, String, TableKey
from phxqueue.replica.portions import Portions

#: So many changed keys, or bytes of them, are sealed at once: milliseconds of work.
SEALED_KEYS = 2048
SEALED_BYTES = 512 * 1024
#: Old segments taken out with each new one.
CLEANED = 2
#: So many records beyond twice those of the table, and so many segments beyond the full ones, do not matter.
SPARE_RECORDS = 16_384
SPARE_SEGMENTS = 32

# Version, lease, a lock's stamp or a string's request id, what it is, bytes of the key, bytes of the value.
_RECORD = struct.Struct("<QQQBHI")
_HEAD = struct.Struct("<QI")  # number of the segment, records
_CHECKSUM = struct.Struct("<Q")
_KEY = struct.Struct(">Q")
_GONE = 2  # added to the key space of what is no longer there


class CorruptSegment(ValueError):
    """A segment is damaged, or missing."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """What is in a segment, to tell whether it is still so: an unchanged record has the stamp it had; 0: it has not.

    `locks`: so many of the keys are those of locks, the others of strings.
    """

    number: int
    keys: list[str]
    locks: int
    stamps: array[int]


Get = Callable[[TableKey], Record | None]


class Segments:
    """The segments of one lock table.

    Args:
        get: what is under a key of the table.
        size: how many records the table has.

    Attributes:
        next: number of the next segment.
    """

    def __init__(self, get: Get, size: Callable[[], int]) -> None:
        self.next = 1
        self._get = get
        self._size = size
        self._sealed: deque[Sealed] = deque()
        self._records = 0  # in all of them
        self._changed: dict[TableKey, None] = {}
        self._changed_bytes = 0
        self._new: dict[int, bytes] = {}  # sealed and not handed out yet
        self._dropped: list[bytes] = []

    @property
    def numbers(self) -> list[int]:
        """Of all segments that count, oldest first."""
        return [sealed.number for sealed in self._sealed]

    def note(self, key: TableKey, size: int) -> None:
        """A record of so many bytes has changed, or is gone."""
        if key not in self._changed:
            self._changed[key] = None
            self._changed_bytes += size

    def seal_if_full(self) -> None:
        """Seal what has changed, if there is enough of it. After every entry."""
        if len(self._changed) >= SEALED_KEYS or self._changed_bytes >= SEALED_BYTES:
            self._seal()

    def take(self) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
        """Seal the rest; return the new segments, and the keys of those that are not needed any more."""
        self._seal()
        new = [(_KEY.pack(number), blob) for number, blob in self._new.items()]
        dropped, self._new, self._dropped = self._dropped, {}, []
        return new, dropped

    # ---- sealing --------------------------------------------------------------------------------

    def _seal(self) -> None:
        keys, self._changed, self._changed_bytes = self._changed, {}, 0
        for _ in range(CLEANED):
            if self._crowded():
                self._take_out(keys)
        piece: list[TableKey] = []
        size = 0
        for key in sorted(keys):
            record = self._get(key)
            size += 0 if record is None else record_bytes(key[1], record)
            piece.append(key)
            if len(piece) >= 2 * SEALED_KEYS or size >= 2 * SEALED_BYTES:
                self._write(piece)
                piece, size = [], 0
        if piece:
            self._write(piece)

    def _crowded(self) -> bool:
        live = self._size()
        full = 2 * live // SEALED_KEYS
        return self._records > 2 * live + SPARE_RECORDS or len(self._sealed) > full + SPARE_SEGMENTS

    def _take_out(self, keys: dict[TableKey, None]) -> None:
        """Let go of the oldest segment; add to `keys` what of it is still so."""
        sealed = self._sealed.popleft()
        self._records -= len(sealed.keys)
        for place, name in enumerate(sealed.keys):
            key = (LOCKS if place < sealed.locks else STRINGS, name)
            record = self._get(key)
            if record is not None and record.stamp == sealed.stamps[place]:
                keys[key] = None
        if self._new.pop(sealed.number, None) is None:
            self._dropped.append(_KEY.pack(sealed.number))

    def _write(self, keys: list[TableKey]) -> None:
        """Make a segment of these, sorted: locks come first."""
        number, self.next = self.next, self.next + 1
        parts = [_HEAD.pack(number, len(keys))]
        stamps = array("Q")
        for key in keys:
            record = self._get(key)
            stamps.append(0 if record is None else record.stamp)
            parts += _encode(key, record)
        body = b"".join(parts)
        self._new[number] = body + _CHECKSUM.pack(xxhash.xxh3_64_intdigest(body))
        self._add(Sealed(number, [key[1] for key in keys], sum(key[0] == LOCKS for key in keys), stamps))

    def _add(self, sealed: Sealed) -> None:
        self._sealed.append(sealed)
        self._records += len(sealed.keys)

    # ---- restoring ------------------------------------------------------------------------------

    def go_on(self, following: int, sealed: Iterable[Sealed]) -> None:
        """Begin with the segments of a checkpoint; `following`: number of the next one."""
        self.next = following
        for one in sealed:
            self._add(one)

    def letting_go(self) -> Portions[None]:
        """Free what is known of them: nobody looks at it any more."""
        while self._sealed:
            self._sealed.popleft()
            yield


def reading_segments(
    numbers: Sequence[int],
    blobs: Iterable[tuple[bytes, bytes]],
    locks: dict[str, Lock],
    strings: dict[str, String],
) -> Portions[list[Sealed]]:
    """Fill a table from the segments of a checkpoint, which are among those that are stored; one in each step.

    Raises:
        CorruptSegment: one is damaged or missing.
    """
    wanted = {_KEY.pack(number): number for number in numbers}
    found = {wanted[key]: blob for key, blob in blobs if key in wanted}
    missing = [number for number in numbers if number not in found]
    if missing:
        raise CorruptSegment(f"of {len(numbers)} segments of the lock table {len(missing)} are missing")
    # From the last one to the first: what is known already, or gone, is not made at all.
    gone: tuple[set[str], set[str]] = (set(), set())
    sealed = []
    for number in reversed(numbers):
        sealed.append(_read(number, found[number], locks, strings, gone))
        yield
    return sealed[::-1]


def record_bytes(name: str, record: Record) -> int:
    """About how many bytes a record has."""
    return len(name) + len(record.client_id if isinstance(record, Lock) else record.value)


def _encode(key: TableKey, record: Record | None) -> tuple[bytes, bytes, bytes]:
    space, name = key[0], key[1].encode()
    if record is None:
        return _RECORD.pack(0, 0, 0, space + _GONE, len(name), 0), name, b""
    if isinstance(record, Lock):
        value, request_id = record.client_id.encode(), record.stamp
    else:
        value, request_id = record.value, record.request_id
    return _RECORD.pack(record.version, record.lease_ms, request_id, space, len(name), len(value)), name, value


def _read(
    number: int, blob: bytes, locks: dict[str, Lock], strings: dict[str, String], gone: tuple[set[str], set[str]]
) -> Sealed:
    end = len(blob) - _CHECKSUM.size
    if end < _HEAD.size or _CHECKSUM.unpack_from(blob, end)[0] != xxhash.xxh3_64_intdigest(blob[:end]):
        raise CorruptSegment(f"segment {number} of the lock table: its checksum does not match its content")
    try:
        named, count = _HEAD.unpack_from(blob)
        if named != number:
            raise CorruptSegment(f"segment {number} of the lock table says that it is segment {named}")
        return _fill(number, blob, count, locks, strings, gone)
    except (struct.error, UnicodeDecodeError) as error:
        raise CorruptSegment(f"segment {number} of the lock table cannot be read: {error}") from None


def _fill(
    number: int,
    blob: bytes,
    count: int,
    locks: dict[str, Lock],
    strings: dict[str, String],
    gone: tuple[set[str], set[str]],
) -> Sealed:
    keys: list[str] = []
    stamps = array("Q")
    place, of_locks = _HEAD.size, 0
    for _ in range(count):
        version, lease_ms, request_id, kind, key_bytes, value_bytes = _RECORD.unpack_from(blob, place)
        middle = place + _RECORD.size + key_bytes
        place = middle + value_bytes
        name = blob[middle - key_bytes : middle].decode()
        keys.append(name)
        is_lock = kind % _GONE == LOCKS
        of_locks += is_lock
        if name in (locks if is_lock else strings) or name in gone[kind % _GONE]:
            stamps.append(0)
        elif kind >= _GONE:
            gone[kind % _GONE].add(name)
            stamps.append(0)
        elif is_lock:
            locks[name] = Lock(version, blob[middle:place].decode(), lease_ms, request_id)
            stamps.append(request_id)
        else:
            strings[name] = String(version, blob[middle:place], lease_ms, request_id)
            stamps.append(version)
    if place != len(blob) - _CHECKSUM.size:
        raise CorruptSegment(f"segment {number} of the lock table is longer than its records, or shorter")
    return Sealed(number, keys, of_locks, stamps)
