"""Tells a torn end of the write-ahead log from damage in its middle, before recovery is let at the files.

Recovery of Berkeley DB takes the first record of the last log file that does not fit for the end of the log and cuts
off everything behind it, without a word: promises and accepts that this node has answered would be gone. (It refuses
damage in the files before, which it reads as well.) Only what one unfinished flush wrote
may be torn, and every synchronous commit is flushed before the next transaction writes anything. So a record of a later
transaction behind such a commit, both whole and both behind the bad place, cannot come from one flush: it is damage.
The same holds for a later transaction behind one that is seen to begin before the bad place. What that rests on:

- one thread writes, and a transaction of its own that it gives up has either logged nothing yet (a reader that is in
  its way is the one that gives way), or is marked as not flushed, or ends the journal;
- at a start, what recovery logs is flushed before tables are opened, and that before the first transaction. Opening
  tables commits without a flush, but those transactions write nothing.

What cannot be told apart is damage in the very last flush from a torn one, and a log whose end is missing as a whole.

The format (Berkeley DB 5.3, native byte order): a record is the offset of the one before (the first of a file: in the
file before), its length with these 12 bytes, a checksum, then its kind, its transaction, and more by kind. The first
of a file is the file's header. Behind the last are zeros, or nothing.
"""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

UNSYNCED = b"phxqueue: not flushed"
"""Logged as the first and the last record of each transaction that is committed without a flush."""

_HEAD = struct.Struct("=IIIII")
_HEAD_BYTES = 12
_CHECKPOINT_LSN = struct.Struct("=II")
_CHECKPOINT_LSN_AT = _HEAD_BYTES + 16
_REGISTERED, _COMMIT, _CHECKPOINT, _DEBUG = 2, 10, 11, 47
_FILE_HEADER_BYTES = 28
_FILES_HELD = 2  # at one time in memory
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
    """Where the records of a file end, and what was open there.

    The first transaction of a file may have begun in the one before, where it may say that it was not flushed:
    `carried`, None when it was not seen.
    """

    end: int
    last: int
    open: int
    carried: int | None
    unsynced: frozenset[int]
    checkpoint: tuple[int, int] | None


class _LogFiles(Mapping[int, bytes]):
    """The log files of an environment by number, each read when it is asked for.

    Not mapped into memory: a disk that does not give a page back would end the process without a word.
    """

    def __init__(self, home: Path) -> None:
        self._paths = {int(path.name[4:]): path for path in home.glob("log." + "[0-9]" * 10)}
        self._read: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[int]:
        return iter(self._paths)

    def __getitem__(self, number: int) -> bytes:
        if number not in self._read:
            while len(self._read) >= _FILES_HELD:
                del self._read[next(iter(self._read))]
            self._read[number] = self._paths[number].read_bytes()
        return self._read[number]

    def head(self, number: int) -> bytes:
        with self._paths[number].open("rb") as file:
            return file.read(_FILE_HEADER_BYTES)


def check_log(home: Path) -> str | None:
    """Say what is damaged in the log of the environment in `home`, None when recovery may go on. Raises OSError."""
    files = _LogFiles(home)
    return find_damage(files, {number: files.head(number) for number in files})


def find_damage(files: Mapping[int, bytes], heads: Mapping[int, bytes] | None = None) -> str | None:
    """Say what is damaged in these log files (by number), None when nothing is but perhaps the last flush.

    `heads`: the first bytes of each file.
    """
    if not files:
        return None
    begun = (number for number, data in (heads or files).items() if any(data[:_FILE_HEADER_BYTES]))
    last = max(begun, default=min(files))
    missing = [number for number in range(min(files), max(files)) if number not in files]
    first = _start(files, last) if missing else 0
    for number in missing:
        if number >= first:
            return f"log file {number} is missing"
    # The last one, and those that look as if they had not been begun.
    for number in range(last, max(files) + 1):
        chain = _follow(number, files[number])
        if _beyond_is_later(files[number], chain):
            return f"log file {number} is damaged at byte {chain.end}: later transactions follow"
    return None


