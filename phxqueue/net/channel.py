"""Frames over one TCP connection, plain or TLS: the byte side of `RpcConnection`.

In:  bytes → TLS → frames → `frame_received`, once per frame.
Out: `_writer.put` → one write per turn → TLS → socket.

A connection ends in one of these ways:
  * `close(reason)`: we are done; what is queued is written, the peer is told the reason, if any;
  * `fail(error)`: the peer misbehaves; it is told why, one line is logged;
  * `abort(reason)`: the peer is gone or does not listen; one line is logged;
  * the peer closes, or the network breaks.
Each calls `connection_ended(reason)` exactly once.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from phxqueue.net.address import Address
from phxqueue.net.framing import FrameDecoder, FrameError, explain_garbage
from phxqueue.net.identity import ANONYMOUS, Identity, IdentityError
from phxqueue.net.liveness import Liveness, Verdict
from phxqueue.net.settings import RpcSettings
from phxqueue.net.status import RpcError, Status
from phxqueue.net.tls_engine import ALPN, TlsEngine, TlsFailure
from phxqueue.net.turn import TurnEnd
from phxqueue.net.writer import Writer


class ChannelState(enum.Enum):
    """Where a connection is in its life."""

    NEW = "not connected yet"
    SECURING = "TLS handshake"
    OPEN = "frames flow"
    CLOSING = "ended; the last bytes are being written, what still arrives is ignored"
    LOST = "gone"


class FrameChannel(Protocol):
    """One connection. Subclasses give frames a meaning.

    Attributes:
        address: the peer's address.
        peer: who the peer proved to be; ANONYMOUS on plain TCP and before the handshake.
        state: see `ChannelState`.
        lost_reason: why the connection ended, once it has.
        quiet: log nothing about its end (somebody is told by other means).
    """

    log = Logger()

    def __init__(
        self, clock: IReactorTime, turn: TurnEnd, settings: RpcSettings, tls: TlsEngine | None, address: Address
    ) -> None:
        self.clock = clock
        self.settings = settings
        self.address = address
        self.peer: Identity = ANONYMOUS
        self.state = ChannelState.NEW
        self.lost_reason: RpcError | None = None
        self.quiet = False
        self._tls = tls
        self._decoder = FrameDecoder(settings.max_frame_bytes)
        self._writer = Writer(clock, turn, settings.write_chunk_bytes, None if tls is None else self._encrypt)
        self._reply_backlog = 0  # bytes of replies queued since nothing was waiting
        self._reading = True
        self._half_close = False
        self._liveness = Liveness(
            settings.keepalive_interval_s, settings.keepalive_timeout_s, settings.write_stall_timeout_s, clock.seconds()
        )
        self._timer: IDelayedCall | None = None  # of the handshake, then of the keep-alive, then of the goodbye
        self._lost_callbacks: list[Callable[[RpcError], None]] = []
        self._closed = False
        self._closed_callbacks: list[Deferred[None]] = []

    # ---- what subclasses say ---------------------------------------------------------------------------

    def secured(self) -> None:
        """The peer is known (TLS is up, or there is none). Raises RpcError to refuse it."""

    def frame_received(self, frame: bytes) -> None:
        """Act upon one frame."""
        raise NotImplementedError

    def goodbye_frame(self, error: RpcError) -> bytes:
        """The frame that tells the peer why we close."""
        raise NotImplementedError

    def send_ping(self) -> None:
        """Ask the peer for a sign of life."""
        raise NotImplementedError

    def connection_ended(self, reason: RpcError) -> None:
        """The connection is over; called once."""
        raise NotImplementedError

    # ---- state -----------------------------------------------------------------------------------------

    @property
    def unsent_bytes(self) -> int:
        """Bytes queued because the peer does not read fast enough."""
        return self._writer.unsent

    @property
    def last_heard(self) -> float:
        """When anything last arrived, in reactor seconds."""
        return self._liveness.last_heard

    def on_lost(self, callback: Callable[[RpcError], None]) -> None:
        """Have `callback` called with the reason when the connection ends (at once if it has)."""
        if self.lost_reason is not None:
            callback(self.lost_reason)
        else:
            self._lost_callbacks.append(callback)

    def when_closed(self) -> Deferred[None]:
        """Fires when the TCP connection itself is gone (a while after the connection has ended)."""
        waiting: Deferred[None] = Deferred()
        if self._closed:
            waiting.callback(None)
        else:
            self._closed_callbacks.append(waiting)
        return waiting

    # ---- connecting ------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Twisted: the TCP connection is there."""
        transport: Any = self.transport
        transport.setTcpNoDelay(True)
        self._writer.attach(transport)
        if self._tls is None:
            self._open()
            return
        self.state = ChannelState.SECURING
        self._timer = self.clock.callLater(self.settings.handshake_timeout_s, self._handshake_timed_out)
        self._tls.start()
        self._writer.write_through(self._tls.outgoing())

    def _handshake_timed_out(self) -> None:
        self._timer = None
        self.abort(f"no TLS handshake within {self.settings.handshake_timeout_s:g} s (does the peer speak TLS at all?)")

    def _open(self) -> None:
        self.state = ChannelState.OPEN
        self._writer.enabled = True
        self._liveness.restart(self.clock.seconds())
        self._set_timer(self._liveness.period, self._tick)
        try:
            if self._tls is not None:
                if self._tls.protocol != ALPN:
                    raise RpcError(Status.UNAUTHENTICATED, f"the peer does not offer the protocol {ALPN}")
                self.peer = self._tls.peer_identity()
            self.secured()
        except IdentityError as error:
            self.fail(RpcError(Status.UNAUTHENTICATED, str(error)))
        except RpcError as error:
            self.fail(error)

    # ---- reading ---------------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        """Twisted: bytes arrived."""
        self._liveness.last_heard = self.clock.seconds()
        if self._tls is None:
            if self.state is ChannelState.OPEN:
                self._read([data])
        elif self.state in (ChannelState.SECURING, ChannelState.OPEN):
            self._read_tls(self._tls, data)

    def _read_tls(self, tls: TlsEngine, data: bytes) -> None:
        try:
            plaintext = tls.receive(data)
        except TlsFailure as failure:
            self._tls_failed(failure)
            return
        if self.state is ChannelState.SECURING:
            self._writer.write_through(tls.outgoing())
            if tls.handshake_done:
                self._open()
        if plaintext and self.state is ChannelState.OPEN:
            self._read(plaintext)
        if tls.closed:
            self._ended_by_peer(RpcError(Status.UNAVAILABLE, "the peer closed the connection"))

    def _read(self, pieces: list[bytes]) -> None:
        """Cut into frames and act upon them; write at the end what that produced."""
        bad: FrameError | None = None
        writer = self._writer
        writer.held = True
        for piece in pieces:
            try:
                frames = self._decoder.feed(piece)
            except FrameError as error:
                frames, bad = error.frames, error
            for frame in frames:
                self.frame_received(frame)
                if self.state is not ChannelState.OPEN:
                    break
            if bad is not None or self.state is not ChannelState.OPEN:
                break
        writer.held = False
        if bad is not None and self.state is ChannelState.OPEN:
            self.fail(RpcError(Status.INVALID_ARGUMENT, _explain(bad)))
        elif writer.unsent:
            writer.flush()

    # ---- writing ---------------------------------------------------------------------------------------

    def _encrypt(self, chunk: bytes) -> bytes:
        assert self._tls is not None
        try:
            return self._tls.encrypt(chunk)
        except TlsFailure as failure:
            self._tls_failed(failure)
            return b""

    def _reply_queued(self, size: int) -> None:
        """A reply of so many bytes waits: do not serve on a peer that does not take its replies."""
        unsent = self._writer.unsent
        # What waits may be replies or requests of ours. Only replies make us stop reading: two sides
        # that stopped because of their own requests would wait for each other.
        self._reply_backlog = min(self._reply_backlog + size, unsent)
        if unsent > self.settings.max_unsent_bytes:
            self.abort(f"it does not read its replies: {unsent} bytes are waiting")
        elif self._reading and self._reply_backlog > self.settings.write_high_water_bytes:
            self._set_reading(False)
            self._writer.after_flush = self._resume_reading_when_possible

    def _resume_reading_when_possible(self) -> None:
        if self._writer.unsent <= self.settings.write_high_water_bytes // 2:
            self._writer.after_flush = None
            self._reply_backlog = 0
            self._set_reading(True)

    def _set_reading(self, reading: bool) -> None:
        transport: Any = self.transport
        if self._reading != reading:
            self._reading = reading
            (transport.resumeProducing if reading else transport.pauseProducing)()

    # ---- keep-alive ------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._timer = self.clock.callLater(self._liveness.period, self._tick)
        writer = self._writer
        verdict = self._liveness.tick(
            self.clock.seconds(), stalled_since=writer.last_progress if writer.busy else None, reading=self._reading
        )
        if verdict is Verdict.PING:
            self.send_ping()
        elif verdict is Verdict.SILENT:
            limit = self.settings.keepalive_timeout_s
            self.abort(f"it did not answer a ping within {limit:g} s (half-open connection?)")
        elif verdict is Verdict.STALLED:
            self.abort(f"it has taken no bytes for {self.settings.write_stall_timeout_s:g} s")

    def _set_timer(self, delay: float, action: Callable[[], None]) -> None:
        self._cancel_timer()
        self._timer = self.clock.callLater(delay, action)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ---- ending ----------------------------------------------------------------------------------------

    def close(self, reason: RpcError | None = None) -> None:
        """Write out what is queued, and the reason when there is one, then close; `goodbye_linger_s` at most."""
        ended = reason or RpcError(Status.UNAVAILABLE, "this side closed the connection")
        if self.state is ChannelState.OPEN:
            self._begin_closing(ended, told=reason)
        elif self.state is not ChannelState.CLOSING:
            self._drop(ended)

    def fail(self, error: RpcError) -> None:
        """End the connection because of what the peer did or is; it is told, and the log too."""
        self._complain(error)
        if self.state is ChannelState.OPEN:
            self._begin_closing(error, told=error)
        elif self.state is not ChannelState.CLOSING:
            self._drop(error)

    def abort(self, reason: str) -> None:
        """Drop the connection at once, whatever is queued."""
        error = RpcError(Status.UNAVAILABLE, reason)
        self._complain(error)
        self._drop(error)

    def _ended_by_peer(self, error: RpcError) -> None:
        """The peer has said that it is done: nothing more to tell it."""
        if self.state is ChannelState.OPEN:
            self._begin_closing(error, told=None)

    def _tls_failed(self, failure: TlsFailure) -> None:
        error = RpcError(Status.UNAUTHENTICATED if failure.of_identity else Status.UNAVAILABLE, str(failure))
        self._complain(error)
        if self._tls is not None and self.state in (ChannelState.SECURING, ChannelState.OPEN):
            self._writer.write_through(self._tls.outgoing())  # the alert tells the peer
            self._writer.enabled = False
            self._half_close = True
            self.state = ChannelState.CLOSING
            self._set_timer(self.settings.goodbye_linger_s, self._linger_over)
            self._end(error)
            self._last_bytes_written()

    def _begin_closing(self, ended: RpcError, *, told: RpcError | None) -> None:
        self.state = ChannelState.CLOSING
        self._half_close = told is not None
        self._set_timer(self.settings.goodbye_linger_s, self._linger_over)
        self._set_reading(True)
        self._end(ended)
        if told is not None:
            self._writer.put(self.goodbye_frame(told))
        self._writer.after_flush = self._finish_when_written
        self._writer.flush()

    def _finish_when_written(self) -> None:
        if not self._writer.busy and self.state is ChannelState.CLOSING:
            if self._tls is not None:
                self._writer.write_through(self._tls.close())
            self._last_bytes_written()

    def _last_bytes_written(self) -> None:
        transport: Any = self.transport
        self._writer.detach()
        if self._half_close:
            # Closing both ways while bytes still come in would be a reset, and a reset overtakes the goodbye.
            transport.loseWriteConnection()
        else:
            transport.loseConnection()

    def _linger_over(self) -> None:
        self._timer = None
        self._drop(RpcError(Status.UNAVAILABLE, "closed"))

    def _drop(self, error: RpcError) -> None:
        if self.state is ChannelState.LOST:
            return
        self._forget()
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()
        self._end(error)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Twisted: the TCP connection is gone."""
        during = " during the TLS handshake" if self.state is ChannelState.SECURING else ""
        self._forget()
        how = "the peer closed the connection" if reason.check(ConnectionDone) else "the connection broke"
        why = "" if reason.check(ConnectionDone) else f": {reason.getErrorMessage()}"
        self._end(RpcError(Status.UNAVAILABLE, f"{how}{during}{why}"))
        self._closed = True
        callbacks, self._closed_callbacks = self._closed_callbacks, []
        for waiting in callbacks:
            waiting.callback(None)

    def _forget(self) -> None:
        self.state = ChannelState.LOST
        self._cancel_timer()
        self._writer.detach()

    def _end(self, reason: RpcError) -> None:
        if self.lost_reason is not None:
            return
        self.lost_reason = reason
        self.connection_ended(reason)
        callbacks, self._lost_callbacks = self._lost_callbacks, []
        for callback in callbacks:
            callback(reason)

    def _complain(self, error: RpcError) -> None:
        if self.state not in (ChannelState.CLOSING, ChannelState.LOST) and not self.quiet:
            self.log.warn(
                "{address} ({peer}): connection dropped: {reason}",
                address=self.address,
                peer=self.peer,
                reason=error.message,
                status=error.status.name,
            )


def _explain(error: FrameError) -> str:
    """What a peer that does not speak in frames is told."""
    guess = explain_garbage(error.head)
    return f"{guess} ({error})" if guess else str(error)
