"""What the nodes of a store or lock group say about its members, as one picture. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.json_format import MessageToDict

from phxqueue.admin.table import table
from phxqueue.paxos.config import MemberKind
from phxqueue.proto.members_pb2 import GroupMembers, MemberProgress, MembersResponse, ReplicaMember


@dataclass(frozen=True, slots=True)
class Picture:
    """The answers of the nodes, by address; a node that does not answer has its reason."""

    name: str
    groups: int
    answers: Mapping[str, MembersResponse]
    silent: Mapping[str, str]

    def view(self, group_id: int) -> GroupMembers | None:
        """A group as its master tells it; without a master, as whoever has come furthest."""
        told = [group for answer in self.answers.values() for group in answer.groups if group.group_id == group_id]
        return max(told, key=lambda group: (group.is_master, group.chosen), default=None)

    def master(self, group_id: int) -> str | None:
        """The address of a group's master; of two (one has not noticed yet) the one that has come further."""
        claims = [
            (group.chosen, address)
            for address, answer in self.answers.items()
            for group in answer.groups
            if group.group_id == group_id and group.is_master
        ]
        return max(claims)[1] if claims else None

    def runs_on(self, node_id: int) -> int | None:
        """The incarnation that a node itself says it runs on; None: it does not answer."""
        return next((answer.incarnation for answer in self.answers.values() if answer.node_id == node_id), None)

    def notices(self) -> list[str]:
        """What the nodes have to say, each thing once, with who says it."""
        said: dict[str, list[int]] = {}
        for answer in self.answers.values():
            for notice in answer.notices:
                said.setdefault(notice, []).append(answer.node_id)
        return [
            f"node{'s' if len(nodes) > 1 else ''} {', '.join(map(str, sorted(nodes)))}: {notice}"
            for notice, nodes in said.items()
        ]


def member_of(group: GroupMembers | None, node_id: int) -> ReplicaMember | None:
    """A member of a group, as in force."""
    members: Iterable[ReplicaMember] = () if group is None else group.members
    return next((member for member in members if member.node_id == node_id), None)


def as_text(picture: Picture) -> list[str]:
    """The picture as tables: groups with the same members share one."""
    lines: list[str] = []
    for groups in _alike(picture):
        numbers = [group.group_id for group in groups]
        lines += [f"{picture.name}, {_listed(numbers)}", *_table(groups), ""]
    unknown = [group_id for group_id in range(picture.groups) if picture.view(group_id) is None]
    if unknown:
        lines += [f"{picture.name}, {_listed(unknown)}: nobody answers", ""]
    lines += [f"  no answer from {address}: {reason}" for address, reason in picture.silent.items()]
    lines += [f"  {notice}" for notice in picture.notices()]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _alike(picture: Picture) -> Iterable[list[GroupMembers]]:
    """The groups, those with the same members together."""
    found: dict[tuple[tuple[int, int, str, int], ...], list[GroupMembers]] = {}
    for group_id in range(picture.groups):
        group = picture.view(group_id)
        if group is not None:
            members = tuple((one.node_id, one.kind, one.paxos_address, one.incarnation) for one in group.members)
            found.setdefault(members, []).append(group)
    return found.values()


def _listed(group_ids: Sequence[int]) -> str:
    if len(group_ids) == 1:
        return f"group {group_ids[0]}"
    if list(group_ids) == list(range(group_ids[0], group_ids[-1] + 1)):
        return f"groups {group_ids[0]} to {group_ids[-1]}"
    return "groups " + ", ".join(map(str, group_ids))


def _table(groups: Sequence[GroupMembers]) -> list[str]:
    rows = [
        (
            member.node_id,
            MemberKind(member.kind).name.lower(),
            member.paxos_address or "(configuration)",
            f"{member.incarnation:016x}" if member.incarnation else "not recorded",
            _state(groups, member),
        )
        for member in groups[0].members
    ]
    lines = table(("NODE", "KIND", "PAXOS ADDRESS", "INCARNATION", "STATE"), rows, left=5)
    for group in groups:
        if not group.is_master:
            lines.append(f"  group {group.group_id}: no master answers, this may be out of date")
        elif group.pending:
            lines.append(f"  group {group.group_id}: changing to {', '.join(map(_short, group.pending))}")
        elif not group.settled:
            lines.append(f"  group {group.group_id}: not settled, the disks of nodes that left are still needed")
    return lines


def _short(member: ReplicaMember) -> str:
    return f"node {member.node_id} {MemberKind(member.kind).name.lower()}"


def _state(groups: Sequence[GroupMembers], member: ReplicaMember) -> str:
    """How a member is by what the masters say; of several groups the worst."""
    told = [(group, one) for group in groups for one in group.members if one.node_id == member.node_id]
    if any(one.incarnation and one.running and one.incarnation != one.running for _, one in told):
        return "runs on another data directory: no vote"
    masters = [group.group_id for group in groups if group.is_master and group.master_node_id == member.node_id]
    state = [f"master of {_listed(masters)}"] if masters else []
    heard = [(group, one) for group in groups for one in group.progress if one.node_id == member.node_id]
    if any(one.heard_ago_s < 0 for _, one in heard):
        state.append("not heard")
    elif heard:
        state.append(_behind(heard))
    return "; ".join(state)


def _behind(heard: Sequence[tuple[GroupMembers, MemberProgress]]) -> str:
    if any(one.chosen < 0 for _, one in heard):
        return "has nothing yet"
    behind = max(max(0, group.chosen - one.chosen) for group, one in heard)
    silent = max(one.heard_ago_s for _, one in heard)
    return f"{behind} entries behind" + (f", heard {silent:.1f} s ago" if silent > 1 else "")


def as_document(picture: Picture) -> dict[str, Any]:
    """The picture as plain values, ready for JSON."""
    groups = []
    for group_id in range(picture.groups):
        group = picture.view(group_id)
        if group is not None:
            groups.append(
                MessageToDict(group, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
            )
    return {
        "set": picture.name,
        "groups": groups,
        "silent": dict(picture.silent),
        "notices": picture.notices(),
    }