def _start(files: Mapping[int, bytes], last: int) -> int:
    """Return the file from which recovery reads: what the last checkpoint says."""
    for number in sorted((number for number in files if number <= last), reverse=True):
        checkpoint = _follow(number, files[number]).checkpoint
        if checkpoint is not None:
            return min(last, checkpoint[0])
    return min(files)


def _follow(number: int, data: bytes) -> _Chain:
    """Follow the records of a file, up to the first that does not fit."""
    checkpoint: tuple[int, int] | None = None
    last = end = open_transaction = written = 0
    carried = 0 if number == 1 else None
    unsynced: set[int] = set()
    for record in _records(data, 0, None):
        last, end = record.offset, record.end
        if record.kind == _CHECKPOINT:
            checkpoint = _CHECKPOINT_LSN.unpack_from(data, record.offset + _CHECKPOINT_LSN_AT)
            if checkpoint > (number, written):
                open_transaction = 0  # it is not among the active ones: a crash ended it, before this life began
        if _aside(record):
            continue
        if carried is None:
            carried = record.transaction
        written = record.offset
        if record.unsynced:
            unsynced = {record.transaction}
        ended = record.kind == _COMMIT or record.transaction in (carried, *unsynced)
        open_transaction = 0 if ended else record.transaction
    return _Chain(end, last, open_transaction, carried, frozenset(unsynced), checkpoint)


def _aside(record: Record) -> bool:
    """Whether this may be logged by another thread than the writer's, beside a flush."""
    return record.offset == 0 or record.transaction == 0 or record.kind in (_REGISTERED, _CHECKPOINT)


def _beyond_is_later(data: bytes, chain: _Chain) -> bool:
    """Whether behind the end of the records there is what was written after a flush that covers it."""
    flushed = False
    carried = chain.carried
    unsynced = {*chain.unsynced, carried}
    writing = chain.open  # the transaction whose writes were seen last, with nothing hidden since
    for record, hidden in _beyond(data, chain):
        if hidden and record.transaction != chain.open:
            writing = 0  # what is hidden may say that this one was not flushed
        if _aside(record):
            continue
        if carried is None:
            carried = record.transaction
            unsynced.add(carried)
        if flushed or chain.open not in (0, record.transaction):
            return True
        if record.unsynced:
            unsynced.add(record.transaction)
        if record.kind != _COMMIT:
            writing = record.transaction
        elif writing == record.transaction and writing not in unsynced:
            flushed = True  # (commits of nothing, those of tables being opened, are not)
    return False


def _beyond(data: bytes, chain: _Chain) -> Iterator[tuple[Record, bool]]:
    """Yield the whole records behind the end of the chain; with each, whether something is hidden before it."""
    at, lowest = chain.end, chain.last
    length = _HEAD.unpack_from(data, at)[1] if at + _HEAD.size <= len(data) else 0
    found = _record_at(data, at + length, at) if length >= _HEAD.size else None
    wide = found is None
    while True:
        if found is None:
            found, wide = _search(data, at, lowest), True
        if found is None:
            return
        yield found, wide
        for record in _records(data, found.end, found.offset):
            yield record, False
            found = record
        at, lowest, found = found.end, found.offset, None


def _search(data: bytes, start: int, lowest: int) -> Record | None:
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


def _records(data: bytes, offset: int, previous: int | None) -> Iterator[Record]:
    while (record := _record_at(data, offset, previous)) is not None:
        yield record
        previous, offset = record.offset, record.end


def _record_at(data: bytes, offset: int, previous: int | None) -> Record | None:
    """Return the record at `offset`, None when there is none that is whole and follows the one at `previous`."""
    if offset + _HEAD.size > len(data):
        return None
    before, length, stored, kind, transaction = _HEAD.unpack_from(data, offset)
    if length < _HEAD.size or offset + length > len(data) or previous not in (None, before):
        return None
    if checksum(data[offset + _HEAD_BYTES : offset + length]) ^ before ^ length != stored:
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
