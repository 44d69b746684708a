"""Takes messages apart: what each of them means to this node, whatever it is at the moment.

Nothing is decided here that another module could decide. The Group has checked that the sender is a member; here it
is checked that a ballot is the sender's own, and that it is not below what this node is bound to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from phxqueue.paxos.acceptor import Acceptor
from phxqueue.paxos.ballot import node_of
from phxqueue.paxos.config import GroupConfig
from phxqueue.paxos.effects import CorruptEntry, Effects, MessageIgnored
from phxqueue.paxos.election import Election
from phxqueue.paxos.learner import Learner
from phxqueue.paxos.membership import Membership
from phxqueue.paxos.messages import (
    Accept,
    Accepted,
    HandOver,
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
from phxqueue.paxos.peers import Peers
from phxqueue.paxos.repair import Repairs
from phxqueue.paxos.roles import Role, Roles
from phxqueue.paxos.transfer import Transfers


class Inbox:
    """See the module's docstring."""

    __slots__ = (
        "_acceptor",
        "_config",
        "_election",
        "_handlers",
        "_learner",
        "_membership",
        "_node_id",
        "_peers",
        "_repairs",
        "_roles",
        "_transfers",
        "ignored",
    )

    def __init__(
        self,
        config: GroupConfig,
        membership: Membership,
        peers: Peers,
        acceptor: Acceptor,
        learner: Learner,
        election: Election,
        roles: Roles,
        repairs: Repairs,
        transfers: Transfers,
    ) -> None:
        self._config = config
        self._node_id = config.node_id
        self._membership = membership
        self._peers = peers
        self._acceptor = acceptor
        self._learner = learner
        self._election = election
        self._roles = roles
        self._repairs = repairs
        self._transfers = transfers
        self.ignored = 0
        """Messages dropped so far because they came from no member or made no sense."""
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
            MessageType.HAND_OVER: self._on_hand_over,
        }

    def handle(self, message: Message, now: float, out: Effects) -> None:
        """A member of the group sent ``message`` to this node."""
        self._handlers[message.type](message, now, out)

    def ignore(self, message: Message, reason: str, out: Effects) -> None:
        """Drop ``message``, and say so."""
        self.ignored += 1
        out.events.append(MessageIgnored(sender=message.sender, reason=f"{type(message).__name__}: {reason}"))

    def _owned(self, message: PreVote | Prepare | Accept | Heartbeat | HandOver, out: Effects) -> bool:
        """Whether the ballot is the sender's own, as it must be."""
        if node_of(message.ballot) == message.sender:
            return True
        self.ignore(message, f"ballot {message.ballot} belongs to node {node_of(message.ballot)}", out)
        return False

    # -- messages: election -------------------------------------------------------------------------------------------

    def _on_pre_vote(self, message: PreVote, now: float, out: Effects) -> None:
        if not self._owned(message, out):
            return
        # Also when this node has no vote: perhaps it has, by a change that it is to learn first.
        self._learner.told(message.sender, message.chosen)
        roles = self._roles
        wait = roles.reluctance(message.sender, now)
        # One that is far behind would have to catch up before it can serve: rather stand oneself.
        delivered = self._learner.delivered
        behind = roles.may_stand and message.chosen + self._config.window < delivered
        granted = (
            message.ballot > roles.floor
            and wait == 0
            and self._membership.may_promise
            and not behind
            and not self._acceptor.damaged
            and self._may_lead(message.sender, message.chosen)
        )
        if granted:
            self._election.postpone(now + self._config.election_timeout)
            if roles.round is not None and message.ballot > roles.round.ballot:
                roles.give_up("another stands", now, out)
        # The answer tells what is chosen here, which may be what the sender lacks to know who votes.
        out.send.append(
            PreVoteReply(self._node_id, message.sender, message.ballot, granted, roles.floor, delivered, wait)
        )

    def _may_lead(self, node: int, known: int) -> bool:
        """Whether a candidate that knows ``known`` instances to be chosen may be right in standing: it is known as one
        that votes, or knows more than this node. One that was removed is told so by what it learns then.
        """
        return self._membership.may_be_promised(node) or known > self._learner.known

    def _on_pre_vote_reply(self, message: PreVoteReply, now: float, out: Effects) -> None:
        roles = self._roles
        self._learner.told(message.sender, message.chosen)
        roles.saw(message.promised)
        if roles.round is not None:
            roles.round.answered(message, now)
            roles.campaign_if_won(now, out)

    def _on_prepare(self, message: Prepare, now: float, out: Effects) -> None:
        if not self._owned(message, out) or not self._membership.may_promise:
            return
        roles, acceptor = self._roles, self._acceptor
        if not self._may_lead(
            message.sender, message.first - 1
        ):  # what it knows, or more when it asks for a later page
            self.ignore(message, "no voter here, and it does not know it yet", out)
            return
        roles.saw(message.ballot)
        wait = self._bound_against(message, now)
        if message.ballot < roles.floor or wait > 0:
            out.send.append(Reject(self._node_id, message.sender, message.ballot, roles.floor, wait))
            return
        if acceptor.damaged:
            self.ignore(message, f"cannot promise, unreadable here: {sorted(acceptor.damaged)}", out)
            return
        last, final, entries = acceptor.page(message.first, self._learner.delivered)
        promise = Promise(
            self._node_id, message.sender, message.ballot, message.first, last, final, self._learner.delivered, entries
        )
        if acceptor.durable_promise >= message.ballot:
            out.send.append(promise)
            return
        if roles.role is not Role.FOLLOWER:
            roles.give_up(f"node {message.sender} stands at ballot {message.ballot}", now, out)
        acceptor.promise(message.ballot, out)
        if message.released:
            roles.released(message.released, now)
        self._election.postpone(now + self._config.lease)
        out.send_after.append(promise)

    def _bound_against(self, message: Prepare, now: float) -> float:
        """For how many seconds this node will not promise what is asked."""
        if message.ballot <= self._acceptor.promised:
            return 0.0
        if message.released:
            return self._roles.bound_after_release(message.sender, message.released, now)
        return self._roles.bound_against(message.sender, now)

    def _on_promise(self, message: Promise, now: float, out: Effects) -> None:
        self._learner.told(message.sender, message.chosen)
        roles = self._roles
        phase1 = roles.phase1 if roles.proposer is None else roles.proposer.phase1
        if phase1 is None or message.ballot != phase1.ballot:
            return
        corrupt = phase1.promised(message, out)
        if corrupt is not None:
            out.events.append(CorruptEntry(sender=message.sender, instance=corrupt))
        elif roles.proposer is None:
            roles.promised(phase1, now, out)
        elif phase1.chosen >= roles.proposer.next_instance:
            roles.give_up(f"node {message.sender} knows more to be chosen than was proposed here", now, out)
        else:
            roles.proposer.promised(now, out)

    def _on_reject(self, message: Reject, now: float, out: Effects) -> None:
        roles = self._roles
        roles.saw(message.promised)
        self._transfers.refused(message.sender, message.ballot, now)
        if roles.proposer is not None and roles.proposer.ballot == message.ballot < message.promised:
            roles.give_up(f"node {message.sender} has promised ballot {message.promised}", now, out)
        elif roles.phase1 is not None and roles.phase1.ballot == message.ballot:
            if message.promised > message.ballot:
                roles.give_up("outbid", now, out)
                self._election.back_off(now)
            else:
                roles.prepare_refused(message.wait, now)

    # -- messages: a master and its followers -------------------------------------------------------------------------

    def _heard_master(self, message: Accept | Heartbeat | HandOver, now: float, out: Effects) -> bool:
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
        if not self._membership.plain:
            fresh = [instance for instance in fresh if self._membership.votes_at(instance)]
            again = [instance for instance in again if self._membership.votes_at(instance)]
        if fresh:
            self._answer(message, fresh, out.send_after)
        if again:
            self._answer(message, again, out.send)
        if not fresh and not again:
            out.send.append(Accepted(self._node_id, message.sender, message.ballot, 0, -1, self._learner.delivered))

    def _answer(self, message: Accept, instances: list[int], send: list[Message]) -> None:
        """One Accepted for every unbroken run of instances."""
        delivered = self._learner.delivered
        first = last = instances[0]
        for instance in instances[1:]:
            if instance != last + 1:
                send.append(Accepted(self._node_id, message.sender, message.ballot, first, last, delivered))
                first = instance
            last = instance
        send.append(Accepted(self._node_id, message.sender, message.ballot, first, last, delivered))

    def _on_accepted(self, message: Accepted, now: float, out: Effects) -> None:
        self._learner.told(message.sender, message.chosen)
        if self._roles.proposer is not None:
            self._roles.proposer.accepted(message, now)

    def _on_heartbeat(self, message: Heartbeat, now: float, out: Effects) -> None:
        self._peers.by_node[message.sender].version = message.version
        if not self._heard_master(message, now, out):
            return
        self._election.lease.renew(message.sender, message.ballot, now)
        self._learner.mark(message.ballot, message.chosen)
        self._learner.deliver(out)
        self._learner.record(out)
        learner = self._learner
        reply = HeartbeatReply(
            self._node_id,
            message.sender,
            message.ballot,
            learner.delivered,
            message.time,
            self._config.version,
            not learner.complete,
            self._roles.reluctant(now),
        )
        out.send.append(reply)

    def _on_heartbeat_reply(self, message: HeartbeatReply, now: float, out: Effects) -> None:
        peer = self._peers.by_node[message.sender]
        peer.version = message.version
        peer.incomplete = message.incomplete
        peer.reluctant = message.reluctant
        self._learner.told(message.sender, message.chosen)
        if self._roles.proposer is not None:
            self._roles.proposer.answered(message)

    # -- messages: catching up ----------------------------------------------------------------------------------------

    def _on_learn_request(self, message: LearnRequest, now: float, out: Effects) -> None:
        self._learner.serve(message, now, out)

    def _on_learn_reply(self, message: LearnReply, now: float, out: Effects) -> None:
        if not self._repairs.learn(message, out):
            self._learner.learn(message, now, out)

    # -- messages: transfer of mastership -----------------------------------------------------------------------------

    def _on_hand_over(self, message: HandOver, now: float, out: Effects) -> None:
        if not self._heard_master(message, now, out):
            return
        self._learner.mark(message.ballot, message.chosen)
        if self._roles.reluctant(now):  # which the master did not know yet
            out.send.append(Reject(self._node_id, message.sender, message.ballot, self._roles.floor, 0.0))
        else:
            self._transfers.told(message, now)
