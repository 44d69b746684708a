"""What is chosen, what may be applied, and catching up from the logs of others.

``known`` is the prefix known to be chosen; ``delivered`` the part of it that is durable here and was handed out. An
instance becomes known in one of three ways, and no other:

- this node is master and a majority accepted it at its ballot;
- the master of the entry's own ballot says that everything up to some higher instance is chosen (its mark);
- a peer sent it as chosen out of its log (LearnReply).

Why the second is enough: at one ballot only one value is ever proposed for an instance, and if the master at that
ballot knows the instance to be chosen, then what it proposed itself can only have been the chosen value. An entry of
another ballot proves nothing and is learned by the third way. It also follows that the ballot stored with a chosen
entry is never below the one at which it was chosen, which is why a stored entry with a higher ballot than the learned
one must hold the same value.
"""

from __future__ import annotations

from phxqueue.paxos.acceptor import Acceptor
from phxqueue.paxos.ballot import node_of
from phxqueue.paxos.config import GroupConfig, Restored
from phxqueue.paxos.effects import (
    ChangeVoid,
    CheckpointNeeded,
    ChosenRecord,
    CorruptEntry,
    Effects,
    MembershipChanged,
    MembershipEffective,
    MembershipRecord,
    ServeLearn,
)
from phxqueue.paxos.entry import Entry, EntryKind
from phxqueue.paxos.errors import InvariantViolation
from phxqueue.paxos.membership import Membership
from phxqueue.paxos.messages import LearnReply, LearnRequest
from phxqueue.paxos.peers import Peers

_MEMBERSHIP = int(EntryKind.MEMBERSHIP)


