"""Compares what is known of the members with what the replicated membership says. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from phxqueue.config.cluster import NodeAddress
from phxqueue.paxos.config import Member, MemberKind
from phxqueue.replica.roster import MemberPlace

KINDS: Mapping[str, MemberKind] = {
    "voter": MemberKind.VOTER,
    "witness": MemberKind.WITNESS,
    "learner": MemberKind.LEARNER,
}
"""The kinds as the configuration names them."""


def kind_name(kind: MemberKind) -> str:
    """The kind as the configuration names it."""
    return kind.name.lower()


def unrecorded(members: Sequence[Member], known: Mapping[int, int]) -> tuple[Member, ...] | None:
    """Return the members with the incarnations filled in that are known and not recorded yet; None: there are none.

    A learner has no vote that a directory could have forgotten: its incarnation is recorded when it is promoted.

    Args:
        known: incarnation by node id, as the nodes said themselves.
    """
    filled = tuple(
        replace(member, incarnation=known[member.node_id])
        if not member.incarnation and member.kind is not MemberKind.LEARNER and known.get(member.node_id)
        else member
        for member in members
    )
    return None if filled == tuple(members) else filled


def strangers(members: Iterable[Member], known: Mapping[int, int]) -> list[int]:
    """Members that came back with another data directory than the one recorded."""
    return sorted(
        member.node_id
        for member in members
        if member.incarnation and known.get(member.node_id, member.incarnation) != member.incarnation
    )


def differences(configured: Iterable[NodeAddress], members: Iterable[Member]) -> list[str]:
    """Say in which points a configuration file and the replicated membership disagree, and what to do."""
    files = {node.node_id: node for node in configured}
    replicated = {member.node_id: member for member in members}
    found = []
    for node_id in sorted(files.keys() | replicated.keys()):
        node, member = files.get(node_id), replicated.get(node_id)
        if member is None:
            found.append(
                f"node {node_id} is in the configuration but not a member: `phxqueue members add {node_id}`, "
                "or take it out of the file"
            )
        elif node is None:
            found.append(
                f"node {node_id} is a member but not in the configuration: `phxqueue members remove {node_id}`, "
                "or put it into the file"
            )
        else:
            found += _different(node, member)
    return found


def _different(node: NodeAddress, member: Member) -> list[str]:
    found = []
    if KINDS[node.kind] is not member.kind:
        # Only a learner becomes something else; whoever votes leaves, or stays what it is.
        promote = f"`phxqueue members promote {node.node_id}`, or " if member.kind is MemberKind.LEARNER else ""
        found.append(
            f"node {node.node_id} is a {node.kind} by the configuration and a {kind_name(member.kind)} by the "
            f"membership: {promote}correct the file"
        )
    place = MemberPlace.decode(member.info)
    if place is not None and str(place.paxos) != node.paxos_address:
        found.append(
            f"node {node.node_id} is at {node.paxos_address} by the configuration and at {place.paxos} by the "
            f"membership: `phxqueue members replace {node.node_id}`, or correct the file"
        )
    return found
