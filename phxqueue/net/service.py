"""What a node answers: a table from method to handler, and who may ask.

A handler is called in the reactor thread with the parsed request and a `CallContext`. It returns the
response, or a Deferred or coroutine of it, or raises `RpcError` for a stated failure. Any other
exception is a defect: it is logged with its traceback and answered INTERNAL.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar, Union

from google.protobuf.message import Message
from twisted.internet.defer import Deferred

from phxqueue.net.identity import Identity
from phxqueue.proto.methods import Method

if TYPE_CHECKING:
    from phxqueue.net.address import Address
    from phxqueue.net.rpc import RpcConnection

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)


class CallContext:
    """What a handler may know of the call it answers.

    Attributes:
        method: the method called.
        connection: the connection it came by (calls may be made in the other direction).
        deadline: when the caller stops waiting, in reactor seconds; None = never. The framework
            answers DEADLINE_EXCEEDED and cancels the call by itself when it passes.
        cancelled: True once nobody wants the answer any more (CANCEL, deadline, connection lost).
        call_id: the caller's number of this call; 0 for a one-way message.
        pending: what the handler returned, while it is awaited (the framework's).
    """

    __slots__ = ("_on_cancel", "call_id", "cancelled", "connection", "deadline", "method", "pending")

    def __init__(
        self, method: Method[Any, Any], connection: RpcConnection, call_id: int, deadline: float | None
    ) -> None:
        self.method = method
        self.connection = connection
        self.call_id = call_id
        self.deadline = deadline
        self.cancelled = False
        self.pending: Deferred[Any] | None = None
        self._on_cancel: Callable[[], None] | None = None

    @property
    def peer(self) -> Identity:
        """Who asks, as proved by its certificate (ANONYMOUS on a plain connection)."""
        return self.connection.peer

    @property
    def peer_address(self) -> Address:
        """Where the caller connects from."""
        return self.connection.address

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Have `callback` called once when nobody wants the answer any more (at once if so already).

        A Deferred or coroutine the handler returned is cancelled anyway; this is for handlers that
        hold other resources. One callback per call: a second one replaces the first.
        """
        if self.cancelled:
            callback()
        else:
            self._on_cancel = callback

    def cancel(self) -> None:
        """Nobody wants the answer any more: stop the work, as far as it can be stopped (the framework's)."""
        self.cancelled = True
        callback, self._on_cancel = self._on_cancel, None
        pending, self.pending = self.pending, None
        if pending is not None:
            pending.cancel()
        if callback is not None:
            callback()


HandlerResult = Union[ResponseT, "Deferred[ResponseT]", Coroutine[Any, Any, ResponseT]]
Handler = Callable[[RequestT, CallContext], HandlerResult[ResponseT]]
OneWayHandler = Callable[[RequestT, CallContext], None]

Authorizer = Callable[[Identity, Method[Any, Any], Message], None]
"""Called before every handler; raises RpcError(PERMISSION_DENIED, ...) to refuse."""

Admission = Callable[[Identity, "Address"], None]
"""Called once per connection, when the peer's identity is known; raises RpcError to refuse it altogether."""


class Registered:
    """One row of a service's table."""

    __slots__ = ("handler", "method", "one_way", "parse")

    def __init__(self, method: Method[Any, Any], handler: Callable[[Any, CallContext], Any], one_way: bool) -> None:
        self.method = method
        self.handler = handler
        self.one_way = one_way
        self.parse: Callable[[bytes], Message] = method.request.FromString


class RpcService:
    """The methods one port answers.

    Args:
        name: what logs call it, for example "store 1 node 0".
        authorize: asked before every call; see `Authorizer`. None lets everybody in.
        admit: asked once per connection; see `Admission`. None lets everybody in.
    """

    def __init__(self, name: str, *, authorize: Authorizer | None = None, admit: Admission | None = None) -> None:
        self.name = name
        self.authorize = authorize
        self.admit = admit
        self.table: dict[int, Registered] = {}

    def register(self, method: Method[RequestT, ResponseT], handler: Handler[RequestT, ResponseT]) -> None:
        """Answer `method` by `handler`."""
        self._add(Registered(method, handler, one_way=False))

    def register_one_way(self, method: Method[RequestT, Any], handler: OneWayHandler[RequestT]) -> None:
        """Take one-way messages of `method` by `handler`; what it raises is logged, nobody is told."""
        self._add(Registered(method, handler, one_way=True))

    def _add(self, row: Registered) -> None:
        if row.method.number in self.table:
            raise ValueError(f"{self.name}: method {row.method.name} is registered twice")
        self.table[row.method.number] = row
