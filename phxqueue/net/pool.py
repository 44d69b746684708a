"""One connection per address, shared by everybody in the process (SIGNATURES ONLY FOR NOW)."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from phxqueue.net.address import Address
from phxqueue.net.identity import Identity
from phxqueue.net.rpc import RpcConnection
from phxqueue.net.settings import DEFAULT_SETTINGS, RpcSettings
from phxqueue.net.tls import ClientTls


class ConnectionPool:
    """Opens connections on demand and keeps one per address."""

    def __init__(
        self,
        reactor: Any,
        tls: ClientTls | None,
        *,
        settings: RpcSettings = DEFAULT_SETTINGS,
        expected: dict[Address, Identity] | None = None,
    ) -> None:
        raise NotImplementedError

    def expect(self, address: Address, identity: Identity) -> None:
        """From now on only this identity is accepted at this address."""
        raise NotImplementedError

    def existing(self, address: Address) -> RpcConnection | None:
        """The open connection to that address, if there is one (hot path: no Deferred)."""
        raise NotImplementedError

    def connection(self, address: Address) -> Deferred[RpcConnection]:
        """The open connection, or a new one; many askers share one attempt. Fails like `connect`."""
        raise NotImplementedError

    def close(self) -> Deferred[None]:
        """Close all; later calls of connection() fail with UNAVAILABLE."""
        raise NotImplementedError
