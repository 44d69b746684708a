"""What waits to be written to one connection. Pure.

Frames are put in as pieces and taken out in chunks, so that many small frames become one write, and
one large frame does not occupy the reactor (and the cipher) in one go.
"""

from __future__ import annotations

from collections import deque


class Outbox:
    """A queue of bytes.

    Attributes:
        size: bytes waiting.
    """

    __slots__ = ("_pieces", "size")

    def __init__(self) -> None:
        self._pieces: deque[bytes | memoryview] = deque()
        self.size = 0

    def put(self, piece: bytes) -> None:
        """Append one piece."""
        self._pieces.append(piece)
        self.size += len(piece)

    def take(self, limit: int) -> bytes:
        """Remove and return the next bytes: all of them when they are at most `limit`, else `limit`."""
        pieces = self._pieces
        if self.size <= limit:
            chunk = b"".join(pieces)
            pieces.clear()
            self.size = 0
            return chunk
        taken: list[bytes | memoryview] = []
        room = limit
        while room:
            piece = pieces.popleft()
            if len(piece) > room:
                view = memoryview(piece)
                pieces.appendleft(view[room:])
                piece = view[:room]
            taken.append(piece)
            room -= len(piece)
        self.size -= limit
        return b"".join(taken)

    def clear(self) -> None:
        """Forget everything."""
        self._pieces.clear()
        self.size = 0