class Learner:
    """See the module's docstring."""

    __slots__ = (
        "_acceptor",
        "_ask_until",
        "_asked",
        "_avoid",
        "_config",
        "_membership",
        "_pause_until",
        "_peers",
        "_recorded",
        "_scattered",
        "_served",
        "complete",
        "delivered",
        "first",
        "known",
        "progress_at",
        "target",
    )

    def __init__(
        self,
        config: GroupConfig,
        membership: Membership,
        acceptor: Acceptor,
        peers: Peers,
        restored: Restored,
        now: float,
    ) -> None:
        self._config = config
        self._membership = membership
        self._acceptor = acceptor
        self._peers = peers
        self.known = restored.chosen
        self.delivered = restored.chosen
        # The lowest entry of a log may lie above a gap that was never accepted here.
        self.first = min(restored.first, restored.chosen + 1)
        """The lowest instance that the own log can serve, now or when it is chosen."""
        self.complete = restored.complete
        """Whether the own log has everything from where the state machine still needs it."""
        self.target = restored.chosen
        """The highest chosen prefix that anybody told of."""
        self.progress_at = now
        """When ``known`` last moved by learning from a peer."""
        self._recorded = restored.chosen
        self._scattered: set[int] = set()  # chosen by a majority, but above a gap
        self._asked: int | None = None  # the peer of the LearnRequest under way
        self._ask_until = 0.0
        self._avoid: int | None = None  # the peer that failed last
        self._pause_until = 0.0
        self._served: dict[int, tuple[int, float]] = {}  # per peer: first instance and time of the last range served

    # -- what is chosen -----------------------------------------------------------------------------------------------

    def chosen_by_majority(self, instance: int) -> None:
        """This node is master, and a majority accepted ``instance`` at its ballot."""
        if instance != self.known + 1:
            if instance > self.known:
                self._scattered.add(instance)
            return
        self.known = instance
        if self._scattered:
            self._close_gap()

    def _close_gap(self) -> None:
        while self.known + 1 in self._scattered:
            self.known += 1
            self._scattered.discard(self.known)

    def forget_scattered(self) -> None:
        """The mastership ended; the next master will tell."""
        self._scattered.clear()

    def mark(self, ballot: int, chosen: int) -> None:
        """The master at ``ballot`` says that everything up to ``chosen`` is chosen."""
        self.told(node_of(ballot), chosen)
        entries = self._acceptor.entries
        while self.known < chosen:
            entry = entries.get(self.known + 1)
            if entry is None or entry.ballot != ballot:
                return
            self.known += 1

    def told(self, node: int, chosen: int) -> None:
        """``node`` says that everything up to ``chosen`` is chosen."""
        self._peers.chosen(node, chosen)
        if chosen > self.target:
            self.target = chosen

    def deliver(self, out: Effects) -> None:
        """Hand out what is known, durable and next in order."""
        acceptor = self._acceptor
        while self.delivered < self.known and acceptor.is_durable(self.delivered + 1):
            self.delivered += 1
            entry = acceptor.release(self.delivered)
            out.chosen.append((self.delivered, entry))
            if entry.kind == _MEMBERSHIP:
                self._change(entry, out)
        if self.delivered + 1 >= self._membership.switch_at:
            self._advance(out)
        if self.delivered > self._recorded and out.persist:
            self.record(out)

    def _change(self, entry: Entry, out: Effects) -> None:
        """A change of membership is chosen. It is recorded before the chosen mark that covers it."""
        self._advance(out)
        step = self._membership.chosen(self.delivered, entry.payload)
        if step is None:
            out.events.append(ChangeVoid(instance=self.delivered))
            return
        self._acceptor.note(MembershipRecord(self._membership.state()), out)
        out.events.append(MembershipChanged(instance=step.instance, effective=step.effective, members=step.members))

    def _advance(self, out: Effects) -> None:
        while self._membership.advance(self.delivered):
            out.events.append(MembershipEffective(members=self._membership.current.step.members))

    def record(self, out: Effects) -> None:
        """Note the delivered prefix in the log. Lazily: it rides on the next write, or alone when the group is idle."""
        if self.delivered > self._recorded:
            self._recorded = self.delivered
            out.persist.append(ChosenRecord(self.delivered))

    @property
    def unrecorded(self) -> bool:
        """Whether there is something for ``record`` to note."""
        return self.delivered > self._recorded

    def install(self, chosen: int, first: int, complete: bool, now: float) -> None:
        """A checkpoint has taken the place of everything up to ``chosen``; the own log reaches down to ``first``."""
        self.known = self.delivered = chosen
        self._recorded = chosen
        self.first = first
        self.complete = complete
        self.target = max(self.target, chosen)
        self.progress_at = now
        self._scattered = {instance for instance in self._scattered if instance > chosen}
        self._close_gap()
        self._asked = self._avoid = None
        self._pause_until = now

    # -- catching up --------------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """When to look after the request under way, or to ask anew."""
        if self.known >= self.target:
            return float("inf")
        if self._asked is not None:
            return self._ask_until
        return float("inf") if self._disk_is_behind else self._pause_until

    @property
    def _disk_is_behind(self) -> bool:
        """So much that is chosen waits for the disk that asking for more has to wait, too; ``persisted`` goes on with
        it.
        """
        return self.known > self.delivered and self._acceptor.held_bytes > self._config.accept_ahead_bytes

    def ask(self, now: float, prefer: int | None, out: Effects) -> None:
        """Ask a peer for what is missing, when something is and nothing is under way. ``prefer``: the master, if
        known.
        """
        if self._asked is not None:
            if now < self._ask_until:
                return
            self._avoid, self._asked = self._asked, None
        if self.known >= self.target or now < self._pause_until or self._disk_is_behind:
            return
        peer = self._choose(prefer)
        if peer is None:
            self._pause_until = now + self._config.learn_timeout
            return
        self._asked = peer
        self._ask_until = now + self._config.learn_timeout
        out.send.append(LearnRequest(self._config.node_id, peer, self.known + 1, self._config.max_message_bytes))

    def _choose(self, prefer: int | None) -> int | None:
        """The peer to ask: the preferred one, unless it failed last time; then the next one in turn that has more."""
        able = [node for node in sorted(self._peers.by_node) if self._has_more(node)]
        if prefer in able and prefer != self._avoid:
            # What is far behind leaves the master to its clients, if another node can teach it.
            if self.target - self.known <= self._config.accept_ahead:
                return prefer
            others = [node for node in able if node != self._avoid and self._can_teach(node)]
            return next((node for node in others if node != prefer), prefer)
        start = self._config.node_id if self._avoid is None else self._avoid
        return next((node for node in able if node > start), able[0] if able else None)

    def _can_teach(self, node: int) -> bool:
        peer = self._peers.by_node[node]
        return not peer.incomplete and peer.log_first <= self.known + 1

    def _has_more(self, node: int) -> bool:
        peer = self._peers.by_node[node]
        # Also one whose log is incomplete: it may be the only one with what lies right below its checkpoint.
        return peer.chosen is not None and peer.chosen > self.known and not peer.unreachable

    def learn(self, message: LearnReply, now: float, out: Effects) -> None:
        """Entries out of the log of a peer, all of them chosen."""
        self.told(message.sender, message.chosen)
        if message.sender == self._asked:
            self._asked = None
        if not message.entries:
            if message.first > self.known + 1:
                self._peers.by_node[message.sender].log_first = message.first
                out.events.append(CheckpointNeeded(peer=message.sender, first=message.first))
            self._failed(message.sender, now)
            return
        before = self.known
        for instance, entry in message.entries:
            if instance <= self.known:
                continue
            if instance != self.known + 1 or instance > message.chosen:
                break
            if not entry.valid():
                out.events.append(CorruptEntry(sender=message.sender, instance=instance))
                self._failed(message.sender, now)
                break
            self._learn_one(instance, entry, out)
        if self.known > before:
            self.progress_at = now
            self._close_gap()

    def _learn_one(self, instance: int, entry: Entry, out: Effects) -> None:
        held = self._acceptor.entries.get(instance)
        if held is None or held.ballot < entry.ballot:
            self._acceptor.store(instance, entry, out)
        elif not held.same_value(entry):
            ballots = f"{held.ballot} and {entry.ballot}"
            raise InvariantViolation(f"instance {instance} is chosen with two values, at ballots {ballots}")
        self.known = instance
        self._scattered.discard(instance)
        self._avoid = None

    def _failed(self, node: int, now: float) -> None:
        """``node`` could not give what was asked for: wait a little, then turn to another."""
        self._avoid = node
        self._pause_until = now + self._config.learn_timeout

    def serve(self, message: LearnRequest, now: float, out: Effects) -> None:
        """A peer asks for chosen entries. The same range is read again only after a while: a read is dear, a request
        cheap.
        """
        self_id = self._config.node_id
        if message.first < self.first and not self.complete:
            # What is missing here may be in the log of another: this is not to be taken for a trimmed one.
            out.send.append(LearnReply(self_id, message.sender, message.first, self.delivered, ()))
        elif message.first < self.first:
            out.send.append(LearnReply(self_id, message.sender, self.first, self.delivered, ()))
        elif message.first > self.delivered and message.accepted and self._acceptor.is_durable(message.first):
            entry = self._acceptor.entries[message.first]
            reply = LearnReply(self_id, message.sender, message.first, self.delivered, ((message.first, entry),))
            out.send.append(reply)
        elif message.first > self.delivered:
            out.send.append(LearnReply(self_id, message.sender, message.first, self.delivered, ()))
        else:
            last_first, last_at = self._served.get(message.sender, (-1, 0.0))
            if last_first == message.first and now < last_at + self._config.learn_timeout / 2:
                return
            self._served[message.sender] = (message.first, now)
            size = max(1, min(message.max_bytes, self._config.max_message_bytes))
            out.serve.append(ServeLearn(message.sender, message.first, size))
