"""Connections between the members of a replica set: the only part of the runtime that touches sockets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from phxqueue.net.address import Address
from phxqueue.net.endpoints import connect
from phxqueue.net.identity import Identity, Role
from phxqueue.net.rpc import RpcConnection
from phxqueue.net.service import CallContext, RpcService
from phxqueue.net.settings import RpcSettings
from phxqueue.net.status import RpcError, Status
from phxqueue.net.tls import ClientTls
from phxqueue.paxos.messages import Message
from phxqueue.proto import methods
from phxqueue.proto.methods import Method
from phxqueue.proto.paxos_pb2 import PeerFrame, PeerHelloRequest, PeerHelloResponse
from phxqueue.replica import codec
from phxqueue.replica.interfaces import DelayedCall, ITransport, RequestT, ResponseT


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """Who this node is and whom it may talk to."""

    cluster: str
    role: Role
    set_id: int  # store_id or lock_id
    node_id: int
    incarnation: int
    paxos_groups: int
    addresses: Mapping[int, Address]  # Paxos address of every member, this one included

    def identity(self, node_id: int) -> Identity:
        """The certificate identity that a member must prove."""
        return Identity.make(self.role, str(self.set_id), node_id)

    def describe(self, reachable: frozenset[int]) -> str:
        """Say how many members are reachable, which, and what to do about the others."""
        up = [node for node in self.addresses if node == self.node_id or node in reachable]
        down = [str(address) for node, address in self.addresses.items() if node not in up]
        name = f"{self.role.value} {self.set_id}"
        if 2 * len(up) > len(self.addresses):
            return f"{name} is electing a master ({len(up)} of {len(self.addresses)} nodes reachable); try again"
        listed = ", ".join(str(self.addresses[node]) for node in up)
        return (
            f"no majority: {len(up)} of {len(self.addresses)} nodes of {name} reachable ({listed}); "
            f"start another ({', '.join(down)})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSettings:
    """Times in seconds."""

    reconnect_min: float = 0.02
    reconnect_max: float = 0.5
    hello_timeout: float = 2.0


class _Link:
    """The connection this node keeps open to one other member, for sending."""

    def __init__(self, node_id: int, address: Address) -> None:
        self.node_id = node_id
        self.address = address
        self.connection: RpcConnection | None = None
        self.pause = 0.0
        self.failing = False  # one log line per change, not per attempt
        self.retry: DelayedCall | None = None
        self.connecting: Deferred[Any] | None = None


@implementer(ITransport)
class PeerLinks:
    """Dials every other member and keeps dialling; carries frames; tells when a peer's process is gone."""

    def __init__(
        self,
        reactor: Any,
        membership: Membership,
        tls: ClientTls | None,
        on_unreachable: Callable[[int], None],
        *,
        random: Random,
        settings: PeerSettings,
        rpc_settings: RpcSettings,
    ) -> None:
        self._reactor = reactor
        self._membership = membership
        self._tls = tls
        self._on_unreachable = on_unreachable
        self._random = random
        self._settings = settings
        self._rpc_settings = rpc_settings
        self._closed = False
        self._log = Logger(namespace="phxqueue.replica.peers")
        self._links = {
            node_id: _Link(node_id, address)
            for node_id, address in membership.addresses.items()
            if node_id != membership.node_id
        }

    def start(self) -> None:
        """Begin to dial all members."""
        for link in self._links.values():
            self._dial(link)

    def send(self, receiver: int, messages: Sequence[tuple[int, Message]]) -> None:
        """Send one frame, or drop it when there is no connection: the protocol tolerates loss."""
        link = self._links.get(receiver)
        if link is not None and link.connection is not None:
            link.connection.send_one_way(methods.PEER_FRAME, codec.encode_frame(self._membership.node_id, messages))

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
            if link.retry is not None and link.retry.active():
                link.retry.cancel()
            if link.connecting is not None:
                link.connecting.cancel()
            if link.connection is not None:
                link.connection.close()
                link.connection = None

    # ---- dialling ----------------------------------------------------------------------

    def _dial(self, link: _Link) -> None:
        link.retry = None
        if self._closed:
            return
        link.connecting = Deferred.fromCoroutine(self._connect(link))
        link.connecting.addErrback(self._dial_failed, link)

    async def _connect(self, link: _Link) -> None:
        connection = await connect(
            self._reactor,
            link.address,
            self._tls,
            settings=self._rpc_settings,
            expected_identity=None if self._tls is None else self._membership.identity(link.node_id),
        )
        try:
            answer = await connection.call(methods.PEER_HELLO, self._hello(), self._settings.hello_timeout)
            if answer.node_id != link.node_id:
                raise RpcError(
                    Status.PERMISSION_DENIED, f"node {answer.node_id} answers there; compare the configuration files"
                )
        except BaseException:
            connection.close()
            raise
        if self._closed:
            connection.close()
            return
        link.connecting = None
        link.connection = connection
        link.pause = 0.0
        link.failing = False
        self._log.info("connected to node {node} at {address}", node=link.node_id, address=link.address)
        connection.on_lost(lambda reason: self._lost(link, connection, reason))

    def _hello(self) -> PeerHelloRequest:
        me = self._membership
        return PeerHelloRequest(
            cluster=me.cluster,
            store_id=me.set_id,
            node_id=me.node_id,
            incarnation=me.incarnation,
            paxos_groups=me.paxos_groups,
        )

    def _dial_failed(self, failure: Failure, link: _Link) -> None:
        link.connecting = None
        if self._closed or failure.check(CancelledError):
            return
        if failure.check(RpcError) is None:
            self._log.failure("dialling node {node} failed unexpectedly", failure, node=link.node_id)
        elif not link.failing:
            self._log.warn(
                "cannot reach node {node} at {address}: {reason}; trying on",
                node=link.node_id,
                address=link.address,
                reason=failure.getErrorMessage(),
            )
        link.failing = True
        link.pause = min(max(self._settings.reconnect_min, link.pause * 2), self._settings.reconnect_max)
        self._on_unreachable(link.node_id)
        link.retry = self._reactor.callLater(link.pause * self._random.uniform(0.5, 1.0), self._dial, link)

    def _lost(self, link: _Link, connection: RpcConnection, reason: RpcError) -> None:
        if link.connection is not connection:
            return
        link.connection = None
        if not self._closed:
            self._log.warn(
                "lost node {node} at {address}: {reason}", node=link.node_id, address=link.address, reason=str(reason)
            )
            self._dial(link)


