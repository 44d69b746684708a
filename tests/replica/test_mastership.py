"""Masterships go back to where they belong, and away from a node that stops; on real cores, wired directly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from phxqueue.journal.records import GroupState, PutChosen, PutEntry, PutPromise, StoredEntry
from phxqueue.paxos.config import GroupConfig, Member, MemberKind
from phxqueue.paxos.messages import HandOver, Message
from phxqueue.replica.node import ReplicaNode, ReplicaSettings
from tests.replica.fakes import KeptJournal, Words, outcome

LEASE = 0.4
SETTLE = 2.0


class Disk(KeptJournal):
    """Keeps everything, group by group, as a journal does."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: dict[int, GroupState] = {}
        self.logs: dict[int, dict[int, StoredEntry]] = {}

    def load_group(self, group: int) -> GroupState:
        kept = self.groups.get(group, GroupState(0, -1, 0, []))
        return GroupState(kept.promised, kept.chosen, 0, sorted(self.logs.get(group, {}).items()))

    def read_entries(
        self, group: int, first: int, last: int, max_bytes: int
    ) -> Deferred[list[tuple[int, StoredEntry]]]:
        self.entries = self.logs[group]
        return super().read_entries(group, first, last, max_bytes)

    def commit(self, submissions: int = 1_000_000) -> None:
        for writes, _ in self.submitted[:submissions]:
            for write in writes:
                if isinstance(write, PutEntry):
                    stored = StoredEntry(write.ballot, write.checksum, write.kind, write.payload)
                    self.logs.setdefault(write.group, {})[write.instance] = stored
                elif isinstance(write, (PutPromise, PutChosen)):
                    kept = self.groups.get(write.group, GroupState(0, -1, 0, []))
                    promised = write.ballot if isinstance(write, PutPromise) else kept.promised
                    chosen = write.instance if isinstance(write, PutChosen) else kept.chosen
                    self.groups[write.group] = GroupState(promised, chosen, 0, [])
        super().commit(submissions)

    def restarted(self) -> Disk:
        after = Disk()
        after.blobs, after.groups, after.logs = self.blobs, self.groups, self.logs
        return after


class Wire:
    """The transport of one node of a `Set`."""

    def __init__(self, cluster: Set, node_id: int) -> None:
        self._cluster = cluster
        self._node_id = node_id

    def send(self, receiver: int, messages: Any) -> None:
        for group_id, message in messages:
            self._cluster.carry(self._node_id, receiver, group_id, message)

    def call(self, *_: Any) -> Any:
        raise NotImplementedError

    def reachable(self) -> frozenset[int]:
        return frozenset(self._cluster.up)


class Set:
    """Three nodes (or as many as there are kinds) with two groups, a disk that is always quick, and a direct wire.

    Attributes:
        lost: whether a message gets lost.
    """

    def __init__(
        self, kinds: tuple[MemberKind, ...] = (MemberKind.VOTER,) * 3, *, settle: float = 0.0, groups: int = 2
    ) -> None:
        self.clock: Any = Clock()
        self.kinds, self.settle, self.group_count = kinds, settle, groups
        self.up: dict[int, ReplicaNode] = {}
        self.journals = {node_id: Disk() for node_id in range(len(kinds))}
        self.lost: Callable[[Message], bool] = lambda message: False
        for node_id in self.journals:
            self.start(node_id)
        self.run(1.0)

    def start(self, node_id: int) -> None:
        members = tuple(Member(node, kind) for node, kind in enumerate(self.kinds))
        node = ReplicaNode(
            [GroupConfig(group_id=group, node_id=node_id, members=members) for group in range(self.group_count)],
            lambda group_id: Words(),
            self.journals[node_id],
            Wire(self, node_id),
            self.clock,
            seed=7,
            settings=ReplicaSettings(return_mastership_after=self.settle, transfer_interval=1.0),
            describe_members=lambda reachable: f"{len(reachable)} reachable",
            fail=self.failed,
        )
        self.up[node_id] = node
        Deferred.fromCoroutine(node.start())

    def crash(self, node_id: int) -> None:
        del self.up[node_id]
        self.journals[node_id] = self.journals[node_id].restarted()
        for node in self.up.values():
            node.peer_unreachable(node_id)

    def failed(self, reason: str) -> None:
        raise AssertionError(reason)

    def carry(self, sender: int, receiver: int, group_id: int, message: Message) -> None:
        if sender in self.up and receiver in self.up and not self.lost(message):
            node = self.up[receiver]
            self.clock.callLater(0.0005, lambda: self.up.get(receiver) is node and node.receive([(group_id, message)]))

    def run(self, seconds: float) -> None:
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end:
            self.step()

    def step(self) -> None:
        self.clock.advance(0.001)
        for node_id in list(self.up):
            self.journals[node_id].commit()

    def run_until(self, holds: Callable[[], bool], seconds: float) -> float:
        """Let time pass until it holds; how long that took."""
        began = self.clock.seconds()
        while not holds():
            assert self.clock.seconds() - began < seconds
            self.step()
        return float(self.clock.seconds() - began)

    def master(self, group_id: int = 0) -> int | None:
        return next((node_id for node_id, node in self.up.items() if node.groups[group_id].serving()), None)

    def masters(self) -> list[int | None]:
        return [self.master(group_id) for group_id in range(self.group_count)]

    def propose(self, group_id: int, payload: bytes) -> Deferred[Any]:
        master = self.master(group_id)
        assert master is not None
        return self.up[master].groups[group_id].propose(payload)


