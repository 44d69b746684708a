"""Who is in the group, who votes, what a majority is, and who is preferred as master: now, and from which instance on.

Membership is changed through the log, as in L. Lamport, "Paxos Made Simple" (2001), section 3, and "Reconfiguring a
State Machine" (Lamport, Malkhi, Zhou, 2010), there R-alpha: a chosen MEMBERSHIP entry at instance c holds the next list
of members, which governs the instances from c + ``delay`` on; ``delay`` is the window. Everything that must hold:

- Which membership governs instance i follows from the entries up to i - ``delay``. Nothing is proposed at i before
  those are known, so whoever proposes at i knows whose votes count there, and all agree on it.
- A value is proposed at i only with promises of a majority of the membership that governs i, and is chosen only by
  accepts of a majority of that same membership (``phase1``, ``proposer``). Every instance is thus one ordinary Paxos
  with fixed acceptors, and safe as such; no majority of one membership need overlap one of another.
- An acceptor is a node with one data directory. With another directory (incarnation) it is another acceptor, which
  has to be made a member by a change of its own, and until then counts for nothing.

Changing one vote at a time (as D. Ongaro's dissertation on Raft advises in chapter 4) is for the operator's sake, so
that it is plain what can fail meanwhile; the argument above does not need it.

Two masters could each propose a change. Each change names the one it was made from (``Change.base``) and is void if
that is not the last one any more. It follows from the log alone, so all agree on that, too.

A change is *in force* on a node that has everything below its first instance. It is *settled* when a majority of the
voters in force has: from then on the group can do without the nodes that left, whose disks may hold the second copy of
what was chosen before.
"""

from __future__ import annotations

from collections.abc import Iterable

from phxqueue.paxos.config import GroupConfig, Member, MemberKind
from phxqueue.paxos.errors import InvariantViolation
from phxqueue.paxos.members_codec import (
    Change,
    Step,
    decode_change,
    decode_members,
    decode_state,
    encode_change,
    encode_members,
    encode_state,
)

__all__ = ["NEVER", "Membership", "View", "decode_members", "encode_members"]

NEVER = 1 << 63
"""Above every instance."""

_KEPT = 4
"""Memberships that a node keeps: the one in force, one that is pending, and some past ones for a node whose chosen mark
lags behind at a restart."""


class View:
    """One membership, and what follows from it for the one that looks."""

    __slots__ = ("effective", "electors", "kinds", "mask", "members", "preference", "quorum", "step", "voters")

    def __init__(self, step: Step, group_id: int) -> None:
        self.step = step
        self.effective = step.effective
        """The first instance that it governs."""
        self.members = {member.node_id: member for member in step.members}
        self.kinds = {member.node_id: member.kind for member in step.members}
        """Kind of every member by node id."""
        self.voters = frozenset(node for node, kind in self.kinds.items() if kind is not MemberKind.LEARNER)
        """Those who have a vote."""
        self.quorum = len(self.voters) // 2 + 1
        """Votes that make a majority."""
        self.preference = _preference(step.members, group_id)
        """The nodes that may become master, the preferred one first."""
        self.electors: frozenset[int] = frozenset()
        """The voters whose votes count: those that run on the directory that is meant."""
        self.mask = 0
        """The electors as a set of bits."""

    def majority(self, nodes: Iterable[int]) -> bool:
        """Whether ``nodes`` hold a majority of the votes."""
        return len(self.electors.intersection(nodes)) >= self.quorum


