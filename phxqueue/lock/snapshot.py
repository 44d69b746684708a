"""How a lock table is written to a checkpoint and read back: little-endian, with a checksum. Pure.

Format 3 is the state without its records, and the numbers of the segments that these are in (segments.py). Format 2 has
everything in one piece, sorted by key: it is read for nodes that come from an older version, and it is what the state
hash is computed from, because the same table gives the same bytes on every replica.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import xxhash

from phxqueue.lock.records import Lock, Record, String
from phxqueue.lock.segments import Sealed, reading_segments
from phxqueue.lock.shares import Share, Shares
from phxqueue.replica.portions import Portions

_MAGIC = b"PhxQlock"
_WHOLE, _SEGMENTED = 2, 3
_HEAD = struct.Struct("<8sHqQQQIII")  # magic, format, applied, term, unreadable, lift, bytes of shares, locks, strings
# Version, lease, a lock's stamp or a string's request id, bytes of the key, bytes of the value.
_RECORD = struct.Struct("<QQQHI")
_SHARE = struct.Struct("<?QI")  # whether there is one, generation, weights
_WEIGHT = struct.Struct("<II")  # lock group, scale
_CHECKSUM = struct.Struct("<Q")
#: Records that are gone through in one step: milliseconds of work.
STEP_RECORDS = 2048
_NUMBER = struct.Struct("<Q")  # in format 3 behind the shares: number of the next segment, then of each that counts


class CorruptState(ValueError):
    """A checkpoint's state is damaged, incomplete or of an unknown format; the text says which."""


@dataclass(frozen=True, slots=True)
class TableState:
    """Everything replicated."""

    applied: int
    term: int
    unreadable: int
    shares: Shares
    lift: int
    locks: dict[str, Lock]
    strings: dict[str, String]
    quarantine_ms: int = 0


def encode_state(state: TableState) -> bytes:
    """Write a table in one piece."""
    parts = _encode_head(state, _WHOLE)
    for table in (state.locks, state.strings):
        for key in sorted(table):
            parts += _encode_record(key.encode(), table[key])
    return _checked(parts)


def encode_base(state: TableState, following: int, segments: Sequence[int]) -> bytes:
    """Write a table whose records are in these segments; `following`: number of the next one."""
    return _checked([*_encode_head(state, _SEGMENTED), *map(_NUMBER.pack, (following, *segments))])


def _encode_head(state: TableState, version: int) -> list[bytes]:
    shares = _encode_shares(state.shares)
    if state.quarantine_ms:  # else as ever, so that older programs can read it
        shares += _NUMBER.pack(state.quarantine_ms)
    counts = len(shares), len(state.locks), len(state.strings)
    return [_HEAD.pack(_MAGIC, version, state.applied, state.term, state.unreadable, state.lift, *counts), shares]


def _checked(parts: list[bytes]) -> bytes:
    body = b"".join(parts)
    return body + _CHECKSUM.pack(xxhash.xxh3_64_intdigest(body))


def _encode_record(key: bytes, record: Record) -> tuple[bytes, bytes, bytes]:
    if isinstance(record, Lock):
        value, request_id = record.client_id.encode(), record.stamp
    else:
        value, request_id = record.value, record.request_id
    return _RECORD.pack(record.version, record.lease_ms, request_id, len(key), len(value)), key, value


def reading_state(
    blob: bytes, segments: Iterable[tuple[bytes, bytes]] = ()
) -> Portions[tuple[TableState, int, list[Sealed]]]:
    """Read a table, in portions: its state, the number of its next segment, its segments; none: it was in one piece.

    Raises:
        CorruptState: it, or a segment, is damaged.
    """
    end = len(blob) - _CHECKSUM.size
    if end < _HEAD.size:
        raise CorruptState(f"the lock table's checkpoint is only {len(blob)} bytes long")
    magic, version, applied, term, unreadable, lift, shares_bytes, locks, strings = _HEAD.unpack_from(blob)
    if magic != _MAGIC:
        raise CorruptState(f"the lock table's checkpoint starts with {magic!r} instead of {_MAGIC!r}")
    if _CHECKSUM.unpack_from(blob, end)[0] != xxhash.xxh3_64_intdigest(blob[:end]):
        raise CorruptState("the lock table's checkpoint: its checksum does not match its content")
    if version not in (_WHOLE, _SEGMENTED):
        raise CorruptState(
            f"the lock table's checkpoint has format {version}; this program reads formats {_WHOLE} and {_SEGMENTED}"
        )
    try:
        place = _HEAD.size + shares_bytes
        shares, quarantine_ms = _decode_shares(blob[_HEAD.size : place])
        state = TableState(applied, term, unreadable, shares, lift, {}, {}, quarantine_ms)
        if version == _WHOLE:
            yield from _reading_records(blob, place, state, locks, strings, end)
            return state, 1, []
        following, *numbers = [number for (number,) in _NUMBER.iter_unpack(blob[place:end])]
        sealed = yield from reading_segments(numbers, segments, state.locks, state.strings)
    except (struct.error, ValueError) as error:  # CorruptSegment and UnicodeDecodeError are ValueErrors
        raise CorruptState(f"the lock table's checkpoint cannot be read: {error}") from None
    if (len(state.locks), len(state.strings)) != (locks, strings):
        raise CorruptState(
            f"the lock table's checkpoint has {locks} locks and {strings} strings, its segments {len(state.locks)} and "
            f"{len(state.strings)}"
        )
    return state, following, sealed


def _encode_shares(shares: Shares) -> bytes:
    parts = []
    for share in (shares.share, shares.moving):
        weights = () if share is None else share.weights
        parts.append(_SHARE.pack(share is not None, 0 if share is None else share.generation, len(weights)))
        parts += [_WEIGHT.pack(lock_id, scale) for lock_id, scale in weights]
    return b"".join(parts)


def _decode_shares(blob: bytes) -> tuple[Shares, int]:
    """The shares, and what may be behind them: the quarantine."""
    found: list[Share | None] = []
    place = 0
    for _ in range(2):
        present, generation, count = _SHARE.unpack_from(blob, place)
        place += _SHARE.size
        weights = tuple(_WEIGHT.unpack_from(blob, place + number * _WEIGHT.size) for number in range(count))
        place += count * _WEIGHT.size
        found.append(Share(generation, weights) if present else None)
    (quarantine_ms,) = _NUMBER.unpack_from(blob, place) if place < len(blob) else (0,)
    return Shares(*found), quarantine_ms


def _reading_records(blob: bytes, place: int, state: TableState, locks: int, strings: int, end: int) -> Portions[None]:
    for number in range(locks + strings):
        if not number % STEP_RECORDS:
            yield
        version, lease_ms, request_id, key_bytes, value_bytes = _RECORD.unpack_from(blob, place)
        middle = place + _RECORD.size + key_bytes
        key, value = blob[middle - key_bytes : middle].decode(), blob[middle : middle + value_bytes]
        place = middle + value_bytes
        if number < locks:
            state.locks[key] = Lock(version, value.decode(), lease_ms, request_id)
        else:
            state.strings[key] = String(version, value, lease_ms, request_id)
    if place != end:
        raise CorruptState(f"the lock table's checkpoint is {end - place} bytes longer than its records")
