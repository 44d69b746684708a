"""Two connections joined in memory, under a clock that stands still until told.

`MemoryTransport` behaves like Twisted's TCP transport where it matters: the "kernel" takes a limited
number of bytes at once, the rest is kept and written when there is room, a pull producer is asked for
more when nothing is left, and an abort is noticed a turn later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from phxqueue.net.address import Address
from phxqueue.net.rpc import RpcConnection
from phxqueue.net.service import RpcService
from phxqueue.net.settings import DEFAULT_SETTINGS, RpcSettings
from phxqueue.net.tls_engine import TlsEngine
from phxqueue.net.turn import TurnEnd

CLIENT = Address("127.0.0.1", 40000)
SERVER = Address("127.0.0.1", 5100)


class MemoryTransport:
    """One end. `capacity`: bytes the kernel holds until the other end has read them."""

    def __init__(self, clock: Clock, capacity: int) -> None:
        self.clock = clock
        self.capacity = capacity
        self.in_kernel = bytearray()
        self.kept = bytearray()
        self.producer: Any = None
        self.reading = True
        self.closing = False
        self.write_closed = False
        self.aborted = False
        self.closed = False
        self.writes = 0
        self.no_delay = False
        self.other: MemoryTransport
        self.protocol: Any = None

    # -- what connections use

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = enabled

    def writeSomeData(self, data: bytes) -> int:
        room = max(self.capacity - len(self.in_kernel), 0)
        self.in_kernel += data[:room]
        self.writes += 1
        return min(room, len(data))

    def write(self, data: bytes) -> None:
        self.kept += data

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert not streaming
        self.producer = producer
        producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True

    def loseConnection(self) -> None:
        self.closing = True

    def loseWriteConnection(self) -> None:
        self.write_closed = True

    def abortConnection(self) -> None:
        if not (self.aborted or self.closed):
            self.aborted = True
            self.clock.callLater(0, self.lose, ConnectionAborted())

    # -- what the wire does

    def lose(self, reason: Exception) -> None:
        if not self.closed:
            self.closed = True
            self.in_kernel.clear()
            self.kept.clear()
            self.protocol.connectionLost(Failure(reason))

    def step(self) -> bool:
        """Move bytes on; True when anything happened."""
        if self.closed or self.aborted:
            if not self.other.closed and not self.other.aborted:
                self.other.lose(ConnectionDone())
                return True
            return False
        if self.in_kernel and self.other.reading and not self.other.closed:
            chunk = bytes(self.in_kernel[:65536])
            del self.in_kernel[: len(chunk)]
            self.other.protocol.dataReceived(chunk)
            return True
        if self.kept and len(self.in_kernel) < self.capacity:
            room = self.capacity - len(self.in_kernel)
            self.in_kernel += self.kept[:room]
            del self.kept[:room]
            if not self.kept and self.producer is not None:
                self.producer.resumeProducing()
            return True
        if (self.closing or self.write_closed) and not self.kept and not self.in_kernel:
            if self.closing:
                self.lose(ConnectionDone())
            else:
                self.write_closed = False
                self.other.lose(ConnectionDone())
            return True
        return False


class Wire:
    """A client's and a server's connection with a memory wire between them."""

    def __init__(
        self,
        service: RpcService,
        *,
        clock: Clock | None = None,
        client_service: RpcService | None = None,
        settings: RpcSettings = DEFAULT_SETTINGS,
        client_settings: RpcSettings | None = None,
        tls: tuple[TlsEngine, TlsEngine] | None = None,
        capacity: int = 1 << 20,
    ) -> None:
        self.clock = clock or Clock()
        self.ready = False
        client_tls, server_tls = tls or (None, None)
        self.client_transport = MemoryTransport(self.clock, capacity)
        self.server_transport = MemoryTransport(self.clock, capacity)
        self.client_transport.other, self.server_transport.other = self.server_transport, self.client_transport

        def set_ready() -> None:
            self.ready = True

        def admit(connection: RpcConnection) -> None:
            if service.admit is not None:
                service.admit(connection.peer, connection.address)

        self.client = self._connection(
            client_settings or settings,
            client_service or RpcService("client"),
            client_tls,
            SERVER,
            lambda connection: connection.ping(set_ready),
        )
        self.server = self._connection(settings, service, server_tls, CLIENT, admit)
        self.client_transport.protocol, self.server_transport.protocol = self.client, self.server
        self.server.makeConnection(self.server_transport)  # type: ignore[arg-type]
        self.client.makeConnection(self.client_transport)  # type: ignore[arg-type]

    def _connection(
        self,
        settings: RpcSettings,
        service: RpcService,
        tls: TlsEngine | None,
        address: Address,
        admit: Callable[[RpcConnection], None],
    ) -> RpcConnection:
        return RpcConnection(self.clock, TurnEnd(self.clock), settings, service, tls, address, admit=admit)

    def pump(self, rounds: int = 10_000) -> None:
        """Let everything happen that needs no time."""
        for _ in range(rounds):
            self.clock.advance(0)
            moved = self.client_transport.step()
            moved = self.server_transport.step() or moved
            if not moved:
                self.clock.advance(0)
                if not (self.client_transport.step() or self.server_transport.step()):
                    return
        raise AssertionError("the wire never comes to rest")

    def advance(self, seconds: float, step: float = 0.05) -> None:
        """Let time pass, in steps short enough for the connections to talk in between."""
        self.pump()
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end - 1e-9:
            self.clock.advance(min(step, end - self.clock.seconds()))
            self.pump()
