"""The connections that one member keeps open to the others, for sending."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from phxqueue.net.address import Address
from phxqueue.net.endpoints import connect
from phxqueue.net.rpc import RpcConnection
from phxqueue.net.settings import RpcSettings
from phxqueue.net.status import RpcError, Status
from phxqueue.net.tls import ClientTls
from phxqueue.paxos.messages import Message
from phxqueue.proto import methods
from phxqueue.proto.methods import Method
from phxqueue.proto.paxos_pb2 import PeerHelloRequest
from phxqueue.replica import codec
from phxqueue.replica.interfaces import DelayedCall, ITransport, RequestT, ResponseT
from phxqueue.replica.roster import Greeting, Roster
from phxqueue.replica.told import read_marks, written_marks

#: So many reasons why one member cannot be reached are logged until it is reached again.
_REASONS_TOLD = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSettings:
    """Times in seconds."""

    reconnect_min: float = 0.02
    reconnect_max: float = 0.5
    hello_timeout: float = 2.0


class _Link:
    """The connection this node keeps open to one other member, for sending."""

    def __init__(self, node_id: int, addresses: tuple[Address, ...]) -> None:
        self.node_id = node_id
        self.addresses = addresses
        self.turn = 0  # which of them is tried
        self.connection: RpcConnection | None = None
        self.pause = 0.0
        self.told: set[str] = set()  # why it failed since it last worked: one log line per reason, not per attempt
        self.retry: DelayedCall | None = None
        self.connecting: Deferred[Any] | None = None
        self.dialled_at = 0.0

    @property
    def address(self) -> Address:
        return self.addresses[self.turn % len(self.addresses)]

    def move(self, addresses: tuple[Address, ...]) -> bool:
        """Take over other addresses; return whether what is being talked to, or dialled, is no longer among them."""
        current, self.addresses = self.address, addresses
        self.turn = addresses.index(current) if current in addresses else 0
        return current not in addresses

    def drop(self) -> None:
        """Let go of everything."""
        if self.retry is not None and self.retry.active():
            self.retry.cancel()
        if self.connecting is not None:
            self.connecting.cancel()
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()


@implementer(ITransport)
class PeerLinks:
    """Dials every other member and keeps dialling; carries frames; tells when a peer's process is gone.

    Args:
        on_unreachable: told a node that refuses to be connected.
        greeting: what this node says of itself when a connection is made.
        on_greeting: told what a peer said of itself.
    """

    def __init__(
        self,
        reactor: Any,
        roster: Roster,
        tls: ClientTls | None,
        on_unreachable: Callable[[int], None],
        *,
        greeting: Callable[[], Greeting],
        on_greeting: Callable[[int, Greeting], None],
        random: Random,
        settings: PeerSettings,
        rpc_settings: RpcSettings,
    ) -> None:
        self._reactor = reactor
        self._roster = roster
        self._tls = tls
        self._on_unreachable = on_unreachable
        self._greeting = greeting
        self._on_greeting = on_greeting
        self._random = random
        self._settings = settings
        self._rpc_settings = rpc_settings
        self._started = False
        self._closed = False
        self._log = Logger(namespace="phxqueue.replica.peers")
        self._links: dict[int, _Link] = {}
        self.update(roster)

    def start(self) -> None:
        """Begin to dial all members."""
        self._started = True
        for link in self._links.values():
            self._dial(link)

    def update(self, roster: Roster) -> None:
        """Follow the membership: dial who is new or has moved, drop who is gone."""
        self._roster = roster
        wanted = {node: places for node, places in roster.addresses.items() if node != roster.node_id and places}
        for node_id in [node_id for node_id in self._links if node_id not in wanted]:
            self._log.info("node {node} is no member any more", node=node_id)
            self._links.pop(node_id).drop()
        for node_id, addresses in wanted.items():
            link = self._links.get(node_id)
            if link is None:
                link = self._links[node_id] = _Link(node_id, addresses)
            elif link.addresses == addresses or not link.move(addresses):
                continue
            else:
                link.drop()
            if self._started:
                self._dial(link)

    def alive(self, node_id: int) -> None:
        """A node has connected to this one: dial it now, if its turn would only come later.

        One that has just started, or is back from behind a cut, is to be of use at once: others may be about to stop.
        """
        link = self._links.get(node_id)
        if link is None or link.connection is not None or self._closed or not self._started:
            return
        if link.connecting is not None:
            if self._reactor.seconds() - link.dialled_at < self._settings.reconnect_max:
                return
            link.connecting.cancel()  # perhaps its first packet got lost, and the next one is far off
        elif link.retry is not None and link.retry.active():
            link.retry.cancel()
        link.pause = 0.0
        self._dial(link)

    def send(self, receiver: int, messages: Sequence[tuple[int, Message]]) -> None:
        """Send one frame, or drop it when there is no connection: the protocol tolerates loss."""
        link = self._links.get(receiver)
        if link is not None and link.connection is not None:
            link.connection.send_one_way(methods.PEER_FRAME, codec.encode_frame(self._roster.node_id, messages))

    def call(
        self, receiver: int, method: Method[RequestT, ResponseT], request: RequestT, timeout: float
    ) -> Deferred[ResponseT]:
        """Call a node over the connection that is open to it; fails with RpcError."""
        link = self._links.get(receiver)
        if link is None or link.connection is None:
            return fail(RpcError(Status.UNAVAILABLE, f"no connection to node {receiver}", maybe_executed=False))
        return link.connection.call(method, request, timeout)

    def reachable(self) -> frozenset[int]:
        """Return the members with an open connection."""
        return frozenset(link.node_id for link in self._links.values() if link.connection is not None)

    def close(self) -> None:
        """Stop dialling and drop all connections."""
        self._closed = True
        for link in self._links.values():
            link.drop()

    # ---- dialling ----------------------------------------------------------------------

    def _dial(self, link: _Link) -> None:
        link.retry = None
        if self._closed:
            return
        link.dialled_at = self._reactor.seconds()
        link.connecting = Deferred.fromCoroutine(self._connect(link))
        link.connecting.addErrback(self._dial_failed, link)

    async def _connect(self, link: _Link) -> None:
        address = link.address
        connection = await connect(
            self._reactor,
            address,
            self._tls,
            settings=self._rpc_settings,
            expected_identity=None if self._tls is None else self._roster.identity(link.node_id),
        )
        try:
            answer = await connection.call(methods.PEER_HELLO, self._hello(), self._settings.hello_timeout)
            if answer.node_id != link.node_id:
                raise RpcError(
                    Status.PERMISSION_DENIED, f"node {answer.node_id} answers there; compare the configuration files"
                )
            theirs = Greeting(
                answer.incarnation, answer.fresh, answer.founders, answer.lineage, read_marks(answer.told)
            )
            strife = self._greeting().strife(theirs)
            if strife is not None:
                raise RpcError(Status.PERMISSION_DENIED, f"this node and node {answer.node_id}: {strife}")
        except BaseException:
            connection.close()
            raise
        if self._closed or self._links.get(link.node_id) is not link:
            connection.close()
            return
        link.connecting = None
        link.connection = connection
        link.pause = 0.0
        link.told.clear()
        self._log.info("connected to node {node} at {address}", node=link.node_id, address=address)
        connection.on_lost(lambda reason: self._lost(link, connection, reason))
        try:
            self._on_greeting(link.node_id, theirs)
        except BaseException:
            link.connection = None  # it is dialled again
            connection.close()
            raise

    def _hello(self) -> PeerHelloRequest:
        me, greeting = self._roster, self._greeting()
        return PeerHelloRequest(
            cluster=me.cluster,
            store_id=me.set_id,
            node_id=me.node_id,
            incarnation=greeting.incarnation,
            paxos_groups=me.paxos_groups,
            fresh=greeting.fresh,
            founders=greeting.founders,
            lineage=greeting.lineage,
            told=written_marks(greeting.told),
        )

    def _dial_failed(self, failure: Failure, link: _Link) -> None:
        link.connecting = None
        if self._closed or failure.check(CancelledError) or self._links.get(link.node_id) is not link:
            return
        if isinstance(failure.value, RpcError):
            self._tell(link, failure.value)
        else:
            self._log.failure("dialling node {node} failed unexpectedly", failure, node=link.node_id)
        link.turn = (link.turn + 1) % len(link.addresses)
        if link.turn == 0:
            link.pause = min(max(self._settings.reconnect_min, link.pause * 2), self._settings.reconnect_max)
            self._on_unreachable(link.node_id)
        link.retry = self._reactor.callLater(link.pause * self._random.uniform(0.5, 1.0), self._dial, link)

    def _tell(self, link: _Link, error: RpcError) -> None:
        """Say once that it is not there, and each reason for which it turns us away: they want different remedies."""
        reason = str(error) if error.status != Status.UNAVAILABLE else ""
        if reason in link.told or len(link.told) >= _REASONS_TOLD:
            return
        link.told.add(reason)
        self._log.warn(
            "cannot reach node {node} at {address}: {reason}; trying on",
            node=link.node_id,
            address=link.address,
            reason=str(error),
        )

    def _lost(self, link: _Link, connection: RpcConnection, reason: RpcError) -> None:
        if link.connection is not connection:
            return
        link.connection = None
        if not self._closed:
            self._log.warn(
                "lost node {node} at {address}: {reason}", node=link.node_id, address=link.address, reason=str(reason)
            )
            self._dial(link)
