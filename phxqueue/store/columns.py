"""Reading and writing the bytes of checkpoints: integers, and whole columns at memory speed.

Everything is little-endian and ends in an xxh3 checksum, because a checkpoint is read back years later and, by another
node, over the network. Columns are :class:`array.array`, written and read without a Python loop: restoring a million
rows costs a few copies.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable

import xxhash

_SWAP = sys.byteorder == "big"
_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_I64 = struct.Struct("<q")


class CorruptCheckpoint(ValueError):
    """A checkpoint or one of its segments is damaged, incomplete or of an unknown format; the text says which."""


class ColumnWriter:
    """Builds one blob out of integers and columns."""

    def __init__(self, magic: bytes) -> None:
        self._parts: list[bytes] = [magic]

    def u16(self, value: int) -> None:
        self._parts.append(_U16.pack(value))

    def u32(self, value: int) -> None:
        self._parts.append(_U32.pack(value))

    def u64(self, value: int) -> None:
        self._parts.append(_U64.pack(value))

    def i64(self, value: int) -> None:
        self._parts.append(_I64.pack(value))

    def numbers(self, values: Iterable[int]) -> None:
        """Write unsigned 64-bit numbers, without their number: the reader has to know it."""
        self.column(array("Q", values))

    def column(self, values: array[int], first: int = 0, last: int | None = None) -> None:
        """Write values[first:last], without their number: the reader has to know it."""
        part = values[first:last]
        if _SWAP:
            part.byteswap()
        self._parts.append(part.tobytes())

    def raw(self, value: bytes) -> None:
        """Write bytes as they are, without their number."""
        self._parts.append(value)

    def finish(self) -> bytes:
        """Return the blob, checksum included."""
        body = b"".join(self._parts)
        return body + _U64.pack(xxhash.xxh3_64_intdigest(body))


class ColumnReader:
    """Reads what :class:`ColumnWriter` wrote. Every method raises :class:`CorruptCheckpoint` when it does not fit."""

    def __init__(self, magic: bytes, blob: bytes, what: str) -> None:
        self._what = what
        self._at = len(magic)
        self._end = len(blob) - _U64.size
        self._blob = memoryview(blob)
        if self._end < self._at:
            raise CorruptCheckpoint(f"{what}: only {len(blob)} bytes long")
        if blob[: len(magic)] != magic:
            raise CorruptCheckpoint(f"{what}: starts with {blob[: len(magic)]!r} instead of {magic!r}")
        (checksum,) = _U64.unpack_from(blob, self._end)
        if xxhash.xxh3_64_intdigest(self._blob[: self._end]) != checksum:
            raise CorruptCheckpoint(f"{what}: its checksum does not match its content")

    def u16(self) -> int:
        return int(self._unpack(_U16))

    def u32(self) -> int:
        return int(self._unpack(_U32))

    def u64(self) -> int:
        return int(self._unpack(_U64))

    def i64(self) -> int:
        return int(self._unpack(_I64))

    def column(self, values: array[int], count: int) -> None:
        """Append the next `count` numbers to `values`."""
        end = self._at + count * values.itemsize
        if end > self._end:
            raise CorruptCheckpoint(f"{self._what}: ends inside a column of {count} numbers")
        if _SWAP:
            part = array(values.typecode, bytes(self._blob[self._at : end]))
            part.byteswap()
            values.extend(part)
        else:
            values.frombytes(self._blob[self._at : end])
        self._at = end

    def numbers(self, count: int) -> array[int]:
        """Return the next `count` unsigned 64-bit numbers."""
        values = array("Q")
        self.column(values, count)
        return values

    def raw(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        start = self._at
        self.skip(size)
        return bytes(self._blob[start : start + size])

    def skip(self, size: int) -> None:
        """Pass over so many bytes."""
        if self._at + size > self._end:
            raise CorruptCheckpoint(f"{self._what}: ends inside {size} bytes to be passed over")
        self._at += size

    @property
    def at_end(self) -> bool:
        """Whether everything has been read."""
        return self._at == self._end

    def finish(self) -> None:
        """Check that nothing is left over."""
        if self._at != self._end:
            raise CorruptCheckpoint(f"{self._what}: {self._end - self._at} bytes too long")

    def _unpack(self, form: struct.Struct) -> int:
        end = self._at + form.size
        if end > self._end:
            raise CorruptCheckpoint(f"{self._what}: ends where a number was expected")
        (value,) = form.unpack_from(self._blob, self._at)
        self._at = end
        return value  # type: ignore[no-any-return]
