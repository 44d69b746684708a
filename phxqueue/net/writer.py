"""The sending half of a connection: many small frames in, few large writes out, and a count of what waits.

Frames leave at the end of the read that caused them, or else at the end of the reactor's turn, all in
one write. Writes go straight into the socket while it takes them: leaving them to the reactor costs
an `epoll_ctl`, a wait and another `epoll_ctl` each (measured: a third of a round trip on loopback).
Only what the socket does not take is handed to the transport, and until the transport has got rid of
that, everything else waits in the outbox, where it is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPullProducer, IReactorTime
from zope.interface import implementer

from phxqueue.net.outbox import Outbox
from phxqueue.net.turn import TurnEnd

CHUNKS_PER_FLUSH = 8  # then other connections get their turn


@implementer(IPullProducer)
class Writer:
    """Writes to one transport.

    Attributes:
        enabled: whether anything is taken and written (not before the handshake, not after the end).
        held: True while somebody will call `flush` soon anyway.
        last_progress: when the transport last took bytes, in seconds of the clock.
        after_flush: called after each flush while set; for whoever waits for room.
    """

    def __init__(
        self, clock: IReactorTime, turn: TurnEnd, chunk_bytes: int, encrypt: Callable[[bytes], bytes] | None
    ) -> None:
        self.enabled = False
        self.held = False
        self.last_progress = clock.seconds()
        self.after_flush: Callable[[], None] | None = None
        self._clock = clock
        self._turn = turn
        self._chunk_bytes = chunk_bytes
        self._encrypt = encrypt
        self._outbox = Outbox()
        self._transport: Any = None
        self._transport_full = False  # it has bytes of ours that the socket did not take yet
        self._scheduled = False

    @property
    def unsent(self) -> int:
        """Bytes that wait for the peer to read, leaving out what the transport and the kernel hold."""
        return self._outbox.size

    @property
    def busy(self) -> bool:
        """Whether anything put in has not been taken by the socket yet."""
        return self._transport_full or self._outbox.size > 0

    def attach(self, transport: Any) -> None:
        """Begin to write to a connected transport (a Twisted `FileDescriptor`, or what behaves like one)."""
        self._transport = transport
        self.last_progress = self._clock.seconds()
        transport.registerProducer(self, False)

    def detach(self) -> None:
        """Stop, and forget what waits. What the transport holds already it still writes."""
        self.enabled = False
        self.after_flush = None
        self._outbox.clear()
        if self._transport is not None:
            self._transport.unregisterProducer()

    def put(self, head: bytes, body: bytes = b"") -> None:
        """Queue a frame, in two pieces so that a large body is not copied, and see that it leaves soon."""
        if not self.enabled:
            return
        outbox = self._outbox
        outbox.put(head)
        if body:
            outbox.put(body)
        if not (self.held or self._scheduled or self._transport_full):
            self._scheduled = True
            self._turn.add(self._turn_ends)

    def flush(self) -> None:
        """Write what waits, as far as the socket takes it."""
        if not self.enabled:
            return
        outbox = self._outbox
        chunks = 0
        while outbox.size and not self._transport_full:
            if chunks == CHUNKS_PER_FLUSH:
                if not self._scheduled:
                    self._scheduled = True
                    self._turn.add(self._turn_ends)
                break
            chunks += 1
            chunk = outbox.take(self._chunk_bytes)
            self.write_through(chunk if self._encrypt is None else self._encrypt(chunk))
        if self.after_flush is not None:
            self.after_flush()

    def write_through(self, data: bytes) -> None:
        """Give bytes (already encrypted) to the socket, and what it does not take to the transport."""
        if not data:
            return
        transport = self._transport
        if not self._transport_full:
            written = transport.writeSomeData(data)
            while isinstance(written, int) and 0 < written < len(data):
                data = data[written:]
                written = transport.writeSomeData(data)
            if written == len(data):
                self.last_progress = self._clock.seconds()
                return
            # It is full, or gave an exception: then the transport will meet the same and end the connection.
            self._transport_full = True
        transport.write(data)

    def resumeProducing(self) -> None:
        """Twisted: the transport has written everything it had."""
        if self._transport_full:
            self._transport_full = False
            self.last_progress = self._clock.seconds()
            self.flush()

    def stopProducing(self) -> None:
        """Twisted: the connection is lost; its protocol is told by `connectionLost`."""

    def _turn_ends(self) -> None:
        self._scheduled = False
        self.flush()
