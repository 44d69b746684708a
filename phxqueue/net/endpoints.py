"""Listening and connecting: where service, TLS and settings come together."""

from __future__ import annotations

import errno
import os
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, fail, succeed
from twisted.internet.error import CannotListenError, ConnectError, ConnectionRefusedError, TimeoutError
from twisted.internet.interfaces import IAddress, IDelayedCall, IListeningPort
from twisted.internet.protocol import ClientFactory, Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from phxqueue.net.address import Address, AddressError
from phxqueue.net.identity import Identity
from phxqueue.net.rpc import RpcConnection
from phxqueue.net.service import RpcService
from phxqueue.net.settings import DEFAULT_SETTINGS, RpcSettings
from phxqueue.net.status import RpcError, Status
from phxqueue.net.tls import ClientTls, ServerTls
from phxqueue.net.turn import TurnEnd

BACKLOG = 511  # connections the kernel completes before we accept them
REFUSED_AT_ONCE = 16  # connections over the limit that are kept just long enough to be told so


def connect_failure(error: BaseException | None, limit_s: float) -> str:
    """Say for a person why there is no connection; `limit_s` is how long it may have taken."""
    if isinstance(error, ConnectionRefusedError):
        return "connection refused (is the node running?)"
    if isinstance(error, TimeoutError):
        return f"no connection within {limit_s:g} s (connect_timeout_s)"
    number = error.osError if isinstance(error, ConnectError) else None  # Twisted keeps errno there
    if number in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN):
        return f"{os.strerror(number).lower()} (is the machine up, and the network to it?)"
    return os.strerror(number) if isinstance(number, int) else str(error)


class ListenError(Exception):
    """A port that cannot be opened; names the address, the reason and the remedy."""


def _address_of(where: Any) -> Address:
    return Address(str(where.host), int(where.port))


# ---- listening -----------------------------------------------------------------------------------------


class _ServerFactory(Factory):
    noisy = False
    log = Logger()

    def __init__(self, reactor: Any, service: RpcService, tls: ServerTls | None, settings: RpcSettings) -> None:
        self.connections: set[RpcConnection] = set()
        self.draining: RpcError | None = None
        self._reactor = reactor
        self._service = service
        self._tls = tls
        self._settings = settings
        self._turn = TurnEnd.of(reactor)

    def buildProtocol(self, addr: IAddress | None) -> RpcConnection | None:
        """Twisted: a connection was accepted."""
        address = _address_of(addr)
        if len(self.connections) >= self._settings.max_connections + REFUSED_AT_ONCE:
            self.log.warn("{address}: closed unheard: {refusal}", address=address, refusal=self._too_many().message)
            return None
        connection = RpcConnection(
            self._reactor,
            self._turn,
            self._settings,
            self._service,
            None if self._tls is None else self._tls.engine(),
            address,
            admit=self._admit,
        )
        self.connections.add(connection)  # until its socket is closed: a lingering one counts
        connection.when_closed().addCallback(lambda _: self.connections.discard(connection))
        return connection

    def _admit(self, connection: RpcConnection) -> None:
        if self.draining is not None:
            raise self.draining
        if len(self.connections) > self._settings.max_connections:
            raise self._too_many()
        if self._service.admit is not None:
            self._service.admit(connection.peer, connection.address)

    def _too_many(self) -> RpcError:
        limit = self._settings.max_connections
        return RpcError(
            Status.RESOURCE_EXHAUSTED,
            f"{self._service.name} has {limit} connections already (max_connections)",
            retry_after_ms=self._settings.overload_retry_after_ms,
        )


