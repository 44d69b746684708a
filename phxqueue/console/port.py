"""The admin port itself: HTTP on a loopback address, else HTTPS for clients with a certificate of our authority."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IOpenSSLContextFactory
from twisted.protocols.policies import WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.web.resource import Resource
from twisted.web.server import Request, Site
from zope.interface import implementer

from phxqueue.config.certificates import TlsPaths
from phxqueue.net.address import Address
from phxqueue.net.endpoints import ListenError
from phxqueue.net.tls import ServerTls

#: Nothing here takes a body.
_MOST_BODY = 0


class _Request(Request):
    """A request whose body is not taken in."""

    def gotLength(self, length: int | None) -> None:
        super().gotLength(length)  # type: ignore[no-untyped-call]
        if length is None or length > _MOST_BODY:
            self.channel.forceAbortClient()


class _Limited(WrappingFactory):
    """At most so many connections; one more is closed at once."""

    noisy = False

    def __init__(self, wrapped: Any, most: int) -> None:
        super().__init__(wrapped)  # type: ignore[no-untyped-call]
        self.most = most

    def buildProtocol(self, addr: Any) -> Any:
        return super().buildProtocol(addr) if len(self.protocols) < self.most else None


@implementer(IOpenSSLContextFactory)
class _Contexts:
    """Gives each connection a context of the certificates as they were loaded last."""

    def __init__(self, tls: ServerTls) -> None:
        self._tls = tls

    def getContext(self) -> SSL.Context:
        return self._tls.context


class AdminPort:
    """An open admin port.

    Args:
        tls: the node's certificates; used unless the address is loopback.

    Raises ListenError: it cannot be opened, or it would be plain HTTP on an address that is not loopback. Raises
    TlsError.
    """

    def __init__(
        self,
        reactor: Any,
        name: str,
        address: Address,
        root: Resource,
        tls: TlsPaths | None,
        *,
        max_connections: int,
        idle_timeout_s: float,
    ) -> None:
        if not address.is_loopback and tls is None:
            raise ListenError(
                f"{name}: the admin port cannot be plain HTTP on {address}, which is not a loopback address: turn TLS "
                "on (phxqueue certs init) or use 127.0.0.1"
            )
        site = Site(root, requestFactory=_Request, timeout=idle_timeout_s)
        site.noisy = False
        self._tls = None if address.is_loopback or tls is None else ServerTls(tls, alpn=None)
        served = site if self._tls is None else TLSMemoryBIOFactory(_Contexts(self._tls), False, site)
        self._connections = _Limited(served, max_connections)
        host = "127.0.0.1" if address.host == "localhost" else address.host
        try:
            self._port = reactor.listenTCP(address.port, self._connections, interface=host)
        except CannotListenError as error:
            reason = getattr(error.socketError, "strerror", None) or error.socketError
            raise ListenError(
                f"{name}: the admin port cannot listen on {address} ({reason}): change admin.ip or admin.port, or stop "
                "whatever listens there"
            ) from error
        bound = self._port.getHost()
        self.address = Address(bound.host, bound.port)

    @property
    def url(self) -> str:
        """What to ask."""
        return f"{'http' if self._tls is None else 'https'}://{self.address}/"

    def reload(self) -> None:
        """Read the certificates again; raises TlsError, and goes on with the old ones then."""
        if self._tls is not None:
            self._tls.reload()

    def close(self) -> Deferred[Any]:
        """Listen no more. Answers are short: what is being sent is not waited for."""
        for connection in list(self._connections.protocols):
            connection.transport.abortConnection()
        return maybeDeferred(self._port.stopListening)