class Membership:
    """The memberships of one group as one of its nodes knows them. One object, shared by all parts of the core, which
    changes under them: ``version`` says when.
    """

    __slots__ = (
        "_bits",
        "_incarnation",
        "_steps",
        "_told",
        "current",
        "delay",
        "group_id",
        "leaving",
        "may_vote",
        "next",
        "node_id",
        "plain",
        "switch_at",
        "version",
        "votes",
    )

    def __init__(
        self, config: GroupConfig, state: bytes | None = None, delivered: int = -1, may_vote: bool = True
    ) -> None:
        self.group_id = config.group_id
        self.node_id = config.node_id
        self.may_vote = may_vote
        self.delay = config.window
        """A change takes effect so many instances after its own. Fixed by the first change there ever was."""
        self._incarnation = config.incarnation
        self._told: dict[int, int] = {}  # incarnation of every node that has told it
        self._bits: dict[int, int] = {}
        self._steps = [Step(-1, 0, config.members)]
        self.leaving: set[int] = set()
        """Nodes that are members no more and may not know it yet."""
        self.version = 0
        """Goes up with every change of what can be asked here."""
        self.current: View
        """The membership in force: it governs the next instance to be handed out."""
        self.next: View | None
        """The one that is chosen, but not yet in force."""
        self.switch_at: int
        """The first instance of ``next``; NEVER without."""
        self.votes: bool
        """Whether this node votes under the membership in force."""
        self.plain: bool
        """Whether this node votes in every instance there can be at the moment."""
        if state is not None:
            self.delay, self._steps = decode_state(state)
        self._look(delivered)

    # -- changes ------------------------------------------------------------------------------------------------------

    @property
    def last(self) -> Step:
        """The last membership that was chosen."""
        return self._steps[-1]

    def proposal(self, members: tuple[Member, ...]) -> bytes:
        """The entry that makes ``members`` the next membership."""
        return encode_change(Change(self.last.instance, self.delay, members))

    def chosen(self, instance: int, payload: bytes) -> Step | None:
        """The MEMBERSHIP entry at ``instance`` was handed out. Returns what it changes; None if it is void.

        :raises InvariantViolation: it cannot be read.
        """
        change = decode_change(payload)
        if instance <= self.last.instance:  # known from the restored state already
            return next((step for step in self._steps if step.instance == instance), None)
        if change.base != self.last.instance or instance < self.last.effective:
            return None
        self.delay = change.delay
        step = Step(instance, instance + change.delay, change.members)
        self._steps = [*self._steps[1 - _KEPT :], step]
        self._look(instance)
        return step

    def advance(self, delivered: int) -> bool:
        """Everything up to ``delivered`` was handed out. Returns whether another membership is in force now."""
        if delivered + 1 < self.switch_at:
            return False
        former = self.current.kinds.keys()
        self._look(delivered)
        self.leaving = set(former - self.current.kinds.keys())
        return True

    def install(self, state: bytes | None, delivered: int) -> None:
        """A checkpoint at ``delivered`` was installed, with the membership as of then (or a later one)."""
        if state is not None:
            self.delay, self._steps = decode_state(state)
        self._look(delivered)

    def state(self) -> bytes:
        """What a MembershipRecord holds."""
        return encode_state(self.delay, self._steps)

    def _look(self, delivered: int) -> None:
        at = max((i for i, step in enumerate(self._steps) if step.effective <= delivered + 1), default=-1)
        if at < 0:
            raise InvariantViolation(f"nobody knows the members before instance {self._steps[0].effective}")
        # Proposals in flight hold on to a view: it stays the same object as long as it matters.
        views = {view.step: view for view in (self.current, self.next) if view is not None} if self.version else {}
        steps = self._steps[at : at + 2]
        first, *rest = [views.get(step) or View(step, self.group_id) for step in steps]
        self.current, self.next = first, rest[0] if rest else None
        self.switch_at = NEVER if self.next is None else self.next.effective
        self._count()

    # -- incarnations -------------------------------------------------------------------------------------------------

    def told(self, node: int, incarnation: int) -> int | None:
        """``node`` runs on the directory ``incarnation``. Returns on which it ran before, as far as it has told."""
        former = self._told.get(node)
        if former != incarnation:
            self._told[node] = incarnation
            self._count()
        return former

    def incarnation(self, node: int) -> int | None:
        """The directory on which ``node`` runs, if it has told."""
        return self._incarnation if node == self.node_id else self._told.get(node)

    def admit(self) -> None:
        """This node may vote although its incarnation is not recorded."""
        self.may_vote = True
        self._count()

    def _count(self) -> None:
        """Who counts, in all views."""
        self.version += 1
        for view in (self.current, self.next):
            if view is not None:
                view.electors = frozenset(node for node in view.voters if self._counts(view.members[node]))
                view.mask = sum(self.bit(node) for node in view.electors)
        self.votes = self.node_id in self.current.electors
        self.plain = self.votes and self.next is None

    def _counts(self, member: Member) -> bool:
        if member.incarnation:
            return member.incarnation == self.incarnation(member.node_id)
        return member.node_id != self.node_id or self.may_vote

    def bit(self, node: int) -> int:
        """A bit that stands for ``node`` as long as this object lives, for sets of nodes kept as integers."""
        bit = self._bits.get(node)
        if bit is None:
            bit = self._bits[node] = 1 << len(self._bits)
        return bit

    # -- what this node may do ----------------------------------------------------------------------------------------

    def votes_at(self, instance: int) -> bool:
        """Whether this node votes at ``instance``."""
        return self.node_id in self.view_at(instance).electors

    def view_at(self, instance: int) -> View:
        """The membership that governs ``instance``, which lies above what was handed out. Exact up to ``delay`` above;
        beyond that a change may come that nobody knows of yet.
        """
        return self.current if self.next is None or instance < self.switch_at else self.next

    def certain(self, instance: int, delivered: int) -> bool:
        """Whether ``current`` is known to govern ``instance``, when everything up to ``delivered`` was handed out."""
        return instance < self.switch_at and instance <= delivered + self.delay

    @property
    def may_promise(self) -> bool:
        """Whether this node answers candidates.

        One that gets its vote with the next membership may do so before: a candidate counts a promise for those
        memberships only that count its sender. But where the one in force takes any directory of this node for the
        right one, nobody else could tell that this one has no memory of what was accepted under it.
        """
        if self.votes:
            return True
        own = self.current.members.get(self.node_id)
        unrecorded = own is not None and own.kind is not MemberKind.LEARNER and not own.incarnation
        return not unrecorded and self.next is not None and self.node_id in self.next.electors

    @property
    def may_lead(self) -> bool:
        """Whether this node may become, or stay, master."""
        return self.votes and self.current.kinds[self.node_id] is MemberKind.VOTER

    @property
    def will_lead(self) -> bool:
        """Whether this node may be master under ``next``, too."""
        view = self.next
        return view is None or (self.node_id in view.electors and view.kinds[self.node_id] is MemberKind.VOTER)

    def may_be_promised(self, node: int) -> bool:
        """Whether ``node`` is known here as one that votes."""
        return node in self.current.electors or (self.next is not None and node in self.next.electors)

    # -- who there is -------------------------------------------------------------------------------------------------

    @property
    def members(self) -> set[int]:
        """Everybody in force or pending."""
        nodes = set(self.current.kinds)
        return nodes if self.next is None else nodes.union(self.next.kinds)

    @property
    def peers(self) -> tuple[int, ...]:
        """Everybody this node talks to: members in force, pending, and leaving."""
        return tuple(sorted((self.members | self.leaving) - {self.node_id}))

    @property
    def voters(self) -> frozenset[int]:
        """Those with a vote under the membership in force."""
        return self.current.voters

    @property
    def quorum(self) -> int:
        """Votes that make a majority under the membership in force."""
        return self.current.quorum

    @property
    def preference(self) -> tuple[int, ...]:
        """The nodes that may become master under the membership in force, the preferred one first."""
        return self.current.preference

    def rank(self, absent: frozenset[int] | set[int]) -> int:
        """How many nodes are preferred to this one as master, those in ``absent`` not counted."""
        rank = 0
        for node in self.preference:
            if node == self.node_id:
                return rank
            if node not in absent:
                rank += 1
        return rank


def _preference(members: tuple[Member, ...], group_id: int) -> tuple[int, ...]:
    """Highest priority first; among equals group g begins with voter ``g mod n``, so that groups spread over the
    nodes.
    """
    voters = [member for member in members if member.kind is MemberKind.VOTER]
    start = group_id % len(voters)
    turned = voters[start:] + voters[:start]
    return tuple(member.node_id for member in sorted(turned, key=lambda member: -member.priority))
