"""Follower, pre-candidate, candidate, master: what this node is in its group, and how it changes.

follower ----- nothing heard until the deadline ------> pre-candidate: asks whether promises would be given
pre-candidate - a majority would ----------------------> candidate: makes its own promise durable, asks for promises
candidate ---- a majority promised --------------------> master
pre-candidate - no majority in time -------------------> pre-candidate, another round
candidate ---- refused for a higher ballot, or too slow -> follower, after a pause
any ---------- hears a master or candidate with a higher ballot, or may not lead any more -> follower
master ------- no majority answers heartbeats, or it cannot learn what is chosen -> follower

master ------- is no voter any more, or hands over --------> follower
follower ----- its master handed over to it ---------------> candidate (see ``transfer``)
"""

from __future__ import annotations

import enum

from phxqueue.paxos.acceptor import Acceptor
from phxqueue.paxos.ballot import NO_BALLOT, next_ballot, node_of
from phxqueue.paxos.config import GroupConfig
from phxqueue.paxos.effects import BecameMaster, Effects, LostMaster, MasterChanged, Standing
from phxqueue.paxos.election import Election, PreVoteRound
from phxqueue.paxos.learner import Learner
from phxqueue.paxos.membership import Membership
from phxqueue.paxos.messages import LearnRequest
from phxqueue.paxos.peers import Peers
from phxqueue.paxos.phase1 import Phase1
from phxqueue.paxos.proposer import Proposer


