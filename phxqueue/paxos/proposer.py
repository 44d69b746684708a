"""Phase 2: what a master does with its mastership.

One Proposer lives as long as one mastership. It keeps every instance in flight (proposed here, not yet handed out to be
applied), counts the votes, sends again what got no answer, and renews the lease with heartbeats.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

from phxqueue.paxos.acceptor import Acceptor
from phxqueue.paxos.config import GroupConfig
from phxqueue.paxos.effects import Effects
from phxqueue.paxos.entry import Entry, make_entry
from phxqueue.paxos.errors import InvariantViolation, WindowFull
from phxqueue.paxos.learner import Learner
from phxqueue.paxos.lease import LeaseHeld
from phxqueue.paxos.membership import Membership
from phxqueue.paxos.messages import Accept, Accepted, Heartbeat, HeartbeatReply
from phxqueue.paxos.peers import Peers, PeerStatus


class _Proposal:
    """One instance waiting for its majority."""

    __slots__ = ("entry", "sent_at", "voted", "votes")

    def __init__(self, entry: Entry, now: float) -> None:
        self.entry = entry
        self.sent_at = now
        self.voted = 0  # a bit per voter
        self.votes = 0


class _Link:
    """What the master keeps about sending to one peer."""

    __slots__ = ("bit", "live", "node", "peer", "resend_at", "resend_delay")

    def __init__(self, peer: PeerStatus, bit: int, live: bool, resend_delay: float) -> None:
        self.peer = peer
        self.node = peer.node_id
        self.bit = bit  # 0 for a learner
        self.live = live  # heard lately; the others get heartbeats only
        self.resend_at = 0.0
        self.resend_delay = resend_delay


class Proposer:
    """See the module's docstring. ``recovered`` is what phase 1 says must be proposed first."""

    __slots__ = (
        "_acceptor",
        "_config",
        "_learner",
        "_links",
        "_membership",
        "_peers",
        "_proposals",
        "_recovery",
        "_sizes",
        "ballot",
        "first_instance",
        "heartbeat_at",
        "heartbeat_sent",
        "in_flight_bytes",
        "learn_to",
        "lease",
        "next_instance",
    )

    def __init__(
        self,
        config: GroupConfig,
        membership: Membership,
        acceptor: Acceptor,
        learner: Learner,
        peers: Peers,
        ballot: int,
        chosen: int,
        recovered: list[tuple[int, Entry]],
        now: float,
    ) -> None:
        self._config = config
        self._membership = membership
        self._acceptor = acceptor
        self._learner = learner
        self._peers = peers
        self.ballot = ballot
        self.learn_to = chosen
        """Everything up to here is chosen already and must be learned, if it is not known."""
        self.first_instance = recovered[-1][0] + 1 if recovered else chosen + 1
        """The first new instance of this mastership: reads must wait until all below it is applied."""
        self.next_instance = self.first_instance
        self._recovery = deque(recovered)
        self._proposals: dict[int, _Proposal] = {}
        self._sizes: dict[int, int] = {}  # payload of every instance in flight
        self.in_flight_bytes = 0
        self.lease = LeaseHeld(membership, config.lease, config.max_clock_drift, now)
        self.heartbeat_at = now
        """When the next heartbeat is due."""
        self.heartbeat_sent = now
        self._links = {
            node: _Link(peer, membership.bits.get(node, 0), self._heard_lately(peer, now), config.retransmit_interval)
            for node, peer in peers.by_node.items()
        }

    # -- proposing ----------------------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """Instances proposed here and not handed out yet."""
        return len(self._sizes)

    @property
    def window_free(self) -> int:
        """How many more instances may be proposed now."""
        if self._recovery or self.in_flight_bytes >= self._config.window_bytes:
            return 0
        return max(0, self._config.window - len(self._sizes))

    @property
    def recovering(self) -> bool:
        """Whether something that phase 1 brought up is still to be proposed."""
        return bool(self._recovery)

    def propose(self, kind: int, payload: bytes, now: float, out: Effects) -> int:
        """Propose a new value at the next instance."""
        if self._recovery or not self._fits(len(payload)):
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
        """Propose what phase 1 brought up, as far as the window allows."""
        started = []
        while self._recovery and self._fits(len(self._recovery[0][1].payload)):
            instance, entry = self._recovery.popleft()
            if instance > self._learner.known:
                self._start(instance, entry, now, out)
                started.append((instance, entry))
        if started:
            for link in self._links.values():
                if link.live:
                    self._send(link, started, out)

    def _fits(self, size: int) -> bool:
        if not self._sizes:
            return True
        return len(self._sizes) < self._config.window and self.in_flight_bytes + size <= self._config.window_bytes

    def _start(self, instance: int, entry: Entry, now: float, out: Effects) -> None:
        if self._acceptor.promised != self.ballot:
            raise InvariantViolation(f"proposing at ballot {self.ballot}, but promised is {self._acceptor.promised}")
        self._acceptor.store(instance, entry, out)
        self._proposals[instance] = _Proposal(entry, now)
        size = len(entry.payload)
        self._sizes[instance] = size
        self.in_flight_bytes += size

    # -- votes --------------------------------------------------------------------------------------------------------

    def accepted(self, message: Accepted, now: float) -> None:
        """Votes of a peer, all durable there."""
        if message.ballot != self.ballot:
            return
        link = self._links[message.sender]
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
        bit = self._membership.bits[self._config.node_id]
        for instance in instances:
            self._vote(bit, instance)

    def _vote(self, bit: int, instance: int) -> None:
        proposal = self._proposals.get(instance)
        if proposal is None or not bit or proposal.voted & bit:
            return
        proposal.voted |= bit
        proposal.votes += 1
        if proposal.votes >= self._membership.quorum:
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
        link = self._links[node]
        if not link.live:
            link.live = True
            link.resend_delay = self._config.retransmit_interval
            self._resend(link, now, now, out)

    def answered(self, message: HeartbeatReply) -> None:
        """A peer answered a heartbeat."""
        if message.ballot == self.ballot and message.time <= self.heartbeat_sent:
            self.lease.answered(message.sender, message.time)

    def lost_peer(self, node: int) -> None:
        """The process of ``node`` is gone."""
        self._links[node].live = False

    def majority_is_gone(self, now: float) -> bool:
        """Whether no majority has answered heartbeats for so long that this node should give up."""
        gone = len(self._membership.voters & self._peers.unreachable)
        reachable = len(self._membership.voters) - gone
        config = self._config
        patience = config.step_down_after if reachable >= self._membership.quorum else config.lease
        return now - self.lease.unanswered_since > patience and now >= self.lease.until

    def _heard_lately(self, peer: PeerStatus, now: float) -> bool:
        return (
            not peer.unreachable and peer.heard_at is not None and now - peer.heard_at <= self._config.step_down_after
        )

    def _within_reach(self, link: _Link, instance: int) -> bool:
        """Whether the peer would accept ``instance``, or has to catch up first."""
        chosen = link.peer.chosen
        return instance <= (-1 if chosen is None else chosen) + self._config.accept_ahead

    def _resend(self, link: _Link, sent_before: float, now: float, out: Effects) -> None:
        if not link.bit:
            return  # A learner catches up from the log.
        missing = [
            (instance, proposal.entry)
            for instance, proposal in self._proposals.items()
            if proposal.sent_at <= sent_before and not proposal.voted & link.bit
        ]
        if missing:
            link.resend_at = now + link.resend_delay
            link.resend_delay = min(2 * link.resend_delay, self._config.retransmit_interval_max)
            self._send(link, missing, out)

    def _send(self, link: _Link, pairs: list[tuple[int, Entry]], out: Effects) -> None:
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

    def _send_page(self, link: _Link, page: list[tuple[int, Entry]], out: Effects) -> None:
        out.send.append(Accept(self._config.node_id, link.node, self.ballot, self._learner.known, tuple(page)))
