"""The answering half of a connection: from a REQUEST to its handler and back to a REPLY."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from phxqueue.net.envelope import OVERHEAD, error_frame, reply_head
from phxqueue.net.service import CallContext, Registered, RpcService
from phxqueue.net.settings import RpcSettings
from phxqueue.net.status import RpcError, Status
from phxqueue.net.writer import Writer
from phxqueue.proto.envelope_pb2 import Envelope

if TYPE_CHECKING:
    from phxqueue.net.rpc import RpcConnection


class IncomingCalls:
    """The calls of one peer that are in work. A handler that answers at once never enters the table.

    Args:
        connection: the connection, for `CallContext`.
        service: what is answered.
        writer: where replies go.
        settings: bounds.
        reply_queued: told the size of each reply queued while the peer is behind in reading.
    """

    log = Logger()

    def __init__(
        self,
        connection: RpcConnection,
        service: RpcService,
        writer: Writer,
        settings: RpcSettings,
        reply_queued: Callable[[int], None],
    ) -> None:
        self.service = service
        self.peer_max_frame = settings.max_frame_bytes
        self.draining: RpcError | None = None
        self._connection = connection
        self._writer = writer
        self._settings = settings
        self._reply_queued = reply_queued
        self._behind = min(settings.write_high_water_bytes, settings.max_unsent_bytes)
        self._pending: dict[int, CallContext] = {}
        self._ended = False
        self._refused_messages = 0

    def __len__(self) -> int:
        return len(self._pending)

    # ---- in --------------------------------------------------------------------------------------------

    def request(self, envelope: Envelope, now: float) -> float:
        """Start a call. Returns its deadline when it is still in work and has one, else inf.

        Raises:
            RpcError: the peer breaks the protocol; the connection must end.
        """
        call_id = envelope.call_id
        if call_id in self._pending or not call_id:
            raise RpcError(Status.INVALID_ARGUMENT, f"call_id {call_id} is {'in use' if call_id else 'not allowed'}")
        row = self.service.table.get(envelope.method)
        deadline_ms = envelope.deadline_ms
        deadline = now + deadline_ms / 1000 if deadline_ms else None
        try:
            if row is None or row.one_way:
                raise self._no_such_method(envelope.method, row)
            if self.draining is not None:
                raise self.draining
            if len(self._pending) >= self._settings.max_in_flight_calls:
                raise self._too_many_calls()
            request = self._parse(row, envelope.body)
            context = CallContext(row.method, self._connection, call_id, deadline)
            if self.service.authorize is not None:
                self.service.authorize(context.peer, row.method, request)
            result = row.handler(request, context)
        except RpcError as error:
            self._send_error(call_id, error)
            return math.inf
        except Exception:
            name = "?" if row is None else row.method.name
            self._send_error(call_id, self._unexpected(name, Failure()))
            return math.inf
        if type(result) is row.method.response:
            self._send_response(call_id, result)
            return math.inf
        return self._wait_for(result, context)

    def one_way(self, envelope: Envelope) -> None:
        """Hand a message to its handler; what goes wrong is logged."""
        row = self.service.table.get(envelope.method)
        try:
            if row is None or not row.one_way:
                raise self._no_such_method(envelope.method, row)
            request = self._parse(row, envelope.body)
            context = CallContext(row.method, self._connection, 0, None)
            if self.service.authorize is not None:
                self.service.authorize(context.peer, row.method, request)
            row.handler(request, context)
        except RpcError as error:
            self._refused_messages += 1
            count = self._refused_messages
            if count & (count - 1) == 0:  # the 1st, 2nd, 4th, 8th ...: a peer must not fill our log
                self.log.warn(
                    "{peer}: message dropped ({count} so far): {reason}",
                    peer=self._connection.address,
                    count=count,
                    reason=error.message,
                )
        except Exception:
            self._unexpected("?" if row is None else row.method.name, Failure())

    def cancel(self, call_id: int) -> None:
        """The peer no longer wants the answer."""
        context = self._pending.pop(call_id, None)
        if context is not None:
            self._give_up(context)

    def expire(self, now: float) -> float:
        """Answer and cancel the calls whose deadline has passed; returns the earliest one left."""
        earliest = math.inf
        due: list[CallContext] = []
        for context in self._pending.values():
            deadline = context.deadline
            if deadline is None:
                continue
            if deadline <= now:
                due.append(context)
            elif deadline < earliest:
                earliest = deadline
        for context in due:
            self._refuse(context, RpcError(Status.DEADLINE_EXCEEDED, f"{context.method.name}: the time given is over"))
        return earliest

    def refuse_all(self, error: RpcError) -> None:
        """Answer every call in work with `error` and cancel it."""
        for context in list(self._pending.values()):
            self._refuse(context, error)

    def connection_ended(self) -> None:
        """Cancel every call in work; nobody can be answered any more."""
        self._ended = True
        for context in list(self._pending.values()):
            self.cancel(context.call_id)

    # ---- out -------------------------------------------------------------------------------------------

    def _wait_for(self, result: Any, context: CallContext) -> float:
        if inspect.iscoroutine(result):
            result = Deferred.fromCoroutine(result)
        if not isinstance(result, Deferred):
            error = TypeError(f"the handler of {context.method.name} returned {type(result).__name__}")
            self._send_error(context.call_id, self._unexpected(context.method.name, Failure(error)))
            return math.inf
        self._pending[context.call_id] = context
        context.pending = result
        result.addCallbacks(self._succeeded, self._failed, callbackArgs=(context,), errbackArgs=(context,))
        return math.inf if context.deadline is None else context.deadline

    def _succeeded(self, response: Any, context: CallContext) -> None:
        if context.cancelled:
            return
        context.pending = None
        del self._pending[context.call_id]
        if type(response) is not context.method.response:
            error = TypeError(f"the handler of {context.method.name} answered {type(response).__name__}")
            self._send_error(context.call_id, self._unexpected(context.method.name, Failure(error)))
            return
        self._send_response(context.call_id, response)

    def _failed(self, failure: Failure, context: CallContext) -> None:
        if context.cancelled:
            return  # CancelledError, or whatever came of it
        context.pending = None
        del self._pending[context.call_id]
        error = failure.value
        if not isinstance(error, RpcError):
            error = self._unexpected(context.method.name, failure)
        self._send_error(context.call_id, error)

    def _send_response(self, call_id: int, response: Any) -> None:
        body = response.SerializeToString()
        size = len(body)
        if size + OVERHEAD > self.peer_max_frame:
            text = f"the answer of {size} bytes is larger than the caller takes ({self.peer_max_frame}); ask for less"
            self._send_error(call_id, RpcError(Status.INVALID_ARGUMENT, text))
            return
        writer = self._writer
        writer.put(reply_head(call_id, body), body)
        if writer.unsent > self._behind:
            self._reply_queued(size)

    def _send_error(self, call_id: int, error: RpcError) -> None:
        if self._ended:
            return
        frame = error_frame(call_id, error)
        self._writer.put(frame)
        if self._writer.unsent > self._behind:
            self._reply_queued(len(frame))

    def _refuse(self, context: CallContext, error: RpcError) -> None:
        if self._pending.pop(context.call_id, None) is not None:
            self._send_error(context.call_id, error)
            self._give_up(context)

    def _give_up(self, context: CallContext) -> None:
        try:
            context.cancel()
        except Exception:
            self._unexpected(context.method.name, Failure())

    # ---- errors ----------------------------------------------------------------------------------------

    def _parse(self, row: Registered, body: bytes) -> Any:
        try:
            return row.parse(body)
        except DecodeError:
            raise RpcError(
                Status.INVALID_ARGUMENT, f"{row.method.name}: the body is no {row.method.request.__name__}"
            ) from None

    def _no_such_method(self, number: int, row: Registered | None) -> RpcError:
        if row is not None:
            kind = "only as one-way message" if row.one_way else "only as call"
            return RpcError(Status.INVALID_ARGUMENT, f"{self.service.name} takes {row.method.name} {kind}")
        known = ", ".join(r.method.name for r in self.service.table.values()) or "nothing"
        return RpcError(
            Status.INVALID_ARGUMENT, f"{self.service.name} does not know method {number}; this port answers {known}"
        )

    def _too_many_calls(self) -> RpcError:
        limit = self._settings.max_in_flight_calls
        return RpcError(
            Status.RESOURCE_EXHAUSTED,
            f"{limit} calls of this connection are in work already (max_in_flight_calls)",
            retry_after_ms=self._settings.overload_retry_after_ms,
        )

    def _unexpected(self, method: str, failure: Failure) -> RpcError:
        self.log.failure(
            "{service}: {method} called by {peer} failed unexpectedly",
            failure,
            service=self.service.name,
            method=method,
            peer=self._connection.address,
        )
        kind = type(failure.value).__name__
        text = f"{method} failed unexpectedly in {self.service.name} ({kind}); its log has the details"
        return RpcError(Status.INTERNAL, text)
