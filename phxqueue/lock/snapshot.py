"""How a lock table is written to a checkpoint and read back: little-endian, sorted by key, with a checksum. Pure.

The same table gives the same bytes on every replica: they are what the state hash is computed from, too.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import xxhash

from phxqueue.lock.records import Lock, Record, String
from phxqueue.lock.shares import Share, Shares

_MAGIC = b"PhxQlock"
_FORMAT = 2
_HEAD = struct.Struct("<8sHqQQQIII")  # magic, format, applied, term, unreadable, lift, bytes of shares, locks, strings
# Version, lease, a lock's stamp or a string's request id, bytes of the key, bytes of the value.
_RECORD = struct.Struct("<QQQHI")
_SHARE = struct.Struct("<?QI")  # whether there is one, generation, weights
_WEIGHT = struct.Struct("<II")  # lock group, scale
_CHECKSUM = struct.Struct("<Q")


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


def encode_state(state: TableState) -> bytes:
    """Write a table."""
    shares = _encode_shares(state.shares)
    counts = len(shares), len(state.locks), len(state.strings)
    parts = [_HEAD.pack(_MAGIC, _FORMAT, state.applied, state.term, state.unreadable, state.lift, *counts), shares]
    for table in (state.locks, state.strings):
        for key in sorted(table):
            parts += _encode_record(key.encode(), table[key])
    body = b"".join(parts)
    return body + _CHECKSUM.pack(xxhash.xxh3_64_intdigest(body))


def _encode_record(key: bytes, record: Record) -> tuple[bytes, bytes, bytes]:
    if isinstance(record, Lock):
        value, request_id = record.client_id.encode(), record.stamp
    else:
        value, request_id = record.value, record.request_id
    return _RECORD.pack(record.version, record.lease_ms, request_id, len(key), len(value)), key, value


def decode_state(blob: bytes) -> TableState:
    """Read a table. Raises CorruptState."""
    end = len(blob) - _CHECKSUM.size
    if end < _HEAD.size:
        raise CorruptState(f"the lock table's checkpoint is only {len(blob)} bytes long")
    magic, version, applied, term, unreadable, lift, shares_bytes, locks, strings = _HEAD.unpack_from(blob)
    if magic != _MAGIC:
        raise CorruptState(f"the lock table's checkpoint starts with {magic!r} instead of {_MAGIC!r}")
    if _CHECKSUM.unpack_from(blob, end)[0] != xxhash.xxh3_64_intdigest(blob[:end]):
        raise CorruptState("the lock table's checkpoint: its checksum does not match its content")
    if version != _FORMAT:
        raise CorruptState(f"the lock table's checkpoint has format {version}; this program reads format {_FORMAT}")
    try:
        shares = _decode_shares(blob[_HEAD.size : _HEAD.size + shares_bytes])
        state = TableState(applied, term, unreadable, shares, lift, {}, {})
        return _decode_records(blob, _HEAD.size + shares_bytes, state, locks, strings, end)
    except (struct.error, UnicodeDecodeError) as error:
        raise CorruptState(f"the lock table's checkpoint cannot be read: {error}") from None


def _encode_shares(shares: Shares) -> bytes:
    parts = []
    for share in (shares.share, shares.moving):
        weights = () if share is None else share.weights
        parts.append(_SHARE.pack(share is not None, 0 if share is None else share.generation, len(weights)))
        parts += [_WEIGHT.pack(lock_id, scale) for lock_id, scale in weights]
    return b"".join(parts)


def _decode_shares(blob: bytes) -> Shares:
    found: list[Share | None] = []
    place = 0
    for _ in range(2):
        present, generation, count = _SHARE.unpack_from(blob, place)
        place += _SHARE.size
        weights = tuple(_WEIGHT.unpack_from(blob, place + number * _WEIGHT.size) for number in range(count))
        place += count * _WEIGHT.size
        found.append(Share(generation, weights) if present else None)
    return Shares(*found)


def _decode_records(blob: bytes, place: int, state: TableState, locks: int, strings: int, end: int) -> TableState:
    for number in range(locks + strings):
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
    return state