@implementer(IListeningPort)
class RpcListener:
    """An open port.

    Attributes:
        address: as bound, with the real port when 0 was asked for.
    """

    def __init__(self, reactor: Any, port: Any, factory: _ServerFactory, service: RpcService) -> None:
        self.address = _address_of(port.getHost())
        self._reactor = reactor
        self._port = port
        self._factory = factory
        self._service = service

    @property
    def connections(self) -> frozenset[RpcConnection]:
        """The connections open at the moment."""
        return frozenset(self._factory.connections)

    def startListening(self) -> None:
        """IListeningPort: listen again after stopListening."""
        self._port.startListening()

    def stopListening(self) -> Deferred[None]:
        """IListeningPort: accept no new connections; those open stay open."""
        stopping: Deferred[None] | None = self._port.stopListening()
        return succeed(None) if stopping is None else stopping

    def getHost(self) -> IAddress:
        """IListeningPort: where it listens."""
        host: IAddress = self._port.getHost()
        return host

    def close(self, grace_s: float = 0.0) -> Deferred[None]:
        """Stop: accept nothing new, let calls in work finish for `grace_s` seconds, then close every connection.

        New calls are answered UNAVAILABLE meanwhile, and so are those still in work after the grace.
        Fires when every connection is gone (bounded by `goodbye_linger_s`).
        """
        reason = RpcError(Status.UNAVAILABLE, f"{self._service.name} is stopping")
        self._factory.draining = reason
        for connection in self.connections:
            connection.drain(reason)
        stopped = self.stopListening()
        idle = self._wait_until_idle(grace_s)
        idle.addCallback(lambda _: self._close_connections(reason))
        done = DeferredList([stopped, idle], fireOnOneErrback=True, consumeErrors=True)
        return done.addCallback(lambda _: None)

    def _wait_until_idle(self, grace_s: float) -> Deferred[None]:
        end = self._reactor.seconds() + grace_s
        waiting: Deferred[None] = Deferred()

        def look() -> None:
            left = end - self._reactor.seconds()
            if left <= 0 or not any(connection.answering for connection in self.connections):
                waiting.callback(None)
            else:
                self._reactor.callLater(min(left, 0.02), look)

        look()
        return waiting

    def _close_connections(self, reason: RpcError) -> Deferred[Any]:
        gone = []
        for connection in self.connections:
            connection.refuse_calls_in_work(reason)
            gone.append(connection.when_closed())
            connection.close(reason)
        return DeferredList(gone)


def listen(
    reactor: Any,
    address: Address,
    service: RpcService,
    tls: ServerTls | None,
    *,
    settings: RpcSettings = DEFAULT_SETTINGS,
) -> Deferred[RpcListener]:
    """Open a port and answer `service` on it.

    Fails with `ListenError`: the port is in use, the address is not of this machine, or plain TCP is
    asked for on an address that is not loopback.
    """
    try:
        if tls is None:
            address.require_plain_allowed()
    except AddressError as error:
        return fail(ListenError(str(error)))
    factory = _ServerFactory(reactor, service, tls, settings)
    host = "127.0.0.1" if address.host == "localhost" else address.host
    try:
        port = reactor.listenTCP(address.port, factory, backlog=BACKLOG, interface=host)
    except CannotListenError as error:
        return fail(ListenError(_why_not_listening(service, address, error)))
    return succeed(RpcListener(reactor, port, factory, service))


def _why_not_listening(service: RpcService, address: Address, error: CannotListenError) -> str:
    reason = error.socketError
    number = getattr(reason, "errno", None)
    text = getattr(reason, "strerror", None) or str(reason)
    remedies = {
        98: "another process listens there (is this node running already?); stop it or change the port",
        99: "this machine has no such address; correct it in the cluster's configuration",
        13: "ports below 1024 need privileges; use a higher one",
    }
    remedy = remedies.get(number, "") if isinstance(number, int) else ""
    return f"{service.name} cannot listen on {address}: {remedy or text}"


# ---- connecting ----------------------------------------------------------------------------------------