def test_the_preferred_voter_of_each_group_is_elected_first() -> None:
    assert Set().masters() == [0, 1]


def test_a_node_that_stops_hands_everything_over_in_an_instant_and_takes_nothing_back() -> None:
    cluster = Set()
    done = cluster.propose(0, b"in flight")
    left = cluster.up[0].masterships.hand_over(3.0)
    took = cluster.run_until(lambda: cluster.masters() == [1, 1], 1.0)
    assert took < LEASE / 4
    cluster.run(0.05)
    assert outcome(left) == 0
    assert outcome(done) == b"IN FLIGHT"  # it was chosen before
    assert cluster.up[0].groups[0].master_node() == 1  # where clients are sent
    cluster.crash(1)
    cluster.run(2.0)
    assert cluster.masters() == [2, 2]


def test_a_node_that_is_stopping_is_offered_nothing() -> None:
    cluster = Set()
    cluster.up[1].masterships.hand_over(3.0)
    cluster.run(0.2)  # a heartbeat: the others know
    problem = cluster.up[0].groups[0].transfer_problem(1)
    assert problem is not None
    assert "it is stopping" in problem
    cluster.up[0].masterships.hand_over(3.0)
    cluster.run(0.2)
    assert cluster.masters() == [2, 2]


def test_when_all_stop_the_last_keeps_what_nobody_takes_and_none_waits_for_long() -> None:
    cluster = Set()
    ends = [node.masterships.hand_over(30.0) for node in cluster.up.values()]
    cluster.run(4 * LEASE)
    assert all(outcome(end) is not None for end in ends)


def test_the_only_node_keeps_its_groups_until_it_ends() -> None:
    cluster = Set((MemberKind.VOTER,))
    assert outcome(cluster.up[0].masterships.hand_over(3.0)) == 2
    done = cluster.propose(0, b"still served")
    cluster.run(0.1)
    assert outcome(done) == b"STILL SERVED"


def test_neither_witness_nor_learner_is_handed_anything() -> None:
    cluster = Set((MemberKind.VOTER, MemberKind.WITNESS, MemberKind.VOTER, MemberKind.LEARNER))
    cluster.up[0].masterships.hand_over(3.0)
    cluster.run(0.2)
    assert cluster.master(0) == 2


def test_what_cannot_be_given_away_in_time_is_served_on() -> None:
    cluster = Set()
    cluster.lost = lambda message: isinstance(message, HandOver)
    left = cluster.up[0].masterships.hand_over(0.1)
    cluster.run(0.11)
    assert outcome(left) is not None
    cluster.run(3.0)
    assert None not in cluster.masters()


def test_a_hand_over_that_gets_lost_costs_an_election_and_nothing_else() -> None:
    cluster = Set()
    lost: list[Message] = []
    cluster.lost = lambda message: isinstance(message, HandOver) and len(lost) < 1 and not lost.append(message)
    left = cluster.up[0].masterships.hand_over(3.0)
    cluster.run(3 * LEASE)
    assert outcome(left) == 1  # it was given up, and did not arrive
    assert None not in cluster.masters()
    assert 0 not in cluster.masters()


