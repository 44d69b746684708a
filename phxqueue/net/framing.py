"""Frames: a 4-byte big-endian length, then so many bytes. Pure; linear in the bytes received.

Twisted's own `Int32StringReceiver` concatenates its buffer at every read, which is quadratic in the
size of a frame (64 MiB in 64 KiB reads: seconds), and closes without a word when a frame is too
large. This one copies each byte at most twice and says what was wrong.
"""

from __future__ import annotations

import struct

LENGTH_BYTES = 4
_LENGTH = struct.Struct(">I")
_unpack_length = _LENGTH.unpack_from
_SHOWN_BYTES = 16


class FrameError(Exception):
    """Bytes that are no frame of ours. The stream cannot be read any further.

    Attributes:
        frames: whole frames of the same chunk that came before the bad one.
        head: the first bytes of what was received in place of a frame.
    """

    def __init__(self, message: str, frames: list[bytes], head: bytes) -> None:
        super().__init__(message)
        self.frames = frames
        self.head = head


class FrameTooLarge(FrameError):
    """A length beyond the limit, be it a large frame or no frame at all.

    Attributes:
        size: the length announced.
        limit: the largest length accepted.
    """

    def __init__(self, size: int, limit: int, frames: list[bytes], head: bytes) -> None:
        super().__init__(f"a frame of {size} bytes is larger than the limit of {limit} bytes", frames, head)
        self.size = size
        self.limit = limit


class EmptyFrame(FrameError):
    """A length of 0. No message is empty, so the peer is not speaking this protocol."""

    def __init__(self, frames: list[bytes], head: bytes) -> None:
        super().__init__("a frame of 0 bytes; every frame holds a message", frames, head)


class FrameDecoder:
    """Cuts a byte stream into frames, whatever the chunks it arrives in.

    Frames that lie whole in one chunk are sliced out of it (one copy). The rest of a chunk waits in
    one bytearray, which never holds more than one incomplete frame, and never more bytes than have
    been received (an announced length alone reserves nothing).
    """

    __slots__ = ("_max_frame", "_partial", "_wanted")

    def __init__(self, max_frame: int) -> None:
        if max_frame < 1:
            raise ValueError(f"max_frame must be at least 1, not {max_frame}")
        self._max_frame = max_frame
        self._partial = bytearray()  # an incomplete frame, its length included
        self._wanted = 0  # bytes _partial must have before it can be looked at again; 0 = it is empty

    @property
    def buffered(self) -> int:
        """Bytes of an incomplete frame held back."""
        return len(self._partial)

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next chunk and return the frames it completes, in order.

        Raises:
            FrameTooLarge, EmptyFrame: see `FrameError`. The decoder must not be fed again.
        """
        frames: list[bytes] = []
        position = self._complete_partial(data, frames) if self._wanted else 0
        end = len(data)
        while end - position >= LENGTH_BYTES:
            (size,) = _unpack_length(data, position)
            if not 0 < size <= self._max_frame:
                raise self._error(size, frames, data[position : position + _SHOWN_BYTES])
            start = position + LENGTH_BYTES
            if start + size > end:
                self._wanted = LENGTH_BYTES + size
                break
            position = start + size
            frames.append(data[start:position])
        if position < end:
            self._partial += memoryview(data)[position:] if position else data
            if not self._wanted:
                self._wanted = LENGTH_BYTES
        return frames

    def _complete_partial(self, data: bytes, frames: list[bytes]) -> int:
        """Move what the waiting frame lacks out of `data`; return where the rest of `data` begins."""
        partial = self._partial
        position = 0
        while True:
            take = min(self._wanted - len(partial), len(data) - position)
            partial += memoryview(data)[position : position + take]
            position += take
            if len(partial) < self._wanted:
                return position
            if self._wanted > LENGTH_BYTES:
                break
            (size,) = _unpack_length(partial)  # only the length was missing so far
            if not 0 < size <= self._max_frame:
                raise self._error(size, frames, bytes(partial) + data[position : position + _SHOWN_BYTES])
            self._wanted = LENGTH_BYTES + size
        with memoryview(partial) as view:
            frames.append(bytes(view[LENGTH_BYTES:]))
        self._partial = bytearray()  # not clear(): a large one would keep its memory
        self._wanted = 0
        return position

    def _error(self, size: int, frames: list[bytes], head: bytes) -> FrameError:
        if size == 0:
            return EmptyFrame(frames, head)
        return FrameTooLarge(size, self._max_frame, frames, head)


def encode_frame(payload: bytes) -> bytes:
    """The payload with its length in front."""
    if not payload:
        raise ValueError("a frame cannot be empty")
    return _LENGTH.pack(len(payload)) + payload


def explain_garbage(head: bytes) -> str:
    """What a peer seems to be speaking instead of this protocol, as a sentence ("" = no idea)."""
    if head[:2] == b"\x16\x03":
        return "the peer begins a TLS handshake, but this port is plain TCP (tls: off)"
    if head[:2] == b"\x15\x03":
        return "the peer answers with a TLS alert: it wants TLS, but tls is off on this side"
    if head[:4] in (b"GET ", b"POST", b"HEAD", b"PUT ", b"PRI ", b"HTTP", b"DELE", b"OPTI", b"CONN"):
        return "the peer speaks HTTP; this is not a web port"
    if head[:4] == b"SSH-":
        return "the peer speaks SSH"
    if head and all(32 <= byte < 127 or byte in b"\r\n\t" for byte in head):
        return f"the peer sends plain text: {head.decode('ascii')!r}"
    return ""
