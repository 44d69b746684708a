"""Listening and connecting: where service, TLS and settings come together (SIGNATURES ONLY FOR NOW)."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from phxqueue.net.address import Address
from phxqueue.net.identity import Identity
from phxqueue.net.rpc import RpcConnection
from phxqueue.net.service import RpcService
from phxqueue.net.settings import DEFAULT_SETTINGS, RpcSettings
from phxqueue.net.tls import ClientTls, ServerTls


class RpcListener:
    """An open port. Implements IListeningPort (getHost, startListening, stopListening)."""

    address: Address  # as bound: with the real port when 0 was asked for
    connections: set[RpcConnection]

    def stopListening(self) -> Deferred[None]:
        """Accept no new connections; those open stay open."""
        raise NotImplementedError

    def close(self) -> Deferred[None]:
        """Stop listening, tell every peer, flush and close all connections."""
        raise NotImplementedError


def listen(
    reactor: Any,
    address: Address,
    service: RpcService,
    tls: ServerTls | None,
    *,
    settings: RpcSettings = DEFAULT_SETTINGS,
) -> Deferred[RpcListener]:
    """Open a port. Fails with ListenError (port in use, no such address, plain TCP off loopback)."""
    raise NotImplementedError


def connect(
    reactor: Any,
    address: Address,
    tls: ClientTls | None,
    *,
    settings: RpcSettings = DEFAULT_SETTINGS,
    expected_identity: Identity | None = None,
    service: RpcService | None = None,
) -> Deferred[RpcConnection]:
    """Connect, verify both sides, and wait for the first PONG; then the connection is usable.

    Fails with RpcError: UNAVAILABLE (refused, time-out; maybe_executed is False), UNAUTHENTICATED
    (certificates), PERMISSION_DENIED (not the expected identity, or the server does not admit us).
    """
    raise NotImplementedError