class Role(enum.Enum):
    """What a node is in its group."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    MASTER = "master"


class Roles:
    """The role of one node; what belongs to one role exists only while it has it."""

    __slots__ = (
        "_acceptor",
        "_asked_around",
        "_config",
        "_election",
        "_highest_seen",
        "_learner",
        "_membership",
        "_peers",
        "_prepare_at",
        "_standing_aside",
        "busy",
        "master_ballot",
        "phase1",
        "phase1_until",
        "proposer",
        "role",
        "round",
    )

    def __init__(
        self,
        config: GroupConfig,
        membership: Membership,
        peers: Peers,
        acceptor: Acceptor,
        learner: Learner,
        election: Election,
    ) -> None:
        self._config = config
        self._membership = membership
        self._peers = peers
        self._acceptor = acceptor
        self._learner = learner
        self._election = election
        self.role = Role.FOLLOWER
        self.round: PreVoteRound | None = None
        self.phase1: Phase1 | None = None
        self.proposer: Proposer | None = None
        self.master_ballot = NO_BALLOT
        """The highest ballot at which a master was heard (or is, this node itself)."""
        self.phase1_until = 0.0
        """Until when a candidate has time."""
        self._prepare_at = 0.0
        self._asked_around = election.heard_at
        self._standing_aside = False
        self.busy = False
        """Whether it could not serve if it were master: it has yet to apply what is chosen."""
        self._highest_seen = max((entry.ballot for entry in acceptor.entries.values()), default=NO_BALLOT)

    @property
    def floor(self) -> int:
        """Whoever comes with a lower ballot is refused."""
        return max(self._acceptor.promised, self.master_ballot)

    @property
    def may_stand(self) -> bool:
        """Whether this node may become master at all, now."""
        return (
            self._membership.may_lead
            and not self._acceptor.damaged
            and not self._standing_aside
            and self._learner.complete
        )

    def reluctant(self, now: float) -> bool:
        """Whether the mastership should be handed over to another rather than to this node."""
        # One that has just restarted would first have to wait until whatever it has forgotten binds it no more.
        return self._standing_aside or self.busy or self._election.lease.forgetful(now)

    def stand_aside(self, reason: str, now: float, out: Effects) -> None:
        """Never be master again, as long as this object lives."""
        self._standing_aside = True
        if self.role is not Role.FOLLOWER:
            self.give_up(reason, now, out)

    def saw(self, ballot: int) -> None:
        """``ballot`` is in use somewhere: an own one must be above it."""
        self._highest_seen = max(self._highest_seen, ballot)

    def bound_against(self, node: int, now: float) -> float:
        """For how many seconds this node will promise nothing to ``node`` (0: free).

        A master is bound to itself until it gives up, which it does in bounded time when nobody answers it.
        """
        if self.proposer is not None:
            return max(self._config.election_stagger, self.proposer.heartbeat_sent + self._config.lease - now)
        return self._election.wait_for(node, now)

    def bound_after_release(self, node: int, released: int, now: float) -> float:
        """The same, when the master at ballot ``released`` has handed over to ``node``."""
        if self.proposer is not None or self.master_ballot > released:
            return self.bound_against(node, now)
        return self._election.wait_after_release(node, released, now)

    def released(self, ballot: int, now: float) -> None:
        """What was given to the master at ``ballot`` binds no more."""
        self._election.lease.release(ballot, now)

    def expect(self, node: int) -> None:
        """``node`` is going to be master."""
        self._election.master = node

    def reluctance(self, node: int, now: float) -> float:
        """For how many seconds this node will grant no pre-vote to ``node``: also while it is a candidate itself."""
        own = self.phase1_until - now if self.phase1 is not None else 0.0
        return max(own, self.bound_against(node, now))

    # -- transitions --------------------------------------------------------------------------------------------------

    def follow(self, ballot: int, now: float, out: Effects) -> None:
        """A master at ``ballot``, which is not below ``floor``, was heard."""
        node = node_of(ballot)
        if self.role is not Role.FOLLOWER:
            self.give_up(f"node {node} is master at ballot {ballot}", now, out)
        if ballot != self.master_ballot or self._election.master != node:
            self.master_ballot = ballot
            out.events.append(MasterChanged(master_id=node, ballot=ballot))

    def give_up(self, reason: str, now: float, out: Effects) -> None:
        """Back to follower, from whatever."""
        if self.proposer is not None:
            out.events.append(LostMaster(ballot=self.proposer.ballot, reason=reason))
            self._learner.forget_scattered()
            # As if a master had just been heard: give whoever deposed this one the time to show up.
            self._election.heard_at = now
        self.role = Role.FOLLOWER
        self.round = None
        self.phase1 = None
        self.proposer = None

    def start_round(self, now: float, out: Effects) -> None:
        """Ask for pre-votes."""
        self.role = Role.PRE_CANDIDATE
        ballot = next_ballot(max(self.floor, self._highest_seen), self._config.node_id)
        self.round = self._election.start_round(ballot, self._learner.known, now, out)
        self.campaign_if_won(now, out)

    def campaign_if_won(self, now: float, out: Effects) -> None:
        """Go on to ask for promises, if a majority of pre-votes is there."""
        if self.round is None or not self.round.won or not self.may_stand:
            return
        self.campaign(now, out)

    def campaign(self, now: float, out: Effects, released: int = NO_BALLOT) -> None:
        """Ask for promises. ``released``: the ballot of the master that has handed over to this node."""
        ballot = next_ballot(max(self.floor, self._highest_seen), self._config.node_id)
        self.role = Role.CANDIDATE
        self.round = None
        self.phase1 = Phase1(self._membership, ballot, self._learner.known + 1, released)
        self.phase1_until = now + self._config.lease
        self._prepare_at = now + self._config.heartbeat_interval
        out.events.append(Standing(ballot=ballot))
        # Nobody is asked before the own promise is durable: after a crash the same ballot must not be used again.
        self._acceptor.promise(ballot, out)
        asked = Effects()
        self.phase1.ask(self._membership.current, asked)
        out.send_after.extend(asked.send)

    def own_promise_durable(self, now: float, out: Effects) -> None:
        """Something became durable while this node is candidate; perhaps its own promise."""
        phase1 = self.phase1
        if phase1 is None or self._acceptor.durable_promise < phase1.ballot:
            return
        phase1.own_promise(self._learner.delivered, self._acceptor.entries)
        self.promised(phase1, now, out)

    def promised(self, phase1: Phase1, now: float, out: Effects) -> None:
        """More was promised to this candidate."""
        if phase1.covers(self._membership.current):
            self.become_master(phase1, now, out)

    def forget_promises(self, node: int) -> None:
        """``node`` runs on another directory, which has promised nothing."""
        phase1 = self.phase1 if self.proposer is None else self.proposer.phase1
        if phase1 is not None:
            phase1.forget(node)
        if self.round is not None:
            self.round.forget(node)

    def membership_moved(self, now: float, out: Effects) -> None:
        """Others are members, or others count."""
        if self.proposer is not None:
            self.proposer.membership_moved(now, out)
        elif self.role is not Role.FOLLOWER and not self.may_stand:
            self.give_up("no voter any more", now, out)
        elif self.phase1 is not None:
            self.promised(self.phase1, now, out)

    def become_master(self, phase1: Phase1, now: float, out: Effects) -> None:
        """A majority has promised."""
        recovered = phase1.to_propose(self._learner.known)
        phase1.proposed()
        self.phase1 = None
        self.role = Role.MASTER
        self.master_ballot = phase1.ballot
        self._election.master = None
        self._learner.progress_at = now
        self.proposer = Proposer(
            self._config,
            self._membership,
            self._acceptor,
            self._learner,
            self._peers,
            phase1,
            recovered,
            now,
        )
        out.events.append(BecameMaster(ballot=phase1.ballot, first_instance=self.proposer.first_instance))
        self.proposer.heartbeat(now, out)
        self.proposer.pump(now, out)

    # -- time ---------------------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """When ``tick`` has something to do."""
        if self.proposer is not None:
            return self.proposer.heartbeat_at
        if self.phase1 is not None:
            return min(self._prepare_at, self.phase1_until)
        if not self.may_stand:
            return self._ask_around_at
        return self._election.deadline if self.round is None else self.round.until

    def tick(self, now: float, out: Effects) -> None:
        """Time has passed."""
        if self.proposer is not None:
            self._tick_master(self.proposer, now, out)
        elif self.phase1 is not None:
            self._tick_candidate(self.phase1, now, out)
        elif not self.may_stand:
            self._ask_around(now, out)
        elif now >= self.deadline:
            self.start_round(now, out)

    @property
    def _ask_around_at(self) -> float:
        """When a member that may not stand has heard of no master for so long that it asks what it has missed. Perhaps
        it is the one that may, by a change that it does not know, and the others are waiting for it.
        """
        if self._config.node_id not in self._membership.current.kinds:
            return float("inf")
        return max(self._election.heard_at, self._asked_around) + self._config.recovery_timeout

    def _ask_around(self, now: float, out: Effects) -> None:
        if now >= self._ask_around_at:
            self._asked_around = now
            first = self._learner.known + 1
            out.send += [LearnRequest(self._config.node_id, node, first, 1) for node in self._membership.peers]

    def _tick_master(self, proposer: Proposer, now: float, out: Effects) -> None:
        if proposer.majority_is_gone(now):
            self.give_up("no majority answers", now, out)
        elif self._learner.known < proposer.learn_to and (
            now - self._learner.progress_at > self._config.recovery_timeout
        ):
            self.give_up(f"nobody tells what is chosen up to instance {proposer.learn_to}", now, out)
        elif now >= proposer.heartbeat_at:
            proposer.heartbeat(now, out)

    def _tick_candidate(self, phase1: Phase1, now: float, out: Effects) -> None:
        if now >= self.phase1_until:
            self.give_up("no majority promised in time", now, out)
            self._election.back_off(now)
        elif now >= self._prepare_at:
            self._prepare_at = now + self._config.heartbeat_interval
            if self._acceptor.durable_promise >= phase1.ballot:
                phase1.ask(self._membership.current, out)

    def prepare_refused(self, wait: float, now: float) -> None:
        """A voter is bound for ``wait`` seconds more: ask again just then."""
        self._prepare_at = min(self._prepare_at, now + max(wait, self._config.ask_again))