def peer_service(
    membership: Membership, secured: bool, receive: Callable[[Sequence[tuple[int, Message]]], None]
) -> RpcService:
    """Build what the Paxos port answers: members of this replica set only, told apart by their certificates."""

    def admit(identity: Identity, address: Address) -> None:
        if secured and identity not in members:
            raise RpcError(
                Status.PERMISSION_DENIED,
                f"{identity} is not a member of {membership.role.value} {membership.set_id}; "
                "this port is for its members, clients use the service port",
            )

    def hello(request: PeerHelloRequest, context: CallContext) -> PeerHelloResponse:
        wanted = (membership.cluster, membership.set_id, membership.paxos_groups)
        got = (request.cluster, request.store_id, request.paxos_groups)
        if got != wanted:
            raise RpcError(
                Status.PERMISSION_DENIED,
                f"this is cluster {wanted[0]!r} {membership.role.value} {wanted[1]} with {wanted[2]} Paxos groups, "
                f"the caller says cluster {got[0]!r}, {got[1]}, {got[2]} groups; compare the configuration files",
            )
        if secured and context.peer != membership.identity(request.node_id):
            raise RpcError(
                Status.PERMISSION_DENIED, f"the certificate says {context.peer}, the caller node {request.node_id}"
            )
        greeted[id(context.connection)] = request.node_id, request.incarnation
        notice(request.node_id, request.incarnation)
        context.connection.on_lost(lambda reason: forget(context.connection))
        return PeerHelloResponse(node_id=membership.node_id, incarnation=membership.incarnation)

    def notice(node_id: int, incarnation: int) -> None:
        before, incarnations[node_id] = incarnations.get(node_id, incarnation), incarnation
        if before != incarnation:
            log.warn(
                "node {node} has come back with another data directory (incarnation {now:x}, before {before:x}): it "
                "does not know what it promised. Stop no other node of {set} until it has caught up",
                node=node_id,
                now=incarnation,
                before=before,
                set=f"{membership.role.value} {membership.set_id}",
            )

    def forget(connection: RpcConnection) -> None:
        greeted.pop(id(connection), None)

    def frame(request: PeerFrame, context: CallContext) -> None:
        who = greeted.get(id(context.connection))
        if who is None:
            raise RpcError(Status.PERMISSION_DENIED, "a peer must say hello before it sends frames")
        sender, incarnation = who
        if incarnations[sender] != incarnation:
            return  # it came late, from a process that is gone and whose votes are forgotten
        try:
            messages = codec.decode_frame(request, sender, membership.node_id)
        except codec.UndecodableMessage as error:
            raise RpcError(Status.INVALID_ARGUMENT, str(error)) from error
        receive(messages)

    members = {membership.identity(node) for node in membership.addresses}
    greeted: dict[int, tuple[int, int]] = {}  # node, incarnation
    incarnations: dict[int, int] = {}  # the last one that each node came with
    log = Logger(namespace="phxqueue.replica.peers")
    service = RpcService(f"{membership.role.value} {membership.set_id} node {membership.node_id} peers", admit=admit)
    service.register(methods.PEER_HELLO, hello)
    service.register_one_way(methods.PEER_FRAME, frame)
    return service
