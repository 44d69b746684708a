"""Who is in the group, who votes, what a majority is, and who is preferred as master.

Everything the core knows about membership it asks here. That is the seam for changing it through the log: a chosen
``EntryKind.MEMBERSHIP`` entry will install a new Membership from its instance + ``window`` on, and a Proposal will keep
the one under which its votes count.
"""

from __future__ import annotations

from phxqueue.paxos.config import GroupConfig, MemberKind
from phxqueue.paxos.members_codec import decode_members, encode_members

__all__ = ["Membership", "decode_members", "encode_members"]


class Membership:
    """The members of one group, as seen by one of them."""

    __slots__ = ("bits", "group_id", "kinds", "node_id", "peers", "preference", "quorum", "voters")

    def __init__(self, config: GroupConfig) -> None:
        self.group_id = config.group_id
        self.node_id = config.node_id
        self.kinds = {member.node_id: member.kind for member in config.members}
        """Kind of every member by node id."""
        self.peers = tuple(member.node_id for member in config.members if member.node_id != config.node_id)
        """All members but this one, voting or not."""
        self.voters = frozenset(node for node, kind in self.kinds.items() if kind is not MemberKind.LEARNER)
        """Those whose votes count."""
        self.bits = {node: 1 << index for index, node in enumerate(sorted(self.voters))}
        """One bit per voter, for sets of voters kept as integers."""
        self.quorum = len(self.voters) // 2 + 1
        """Votes that make a majority."""
        self.preference = _preference(config)
        """The nodes that may become master, the preferred one first."""

    @property
    def votes(self) -> bool:
        """Whether this node has a vote."""
        return self.node_id in self.voters

    @property
    def may_lead(self) -> bool:
        """Whether this node may become master."""
        return self.kinds[self.node_id] is MemberKind.VOTER

    def rank(self, absent: frozenset[int] | set[int]) -> int:
        """How many nodes are preferred to this one as master, those in ``absent`` not counted."""
        rank = 0
        for node in self.preference:
            if node == self.node_id:
                return rank
            if node not in absent:
                rank += 1
        return rank


def _preference(config: GroupConfig) -> tuple[int, ...]:
    """Highest priority first; among equals group g begins with voter ``g mod n``, so that groups spread over the
    nodes.
    """
    voters = [member for member in config.members if member.kind is MemberKind.VOTER]
    start = config.group_id % len(voters)
    turned = voters[start:] + voters[:start]
    return tuple(member.node_id for member in sorted(turned, key=lambda member: -member.priority))
