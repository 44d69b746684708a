"""Whether the membership may be changed as asked, now: what would lose the majority, or might, is refused with the
reason.

None of this is needed for agreement (``membership`` says why that is safe); it keeps the group able to go on.
"""

from __future__ import annotations

from dataclasses import dataclass

from phxqueue.paxos.acceptor import Acceptor
from phxqueue.paxos.config import GroupConfig, Member, MemberKind, member_problems
from phxqueue.paxos.entry import EntryKind
from phxqueue.paxos.learner import Learner
from phxqueue.paxos.membership import Membership
from phxqueue.paxos.peers import Peers
from phxqueue.paxos.proposer import Proposer


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a change is refused. ``temporary``: until something that is under way is finished, a node has caught up, or
    this master has heard the others again.
    """

    reason: str
    temporary: bool = False


class Changes:
    """Judges changes of membership at the master."""

    __slots__ = ("_acceptor", "_config", "_learner", "_membership", "_peers")

    def __init__(
        self, config: GroupConfig, membership: Membership, peers: Peers, acceptor: Acceptor, learner: Learner
    ) -> None:
        self._config = config
        self._membership = membership
        self._peers = peers
        self._acceptor = acceptor
        self._learner = learner

    def problem(self, members: tuple[Member, ...], proposer: Proposer, now: float) -> Problem | None:
        """Why ``members`` cannot become the membership; None if they can."""
        problems = member_problems(members)
        if problems:
            return Problem("; ".join(problems))
        unfinished = self._unfinished(proposer)
        if unfinished is not None:
            return Problem(unfinished, temporary=True)
        current = self._membership.current
        if members == current.step.members:
            return Problem("these are the members already")
        wanted = {member.node_id: member for member in members}
        moved = [
            node
            for node in sorted(current.members.keys() | wanted.keys())
            if self._vote(current.members.get(node), node) != self._vote(wanted.get(node), node)
        ]
        if len(moved) > 1:
            return Problem(f"it changes the votes of nodes {moved}: change one at a time")
        for node in sorted(wanted):
            misnamed = self._misnamed(wanted[node])
            if misnamed is not None:
                return Problem(misnamed)
            if node in moved and wanted[node].kind is not MemberKind.LEARNER:
                unfit = self._unfit(node, now)
                if unfit is not None:
                    return unfit
        minority = self._minority(wanted, now)
        # Who has slept longer than its lease has heard nobody for so long: it may be master no more.
        return None if minority is None else Problem(minority, temporary=now >= proposer.lease.until)

    def _unfinished(self, proposer: Proposer) -> str | None:
        pending = self._membership.next
        if pending is not None:
            return f"the change at instance {pending.step.instance} is not in force before instance {pending.effective}"
        if any(entry.kind == EntryKind.MEMBERSHIP for entry in self._acceptor.entries.values()):
            return "another change is on its way: wait until it is in force"
        if proposer.recovering or self._learner.delivered < proposer.first_instance - 1:
            return "this master has yet to finish what was under way when it became master: try again"
        if not proposer.settled:
            return "the last change is in force, but no majority has everything from before it yet: wait"
        return None

    def _vote(self, member: Member | None, node: int) -> int | None:
        """Which directory of ``node`` votes; None if none does. One not recorded yet is the one it runs on."""
        if member is None or member.kind is MemberKind.LEARNER:
            return None
        return member.incarnation or self._membership.incarnation(node) or 0

    def _misnamed(self, member: Member) -> str | None:
        runs_on, node = self._membership.incarnation(member.node_id), member.node_id
        former = self._membership.current.members.get(node)
        if former is not None and former.incarnation == member.incarnation:
            return None
        if member.incarnation and member.incarnation != runs_on:
            told = "has not said what it runs on" if runs_on is None else f"runs on incarnation {runs_on}"
            return f"node {node} {told}, not on {member.incarnation}: start it, and name the right one"
        if not member.incarnation and runs_on and member.kind is not MemberKind.LEARNER:
            return f"node {node} runs on incarnation {runs_on}: that must be recorded with its vote"
        return None

    def _unfit(self, node: int, now: float) -> Problem | None:
        """Why ``node`` cannot be given a vote."""
        if node == self._config.node_id:
            return None
        if node not in self._membership.current.members:
            return Problem(f"node {node} is no member: add it as a learner first")
        lagging = self._lagging(node, now)
        return None if lagging is None else Problem(lagging, temporary=True)

    def _lagging(self, node: int, now: float) -> str | None:
        peer = self._peers.by_node.get(node)
        if peer is None or peer.unreachable or peer.heard_at is None or now - peer.heard_at > self._config.lease:
            return f"node {node} is not heard: start it, or repair its network"
        if peer.incomplete or not peer.has(self._learner.known - self._config.window):
            told = "nothing" if peer.chosen is None else f"the log up to {peer.chosen}"
            return f"node {node} has {told}, the master up to {self._learner.known}: wait until it has caught up"
        return None

    def _minority(self, wanted: dict[int, Member], now: float) -> str | None:
        """Why the new members could not go on at once."""
        voters = [node for node, member in wanted.items() if member.kind is not MemberKind.LEARNER]
        problems: list[str] = []
        leaders = 0
        for node in sorted(voters):
            recorded = wanted[node].incarnation
            before = len(problems)
            if recorded and recorded != self._membership.incarnation(node):
                problems.append(f"node {node} does not run on the data directory that is a member")
            elif self._config.incarnation and not recorded:
                problems.append(
                    f"the data directory of node {node} is not recorded yet, so it may not be the right one"
                )
            elif node != self._config.node_id:
                problem = self._lagging(node, now)
                if problem is not None:
                    problems.append(problem)
            leaders += len(problems) == before and wanted[node].kind is MemberKind.VOTER
        quorum = len(voters) // 2 + 1
        left = len(voters) - len(problems)
        if left >= quorum:
            return None if leaders else "nobody who is left could become master: " + "; ".join(problems)
        return f"{left} of {len(voters)} voters would be there, a majority is {quorum}: " + "; ".join(problems)
