"""Where calls may go, what bounds the search for the right node, and which masters are known."""

from __future__ import annotations

import random as random_module
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from google.protobuf.message import Message
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from phxqueue.net.address import Address
from phxqueue.net.search import Search
from phxqueue.proto.methods import Method

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)


class Connection(Protocol):
    """What routing needs of a connection (`RpcConnection` is one)."""

    @property
    def last_heard(self) -> float:
        """When anything last arrived, in seconds of the clock."""

    def call(self, method: Method[RequestT, ResponseT], request: RequestT, timeout: float) -> Deferred[ResponseT]:
        """Make a call."""


class Connections(Protocol):
    """What routing needs of a pool (`ConnectionPool` is one)."""

    def existing(self, address: Address) -> Any:
        """The open connection (a `Connection`), or None."""

    def connection(self, address: Address) -> Deferred[Any]:
        """The open connection, or a new one."""


@dataclass(frozen=True, slots=True)
class Route:
    """Whom to ask.

    Attributes:
        key: calls of one key have one master; name role, topic, store and Paxos group, "store:1:1:0".
        candidates: all nodes of the replica set.
        what: for messages, for example "store 1".
    """

    key: str
    candidates: tuple[Address, ...]
    what: str

    def __post_init__(self) -> None:
        if not self.candidates:
            raise ValueError(f"{self.what} has no nodes")


class Caller(Protocol):
    """What clients need of a MasterClient; see there."""

    def call(
        self,
        route: Route,
        method: Any,
        request: Any,
        deadline_s: float,
        *,
        try_timeout_s: float | None = None,
        searching: Any = None,
    ) -> Deferred[Any]:
        """Call the master of the route, repeating the request as often as it takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingSettings:
    """Bounds of the search for a master; times in seconds.

    Attributes:
        try_timeout_s: one node gets this long to answer, connecting included; a node that hangs costs as much.
        silent_try_timeout_s: the same for a node that let the last try of this search pass in silence.
        no_master_patience_s: a call fails when there has been no sign of a master for so long, even if
            its deadline is later. Longer than a failover takes.
        backoff_first_s, backoff_max_s: shortest and longest pause between two rounds through the nodes.
        max_redirects: followed in one round.
        max_cached_routes: masters remembered.
        handover_s: how long the call that searches may hold up the others of its route.
        max_retry_after_s: longest wait that a RESOURCE_EXHAUSTED answer can impose.
        least_try_s: with less time left (or a tenth of the call's, if that is less) no other try is made of what was
            surely not carried out so far: it would most likely only put that in doubt.
    """

    try_timeout_s: float = 1.0
    silent_try_timeout_s: float = 0.2
    no_master_patience_s: float = 2.0
    backoff_first_s: float = 0.01
    backoff_max_s: float = 0.2
    max_redirects: int = 4
    max_cached_routes: int = 4096
    handover_s: float = 0.05
    max_retry_after_s: float = 5.0
    least_try_s: float = 0.1


DEFAULT_ROUTING = RoutingSettings()


class Masters:
    """The masters last known, and the searches under way, by route key."""

    def __init__(self, clock: IReactorTime, random: random_module.Random, settings: RoutingSettings) -> None:
        self._clock = clock
        self._random = random
        self._settings = settings
        self._known: dict[str, Address] = {}
        self._searches: dict[str, Search] = {}

    def known(self, route: Route) -> Address | None:
        """The master last known, if it is still a candidate."""
        master = self._known.get(route.key)
        return master if master in route.candidates else None

    def remember(self, route: Route, master: Address) -> None:
        """This node is the master."""
        known = self._known
        if known.get(route.key) != master:
            known.pop(route.key, None)
            while len(known) >= self._settings.max_cached_routes:
                del known[next(iter(known))]  # the one that has not changed for longest
            known[route.key] = master

    def forget(self, route: Route, address: Address) -> None:
        """This node is not the master, or does not answer."""
        if self._known.get(route.key) == address:
            del self._known[route.key]

    def join_search(self, route: Route) -> Search:
        """Take part in the search for the master of a route."""
        search = self._searches.get(route.key)
        if search is None:
            settings = self._settings
            search = Search(
                self._clock,
                self._random,
                settings.backoff_first_s,
                settings.backoff_max_s,
                settings.no_master_patience_s,
            )
            self._searches[route.key] = search
        search.calls += 1
        return search

    def leave_search(self, route: Route, search: Search) -> None:
        """Take part no longer."""
        if search.calls == 1:
            del self._searches[route.key]
        search.left()
