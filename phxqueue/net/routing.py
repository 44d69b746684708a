"""Finds the master of a replica set and keeps calls going to it (SIGNATURES ONLY FOR NOW)."""

from __future__ import annotations

import random as random_module
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.message import Message
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from phxqueue.net.address import Address
from phxqueue.net.pool import ConnectionPool
from phxqueue.proto.methods import Method

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)


@dataclass(frozen=True, slots=True)
class Route:
    """Whom to ask. `key`: calls of one key have one master ("store:1:1:0" = role:topic:store:group);
    `candidates`: all nodes of the replica set; `what`: for messages, for example "store 1"."""

    key: str
    candidates: tuple[Address, ...]
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingSettings:
    """Bounds of the search for a master; times in seconds."""

    try_timeout_s: float = 1.0  # a node that hangs costs a call this much
    no_master_patience_s: float = 2.0  # fail fast when there has been no master for so long
    backoff_first_s: float = 0.01
    backoff_max_s: float = 0.2
    max_redirects: int = 4  # followed in one round
    max_cached_routes: int = 4096
    handover_s: float = 0.05  # how long one searching call holds up the others of its route


class MasterClient:
    """Calls the master of a route, wherever it is at the moment."""

    def __init__(
        self,
        pool: ConnectionPool,
        clock: IReactorTime,
        random: random_module.Random,
        *,
        settings: RoutingSettings = RoutingSettings(),
    ) -> None:
        raise NotImplementedError

    def call(
        self,
        route: Route,
        method: Method[RequestT, ResponseT],
        request: RequestT,
        deadline_s: float,
        *,
        try_timeout_s: float | None = None,
    ) -> Deferred[ResponseT]:
        """Call; `deadline_s` seconds in all, whatever happens. Fails with RpcError, or CancelledError.

        A call may be carried out twice (a retry after a time-out): `request` must be idempotent.
        """
        raise NotImplementedError
