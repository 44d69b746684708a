"""One connection between two processes that call each other: multiplexed, cancellable, with deadlines."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from google.protobuf.message import Message
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol

from phxqueue.net.address import Address
from phxqueue.net.identity import Identity
from phxqueue.net.status import RpcError
from phxqueue.proto.methods import Method

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)


class RpcConnection(Protocol):
    """One connection (SIGNATURES ONLY FOR NOW; the body follows).

    Attributes:
        address: the peer's address (the one dialled, for a client).
        peer: who the peer proved to be.
        connected: False once the connection is lost or closing.
        lost_reason: why, once it is lost.
        in_flight: calls of ours that wait for a reply.
        unsent_bytes: bytes queued because the peer does not read fast enough.
        last_heard: reactor seconds at which anything last arrived.
    """

    address: Address
    peer: Identity
    connected: bool  # type: ignore[assignment]
    lost_reason: RpcError | None
    in_flight: int
    unsent_bytes: int
    last_heard: float

    def call(self, method: Method[RequestT, ResponseT], request: RequestT, timeout: float) -> Deferred[ResponseT]:
        """Call the peer; `timeout` in seconds, also told to the peer.

        The Deferred fails with RpcError only: the peer's status; DEADLINE_EXCEEDED; UNAVAILABLE naming
        the address when the connection is lost; RESOURCE_EXHAUSTED when a bound of this side is reached.
        Cancelling it tells the peer (CANCEL) and fails it with CancelledError.
        """
        raise NotImplementedError

    def send_one_way(self, method: Method[RequestT, ResponseT], request: RequestT) -> bool:
        """Send without reply. False: not sent, the connection is gone or its write buffer is full."""
        raise NotImplementedError

    def on_lost(self, callback: Callable[[RpcError], None]) -> None:
        """Have `callback` called with the reason when the connection is lost (at once if it is)."""
        raise NotImplementedError

    def when_lost(self) -> Deferred[RpcError]:
        """Fires with the reason when the connection is lost."""
        raise NotImplementedError

    def close(self, reason: RpcError | None = None) -> None:
        """Say goodbye (with the reason, when given), flush, and close."""
        raise NotImplementedError

    def abort(self, reason: str) -> None:
        """Drop the connection at once."""
        raise NotImplementedError
