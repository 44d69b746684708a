"""Long lines between processes of this machine: a TCP proxy with a latency each way, that can be cut and healed.

What is sent arrives after the latency, in order; a connection takes a round trip to be made, as over a distance. A line
that is cut carries nothing, and tells nobody: what was on its way, and who wants to connect, waits until it is
healed, as with TCP, unless either end has given up by then.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

HOST = "127.0.0.1"
#: A side is read no further while so much of what it sent is on its way.
IN_FLIGHT_BYTES = 4 * 1024 * 1024


class Line:
    """The way from one place to another, for any number of connections to one port.

    Args:
        latency_s: one way.
    """

    def __init__(self, reactor: Any, latency_s: float, target_port: int) -> None:
        self.reactor = reactor
        self.latency_s = latency_s
        self.target_port = target_port
        self.is_cut = False
        self.ends: set[_End] = set()
        self._waiting: list[Any] = []
        self._timers: set[Any] = set()
        self._connecting: set[Deferred[Any]] = set()
        self._listening = reactor.listenTCP(0, _Accepting(self), interface=HOST)

    @property
    def port(self) -> int:
        """Where the near end is."""
        return int(self._listening.getHost().port)

    def cut(self) -> None:
        """Carry nothing from now on."""
        self.is_cut = True

    def heal(self) -> None:
        """Carry again: first what waits."""
        self.is_cut = False
        waiting, self._waiting = self._waiting, []
        for act in waiting:
            act()
        for end in [*self.ends]:
            end.flush()

    def later(self, trips: int, act: Any) -> None:
        """Do something after so many times the latency."""

        def due() -> None:
            self._timers.discard(timer)
            act()

        timer = self.reactor.callLater(trips * self.latency_s, due)
        self._timers.add(timer)

    def connect(self, near: _End) -> None:
        """Make the far end of a connection."""
        if self.is_cut:
            self._waiting.append(lambda: self.connect(near))
            return
        endpoint = TCP4ClientEndpoint(self.reactor, HOST, self.target_port)
        connecting: Deferred[Any] = endpoint.connect(Factory.forProtocol(lambda: _End(self)))  # type: ignore[arg-type]
        self._connecting.add(connecting)
        connecting.addBoth(self._connected, connecting)
        connecting.addCallbacks(near.join, lambda failure: near.transport.abortConnection())

    def _connected(self, result: Any, connecting: Deferred[Any]) -> Any:
        self._connecting.discard(connecting)
        return result

    async def close(self) -> None:
        """End the line and every connection over it."""
        self.is_cut, self._waiting = False, []
        for timer in self._timers:
            timer.cancel()
        for connecting in [*self._connecting]:
            connecting.cancel()
        gone = [end.gone for end in self.ends]
        for end in [*self.ends]:
            end.transport.abortConnection()
        await gatherResults([maybeDeferred(self._listening.stopListening), *gone])


class _End(Protocol):
    """One end of a connection: what it hears comes out at the other one."""

    transport: Any

    def __init__(self, line: Line) -> None:
        self.line = line
        self.other: _End | None = None
        self.gone: Deferred[None] = Deferred()
        self._coming: deque[bytes | None] = deque()  # None: the end of the connection
        self._due = 0  # how much of it has been on its way for long enough
        self._bytes = 0
        self._heard: list[bytes | None] = []  # while there is no other end yet

    def connectionMade(self) -> None:
        self.line.ends.add(self)
        self.transport.setTcpNoDelay(True)

    def join(self, other: _End) -> None:
        """There is another end now."""
        self.other, other.other = other, self
        for end in (self, other):
            heard, end._heard = end._heard, []
            for data in heard:
                end._send(data)

    def dataReceived(self, data: bytes) -> None:
        self._send(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.line.ends.discard(self)
        self._send(None)
        self.gone.callback(None)

    def _send(self, data: bytes | None) -> None:
        if self.other is None:
            self._heard.append(data)
            return
        self.other._take(data, self)

    def _take(self, data: bytes | None, source: _End) -> None:
        self._coming.append(data)
        self._bytes += len(data or b"")
        if self._bytes > IN_FLIGHT_BYTES:
            source.transport.pauseProducing()
        self.line.later(1, self._arrived)

    def _arrived(self) -> None:
        self._due += 1
        self.flush()

    def flush(self) -> None:
        """Hand over what has been on its way for long enough, if the line is not cut."""
        while self._due and not self.line.is_cut:
            self._due -= 1
            data = self._coming.popleft()
            if data is None:
                self.transport.loseConnection()
            else:
                self._bytes -= len(data)
                self.transport.write(data)
        if self._bytes <= IN_FLIGHT_BYTES and self.other is not None and self.other in self.line.ends:
            self.other.transport.resumeProducing()


class _Accepting(Factory):
    """The near end of a line."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self.noisy = False

    def buildProtocol(self, address: Any) -> Protocol:
        near = _End(self._line)
        self._line.later(2, lambda: self._line.connect(near))
        return near
