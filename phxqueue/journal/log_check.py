"""Tells a torn end of the write-ahead log from damage in its middle, before recovery is let at the files.

Recovery of Berkeley DB takes the first record that does not fit for the end of the log and cuts off everything behind
it, without a word: promises and accepts that this node has answered would be gone. Only what one unfinished flush wrote
may be torn, and every synchronous commit is flushed before the next transaction writes anything. So a record of a later
transaction behind such a commit, both whole and both behind the bad place, cannot come from one flush: it is damage.

What cannot be told apart is damage in the very last flush from a torn one, and a log whose end is missing as a whole.

The format (Berkeley DB 5.3, native byte order): a record is the offset of the one before (the first of a file: in the
file before), its length with these 12 bytes, a checksum, then its kind, its transaction, and more by kind. The first
of a file is the file's header. Behind the last are zeros, or nothing.
"""

from __future__ import annotations

import mmap
import re
import struct
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

Buffer = bytes | mmap.mmap

UNSYNCED = b"phxqueue: not flushed"
"""Logged as the first and the last record of each transaction that is committed without a flush."""

_HEAD = struct.Struct("=IIIII")
_HEAD_BYTES = 12
_CHECKPOINT_LSN = struct.Struct("=II")
_CHECKPOINT_LSN_AT = _HEAD_BYTES + 16
_REGISTERED, _COMMIT, _CHECKPOINT, _DEBUG = 2, 10, 11, 47
_FILE_HEADER_BYTES = 28
_BLOCK = 64 * 1024
_ZEROS = bytes(_BLOCK)
_KIND = re.compile(rb"(?=[\x01-\xff]\0\0\0)" if sys.byteorder == "little" else rb"(?=\0\0\0[\x01-\xff])")


class Record(NamedTuple):
    """A whole record: where, how long, of which kind, of which transaction (0: of none)."""

    offset: int
    length: int
    kind: int
    transaction: int
    unsynced: bool

    @property
    def end(self) -> int:
        return self.offset + self.length


class _Chain(NamedTuple):
    """Where the records of a file end, and what was open there."""

    end: int
    last: int
    open: int
    unsynced: frozenset[int]
    checkpoint: tuple[int, int] | None


def check_log(home: Path) -> str | None:
    """Say what is damaged in the log of the environment in `home`, None when recovery may go on. Raises OSError."""
    with ExitStack() as stack:
        files: dict[int, Buffer] = {}
        for path in home.glob("log." + "[0-9]" * 10):
            with path.open("rb") as file:
                empty = path.stat().st_size == 0
                files[int(path.name[4:])] = (
                    b"" if empty else stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
                )
        return find_damage(files)


def find_damage(files: Mapping[int, Buffer]) -> str | None:
    """Say what is damaged in these log files (by number), None when nothing is but perhaps the last flush."""
    begun = [number for number, data in files.items() if any(data[:_FILE_HEADER_BYTES])]
    if not begun:
        return None
    last = max(begun)
    first, offset = _start(files, last)
    missing = [number for number in range(first, max(files)) if number not in files]
    if missing:
        return f"log file {missing[0]} is missing"
    previous: int | None = None
    for number in range(first, last + 1):
        data = files[number]
        if number == last:
            offset = 0
        chain = _follow(data, offset, previous)
        if number < last:
            # Berkeley DB flushes a file before it begins the next: nothing of it may be torn.
            following = files[number + 1]
            before = _HEAD.unpack_from(following)[0] if len(following) >= _HEAD.size else -1
            header = _record_at(following, 0, None)
            if header is not None and before != chain.last:
                return f"log file {number} is damaged at byte {chain.end}: the next one begins after byte {before}"
            if header is None and _beyond_is_later(data, chain):
                return f"log file {number} is damaged at byte {chain.end}: later transactions follow"
        elif _beyond_is_later(data, chain):
            return f"log file {number} is damaged at byte {chain.end}: later transactions follow"
        previous, offset = chain.last, 0
    return None


def _start(files: Mapping[int, Buffer], last: int) -> tuple[int, int]:
    """Return where recovery reads from: what the last checkpoint says, but at least the whole last file."""
    for number in sorted((number for number in files if number <= last), reverse=True):
        checkpoint = _follow(files[number], 0, None, verify=False).checkpoint
        if checkpoint is not None:
            return min((last, 0), checkpoint)
    return min(files), 0


def _follow(data: Buffer, offset: int, previous: int | None, *, verify: bool = True) -> _Chain:
    """Follow the records of a file from `offset` on, up to the first that does not fit."""
    checkpoint: tuple[int, int] | None = None
    last = open_transaction = 0
    unsynced: set[int] = set()
    for record in _records(data, offset, previous, verify):
        last, offset = record.offset, record.end
        if record.kind == _CHECKPOINT and (verify or _record_at(data, record.offset, None) is not None):
            checkpoint = _CHECKPOINT_LSN.unpack_from(data, record.offset + _CHECKPOINT_LSN_AT)
        if _aside(record):
            continue
        if record.unsynced:
            unsynced = {record.transaction}
        ended = record.kind == _COMMIT or record.transaction in unsynced
        open_transaction = 0 if ended else record.transaction
    return _Chain(offset, last, open_transaction, frozenset(unsynced), checkpoint)


