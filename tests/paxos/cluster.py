"""A whole group in memory: real cores, a network and disks that do what the test says, and an oracle that watches.

Nothing happens by itself. ``deliver``, ``persist``, ``crash``... move one thing; ``settle`` moves everything until
nothing is under way, without letting time pass; ``run`` lets time pass, settling as it goes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from phxqueue.paxos.config import GroupConfig, Member, MemberKind, Restored
from phxqueue.paxos.effects import (
    AcceptRecord,
    ChosenRecord,
    Effects,
    Event,
    MembershipRecord,
    PromiseRecord,
    Record,
)
from phxqueue.paxos.election import PreVoteRound
from phxqueue.paxos.entry import Entry
from phxqueue.paxos.group import Group
from phxqueue.paxos.messages import LearnReply, Message
from tests.paxos.oracle import Oracle


@dataclass
class Disk:
    """What one node has durably written."""

    promised: int = 0
    chosen: int = -1
    log: dict[int, Entry] = field(default_factory=dict)
    membership: bytes | None = None
    may_vote: bool = True

    def write(self, record: Record) -> None:
        if isinstance(record, PromiseRecord):
            assert record.ballot >= self.promised, "a durable promise went down"
            self.promised = record.ballot
        elif isinstance(record, AcceptRecord):
            self.log[record.instance] = record.entry
        elif isinstance(record, MembershipRecord):
            self.membership = record.state
        else:
            assert isinstance(record, ChosenRecord)
            assert all(i in self.log for i in range(self.chosen + 1, record.instance + 1)), "chosen mark over a hole"
            self.chosen = max(self.chosen, record.instance)

    def restored(self) -> Restored:
        above = {instance: entry for instance, entry in self.log.items() if instance > self.chosen}
        first = min(self.log, default=self.chosen + 1)  # as a journal tells it
        return Restored(
            promised=self.promised,
            chosen=self.chosen,
            entries=above,
            first=first,
            membership=self.membership,
            may_vote=self.may_vote,
        )


@dataclass
class Write:
    """One Effects' worth of records on its way to the disk."""

    records: list[Record]
    token: int | None
    send_after: list[Message]


class Node:
    """One core with its disk and what is on its way there."""

    def __init__(self, config: GroupConfig, clock: Callable[[float], float], seed: int) -> None:
        self.config = config
        self.disk = Disk()
        self.clock = clock
        self.seed = seed
        self.group: Group | None = None
        self.writes: deque[Write] = deque()
        self.applied: list[bytes] = []
        self.applied_to = -1
        self.incarnations: dict[int, int] = {}  # what this process has been told of the others

    @property
    def node_id(self) -> int:
        return self.config.node_id

    @property
    def incarnation(self) -> int:
        return self.config.incarnation

    @property
    def up(self) -> bool:
        return self.group is not None


