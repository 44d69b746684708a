"""Cuts a stream of bytes into messages: one a line, or each behind its length. Pure, and bounded by its limit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

_LENGTH = Struct(">I")


@dataclass(frozen=True, slots=True)
class Numbered:
    """One message and its number in the input, from 1: the line, or the count of length-prefixed messages."""

    number: int
    content: bytes


@dataclass(frozen=True, slots=True)
class TooLong:
    """A message above the limit; it was skipped."""

    number: int
    size: int


class MalformedInput(ValueError):
    """The input ends in the middle of a length-prefixed message, or is not length-prefixed at all."""


class LineSplitter:
    """One message a line, without its line end (LF or CRLF). The last line may lack one. Empty lines are messages."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._number = 0
        self._parts: list[bytes] = []
        self._held = 0
        self._skipped = 0

    def feed(self, data: bytes) -> Iterator[Numbered | TooLong]:
        """Take the next bytes; yield the messages they complete."""
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            self._hold(data[start:end])
            yield self._take()
            start = end + 1
        self._hold(data[start:])

    def finish(self) -> Iterator[Numbered | TooLong]:
        """The input has ended: yield what is left of it."""
        if self._held or self._skipped:
            yield self._take()

    def _hold(self, part: bytes) -> None:
        if not part:
            return
        # One byte more than the limit may yet be the CR of a line end.
        if self._skipped or self._held + len(part) > self._limit + 1:
            self._skipped += self._held + len(part)
            self._parts.clear()
            self._held = 0
            return
        self._parts.append(part)
        self._held += len(part)

    def _take(self) -> Numbered | TooLong:
        self._number += 1
        line = b"".join(self._parts).removesuffix(b"\r")
        skipped = self._skipped
        self._parts.clear()
        self._held = self._skipped = 0
        if skipped or len(line) > self._limit:
            return TooLong(self._number, skipped or len(line))
        return Numbered(self._number, line)


class LengthPrefixSplitter:
    """Each message behind its length: 4 bytes, big-endian, unsigned."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._number = 0
        self._buffer = bytearray()
        self._skip = 0  # bytes of an overlong message still to come

    def feed(self, data: bytes) -> Iterator[Numbered | TooLong]:
        """Take the next bytes; yield the messages they complete."""
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        self._buffer += data
        at = 0
        held = len(self._buffer)
        while held - at >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._buffer, at)
            if size > self._limit:
                at += self._pass_over(at, size)
                self._number += 1
                yield TooLong(self._number, size)
                continue
            end = at + _LENGTH.size + size
            if held < end:
                break
            self._number += 1
            yield Numbered(self._number, bytes(self._buffer[at + _LENGTH.size : end]))
            at = end
        del self._buffer[:at]

    def _pass_over(self, at: int, size: int) -> int:
        """Return how many bytes of the buffer belong to an overlong message; the rest of it is still to come."""
        whole = _LENGTH.size + size
        here = min(whole, len(self._buffer) - at)
        self._skip = whole - here
        return here

    def finish(self) -> Iterator[Numbered | TooLong]:
        """The input has ended.

        Raises:
            MalformedInput: in the middle of a message.
        """
        if self._buffer or self._skip:
            raise MalformedInput(
                f"the input ends in the middle of message {self._number + (not self._skip)}: "
                "with --length-prefixed each message stands behind its length, 4 bytes big-endian"
            )
        return iter(())