def _aside(record: Record) -> bool:
    """Whether this may be logged by another thread than the writer's, beside a flush."""
    return record.offset == 0 or record.transaction == 0 or record.kind in (_REGISTERED, _CHECKPOINT)


def _beyond_is_later(data: Buffer, chain: _Chain) -> bool:
    """Whether behind the end of the records there is what was written after a flush that covers it."""
    flushed = False
    unsynced = set(chain.unsynced)
    open_transaction = chain.open
    for record, hidden in _beyond(data, chain):
        if _aside(record):
            continue
        if flushed or open_transaction not in (0, record.transaction):
            return True
        if record.unsynced:
            unsynced.add(record.transaction)
        # A commit alone behind a wide gap: the gap may hold what says that it was not flushed.
        if record.kind == _COMMIT and record.transaction not in unsynced and not hidden:
            flushed = True
    return False


def _beyond(data: Buffer, chain: _Chain) -> Iterator[tuple[Record, bool]]:
    """Yield the whole records behind the end of the chain; with each, whether it comes first behind a wide gap."""
    at, lowest = chain.end, chain.last
    length = _HEAD.unpack_from(data, at)[1] if at + _HEAD.size <= len(data) else 0
    found = _record_at(data, at + length, at) if length >= _HEAD.size else None
    wide = found is None
    while True:
        if found is None:
            found, wide = _search(data, at, lowest), True
        if found is None:
            return
        yield found, wide and found.transaction != chain.open
        for record in _records(data, found.end, found.offset, True):
            yield record, False
            found = record
        at, lowest, found = found.end, found.offset, None


def _search(data: Buffer, start: int, lowest: int) -> Record | None:
    """Return the first whole record from `start` on that follows one at `lowest` or behind."""
    for base in range(start, len(data), _BLOCK):
        block = data[base : base + _BLOCK + _HEAD.size]
        if block[:_BLOCK] == _ZEROS[: len(block[:_BLOCK])]:
            continue
        for match in _KIND.finditer(block, _HEAD_BYTES):
            offset = base + match.start() - _HEAD_BYTES
            if offset + _HEAD.size > len(data) or offset >= base + _BLOCK:
                continue
            before = _HEAD.unpack_from(data, offset)[0]
            if lowest <= before < offset:
                record = _record_at(data, offset, before)
                if record is not None:
                    return record
    return None


def _records(data: Buffer, offset: int, previous: int | None, verify: bool) -> Iterator[Record]:
    while (record := _record_at(data, offset, previous, verify)) is not None:
        yield record
        previous, offset = record.offset, record.end


def _record_at(data: Buffer, offset: int, previous: int | None, verify: bool = True) -> Record | None:
    """Return the record at `offset`, None when there is none that is whole and follows the one at `previous`."""
    if offset + _HEAD.size > len(data):
        return None
    before, length, stored, kind, transaction = _HEAD.unpack_from(data, offset)
    if length < _HEAD.size or offset + length > len(data) or previous not in (None, before):
        return None
    if verify and checksum(data[offset + _HEAD_BYTES : offset + length]) ^ before ^ length != stored:
        return None
    unsynced = kind == _DEBUG and UNSYNCED in data[offset : offset + length]
    return Record(offset, length, kind, transaction, unsynced)


_LANE_BYTES = 64
_FACTORS = [(1 << level, pow(33, 1 << level, 1 << 32)) for level in range(6)]
_MASKS: dict[int, list[int]] = {}
_PIECE_BYTES = 8 * 1024


def checksum(data: bytes) -> int:
    """Return Berkeley DB's checksum of a log record's body: hash = hash * 33 + byte, modulo 2**32.

    The polynomial is evaluated for many bytes at once: pairs of lanes of one large integer are folded into one lane
    of twice the width, until a lane holds 64 bytes' worth; those are then folded one after another.
    """
    total = 0
    for at in range(0, len(data), _PIECE_BYTES):
        piece = data[at : at + _PIECE_BYTES]
        total = (total * pow(33, len(piece), 1 << 32) + _fold(piece)) & 0xFFFFFFFF
    return total


def _fold(piece: bytes) -> int:
    size = -(-len(piece) // _LANE_BYTES) * _LANE_BYTES
    masks = _MASKS.get(size)
    if masks is None:
        masks = _MASKS[size] = [_low_lanes(size, width) for width, _ in _FACTORS]
    lanes = int.from_bytes(piece, "big")
    for (width, factor), mask in zip(_FACTORS, masks, strict=True):
        lanes = (lanes & mask) + ((lanes >> (8 * width)) & mask) * factor
    total = 0
    step = pow(33, _LANE_BYTES, 1 << 32)
    raw = lanes.to_bytes(size, "big")
    for at in range(_LANE_BYTES - 8, size, _LANE_BYTES):
        total = (total * step + int.from_bytes(raw[at : at + 8], "big")) & 0xFFFFFFFF
    return total


def _low_lanes(size: int, width: int) -> int:
    """Return a mask of the low lane of each pair of lanes of `width` bytes: of what is below 2**32 in it."""
    kept = min(width, 4)
    return int.from_bytes((bytes(2 * width - kept) + b"\xff" * kept) * (size // (2 * width)), "big")
