"""How things lie on disk: keys and values of the tables, format 1. All numbers are big-endian.

| table | key | value |
|---|---|---|
| entries, repairs | group u16, instance u64 | ballot u64, checksum u64, chosen + 1 u64, kind u8, crc u32, payload |
| state | `I` | the identity, as JSON |
| state | `P` group u16 | promised ballot u64 |
| state | `C` group u16 | chosen + 1 u64 |
| state | `T` group u16 | u64: entries below are trimmed |
| blobs | table name, NUL, key | value |

Every entry also carries the group's chosen mark as known when it was written, so a mark costs no record of its own
while entries flow. The crc covers what the proposer's checksum does not: place, ballot, mark and kind.

`repairs` holds entries whose place in `entries` lies on a damaged page: it cannot be overwritten there, because
Berkeley DB reads what it replaces.
"""

from __future__ import annotations

import struct
import zlib

from phxqueue.journal.records import StoredEntry

FORMAT_VERSION = 1

IDENTITY_KEY = b"I"
PROMISED = b"P"
CHOSEN = b"C"
TRIMMED = b"T"

_ENTRY_KEY = struct.Struct(">HQ")
_ENTRY_HEAD = struct.Struct(">QQQB")
_CRC = struct.Struct(">I")
_MARK_KEY = struct.Struct(">cH")
_MARK = struct.Struct(">Q")
_PAYLOAD_AT = _ENTRY_HEAD.size + _CRC.size

entry_key = _ENTRY_KEY.pack
"""entry_key(group, instance) -> key"""

pack_mark = _MARK.pack
"""pack_mark(number) -> value of a promise, chosen or trimmed record"""


class Unreadable(Exception):
    """A record does not parse, or its crc does not fit its place."""


def split_entry_key(key: bytes) -> tuple[int, int]:
    """Return (group, instance)."""
    group, instance = _ENTRY_KEY.unpack(key)
    return group, instance


def pack_entry(key: bytes, ballot: int, checksum: int, kind: int, payload: bytes, chosen: int) -> bytes:
    """Return the value of an entry; `chosen` is the group's chosen mark, -1 = none."""
    head = _ENTRY_HEAD.pack(ballot, checksum, chosen + 1, kind)
    return b"".join((head, _CRC.pack(zlib.crc32(head, zlib.crc32(key))), payload))


def unpack_entry(key: bytes, value: bytes) -> tuple[StoredEntry, int]:
    """Return (entry, chosen mark it carries). Raises Unreadable."""
    if len(value) < _PAYLOAD_AT:
        raise Unreadable(f"record of {len(value)} bytes is too short")
    (crc,) = _CRC.unpack_from(value, _ENTRY_HEAD.size)
    if crc != zlib.crc32(value[: _ENTRY_HEAD.size], zlib.crc32(key)):
        raise Unreadable("the crc of its header does not fit")
    ballot, checksum, chosen_after, kind = _ENTRY_HEAD.unpack_from(value)
    return StoredEntry(ballot, checksum, kind, value[_PAYLOAD_AT:]), chosen_after - 1


def mark_key(what: bytes, group: int) -> bytes:
    """Return the key of a group's mark; `what` is PROMISED, CHOSEN or TRIMMED."""
    return _MARK_KEY.pack(what, group)


def split_mark_key(key: bytes) -> tuple[bytes, int]:
    """Return (what, group). Raises Unreadable."""
    if len(key) != _MARK_KEY.size:
        raise Unreadable(f"state key {key!r} is not {_MARK_KEY.size} bytes long")
    what, group = _MARK_KEY.unpack(key)
    return what, group


def unpack_mark(value: bytes) -> int:
    """Return the number of a mark record. Raises Unreadable."""
    if len(value) != _MARK.size:
        raise Unreadable(f"mark of {len(value)} bytes instead of {_MARK.size}")
    (number,) = _MARK.unpack(value)
    return int(number)


def blob_key(table: str, key: bytes) -> bytes:
    """Return the key of a blob; the table's name may not contain NUL."""
    return table.encode() + b"\0" + key
