"""How many TLS records a chunk of bytes completes. Pure.

OpenSSL says "I want more bytes" by an error, and pyOpenSSL by an exception, which costs as much as
decrypting a small message. Who counts records need not ask once too often.
"""

from __future__ import annotations

HEADER_BYTES = 5  # type, version (2), length (2): RFC 8446, section 5.1
MAX_LENGTH = (1 << 14) + 256  # of an encrypted record: RFC 8446, section 5.2


class RecordCounter:
    """Follows the record headers of one stream from its first byte on."""

    __slots__ = ("_head", "_missing")

    def __init__(self) -> None:
        self._head = b""  # the beginning of a header that is not complete
        self._missing = 0  # bytes the current record lacks

    def feed(self, data: bytes) -> int:
        """How many records end in `data`. One of impossible length counts: OpenSSL is to see it."""
        if self._head:
            data = self._head + data
            self._head = b""
        end = len(data)
        position = self._missing
        count = 1 if 0 < position <= end else 0
        while end - position >= HEADER_BYTES:
            length = data[position + 3] << 8 | data[position + 4]
            position += HEADER_BYTES + length
            if position <= end or length > MAX_LENGTH:
                count += 1
        if position >= end:
            self._missing = position - end
        else:
            self._missing = 0
            self._head = data[position:]
        return count
