"""One connection per address, shared by everybody in the process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from phxqueue.net.address import Address
from phxqueue.net.endpoints import NO_SERVICE, connect
from phxqueue.net.identity import Identity
from phxqueue.net.rpc import RpcConnection
from phxqueue.net.service import RpcService
from phxqueue.net.settings import DEFAULT_SETTINGS, RpcSettings
from phxqueue.net.status import RpcError, Status
from phxqueue.net.tls import ClientTls
from phxqueue.net.turn import TurnEnd

DEFAULT_MAX_CONNECTIONS = 1024


class ConnectionPool:
    """Opens connections on demand and keeps one per address, until it is lost.

    Args:
        reactor: where connections live.
        tls: our certificates; None = plain TCP (loopback only).
        settings: bounds of each connection.
        expected: who has to be at which address; see `expect`.
        service: what we answer on these connections.
        max_connections: open and opening; one more is refused.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        tls: ClientTls | None,
        *,
        settings: RpcSettings = DEFAULT_SETTINGS,
        expected: Mapping[Address, Identity] | None = None,
        service: RpcService = NO_SERVICE,
        max_connections: int = DEFAULT_MAX_CONNECTIONS,
    ) -> None:
        self._reactor = reactor
        self._tls = tls
        self._settings = settings
        self._expected = dict(expected or {})
        self._service = service
        self._max_connections = max_connections
        self._turn = TurnEnd.of(reactor)
        self._open: dict[Address, RpcConnection] = {}
        self._opening: dict[Address, _Attempt] = {}
        self._closed = False

    def expect(self, address: Address, identity: Identity) -> None:
        """From now on accept only this identity at this address (on new connections; nothing on plain TCP)."""
        self._expected[address] = identity

    def existing(self, address: Address) -> RpcConnection | None:
        """The open connection to that address, if there is one."""
        connection = self._open.get(address)
        return connection if connection is not None and connection.is_open else None

    def connection(self, address: Address) -> Deferred[RpcConnection]:
        """The open connection, or a new one; those who ask meanwhile share the attempt. Fails like `connect`."""
        existing = self.existing(address)
        if existing is not None:
            return succeed(existing)
        if self._closed:
            return fail(RpcError(Status.UNAVAILABLE, "the connection pool is closed", maybe_executed=False))
        attempt = self._opening.get(address)
        if attempt is None:
            if len(self._open) + len(self._opening) >= self._max_connections:
                return fail(self._too_many())
            attempt = self._opening[address] = _Attempt()
            attempt.start(self._connect(address).addBoth(self._connected, address))
        return attempt.wait()

    def close(self) -> Deferred[None]:
        """Close all connections; `connection` fails with UNAVAILABLE from now on. Fires when all sockets are closed."""
        self._closed = True
        for attempt in list(self._opening.values()):
            attempt.cancel()
        gone = []
        for connection in list(self._open.values()):
            gone.append(connection.when_closed())
            connection.close()
        return DeferredList(gone).addCallback(lambda _: None)

    def _connect(self, address: Address) -> Deferred[RpcConnection]:
        return connect(
            self._reactor,
            address,
            self._tls,
            settings=self._settings,
            expected_identity=self._expected.get(address),
            service=self._service,
            turn=self._turn,
        )

    def _connected(self, outcome: RpcConnection | Failure, address: Address) -> RpcConnection | Failure:
        del self._opening[address]
        if isinstance(outcome, RpcConnection):
            self._open[address] = outcome
            outcome.on_lost(lambda reason: self._lost(outcome, reason))
        return outcome

    def _lost(self, connection: RpcConnection, reason: RpcError) -> None:
        if self._open.get(connection.address) is connection:
            del self._open[connection.address]
        self.log.debug("connection to {address} lost: {reason}", address=connection.address, reason=reason.message)

    def _too_many(self) -> RpcError:
        return RpcError(
            Status.RESOURCE_EXHAUSTED,
            f"{self._max_connections} connections are open already (max_connections)",
            retry_after_ms=self._settings.overload_retry_after_ms,
        )


class _Attempt:
    """One connection being opened, and those who wait for it."""

    def __init__(self) -> None:
        self._waiting: list[Deferred[RpcConnection]] = []
        self._outcome: Deferred[Any] | None = None
        self._result: Any = None

    def start(self, outcome: Deferred[Any]) -> None:
        self._outcome = outcome
        outcome.addBoth(self._finished)

    def wait(self) -> Deferred[RpcConnection]:
        waiter: Deferred[RpcConnection] = Deferred(self._unwait)
        self._waiting.append(waiter)
        if self._outcome is not None and self._outcome.called:
            self._finished(self._result)
        return waiter

    def cancel(self) -> None:
        if self._outcome is not None:
            self._outcome.cancel()

    def _unwait(self, waiter: Deferred[RpcConnection]) -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)

    def _finished(self, result: Any) -> None:
        self._result = result
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if isinstance(result, Failure):
                error = result.value
                if not isinstance(error, RpcError):
                    error = RpcError(Status.UNAVAILABLE, "the connection pool is closed", maybe_executed=False)
                waiter.errback(error)
            else:
                waiter.callback(result)
