"""Phase 2: what a master does with its mastership.

One Proposer lives as long as one mastership. It keeps every instance in flight (proposed here, not yet handed out to be
applied), counts the votes, sends again what got no answer, and renews the lease with heartbeats.

It proposes no instance further than the window above what was handed out, for only so far is it known which membership
governs an instance; and none for which it has no promises of a majority of that membership.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

from phxqueue.paxos.acceptor import Acceptor
from phxqueue.paxos.config import GroupConfig
from phxqueue.paxos.effects import Effects, MembershipSettled
from phxqueue.paxos.entry import Entry, EntryKind, make_entry
from phxqueue.paxos.errors import InvariantViolation, WindowFull
from phxqueue.paxos.flight import Link, Proposal
from phxqueue.paxos.learner import Learner
from phxqueue.paxos.lease import LeaseHeld
from phxqueue.paxos.membership import NEVER, Membership, View
from phxqueue.paxos.messages import Accept, Accepted, Heartbeat, HeartbeatReply
from phxqueue.paxos.peers import Peers, PeerStatus
from phxqueue.paxos.phase1 import Phase1


class Proposer:
    """See the module's docstring. ``phase1`` has the promises of a majority; ``recovered`` is what they say must be
    proposed first.
    """

    __slots__ = (
        "_acceptor",
        "_barrier",
        "_bit",
        "_config",
        "_covered",
        "_fill_to",
        "_learner",
        "_links",
        "_membership",
        "_peers",
        "_proposals",
        "_reach",
        "_recovery",
        "_settled",
        "_sizes",
        "ballot",
        "first_instance",
        "handing_over",
        "heartbeat_at",
        "heartbeat_sent",
        "in_flight_bytes",
        "learn_to",
        "lease",
        "next_instance",
        "phase1",
    )

    def __init__(
        self,
        config: GroupConfig,
        membership: Membership,
        acceptor: Acceptor,
        learner: Learner,
        peers: Peers,
        phase1: Phase1,
        recovered: list[tuple[int, Entry]],
        now: float,
    ) -> None:
        self._config = config
        self._membership = membership
        self._acceptor = acceptor
        self._learner = learner
        self._peers = peers
        self.phase1 = phase1
        self.ballot = phase1.ballot
        self.learn_to = phase1.chosen
        """Everything up to here is chosen already and must be learned, if it is not known."""
        self.first_instance = recovered[-1][0] + 1 if recovered else phase1.chosen + 1
        """The first new instance of this mastership: reads must wait until all below it is applied."""
        self.next_instance = self.first_instance
        self.handing_over = False
        """Nothing new is proposed, for the mastership is being transferred."""
        self._recovery = deque(recovered)
        self._proposals: dict[int, Proposal] = {}
        self._sizes: dict[int, int] = {}  # payload of every instance in flight
        self.in_flight_bytes = 0
        self.lease = LeaseHeld(membership, config.lease, config.max_clock_drift, now)
        self.heartbeat_at = now
        """When the next heartbeat is due."""
        self.heartbeat_sent = now
        self._bit = membership.bit(config.node_id)
        self._covered = membership.current.effective  # the last membership whose majority has promised begins here
        self._barrier = NEVER  # nothing is proposed from here on
        self._settled = 0  # the last membership known to be settled begins here
        self._fill_to = 0  # no-ops are proposed below
        self._reach = min(config.window, membership.delay)
        self._links: dict[int, Link] = {}
        self._link(now)
        self._look_ahead()

    # -- the membership -----------------------------------------------------------------------------------------------

    def _link(self, now: float) -> None:
        """A link to every peer there is."""
        config, membership, former = self._config, self._membership, self._links
        wanted = membership.current.electors
        if membership.next is not None:
            wanted |= membership.next.electors
        self._links = {}
        for node in membership.peers:
            peer = self._peers.by_node[node]
            link = former.get(node)
            if link is None or link.peer is not peer:
                link = Link(peer, membership.bit(node), self._heard_lately(peer, now), config.retransmit_interval)
            link.votes = node in wanted
            self._links[node] = link

    def _look_ahead(self) -> None:
        """Up to where may be proposed, and up to where it has to be."""
        membership, after = self._membership, self._membership.next
        self._reach = min(self._config.window, membership.delay)
        self._fill_to = 0 if after is None else after.effective
        if not self._covers(membership.current):
            self._barrier = membership.current.effective
        elif after is not None and not (membership.will_lead and self._covers(after)):
            self._barrier = after.effective
        else:
            self._barrier = NEVER

    def _covers(self, view: View) -> bool:
        if view.effective > self._covered and self.phase1.covers(view):
            self._covered = view.effective
        return view.effective <= self._covered

    @property
    def covered(self) -> bool:
        """Whether a majority of those in force has promised."""
        return self._membership.current.effective <= self._covered

    def membership_moved(self, now: float, out: Effects) -> None:
        """Others are members, or others count."""
        self._link(now)
        self.lease.recount(now)
        self._look_ahead()
        self._ask(out)
        self.pump(now, out)

    def _ask(self, out: Effects) -> None:
        """Ask for the promises that the next membership needs."""
        if self._barrier != NEVER:
            for view in (self._membership.current, self._membership.next):
                if view is not None and not self._covers(view):
                    self.phase1.ask(view, out)

    def promised(self, now: float, out: Effects) -> None:
        """More was promised at this ballot."""
        self._look_ahead()
        late = self.phase1.above(self.next_instance)
        self.phase1.proposed()
        if late:
            # Accepted at a lower ballot by some that govern only these instances.
            self._recovery.extend(late)
            self.next_instance = self.first_instance = late[-1][0] + 1
        self.pump(now, out)

    @property
    def settled(self) -> bool:
        """Whether a majority of the voters in force is known to hold everything from before they were."""
        return self._settled >= self._membership.current.effective

    def _settle(self, out: Effects) -> None:
        """Tell when a majority of the voters in force has everything from before."""
        view = self._membership.current
        holders = [node for node, link in self._links.items() if link.peer.has(view.effective - 1)]
        if view.majority([*holders, self._config.node_id]):
            self._settled = view.effective
            out.events.append(MembershipSettled(members=view.step.members))

    def _dismiss(self, now: float) -> None:
        """Nodes that left are told until they know it, or are gone."""
        last = self._membership.current.effective - 1
        for node in sorted(self._membership.leaving & self._links.keys()):
            peer = self._links[node].peer
            if peer.has(last) or not self._heard_lately(peer, now):
                self._membership.leaving.discard(node)
                if node not in self._membership.members:
                    del self._links[node]

    # -- proposing ----------------------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """Instances proposed here and not handed out yet."""
        return len(self._sizes)

    @property
    def window_free(self) -> int:
        """How many more instances may be proposed now."""
        if self._recovery or self.handing_over or self.in_flight_bytes >= self._config.window_bytes:
            return 0
        return max(0, self._last_instance - self.next_instance + 1)

    @property
    def _last_instance(self) -> int:
        """The last one that may be proposed now."""
        return min(self._learner.delivered + self._reach, self._barrier - 1)

    @property
    def recovering(self) -> bool:
        """Whether there is something to be proposed that nobody asks for: what phase 1 brought up, or no-ops."""
        return bool(self._recovery) or self.next_instance < self._fill_to

    @property
    def idle(self) -> bool:
        """Whether everything that was ever proposed here has been handed out."""
        return not self._sizes and not self._recovery and self._learner.delivered == self.next_instance - 1

    def propose(self, kind: int, payload: bytes, now: float, out: Effects) -> int:
        """Propose a new value at the next instance."""
        if self._recovery or self.handing_over or not self._fits(self.next_instance, len(payload)):
            raise WindowFull(self._config.group_id, len(self._sizes), self.in_flight_bytes)
        instance = self.next_instance
        self.next_instance = instance + 1
        entry = make_entry(self.ballot, kind, payload)
        self._start(instance, entry, now, out)
        entries = ((instance, entry),)
        sender = self._config.node_id
        known = self._learner.known
        for link in self._links.values():
            if link.live and self._within_reach(link, instance):
                out.send.append(Accept(sender, link.node, self.ballot, known, entries))
        return instance

    def pump(self, now: float, out: Effects) -> None:
        """Propose what phase 1 brought up, and no-ops up to where the next membership begins, as far as may be."""
        started = []
        while self._recovery and self._fits(self._recovery[0][0], len(self._recovery[0][1].payload)):
            instance, entry = self._recovery.popleft()
            if instance > self._learner.known:
                self._start(instance, entry, now, out)
                started.append((instance, entry))
        while not self._recovery and self.next_instance < self._fill_to and self._fits(self.next_instance, 0):
            entry = make_entry(self.ballot, EntryKind.NOOP, b"")
            self._start(self.next_instance, entry, now, out)
            started.append((self.next_instance, entry))
            self.next_instance += 1
        if started:
            for link in self._links.values():
                if link.live:
                    self._send(link, started, out)

    def _fits(self, instance: int, size: int) -> bool:
        if instance > self._learner.delivered + self._reach or instance >= self._barrier:
            return False
        return not self._sizes or self.in_flight_bytes + size <= self._config.window_bytes

    def _start(self, instance: int, entry: Entry, now: float, out: Effects) -> None:
        if self._acceptor.promised != self.ballot:
            raise InvariantViolation(f"proposing at ballot {self.ballot}, but promised is {self._acceptor.promised}")
        self._acceptor.store(instance, entry, out)
        self._proposals[instance] = Proposal(entry, self._membership.view_at(instance), now)
        size = len(entry.payload)
        self._sizes[instance] = size
        self.in_flight_bytes += size

    # -- votes --------------------------------------------------------------------------------------------------------

    def accepted(self, message: Accepted, now: float) -> None:
        """Votes of a peer, all durable there."""
        if message.ballot != self.ballot:
            return
        link = self._links.get(message.sender)
        if link is None or not link.votes:
            return
        link.resend_delay = self._config.retransmit_interval
        if link.resend_at > now + link.resend_delay:
            link.resend_at = now + link.resend_delay
        if message.first == message.last:
            self._vote(link.bit, message.first)
            return
        # Never a loop over numbers that a peer made up.
        for instance in [i for i in self._proposals if message.first <= i <= message.last]:
            self._vote(link.bit, instance)

    def own_durable(self, instances: Iterable[int]) -> None:
        """This node's own accepts became durable: only now do they count."""
        for instance in instances:
            self._vote(self._bit, instance)

    def _vote(self, bit: int, instance: int) -> None:
        proposal = self._proposals.get(instance)
        if proposal is None or proposal.voted & bit or not proposal.view.mask & bit:
            return
        proposal.voted |= bit
        proposal.votes += 1
        if proposal.votes >= proposal.view.quorum:
            del self._proposals[instance]
            self._learner.chosen_by_majority(instance)

    def handed_out(self, instance: int) -> None:
        """``instance`` was handed out to be applied: it makes room in the window."""
        size = self._sizes.pop(instance, None)
        if size is not None:
            self.in_flight_bytes -= size
            # Still there when it was learned from a peer instead of being voted through.
            self._proposals.pop(instance, None)

    # -- keeping at it ------------------------------------------------------------------------------------------------

    def heartbeat(self, now: float, out: Effects) -> None:
        """Send a heartbeat to everybody, and again the Accepts that somebody has left unanswered for too long."""
        self.heartbeat_sent = now
        self.heartbeat_at = self._next_heartbeat(now)
        self.lease.sent(now)
        config = self._config
        if self._membership.leaving:
            self._dismiss(now)
        if not self.settled:
            self._settle(out)
        if self._barrier != NEVER:
            self._ask(out)
        for link in self._links.values():
            out.send.append(Heartbeat(config.node_id, link.node, self.ballot, self._learner.known, now, config.version))
            link.live = link.live and self._heard_lately(link.peer, now)
            if link.live and link.resend_at <= now:
                self._resend(link, now - config.retransmit_interval, now, out)

    def _next_heartbeat(self, now: float) -> float:
        """On a grid common to all groups of the process, so that their heartbeats travel together."""
        interval = self._config.heartbeat_interval
        due = (math.floor(now / interval) + 1) * interval
        return due if due - now >= interval / 2 else due + interval

    def heard(self, node: int, now: float, out: Effects) -> None:
        """Something came from ``node``. One that was away gets at once what is in flight."""
        link = self._links.get(node)
        if link is not None and not link.live:
            link.live = True
            link.resend_delay = self._config.retransmit_interval
            self._resend(link, now, now, out)

    def answered(self, message: HeartbeatReply) -> None:
        """A peer answered a heartbeat."""
        if message.sender in self._links and message.ballot == self.ballot and message.time <= self.heartbeat_sent:
            self.lease.answered(message.sender, message.time)

    def lost_peer(self, node: int) -> None:
        """The process of ``node`` is gone."""
        link = self._links.get(node)
        if link is not None:
            link.live = False

    def majority_is_gone(self, now: float) -> bool:
        """Whether no majority has answered heartbeats for so long that this node should give up."""
        view, config = self._membership.current, self._config
        reachable = view.majority(view.electors - self._peers.unreachable)
        patience = config.step_down_after if reachable else config.lease
        return now - self.lease.unanswered_since > patience and now >= self.lease.until

    def _heard_lately(self, peer: PeerStatus, now: float) -> bool:
        return (
            not peer.unreachable and peer.heard_at is not None and now - peer.heard_at <= self._config.step_down_after
        )

    def _within_reach(self, link: Link, instance: int) -> bool:
        """Whether the peer would accept ``instance``, or has to catch up first."""
        chosen = link.peer.chosen
        return instance <= (-1 if chosen is None else chosen) + self._config.accept_ahead

    def _resend(self, link: Link, sent_before: float, now: float, out: Effects) -> None:
        if not link.votes:
            return  # It catches up from the log.
        missing = [
            (instance, proposal.entry)
            for instance, proposal in self._proposals.items()
            if proposal.sent_at <= sent_before and not proposal.voted & link.bit and proposal.view.mask & link.bit
        ]
        if missing:
            link.resend_at = now + link.resend_delay
            link.resend_delay = min(2 * link.resend_delay, self._config.retransmit_interval_max)
            self._send(link, missing, out)

    def _send(self, link: Link, pairs: list[tuple[int, Entry]], out: Effects) -> None:
        """Accepts for ``pairs``, in as many messages as the bound on their size asks for."""
        page: list[tuple[int, Entry]] = []
        size = 0
        for instance, entry in pairs:
            if not self._within_reach(link, instance):
                break
            if page and size + len(entry.payload) > self._config.max_message_bytes:
                self._send_page(link, page, out)
                page, size = [], 0
            page.append((instance, entry))
            size += len(entry.payload)
        if page:
            self._send_page(link, page, out)

    def _send_page(self, link: Link, page: list[tuple[int, Entry]], out: Effects) -> None:
        out.send.append(Accept(self._config.node_id, link.node, self.ballot, self._learner.known, tuple(page)))
