"""One Paxos group as one node sees it: the public face of the core."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from phxqueue.paxos.acceptor import Acceptor
from phxqueue.paxos.changes import Changes
from phxqueue.paxos.config import GroupConfig, Member, Restored
from phxqueue.paxos.effects import CorruptEntry, Effects, Event, MembershipEffective
from phxqueue.paxos.election import Election
from phxqueue.paxos.entry import EntryKind
from phxqueue.paxos.errors import ChangeRefused, InvariantViolation, NotMaster, TransferRefused
from phxqueue.paxos.inbox import Inbox
from phxqueue.paxos.learner import Learner
from phxqueue.paxos.membership import Membership
from phxqueue.paxos.messages import Message
from phxqueue.paxos.peers import Peers, PeerStatus
from phxqueue.paxos.repair import Repairs
from phxqueue.paxos.roles import Role, Roles
from phxqueue.paxos.transfer import Transfers


class Group:
    """See the package's docstring for how to drive it.

    :param restored: what the log of this node holds.
    :param now: the monotonic clock, seconds; every later call passes it too.
    :param seed: decides the little randomness there is (pauses after a failed election).
    """

    def __init__(self, config: GroupConfig, restored: Restored, now: float, seed: int) -> None:
        self.config = config
        self._now = now
        self._node_id = config.node_id
        self._membership = Membership(config, restored.membership, restored.chosen, restored.may_vote)
        self._membership_seen = self._membership.version
        self._peers = Peers(self._membership.peers)
        self._acceptor = Acceptor(config, restored)
        self._learner = Learner(config, self._membership, self._acceptor, self._peers, restored, now)
        self._election = Election(config, self._membership, self._peers, now, seed)
        self._roles = Roles(config, self._membership, self._peers, self._acceptor, self._learner, self._election)
        self._repairs = Repairs(config, self._acceptor, self._peers)
        self._transfers = Transfers(config, self._membership, self._peers, self._learner, self._roles)
        self._changes = Changes(config, self._membership, self._peers, self._acceptor, self._learner)
        self._first_events: list[Event] = [
            CorruptEntry(sender=config.node_id, instance=instance) for instance in sorted(self._acceptor.damaged)
        ]
        self._inbox = Inbox(
            config,
            self._membership,
            self._peers,
            self._acceptor,
            self._learner,
            self._election,
            self._roles,
            self._repairs,
            self._transfers,
        )

    # -- what may happen to it ----------------------------------------------------------------------------------------

    def step(self, message: Message, now: float) -> Effects:
        """A message has come in."""
        out = self._begin(now)
        sender = message.sender
        if message.receiver != self._node_id or sender == self._node_id:
            self._inbox.ignore(message, "not from another node to this one", out)
            return out
        if sender not in self._peers.by_node and not self._peers.admit(sender, len(self._membership.peers)):
            self._inbox.ignore(message, "not from a member of this group, and too many such nodes talk to it", out)
            return out
        self._peers.heard(sender, now)
        if self._roles.proposer is not None:
            self._roles.proposer.heard(sender, now, out)
        self._inbox.handle(message, now, out)
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

    def change_members(self, members: tuple[Member, ...], now: float) -> tuple[int, Effects]:
        """Propose ``members``, the whole list, as the next membership. Returns the instance of the change.

        The vote of one node at a time may be changed; whoever gets a vote must be a learner (or, to be replaced, a
        voter) already and have caught up. Told about by the events MembershipChanged (or ChangeVoid), some ``delay``
        instances later MembershipEffective, and at the master MembershipSettled: only then may the disks of nodes that
        left be destroyed. A master that removes itself finishes the change and hands over.

        :raises NotMaster: this node is not the master.
        :raises ChangeRefused: the change is impossible, or would lose the majority, or one is under way.
        :raises WindowFull: too much is in flight.
        """
        out = self._begin(now)
        proposer = self._roles.proposer
        if proposer is None:
            raise NotMaster(self.config.group_id, self.master_id)
        wanted = tuple(sorted(members, key=lambda member: member.node_id))
        problem = self._changes.problem(wanted, proposer, now)
        if problem is not None:
            raise ChangeRefused(self.config.group_id, problem.reason, temporary=problem.temporary)
        instance = proposer.propose(EntryKind.MEMBERSHIP, self._membership.proposal(wanted), now, out)
        return instance, self._finish(now, out)

    def transfer(self, to: int, now: float) -> Effects:
        """Hand the mastership over to ``to``, which must have caught up. Told about by MastershipTransferred or
        TransferFailed; until then nothing can be proposed.

        :raises NotMaster: this node is not the master.
        :raises TransferRefused: ``to`` could not take over now; nothing has changed.
        """
        out = self._begin(now)
        if self._roles.proposer is None:
            raise NotMaster(self.config.group_id, self.master_id)
        problem = self._transfers.begin(to, now)
        if problem is not None:
            raise TransferRefused(self.config.group_id, problem)
        return self._finish(now, out)

    def peer_incarnation(self, node_id: int, incarnation: int, now: float) -> Effects:
        """``node_id`` has told on which data directory it runs. Call it before anything that comes from there is given
        to ``step``, and from then on give nothing to ``step`` that another incarnation has sent.
        """
        out = self._begin(now)
        former = self._membership.told(node_id, incarnation)
        if former is not None and former != incarnation:
            self._peers.renew(node_id)
            self._roles.forget_promises(node_id)
        return self._finish(now, out)

    def admit(self, now: float) -> Effects:
        """This node's fresh directory may vote, though no membership records it: the set is being started for the first
        time. To be made durable before this is called, see ``Restored.may_vote``.
        """
        out = self._begin(now)
        self._membership.admit()
        return self._finish(now, out)

    def tick(self, now: float) -> Effects:
        """Time has passed; call it at ``next_deadline()``, more often does no harm."""
        out = self._begin(now)
        self._transfers.tick(now, out)
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
        if node_id in self._peers.by_node:
            self._peers.lost(node_id)
        self._transfers.lost_peer(node_id, now)
        if self._roles.proposer is not None:
            self._roles.proposer.lost_peer(node_id)
        return self._finish(now, out)

    def repair(self, instance: int, now: float, checksum: int | None = None) -> Effects:
        """The log cannot read the entry at ``instance`` (up to ``chosen``) any more: fetch it from a peer.

        Answered by an EntryRepaired event some time later. At most ``max_repairs`` at one time; more are not taken.

        :param checksum: that of the entry, if the log can tell: then a peer may help that has accepted the entry, but
            does not know it to be chosen. It may be that this node alone could have told it.
        """
        out = self._begin(now)
        if not self._learner.first <= instance <= self.chosen:
            raise InvariantViolation(f"instance {instance} is not between {self._learner.first} and {self.chosen}")
        self._repairs.want(instance, checksum, now, out)
        return self._finish(now, out)

    def stand_aside(self, reason: str, now: float) -> Effects:
        """Give up mastership, if this node has it, and do not stand again until restarted; go on voting.

        For a node whose state machine had to stop: its log is as good as any, but it cannot serve.
        """
        out = self._begin(now)
        self._roles.stand_aside(reason, now, out)
        return self._finish(now, out)

    def busy(self, is_so: bool) -> None:
        """This node could not serve if it were master, or could again: nobody hands the mastership over to it
        meanwhile. It stands, though, when it hears of no master, for perhaps there is no other.
        """
        self._roles.busy = is_so

    def log_trimmed(self, first: int) -> None:
        """The log of this node now begins at ``first``."""
        self._learner.first = max(self._learner.first, first)
        self._repairs.forget(self._learner.first)

    def install(
        self, chosen: int, membership: bytes | None, now: float, *, first: int, complete: bool = True
    ) -> Effects:
        """A checkpoint has taken the place of everything up to ``chosen``: on disk already, with the chosen mark.

        Nothing that this node has promised or accepted above it changes. A checkpoint that is not ahead of this node
        must not be installed.

        :param chosen: the instance of the checkpoint; a peer said that everything up to it is chosen.
        :param membership: the state of the membership as of ``chosen``; None: never changed.
        :param first: the own log has everything from here to ``chosen``. To be able to teach whatever could be known
            here alone it must reach back by at least ``accept_ahead``: no voter accepts further ahead of what it knows.
        :param complete: whether the state machine needs nothing below ``first``. Otherwise ``log_complete`` follows,
            and until then this node votes and learns, but does not stand and tells nobody that its log is trimmed.
        """
        out = self._begin(now)
        if chosen <= self._learner.known:
            raise InvariantViolation(f"a checkpoint at {chosen} is not ahead of {self._learner.known}")
        if first > chosen + 1:
            raise InvariantViolation(f"the log begins at {first}, beyond the checkpoint at {chosen}")
        if self.role is not Role.FOLLOWER:
            self._roles.give_up("a checkpoint is installed", now, out)
        self._acceptor.forget(chosen)
        self._learner.install(chosen, first, complete, now)
        self._repairs.forget(first)
        former = self._membership.current.step
        self._membership.install(membership, chosen)
        if self._membership.current.step != former:
            out.events.append(MembershipEffective(members=self._membership.current.step.members))
        return self._finish(now, out)

    def log_complete(self, first: int) -> None:
        """The log of this node has everything from ``first`` on again, and the state machine needs nothing below."""
        self._learner.first = min(self._learner.first, first)
        self._learner.complete = True

    # -- what may be asked of it --------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """When ``tick`` has something to do next; infinity if never."""
        return min(self._roles.deadline, self._learner.deadline, self._repairs.deadline, self._transfers.deadline)

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
            # The lease rests on those who govern the first instance not known to be chosen, see ``lease``.
            and proposer.covered
            and self._membership.certain(self._learner.known + 1, self._learner.delivered)
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
    def known(self) -> int:
        """Everything up to here is chosen, on this node's disk or not yet."""
        return self._learner.known

    @property
    def complete(self) -> bool:
        """Whether the log has everything that the state machine still needs; see ``install``."""
        return self._learner.complete

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
    def ignored(self) -> int:
        """Messages dropped so far because they came from no member or made no sense."""
        return self._inbox.ignored

    @property
    def highest(self) -> int:
        """The highest instance held, or the chosen prefix when none is above it."""
        return self._acceptor.highest

    @property
    def lowest_version(self) -> int:
        """The highest command version that every member is known to understand; 0 while some member has not told."""
        others = self._membership.members & self._peers.by_node.keys()
        return min([self.config.version, *(self._peers.by_node[node].version or 0 for node in others)])

    @property
    def members(self) -> tuple[Member, ...]:
        """The members in force on this node."""
        return self._membership.current.step.members

    @property
    def pending_members(self) -> tuple[Member, ...] | None:
        """The members chosen to be the next, and not yet in force; None if there is no such change."""
        after = self._membership.next
        return None if after is None else after.step.members

    @property
    def audience(self) -> tuple[int, ...]:
        """Everybody this node talks to: members in force, pending, and leaving."""
        return self._membership.peers

    @property
    def settled(self) -> bool:
        """Whether the membership in force is settled, as far as this master knows: see MembershipSettled."""
        proposer = self._roles.proposer
        return proposer is not None and proposer.settled and self._membership.next is None

    @property
    def votes(self) -> bool:
        """Whether this node votes under the membership in force."""
        return self._membership.votes

    @property
    def may_lead(self) -> bool:
        """Whether this node may become, or stay, master under the membership in force."""
        return self._membership.may_lead

    @property
    def preference(self) -> tuple[int, ...]:
        """The nodes that may become master, the preferred one first."""
        return self._membership.preference

    def transfer_problem(self, to: int, now: float) -> str | None:
        """Why ``to`` could not be handed the mastership now; None if it could. To be asked of the master."""
        return self._transfers.problem(to, now)

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
        if self._membership.version != self._membership_seen:
            self._membership_moved(now, out)
            proposer = self._roles.proposer
        if proposer is not None and proposer.recovering:
            proposer.pump(now, out)
        if self._transfers.busy:
            self._transfers.push(now, out)
        if learner.known < learner.target:
            learner.ask(now, self._election.master, out)
        self._acceptor.seal(out)
        return out

    def _membership_moved(self, now: float, out: Effects) -> None:
        self._membership_seen = self._membership.version
        self._peers.retain(self._membership.peers)
        if self._roles.proposer is not None and not self._membership.may_lead:
            self._transfers.retire(now, out)
        self._roles.membership_moved(now, out)