class Cluster:
    """Nodes by id, a queue of messages per ordered pair, one time."""

    def __init__(self, configs: list[GroupConfig], seed: int = 0, start: float = 1.0) -> None:
        self.time = start
        self.nodes = {config.node_id: Node(config, lambda time: time, seed) for config in configs}
        self.links: dict[tuple[int, int], deque[Message]] = {
            (a, b): deque() for a in self.nodes for b in self.nodes if a != b
        }
        self.cut: set[tuple[int, int]] = set()
        self.paused: set[int] = set()
        config = configs[0]
        self.oracle = Oracle(config.members, config.window, {c.node_id: c.incarnation for c in configs})
        self.on_effects: Callable[[Node, Effects], None] = lambda node, out: None
        self.on_event: Callable[[Node, Event], None] = lambda node, event: None
        self.page_limit: int | None = None

    # -- one thing at a time ------------------------------------------------------------------------------------------

    def now(self, node_id: int) -> float:
        """The clock of that node."""
        return self.nodes[node_id].clock(self.time)

    def group(self, node_id: int) -> Group:
        group = self.nodes[node_id].group
        assert group is not None, f"node {node_id} is down"
        return group

    def start(self, node_id: int) -> None:
        node = self.nodes[node_id]
        node.incarnations = {}
        node.group = Group(node.config, node.disk.restored(), self.now(node_id), node.seed)
        node.applied_to = node.disk.chosen
        node.applied = [node.disk.log[instance].payload for instance in range(node.disk.chosen + 1)]
        for other in self.nodes.values():
            if other is not node and other.up and not self.cut & {(node_id, other.node_id), (other.node_id, node_id)}:
                self._introduce(node_id, other.node_id)
                self._introduce(other.node_id, node_id)

    def start_all(self) -> None:
        for node_id, node in self.nodes.items():
            if not node.up:
                self.start(node_id)

    def crash(self, node_id: int) -> None:
        """The process is gone, and with it what was not durable and what was sent to it."""
        node = self.nodes[node_id]
        node.group = None
        node.writes.clear()
        for (_, to), queue in self.links.items():
            if to == node_id:
                queue.clear()

    def empty(self, node_id: int) -> None:
        """The disk of a node is lost, and it gets another. Of what it had sent nothing more arrives."""
        self.crash(node_id)
        node = self.nodes[node_id]
        node.disk = Disk(may_vote=False)
        node.config = replace(node.config, incarnation=node.incarnation + 1)
        for (sender, _), queue in self.links.items():
            if sender == node_id:
                queue.clear()

    def change(self, node_id: int, members: tuple[Member, ...]) -> int:
        instance, out = self.group(node_id).change_members(members, self.now(node_id))
        self._do(node_id, out)
        return instance

    def change_one(self, node_id: int, member: int, kind: MemberKind | None) -> int:
        """Make ``member`` a member of this kind, on the directory that it has now; None removes it. Directories that
        are not recorded yet are recorded on the way, as far as they are known.
        """
        known = {**self.nodes[node_id].incarnations, node_id: self.nodes[node_id].incarnation}
        members = [
            replace(one, incarnation=one.incarnation or known.get(one.node_id, 0))
            for one in self.group(node_id).members
            if one.node_id != member
        ]
        former = [one for one in self.group(node_id).members if one.node_id == member]
        if kind is not None:
            one = former[0] if former else Member(member)
            members.append(replace(one, kind=kind, incarnation=self.nodes[member].incarnation))
        return self.change(node_id, tuple(members))

    def transfer(self, node_id: int, to: int) -> None:
        self._do(node_id, self.group(node_id).transfer(to, self.now(node_id)))

    def tick(self, node_id: int) -> None:
        self._do(node_id, self.group(node_id).tick(self.now(node_id)))

    def propose(self, node_id: int, payload: bytes) -> int:
        instance, out = self.group(node_id).propose(payload, self.now(node_id))
        self._do(node_id, out)
        return instance

    def unreachable(self, node_id: int, peer: int) -> None:
        self._do(node_id, self.group(node_id).peer_unreachable(peer, self.now(node_id)))

    def usurp(self, node_id: int) -> None:
        """The node asks for promises out of turn, if it may stand and is not bound to another itself."""
        group, now = self.group(node_id), self.now(node_id)
        roles, election = group._roles, group._election
        if roles.proposer is None and roles.phase1 is None and roles.may_stand and now >= election.lease.until:
            out = group._begin(now)
            roles.round = PreVoteRound(group._membership, 0, now, now, now)
            roles.round._granted.update(self.nodes)
            roles.campaign_if_won(now, out)
            self._do(node_id, group._finish(now, out))

    def repair(self, node_id: int, instance: int) -> None:
        self._do(node_id, self.group(node_id).repair(instance, self.now(node_id)))

    def step(self, node_id: int, message: Message) -> None:
        self._introduce(node_id, message.sender)
        self._do(node_id, self.group(node_id).step(message, self.now(node_id)))

    def _introduce(self, node_id: int, peer: int) -> None:
        """Before anything else a connection tells on which directory the peer runs."""
        node, incarnation = self.nodes[node_id], self.nodes[peer].incarnation
        if incarnation and node.incarnations.get(peer) != incarnation:
            node.incarnations[peer] = incarnation
            self._do(node_id, self.group(node_id).peer_incarnation(peer, incarnation, self.now(node_id)))

    def deliver(self, sender: int, receiver: int, index: int = 0) -> Message | None:
        """Hand over one message under way, by default the oldest."""
        queue = self.links[sender, receiver]
        if not queue:
            return None
        message = queue[index]
        del queue[index]
        if self.nodes[receiver].up:
            self.step(receiver, message)
        return message

    def persist(self, node_id: int) -> bool:
        """The oldest write of a node becomes durable."""
        node = self.nodes[node_id]
        if not node.writes:
            return False
        write = node.writes.popleft()
        for record in write.records:
            node.disk.write(record)
            if isinstance(record, AcceptRecord):
                self.oracle.durable(node_id, node.incarnation, record.instance, record.entry)
        self._send(write.send_after)
        if write.token is not None and node.group is not None:
            self._do(node_id, node.group.persisted(write.token, self.now(node_id)))
        return True

    # -- everything ---------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Deliver and persist everything until nothing is under way. No time passes."""
        moved = True
        while moved:
            moved = False
            for sender, receiver in self.links:
                while receiver not in self.paused and self.deliver(sender, receiver) is not None:
                    moved = True
            for node_id in self.nodes:
                while node_id not in self.paused and self.persist(node_id):
                    moved = True

    def run(self, seconds: float, settle: bool = True) -> None:
        """Let time pass from deadline to deadline."""
        end = self.time + seconds
        while True:
            if settle:
                self.settle()
            awake = {i: node.group for i, node in self.nodes.items() if node.group and i not in self.paused}
            due = min((group.next_deadline() for group in awake.values()), default=end)
            if due > end:
                self.time = end
                return
            self.time = max(self.time, due)
            for node_id, group in awake.items():
                if group.next_deadline() <= self.now(node_id):
                    self.tick(node_id)

    @property
    def master(self) -> int | None:
        """The one master, if there is exactly one."""
        masters = [node_id for node_id, node in self.nodes.items() if node.group is not None and node.group.is_master]
        return masters[0] if len(masters) == 1 else None

    # -- effects ------------------------------------------------------------------------------------------------------

    def _do(self, node_id: int, out: Effects) -> None:
        node = self.nodes[node_id]
        group = node.group
        assert group is not None
        self.on_effects(node, out)
        if out.persist:
            node.writes.append(Write(out.persist, out.token, out.send_after))
        else:
            assert not out.send_after
            assert out.token is None
        self._send(out.send)
        for instance, entry in out.chosen:
            assert instance == node.applied_to + 1, f"node {node_id} applies {instance} after {node.applied_to}"
            assert node.disk.log[instance].same_value(entry), f"node {node_id} applies {instance}, not durable there"
            node.applied_to = instance
            node.applied.append(entry.payload)
            self.oracle.delivered(node_id, instance, entry, group.is_master)
        for request in out.serve:
            entries = self._read(node, request.first, request.max_bytes)
            self._send([LearnReply(node_id, request.to, request.first, group.chosen, entries)])
        for event in out.events:
            self.on_event(node, event)

    def _read(self, node: Node, first: int, max_bytes: int) -> tuple[tuple[int, Entry], ...]:
        assert node.group is not None
        entries: list[tuple[int, Entry]] = []
        size = 0
        for instance in range(first, node.group.chosen + 1):
            entry = node.disk.log[instance]
            if entries and size + len(entry.payload) > max_bytes:
                break
            entries.append((instance, entry))
            size += len(entry.payload)
        return tuple(entries)

    def _send(self, messages: list[Message]) -> None:
        for message in messages:
            link = (message.sender, message.receiver)
            if link not in self.cut and message.receiver in self.nodes and self.nodes[message.receiver].up:
                self.links[link].append(message)
