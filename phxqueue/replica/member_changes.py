"""What an operator's request makes of the members of a group. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from phxqueue.net.address import Address
from phxqueue.paxos.config import Member, MemberKind
from phxqueue.proto.members_pb2 import ChangeMemberRequest, ReplicaMember
from phxqueue.replica.roster import MemberPlace


class SenselessChange(ValueError):
    """A request that cannot be carried out whatever the state of the nodes; the text says why."""


def changed_members(members: Sequence[Member], request: ChangeMemberRequest) -> tuple[Member, ...]:
    """Return the members as they shall be; the same ones when they are so already.

    Raises SenselessChange, AddressError.
    """
    node_id = request.node_id
    others = [member for member in members if member.node_id != node_id]
    present = next((member for member in members if member.node_id == node_id), None)
    if request.remove:
        if present is not None and not any(member.kind is MemberKind.VOTER for member in others):
            raise SenselessChange(f"node {node_id} is the only voter: without it nobody could be master")
        return tuple(others)
    if present is None:
        if not request.paxos_address:
            raise SenselessChange(f"node {node_id} is not a member, and nothing says where it is: add it first")
        present = Member(node_id, MemberKind.LEARNER)
    try:
        kind = MemberKind(request.kind) if request.HasField("kind") else present.kind
    except ValueError:
        raise SenselessChange(f"{request.kind} is no kind of member: 0 voter, 1 witness, 2 learner") from None
    changed = replace(
        present,
        kind=kind,
        priority=request.priority if request.HasField("priority") else present.priority,
        incarnation=request.incarnation if request.HasField("incarnation") else present.incarnation,
        info=_info(present, request),
    )
    return tuple(sorted([*others, changed], key=lambda member: member.node_id))


def _info(present: Member, request: ChangeMemberRequest) -> bytes:
    if not request.paxos_address:
        return present.info
    service = Address.parse(request.address) if request.address else None
    return MemberPlace(Address.parse(request.paxos_address), service).encode()


def described(member: Member, running: int | None = None) -> ReplicaMember:
    """Return a member as the wire protocol has it.

    Args:
        running: the incarnation that it last said it runs on.
    """
    place = MemberPlace.decode(member.info)
    return ReplicaMember(
        node_id=member.node_id,
        kind=int(member.kind),
        priority=member.priority,
        incarnation=member.incarnation,
        running=running or 0,
        paxos_address="" if place is None else str(place.paxos),
        address="" if place is None or place.service is None else str(place.service),
    )
