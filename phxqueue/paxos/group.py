"""One Paxos group as one node sees it: the public face of the core."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from phxqueue.paxos.acceptor import Acceptor
from phxqueue.paxos.ballot import node_of
from phxqueue.paxos.config import GroupConfig, Restored
from phxqueue.paxos.effects import CorruptEntry, Effects, Event, MessageIgnored
from phxqueue.paxos.election import Election
from phxqueue.paxos.entry import EntryKind
from phxqueue.paxos.errors import InvariantViolation, NotMaster
from phxqueue.paxos.learner import Learner
from phxqueue.paxos.membership import Membership
from phxqueue.paxos.messages import (
    Accept,
    Accepted,
    Entries,
    Heartbeat,
    HeartbeatReply,
    LearnReply,
    LearnRequest,
    Message,
    MessageType,
    Prepare,
    PreVote,
    PreVoteReply,
    Promise,
    Reject,
)
from phxqueue.paxos.peers import Peers, PeerStatus
from phxqueue.paxos.repair import Repairs
from phxqueue.paxos.roles import Role, Roles


class Group:
    """See the package's docstring for how to drive it.

    :param restored: what the log of this node holds.
    :param now: the monotonic clock, seconds; every later call passes it too.
    :param seed: decides the little randomness there is (pauses after a failed election).
    """

    def __init__(self, config: GroupConfig, restored: Restored, now: float, seed: int) -> None:
        self.config = config
        self.ignored = 0
        """Messages dropped so far because they came from no member or made no sense."""
        self._now = now
        self._node_id = config.node_id
        self._membership = Membership(config)
        self._peers = Peers(self._membership.peers)
        self._acceptor = Acceptor(config, restored)
        self._learner = Learner(config, self._acceptor, self._peers, restored, now)
        self._election = Election(config, self._membership, self._peers, now, seed)
        self._roles = Roles(config, self._membership, self._peers, self._acceptor, self._learner, self._election)
        self._repairs = Repairs(config, self._acceptor, self._peers)
        self._first_events: list[Event] = [
            CorruptEntry(sender=config.node_id, instance=instance) for instance in sorted(self._acceptor.damaged)
        ]
        self._handlers: Mapping[MessageType, Callable[[Any, float, Effects], None]] = {
            MessageType.PRE_VOTE: self._on_pre_vote,
            MessageType.PRE_VOTE_REPLY: self._on_pre_vote_reply,
            MessageType.PREPARE: self._on_prepare,
            MessageType.PROMISE: self._on_promise,
            MessageType.ACCEPT: self._on_accept,
            MessageType.ACCEPTED: self._on_accepted,
            MessageType.REJECT: self._on_reject,
            MessageType.HEARTBEAT: self._on_heartbeat,
            MessageType.HEARTBEAT_REPLY: self._on_heartbeat_reply,
            MessageType.LEARN_REQUEST: self._on_learn_request,
            MessageType.LEARN_REPLY: self._on_learn_reply,
        }

    # -- what may happen to it ----------------------------------------------------------------------------------------

    def step(self, message: Message, now: float) -> Effects:
        """A message has come in."""
        out = self._begin(now)
        sender = message.sender
        if sender not in self._peers.by_node or message.receiver != self._node_id:
            self._ignore(message, "not from a member of this group to this node", out)
            return out
        self._peers.heard(sender, now)
        if self._roles.proposer is not None:
            self._roles.proposer.heard(sender, now, out)
        self._handlers[message.type](message, now, out)
        return self._finish(now, out)

    def propose(self, payload: bytes, now: float) -> tuple[int, Effects]:
        """Propose a command. Returns the instance it will have if it is chosen as proposed.

        :raises NotMaster: this node is not the master.
        :raises WindowFull: too much is in flight.
        """
        out = self._begin(now)
        proposer = self._roles.proposer
        if proposer is None:
            raise NotMaster(self.config.group_id, self.master_id)
        instance = proposer.propose(EntryKind.VALUE, payload, now, out)
        return instance, self._finish(now, out)

    def tick(self, now: float) -> Effects:
        """Time has passed; call it at ``next_deadline()``, more often does no harm."""
        out = self._begin(now)
        self._roles.tick(now, out)
        self._repairs.tick(now, out)
        if self.is_master:
            self._learner.record(out)
        return self._finish(now, out)

    def persisted(self, token: int, now: float) -> Effects:
        """Everything up to and including the Effects with ``token`` is durable."""
        out = self._begin(now)
        durable = self._acceptor.confirm(token)
        if self._roles.proposer is not None:
            self._roles.proposer.own_durable(durable)
        elif self._roles.phase1 is not None:
            self._roles.own_promise_durable(now, out)
        return self._finish(now, out)

    def peer_unreachable(self, node_id: int, now: float) -> Effects:
        """The connection of ``node_id`` was closed, and a new one refused: its process is gone."""
        out = self._begin(now)
        self._peers.lost(node_id)
        if self._roles.proposer is not None:
            self._roles.proposer.lost_peer(node_id)
        return self._finish(now, out)

    def repair(self, instance: int, now: float) -> Effects:
        """The log cannot read the entry at ``instance`` (up to ``chosen``) any more: fetch it from a peer.

        Answered by an EntryRepaired event some time later. At most ``max_repairs`` at one time; more are not taken.
        """
        out = self._begin(now)
        if not self._learner.first <= instance <= self.chosen:
            raise InvariantViolation(f"instance {instance} is not between {self._learner.first} and {self.chosen}")
        self._repairs.want(instance, now, out)
        return self._finish(now, out)

    def stand_aside(self, reason: str, now: float) -> Effects:
        """Give up mastership, if this node has it, and do not stand again until restarted; go on voting.

        For a node whose state machine had to stop: its log is as good as any, but it cannot serve.
        """
        out = self._begin(now)
        self._roles.stand_aside(reason, now, out)
        return self._finish(now, out)

    def log_trimmed(self, first: int) -> None:
        """The log of this node now begins at ``first``."""
        self._learner.first = max(self._learner.first, first)

    # -- what may be asked of it --------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """When ``tick`` has something to do next; infinity if never."""
        return min(self._roles.deadline, self._learner.deadline, self._repairs.deadline)

    def lease_valid(self, now: float) -> bool:
        """Whether reads may be served from the state machine now.

        This node is master, a majority is bound to it, and everything that may have been chosen before its mastership
        has been handed out to be applied.
        """
        proposer = self._roles.proposer
        return (
            proposer is not None
            and now < proposer.lease.until
            and self._learner.delivered >= proposer.first_instance - 1
        )

    @property
    def role(self) -> Role:
        """What this node is now."""
        return self._roles.role

    @property
    def is_master(self) -> bool:
        """Whether propose() may work. Says nothing about reads, see ``lease_valid``."""
        return self._roles.proposer is not None

    @property
    def master_id(self) -> int | None:
        """The node believed to be master; a hint."""
        if self.is_master:
            return self._node_id
        master = self._election.master
        return None if master in self._peers.unreachable else master

    @property
    def ballot(self) -> int:
        """The highest ballot at which a master was heard, or is master itself; 0 before."""
        return self._roles.master_ballot

    @property
    def promised(self) -> int:
        """The promise of this node."""
        return self._acceptor.promised

    @property
    def chosen(self) -> int:
        """Everything up to here is chosen, durable on this node and was handed out to be applied; -1: nothing."""
        return self._learner.delivered

    @property
    def in_flight(self) -> int:
        """Instances that this master proposed and that were not handed out yet."""
        return 0 if self._roles.proposer is None else self._roles.proposer.in_flight

    @property
    def window_free(self) -> int:
        """How many values propose() would take now (fewer if they are large)."""
        return 0 if self._roles.proposer is None else self._roles.proposer.window_free

    @property
    def lease_until(self) -> float:
        """Until when a majority is bound to this master, if nothing more is heard; minus infinity without."""
        return float("-inf") if self._roles.proposer is None else self._roles.proposer.lease.until

    @property
    def peers(self) -> Mapping[int, PeerStatus]:
        """All other members, as known from their messages. Look, do not touch."""
        return MappingProxyType(self._peers.by_node)

    @property
    def lowest_version(self) -> int:
        """The highest command version that every member is known to understand; 0 while some member has not told."""
        return min((peer.version or 0 for peer in self._peers.by_node.values()), default=self.config.version)

    def learn_reply(self, to: int, first: int, entries: Entries) -> LearnReply:
        """The message that answers a ServeLearn, with the entries read from the log."""
        return LearnReply(self._node_id, to, first, self.chosen, entries)

    # -- around every call --------------------------------------------------------------------------------------------

    def _begin(self, now: float) -> Effects:
        if now < self._now:
            raise InvariantViolation(f"the monotonic clock went back from {self._now} to {now}")
        self._now = now
        out = Effects()
        if self._first_events:
            out.events, self._first_events = self._first_events, []
        return out

    def _finish(self, now: float, out: Effects) -> Effects:
        learner = self._learner
        if learner.known > learner.delivered:
            learner.deliver(out)
        proposer = self._roles.proposer
        if proposer is not None:
            for instance, _ in out.chosen:
                proposer.handed_out(instance)
            if proposer.recovering:
                proposer.pump(now, out)
        if learner.known < learner.target:
            learner.ask(now, self._election.master, out)
        self._acceptor.seal(out)
        return out

    def _ignore(self, message: Message, reason: str, out: Effects) -> None:
        self.ignored += 1
        out.events.append(MessageIgnored(sender=message.sender, reason=f"{type(message).__name__}: {reason}"))

    def _owned(self, message: PreVote | Prepare | Accept | Heartbeat, out: Effects) -> bool:
        """Whether the ballot is the sender's own, as it must be."""
        if node_of(message.ballot) == message.sender:
            return True
        self._ignore(message, f"ballot {message.ballot} belongs to node {node_of(message.ballot)}", out)
        return False

    # -- messages: election -------------------------------------------------------------------------------------------

    def _on_pre_vote(self, message: PreVote, now: float, out: Effects) -> None:
        if not self._owned(message, out) or not self._membership.votes:
            return
        roles = self._roles
        self._learner.told(message.sender, message.chosen)
        wait = roles.reluctance(message.sender, now)
        # One that is far behind would have to catch up before it can serve: rather stand oneself.
        behind = roles.may_stand and message.chosen + self.config.window < self.chosen
        granted = message.ballot > roles.floor and wait == 0 and not behind and not self._acceptor.damaged
        if granted:
            self._election.postpone(now + self.config.election_timeout)
            if roles.round is not None and message.ballot > roles.round.ballot:
                roles.give_up("another stands", now, out)
        out.send.append(
            PreVoteReply(self._node_id, message.sender, message.ballot, granted, roles.floor, self.chosen, wait)
        )

    def _on_pre_vote_reply(self, message: PreVoteReply, now: float, out: Effects) -> None:
        roles = self._roles
        self._learner.told(message.sender, message.chosen)
        roles.saw(message.promised)
        if roles.round is not None and message.sender in self._membership.voters:
            roles.round.answered(message, now)
            roles.campaign_if_won(now, out)

    def _on_prepare(self, message: Prepare, now: float, out: Effects) -> None:
        if not self._owned(message, out) or not self._membership.votes:
            return
        roles, acceptor = self._roles, self._acceptor
        roles.saw(message.ballot)
        wait = roles.bound_against(message.sender, now) if message.ballot > acceptor.promised else 0.0
        if message.ballot < roles.floor or wait > 0:
            out.send.append(Reject(self._node_id, message.sender, message.ballot, roles.floor, wait))
            return
        if acceptor.damaged:
            self._ignore(message, f"cannot promise, unreadable here: {sorted(acceptor.damaged)}", out)
            return
        last, final, entries = acceptor.page(message.first, self.chosen)
        promise = Promise(
            self._node_id, message.sender, message.ballot, message.first, last, final, self.chosen, entries
        )
        if acceptor.durable_promise >= message.ballot:
            out.send.append(promise)
            return
        if roles.role is not Role.FOLLOWER:
            roles.give_up(f"node {message.sender} stands at ballot {message.ballot}", now, out)
        acceptor.promise(message.ballot, out)
        self._election.postpone(now + self.config.lease)
        out.send_after.append(promise)

    def _on_promise(self, message: Promise, now: float, out: Effects) -> None:
        self._learner.told(message.sender, message.chosen)
        phase1 = self._roles.phase1
        if phase1 is None or message.ballot != phase1.ballot or message.sender not in self._membership.voters:
            return
        complete, corrupt = phase1.promised(message, out)
        if corrupt is not None:
            out.events.append(CorruptEntry(sender=message.sender, instance=corrupt))
        if complete:
            self._roles.become_master(now, out)

    def _on_reject(self, message: Reject, now: float, out: Effects) -> None:
        roles = self._roles
        roles.saw(message.promised)
        if roles.proposer is not None and roles.proposer.ballot == message.ballot < message.promised:
            roles.give_up(f"node {message.sender} has promised ballot {message.promised}", now, out)
        elif roles.phase1 is not None and roles.phase1.ballot == message.ballot:
            if message.promised > message.ballot:
                roles.give_up("outbid", now, out)
                self._election.back_off(now)
            else:
                roles.prepare_refused(message.wait, now)

    # -- messages: a master and its followers -------------------------------------------------------------------------

    def _heard_master(self, message: Accept | Heartbeat, now: float, out: Effects) -> bool:
        """Whether the sender is to be followed; it is told if not."""
        if not self._owned(message, out):
            return False
        roles = self._roles
        if message.ballot < roles.floor:
            out.send.append(Reject(self._node_id, message.sender, message.ballot, roles.floor, 0.0))
            return False
        if (
            message.ballot != roles.master_ballot
            or roles.role is not Role.FOLLOWER
            or self._election.master != message.sender
        ):
            roles.follow(message.ballot, now, out)
        self._election.heard(message.sender, now)
        return True

    def _on_accept(self, message: Accept, now: float, out: Effects) -> None:
        if not self._heard_master(message, now, out):
            return
        learner = self._learner
        fresh, again = self._acceptor.accept(message, learner.known, learner.delivered, out)
        learner.mark(message.ballot, message.chosen)
        learner.deliver(out)  # first, for the answers tell how far this node is
        if fresh:
            self._answer(message, fresh, out.send_after)
        if again:
            self._answer(message, again, out.send)
        if not fresh and not again:
            out.send.append(Accepted(self._node_id, message.sender, message.ballot, 0, -1, self.chosen))

    def _answer(self, message: Accept, instances: list[int], send: list[Message]) -> None:
        """One Accepted for every unbroken run of instances."""
        first = last = instances[0]
        for instance in instances[1:]:
            if instance != last + 1:
                send.append(Accepted(self._node_id, message.sender, message.ballot, first, last, self.chosen))
                first = instance
            last = instance
        send.append(Accepted(self._node_id, message.sender, message.ballot, first, last, self.chosen))

    def _on_accepted(self, message: Accepted, now: float, out: Effects) -> None:
        self._learner.told(message.sender, message.chosen)
        if self._roles.proposer is not None:
            self._roles.proposer.accepted(message, now)

    def _on_heartbeat(self, message: Heartbeat, now: float, out: Effects) -> None:
        self._peers.by_node[message.sender].version = message.version
        if not self._heard_master(message, now, out):
            return
        self._election.lease.renew(message.sender, now)
        self._learner.mark(message.ballot, message.chosen)
        self._learner.deliver(out)
        self._learner.record(out)
        out.send.append(
            HeartbeatReply(
                self._node_id, message.sender, message.ballot, self.chosen, message.time, self.config.version
            )
        )

    def _on_heartbeat_reply(self, message: HeartbeatReply, now: float, out: Effects) -> None:
        self._peers.by_node[message.sender].version = message.version
        self._learner.told(message.sender, message.chosen)
        if self._roles.proposer is not None:
            self._roles.proposer.answered(message)

    # -- messages: catching up ----------------------------------------------------------------------------------------

    def _on_learn_request(self, message: LearnRequest, now: float, out: Effects) -> None:
        self._learner.serve(message, now, out)

    def _on_learn_reply(self, message: LearnReply, now: float, out: Effects) -> None:
        if not self._repairs.learn(message, out):
            self._learner.learn(message, now, out)