class _ClientFactory(ClientFactory):
    """Makes one connection, and makes sure that its outcome is told exactly once."""

    noisy = False

    def __init__(
        self,
        reactor: Any,
        address: Address,
        tls: ClientTls | None,
        settings: RpcSettings,
        expected: Identity | None,
        service: RpcService,
        turn: TurnEnd,
    ) -> None:
        self.outcome: Deferred[RpcConnection] = Deferred(self._cancelled)
        self._address = address
        self._expected = expected
        self._settings = settings
        self._unwanted = False
        self._timer: IDelayedCall | None = reactor.callLater(settings.connect_timeout_s, self._timed_out)
        self._connection = RpcConnection(
            reactor, turn, settings, service, None if tls is None else tls.engine(), address, admit=self._admit
        )
        self._connection.quiet = True  # whoever asked for it is told
        self._connection.on_lost(self._lost)
        self._connector: Any = reactor.connectTCP(address.host, address.port, self, timeout=settings.connect_timeout_s)

    def buildProtocol(self, addr: IAddress | None) -> RpcConnection:
        """Twisted: connected."""
        return self._connection

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        """Twisted: not connected."""
        self._finish(self._unavailable(connect_failure(reason.value, self._settings.connect_timeout_s)))

    def _admit(self, connection: RpcConnection) -> None:
        expected = self._expected
        if expected is not None and connection.peer != expected:
            raise RpcError(
                Status.PERMISSION_DENIED, f"expected {expected} at {self._address} but found {connection.peer}"
            )
        connection.ping(self._usable)  # only an answer proves that the peer has accepted us

    def _usable(self) -> None:
        self._connection.quiet = False
        self._finish(None)

    def _lost(self, reason: RpcError) -> None:
        if reason.status == Status.UNAVAILABLE:
            self._finish(self._unavailable(reason.message))
        else:
            self._finish(
                RpcError(
                    reason.status,
                    f"{self._address}: {reason.message}",
                    retry_after_ms=reason.retry_after_ms,
                    maybe_executed=False,
                )
            )

    def _timed_out(self) -> None:
        self._timer = None
        limit = self._settings.connect_timeout_s
        error = self._unavailable(f"it did not complete the connection within {limit:g} s (connect_timeout_s)")
        self._unwanted = True
        self._give_up()
        self.outcome.errback(error)

    def _cancelled(self, outcome: Deferred[RpcConnection]) -> None:
        self._stop_timer()
        self._unwanted = True
        self._give_up()

    def _give_up(self) -> None:
        if self._connection.transport is None:
            self._connector.disconnect()
        else:
            self._connection.abort("given up")

    def _finish(self, error: RpcError | None) -> None:
        self._stop_timer()
        if self.outcome.called or self._unwanted:
            return
        if error is None:
            self.outcome.callback(self._connection)
        else:
            self.outcome.errback(error)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _unavailable(self, text: str) -> RpcError:
        return RpcError(Status.UNAVAILABLE, f"{self._address}: {text}", maybe_executed=False)


NO_SERVICE = RpcService("this client")


def connect(
    reactor: Any,
    address: Address,
    tls: ClientTls | None,
    *,
    settings: RpcSettings = DEFAULT_SETTINGS,
    expected_identity: Identity | None = None,
    service: RpcService = NO_SERVICE,
    turn: TurnEnd | None = None,
) -> Deferred[RpcConnection]:
    """Connect, have both sides verified, and wait for the first PONG; then the connection is usable.

    Fails with `RpcError`: UNAVAILABLE (refused, time-out, broken; surely nothing was executed),
    UNAUTHENTICATED (certificates, theirs or ours), PERMISSION_DENIED (not the expected identity, or
    the server does not admit us), INVALID_ARGUMENT (plain TCP to an address that is not loopback).
    Cancelling gives up.

    Args:
        expected_identity: who has to be at that address. None: anybody with a certificate of our authority.
        service: what we answer on this connection.
        turn: shared by the connections of one process, so that they write at one time.
    """
    if tls is None:
        try:
            address.require_plain_allowed()
        except AddressError as error:
            return fail(RpcError(Status.INVALID_ARGUMENT, str(error)))
        expected_identity = None  # nobody proves anything on a plain connection
    factory = _ClientFactory(reactor, address, tls, settings, expected_identity, service, turn or TurnEnd.of(reactor))
    return factory.outcome
