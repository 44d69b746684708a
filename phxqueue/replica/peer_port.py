"""What the Paxos port answers: members of this replica set only, told apart by their certificates."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from phxqueue.net.address import Address
from phxqueue.net.identity import Identity
from phxqueue.net.service import CallContext, RpcService
from phxqueue.net.status import RpcError, Status
from phxqueue.paxos.messages import Message
from phxqueue.proto import methods
from phxqueue.proto.paxos_pb2 import PeerFrame, PeerHelloRequest, PeerHelloResponse
from phxqueue.replica import codec
from phxqueue.replica.roster import Greeting, Roster
from phxqueue.replica.told import read_marks, written_marks


class PeerPort:
    """Takes greetings and frames of the other members.

    Args:
        roster: returns the members as they are now.
        secured: whether callers prove who they are; else they are believed (loopback).
        greeting: what this node says of itself.
        on_greeting: told what a peer said of itself, before any frame of its connection is taken.
        incarnation_of: the incarnation last told to `on_greeting` (by whatever connection). A frame that another one
            sent came late, from a process that is gone, and is dropped.
        receive: takes the messages of one frame.
    """

    def __init__(
        self,
        roster: Callable[[], Roster],
        secured: bool,
        *,
        greeting: Callable[[], Greeting],
        on_greeting: Callable[[int, Greeting], None],
        incarnation_of: Callable[[int], int | None],
        receive: Callable[[Sequence[tuple[int, Message]]], None],
    ) -> None:
        self._roster = roster
        self._secured = secured
        self._greeting = greeting
        self._on_greeting = on_greeting
        self._incarnation_of = incarnation_of
        self._receive = receive
        self._greeted: dict[int, tuple[int, int]] = {}  # id of a connection -> node, incarnation

    def service(self) -> RpcService:
        """Build the table of calls."""
        roster = self._roster()
        service = RpcService(f"{roster.name} node {roster.node_id} peers", admit=self._admit)
        service.register(methods.PEER_HELLO, self._hello)
        service.register_one_way(methods.PEER_FRAME, self._frame)
        return service

    def sender(self, context: CallContext) -> int:
        """Return which member a call comes from; raises RpcError when it has not said hello."""
        node_id, _ = self._who(context)
        return node_id

    def _who(self, context: CallContext) -> tuple[int, int]:
        who = self._greeted.get(id(context.connection))
        if who is None:
            raise RpcError(Status.PERMISSION_DENIED, "a peer must say hello before it sends frames")
        return who

    def _admit(self, identity: Identity, address: Address) -> None:
        roster = self._roster()
        if self._secured and all(identity != roster.identity(node) for node in roster.addresses):
            raise _no_member(str(identity), roster)

    def _hello(self, request: PeerHelloRequest, context: CallContext) -> PeerHelloResponse:
        roster = self._roster()
        wanted = (roster.cluster, roster.set_id, roster.paxos_groups)
        got = (request.cluster, request.store_id, request.paxos_groups)
        if got != wanted:
            raise RpcError(
                Status.PERMISSION_DENIED,
                f"this is cluster {wanted[0]!r} {roster.role.value} {wanted[1]} with {wanted[2]} Paxos groups, "
                f"the caller says cluster {got[0]!r}, {got[1]}, {got[2]} groups; compare the configuration files",
            )
        if self._secured and context.peer != roster.identity(request.node_id):
            raise RpcError(
                Status.PERMISSION_DENIED, f"the certificate says {context.peer}, the caller node {request.node_id}"
            )
        if request.node_id not in roster.addresses or request.node_id == roster.node_id:
            raise _no_member(f"node {request.node_id}", roster)
        # Before the caller is heard: its news may change what this node says, and it has to hear how things were.
        mine = self._greeting()
        theirs = Greeting(
            request.incarnation, request.fresh, request.founders, request.lineage, read_marks(request.told)
        )
        strife = mine.strife(theirs)
        if strife is not None:
            raise RpcError(Status.PERMISSION_DENIED, f"node {request.node_id} and node {roster.node_id}: {strife}")
        self._greeted[id(context.connection)] = request.node_id, request.incarnation
        context.connection.on_lost(lambda reason: self._forget(context))
        self._on_greeting(request.node_id, theirs)
        return PeerHelloResponse(
            node_id=roster.node_id,
            incarnation=mine.incarnation,
            fresh=mine.fresh,
            founders=mine.founders,
            lineage=mine.lineage,
            told=written_marks(mine.told),
        )

    def _forget(self, context: CallContext) -> None:
        self._greeted.pop(id(context.connection), None)

    def _frame(self, request: PeerFrame, context: CallContext) -> None:
        node_id, incarnation = self._who(context)
        roster = self._roster()
        if node_id not in roster.addresses or self._incarnation_of(node_id) != incarnation:
            return
        try:
            messages = codec.decode_frame(request, node_id, roster.node_id)
        except codec.UndecodableMessage as error:
            raise RpcError(Status.INVALID_ARGUMENT, str(error)) from error
        self._receive(messages)


def _no_member(who: str, roster: Roster) -> RpcError:
    return RpcError(
        Status.PERMISSION_DENIED,
        f"{who} is not a member of {roster.name} (`phxqueue members add` makes it one); "
        "this port is for its members, clients use the service port",
    )