def test_the_preferred_node_gets_its_group_back_when_it_has_been_well_for_a_while() -> None:
    cluster = Set(settle=SETTLE)
    cluster.crash(0)
    cluster.run(1.0)
    assert cluster.masters() == [1, 1]
    cluster.start(0)
    cluster.run(SETTLE - 0.5)
    assert cluster.masters() == [1, 1]
    cluster.run(2.0)
    assert cluster.masters() == [0, 1]


def test_one_group_at_a_time_goes_back() -> None:
    cluster = Set(settle=SETTLE, groups=6)
    cluster.crash(0)
    cluster.run(1.0)
    cluster.start(0)
    own: list[float] = []
    while len(own) < 2:
        cluster.run_until(lambda: cluster.masters().count(0) > len(own), 10.0)
        own.append(cluster.clock.seconds())
    assert own[1] - own[0] >= 0.9
    assert cluster.masters() == [0, 1, 2] * 2


def test_a_group_that_an_operator_wants_to_be_kept_is_not_given_back() -> None:
    cluster = Set(settle=SETTLE)
    cluster.up[2].groups[0].held = True
    moved = cluster.up[0].groups[0].transfer(2)
    cluster.run(0.2)
    assert outcome(moved) is not None
    cluster.run(3 * SETTLE)
    assert cluster.master(0) == 2
    assert cluster.up[2].groups[0].status().held
    cluster.up[2].groups[0].held = False
    cluster.run(2 * SETTLE)
    assert cluster.master(0) == 0


def test_a_node_that_replays_its_log_is_offered_nothing() -> None:
    cluster = Set()
    for number in range(50):
        cluster.propose(0, b"%d" % number)
        cluster.run(0.01)
    cluster.crash(2)
    held: list[Deferred[None]] = []
    cluster.journals[2].waiting = held  # its disk is slow to read
    cluster.start(2)
    cluster.run(0.5)
    problem = cluster.up[0].groups[0].transfer_problem(2)
    assert problem is not None
    assert "has just started" in problem
    cluster.journals[2].waiting = None
    for gate in held:
        gate.callback(None)
    cluster.run(0.5)
    assert cluster.up[0].groups[0].transfer_problem(2) is None


def test_what_waits_is_proposed_before_the_mastership_goes() -> None:
    cluster = Set()
    group = cluster.up[0].groups[0]
    group.on_hand_over.append(lambda: group.propose(b"a cursor"))
    cluster.up[0].masterships.hand_over(3.0)
    cluster.run(0.3)
    machine: Any = cluster.up[1].groups[0].state_machine
    assert [payload for _, kind, payload in machine.words if kind == 0] == [b"a cursor"]


def test_a_master_whose_disk_is_nearly_full_gives_way_to_one_that_has_room() -> None:
    cluster = Set(settle=SETTLE)
    cluster.journals[0].accepting = False
    assert cluster.run_until(lambda: cluster.masters() == [1, 1], 2.0) < 1.0
    cluster.run(2 * SETTLE)
    assert cluster.masters() == [1, 1]  # the preferred node is offered nothing meanwhile
    cluster.journals[0].accepting = True
    cluster.run(SETTLE + 1.0)
    assert cluster.masters() == [0, 1]


def test_where_no_node_has_room_masters_stay() -> None:
    cluster = Set()
    for journal in cluster.journals.values():
        journal.accepting = False
    cluster.run(1.0)
    masters = cluster.masters()
    assert None not in masters
    ballots = [cluster.up[0].groups[group].core.ballot for group in range(2)]
    cluster.run(3.0)
    assert cluster.masters() == masters
    assert [cluster.up[0].groups[group].core.ballot for group in range(2)] == ballots
    cluster.crash(next(node for node in masters if node is not None))
    cluster.run(2.0)
    assert None not in cluster.masters()  # better one that takes nothing new than none


def test_a_node_without_room_that_replays_is_hindered_until_both_are_over() -> None:
    cluster = Set()
    group = cluster.up[1].groups[0]
    group.hinder("one", True)
    group.hinder("another", True)
    group.hinder("one", False)
    cluster.run(0.2)
    assert cluster.up[0].groups[0].transfer_problem(1) is not None
    group.hinder("another", False)
    cluster.run(0.2)
    assert cluster.up[0].groups[0].transfer_problem(1) is None
