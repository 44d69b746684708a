"""How a lock table is written to a checkpoint and read back: little-endian, sorted by key, with a checksum. Pure.

The same table gives the same bytes on every replica: they are what the state hash is computed from, too.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import xxhash

from phxqueue.lock.records import Lock, Record, String

_MAGIC = b"PhxQlock"
_FORMAT = 1
_HEAD = struct.Struct("<8sHqQQII")  # magic, format, applied, term, unreadable, locks, strings
_RECORD = struct.Struct("<QQQHI")  # version, lease, request id, bytes of the key, bytes of the value
_CHECKSUM = struct.Struct("<Q")


class CorruptState(ValueError):
    """A checkpoint's state is damaged, incomplete or of an unknown format; the text says which."""


@dataclass(frozen=True, slots=True)
class TableState:
    """Everything replicated."""

    applied: int
    term: int
    unreadable: int
    locks: dict[str, Lock]
    strings: dict[str, String]


def encode_state(state: TableState) -> bytes:
    """Write a table."""
    counts = len(state.locks), len(state.strings)
    parts = [_HEAD.pack(_MAGIC, _FORMAT, state.applied, state.term, state.unreadable, *counts)]
    for table in (state.locks, state.strings):
        for key in sorted(table):
            parts += _encode_record(key.encode(), table[key])
    body = b"".join(parts)
    return body + _CHECKSUM.pack(xxhash.xxh3_64_intdigest(body))


def _encode_record(key: bytes, record: Record) -> tuple[bytes, bytes, bytes]:
    if isinstance(record, Lock):
        value, request_id = record.client_id.encode(), 0
    else:
        value, request_id = record.value, record.request_id
    return _RECORD.pack(record.version, record.lease_ms, request_id, len(key), len(value)), key, value


def decode_state(blob: bytes) -> TableState:
    """Read a table. Raises CorruptState."""
    end = len(blob) - _CHECKSUM.size
    if end < _HEAD.size:
        raise CorruptState(f"the lock table's checkpoint is only {len(blob)} bytes long")
    magic, version, applied, term, unreadable, locks, strings = _HEAD.unpack_from(blob)
    if magic != _MAGIC:
        raise CorruptState(f"the lock table's checkpoint starts with {magic!r} instead of {_MAGIC!r}")
    if _CHECKSUM.unpack_from(blob, end)[0] != xxhash.xxh3_64_intdigest(blob[:end]):
        raise CorruptState("the lock table's checkpoint: its checksum does not match its content")
    if version != _FORMAT:
        raise CorruptState(f"the lock table's checkpoint has format {version}; this program reads format {_FORMAT}")
    try:
        return _decode_records(blob, TableState(applied, term, unreadable, {}, {}), locks, strings, end)
    except (struct.error, UnicodeDecodeError) as error:
        raise CorruptState(f"the lock table's checkpoint cannot be read: {error}") from None


def _decode_records(blob: bytes, state: TableState, locks: int, strings: int, end: int) -> TableState:
    place = _HEAD.size
    for number in range(locks + strings):
        version, lease_ms, request_id, key_bytes, value_bytes = _RECORD.unpack_from(blob, place)
        middle = place + _RECORD.size + key_bytes
        key, value = blob[middle - key_bytes : middle].decode(), blob[middle : middle + value_bytes]
        place = middle + value_bytes
        if number < locks:
            state.locks[key] = Lock(version, value.decode(), lease_ms)
        else:
            state.strings[key] = String(version, value, lease_ms, request_id)
    if place != end:
        raise CorruptState(f"the lock table's checkpoint is {end - place} bytes longer than its records")
    return state
