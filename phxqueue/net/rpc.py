"""One connection between two processes that call each other: multiplexed, cancellable, with deadlines.

Both ends are the same class; whoever has a service answers calls, whichever end dialled.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from google.protobuf.message import DecodeError, Message
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime

from phxqueue.net.address import Address
from phxqueue.net.channel import ChannelState, FrameChannel
from phxqueue.net.deadlines import DeadlineWatch
from phxqueue.net.dispatch import IncomingCalls
from phxqueue.net.envelope import (
    CANCEL,
    GOODBYE_CALL_ID,
    MAX_CALL_ID,
    MAX_DEADLINE_MS,
    ONE_WAY,
    OVERHEAD,
    PING,
    PONG,
    REPLY,
    REQUEST,
    cancel_frame,
    error_frame,
    error_of,
    keepalive_frame,
    max_frame_of,
    one_way_head,
    parse_envelope,
    request_head,
)
from phxqueue.net.service import RpcService
from phxqueue.net.settings import RpcSettings
from phxqueue.net.status import RpcError, Status
from phxqueue.net.tls_engine import TlsEngine
from phxqueue.net.turn import TurnEnd
from phxqueue.proto.envelope_pb2 import Envelope
from phxqueue.proto.methods import Method

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)


class PendingCall(Deferred[ResponseT], Generic[ResponseT]):
    """A call of ours that waits for its reply: the Deferred the caller holds, and what the table must know."""

    def __init__(
        self, canceller: Callable[[Any], None], call_id: int, method: Method[Any, ResponseT], timeout: float, now: float
    ) -> None:
        super().__init__(canceller)
        self.call_id = call_id
        self.method = method
        self.timeout = timeout
        self.deadline = now + timeout


class RpcConnection(FrameChannel):
    """One connection, from either end. `connect` and `listen` (endpoints.py) make them.

    Attributes:
        address: the peer's address (the one dialled, for a client).
        peer: who the peer proved to be.
        lost_reason: why it ended, once it has.
        in_flight: calls of ours that wait for a reply.
        unsent_bytes: bytes queued because the peer does not read fast enough.
        last_heard: reactor seconds at which anything last arrived.
    """

    def __init__(
        self,
        clock: IReactorTime,
        turn: TurnEnd,
        settings: RpcSettings,
        service: RpcService,
        tls: TlsEngine | None,
        address: Address,
        *,
        admit: Callable[[RpcConnection], None],
    ) -> None:
        super().__init__(clock, turn, settings, tls, address)
        self._admit = admit
        self._on_pong: Callable[[], None] | None = None
        self._pending: dict[int, PendingCall[Any]] = {}
        self._last_call_id = 0
        self._peer_max_frame = settings.max_frame_bytes
        self._incoming = IncomingCalls(self, service, self._writer, settings, self._reply_queued)
        self._watch = DeadlineWatch(clock, settings.deadline_granularity_s, self._deadlines_due)

    # ---- for callers -----------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether calls can be made."""
        return self.state is ChannelState.OPEN

    @property
    def in_flight(self) -> int:
        """Calls of ours that wait for a reply."""
        return len(self._pending)

    @property
    def answering(self) -> int:
        """Calls of the peer that are in work here."""
        return len(self._incoming)

    def call(self, method: Method[RequestT, ResponseT], request: RequestT, timeout: float) -> Deferred[ResponseT]:
        """Call the peer. `timeout` in seconds; the peer is told, and stops working when it is over.

        The Deferred fails with `RpcError` only: what the peer answers; DEADLINE_EXCEEDED; UNAVAILABLE
        naming the address when the connection is lost; RESOURCE_EXHAUSTED when a bound of this side is
        reached; INVALID_ARGUMENT when the request is too large. Cancelling it tells the peer to stop
        (and fails it with CancelledError).
        """
        if self.state is not ChannelState.OPEN:
            return fail(self._gone(maybe_executed=False))
        body = request.SerializeToString()
        pending = self._pending
        if (
            len(body) + OVERHEAD > self._peer_max_frame
            or len(pending) >= self.settings.max_in_flight_calls
            or self._writer.unsent > self.settings.max_unsent_bytes
        ):
            return fail(self._not_now(method, len(body)))
        call_id = self._last_call_id % MAX_CALL_ID + 1
        while call_id in pending:
            call_id = call_id % MAX_CALL_ID + 1
        self._last_call_id = call_id
        call = PendingCall(self._cancelled, call_id, method, timeout, self.clock.seconds())
        pending[call_id] = call
        if call.deadline < self._watch.next_at:
            self._watch.note(call.deadline)
        deadline_ms = min(int(timeout * 1000), MAX_DEADLINE_MS) if timeout > 0.001 else 1
        self._writer.put(request_head(call_id, method.number, deadline_ms, body), body)
        return call

    def send_one_way(self, method: Method[RequestT, ResponseT], request: RequestT) -> bool:
        """Send without reply. False: not sent, the connection is gone or too many bytes wait already.

        Raises:
            RpcError: INVALID_ARGUMENT, the message is larger than the peer takes.
        """
        if self.state is not ChannelState.OPEN or self._writer.unsent > self.settings.max_unsent_bytes:
            return False
        body = request.SerializeToString()
        if len(body) + OVERHEAD > self._peer_max_frame:
            raise self._not_now(method, len(body))
        self._writer.put(one_way_head(method.number, body), body)
        return True

    def when_lost(self) -> Deferred[RpcError]:
        """Fires with the reason when the connection ends."""
        waiting: Deferred[RpcError] = Deferred()
        self.on_lost(waiting.callback)
        return waiting

    def ping(self, on_pong: Callable[[], None]) -> None:
        """Send a PING and have `on_pong` called at the next PONG."""
        self._on_pong = on_pong
        self.send_ping()

    def drain(self, reason: RpcError) -> None:
        """From now on answer new calls of the peer with `reason`; those in work go on."""
        self._incoming.draining = reason

    def refuse_calls_in_work(self, reason: RpcError) -> None:
        """Answer every call of the peer that is in work with `reason`, and cancel it."""
        self._incoming.refuse_all(reason)

    # ---- frames ----------------------------------------------------------------------------------------

    def frame_received(self, frame: bytes) -> None:
        """Act upon one frame of the peer."""
        try:
            envelope = parse_envelope(frame)
        except DecodeError:
            self.fail(RpcError(Status.INVALID_ARGUMENT, f"a frame of {len(frame)} bytes holds no Envelope"))
            return
        kind = envelope.kind
        if kind == REPLY:
            self._reply_received(envelope)
        elif kind == REQUEST:
            try:
                deadline = self._incoming.request(envelope, self.last_heard)
            except RpcError as error:
                self.fail(error)
                return
            if deadline < self._watch.next_at:
                self._watch.note(deadline)
        elif kind == ONE_WAY:
            self._incoming.one_way(envelope)
        elif kind == CANCEL:
            self._incoming.cancel(envelope.call_id)
        elif kind in (PING, PONG):
            self._keepalive_received(envelope)
        # Kinds of a newer protocol are ignored.

    def _reply_received(self, envelope: Envelope) -> None:
        call_id = envelope.call_id
        if call_id == GOODBYE_CALL_ID:
            self._ended_by_peer(error_of(envelope))
            return
        call = self._pending.pop(call_id, None)
        if call is None:
            return  # cancelled, or too late
        if envelope.status:
            call.errback(error_of(envelope))
            return
        try:
            response = call.method.response.FromString(envelope.body)
        except DecodeError:
            text = f"{self.address}: the answer to {call.method.name} is no {call.method.response.__name__}"
            call.errback(RpcError(Status.INTERNAL, text))
            return
        call.callback(response)

    def _keepalive_received(self, envelope: Envelope) -> None:
        limit = max_frame_of(envelope)
        if limit is not None:
            self._peer_max_frame = self._incoming.peer_max_frame = limit
        if envelope.kind == PING:
            self._writer.put(keepalive_frame(PONG, envelope.call_id, self.settings.max_frame_bytes))
            return
        on_pong, self._on_pong = self._on_pong, None
        if on_pong is not None:
            on_pong()

    # ---- life ------------------------------------------------------------------------------------------

    def secured(self) -> None:
        """The peer is known: let it in, or raise RpcError."""
        self._admit(self)

    def send_ping(self) -> None:
        """Ask the peer for a sign of life."""
        self._writer.put(keepalive_frame(PING, 0, self.settings.max_frame_bytes))

    def goodbye_frame(self, error: RpcError) -> bytes:
        """The REPLY to no call that says why we close."""
        return error_frame(GOODBYE_CALL_ID, error)

    def connection_ended(self, reason: RpcError) -> None:
        """Fail our calls, cancel the peer's."""
        self._watch.stop()
        pending, self._pending = self._pending, {}
        for call in pending.values():
            call.errback(self._gone(maybe_executed=True))
        self._incoming.connection_ended()

    # ---- details ---------------------------------------------------------------------------------------

    def _cancelled(self, call: PendingCall[Any]) -> None:
        if self._pending.pop(call.call_id, None) is not None and self.state is ChannelState.OPEN:
            self._writer.put(cancel_frame(call.call_id))

    def _deadlines_due(self, now: float) -> float:
        earliest = math.inf
        due: list[PendingCall[Any]] = []
        for call in self._pending.values():
            if call.deadline <= now:
                due.append(call)
            elif call.deadline < earliest:
                earliest = call.deadline
        for call in due:
            if self._pending.pop(call.call_id, None) is not None:
                text = f"{self.address} did not answer {call.method.name} within {call.timeout:.3g} s"
                call.errback(RpcError(Status.DEADLINE_EXCEEDED, text))
        return min(earliest, self._incoming.expire(now))

    def _gone(self, *, maybe_executed: bool) -> RpcError:
        reason = self.lost_reason.message if self.lost_reason is not None else "not connected"
        return RpcError(
            Status.UNAVAILABLE, f"connection to {self.address} lost: {reason}", maybe_executed=maybe_executed
        )

    def _not_now(self, method: Method[Any, Any], size: int) -> RpcError:
        if size + OVERHEAD > self._peer_max_frame:
            text = f"{method.name} of {size} bytes is larger than {self.address} takes ({self._peer_max_frame} bytes)"
            return RpcError(Status.INVALID_ARGUMENT, text)
        if len(self._pending) >= self.settings.max_in_flight_calls:
            text = f"{len(self._pending)} calls to {self.address} wait for an answer already (max_in_flight_calls)"
        else:
            text = f"{self._writer.unsent} bytes wait to be sent to {self.address} already (max_unsent_bytes)"
        return RpcError(Status.RESOURCE_EXHAUSTED, text, retry_after_ms=self.settings.overload_retry_after_ms)
