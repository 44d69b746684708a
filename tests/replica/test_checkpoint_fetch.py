"""A node that needs a checkpoint and one that gives it, with everything between them in the test's hands."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from inspect import iscoroutine
from typing import Any

import pytest
import xxhash
from twisted.internet.defer import Deferred, DeferredLock, fail, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from phxqueue.journal.errors import CorruptEntry, JournalOverloaded
from phxqueue.journal.records import PutBlob
from phxqueue.net.service import RpcService
from phxqueue.net.status import RpcError, Status
from phxqueue.paxos.config import GroupConfig, Member
from phxqueue.paxos.entry import EntryKind
from phxqueue.paxos.messages import Heartbeat, HeartbeatReply, LearnReply, Message
from phxqueue.proto import methods
from phxqueue.proto.paxos_pb2 import CheckpointReadRequest, LogReadRequest
from phxqueue.replica.checkpoint_server import MAX_SNAPSHOTS, PIN_S, SNAPSHOT_S
from phxqueue.replica.checkpoint_table import GROUP_KEY, MEMBERSHIP
from phxqueue.replica.interfaces import Checkpoint, ITransport
from phxqueue.replica.node import ReplicaNode, ReplicaSettings
from tests.replica.fakes import KeptJournal, Words, entry, outcome, stored

BALLOT = 1 << 16 | 1
LAST = 400
NEEDED = 100


class Retaining(Words):
    """Needs its entries from NEEDED on; its words lie in segments of fifty."""

    def checkpoint(self) -> Checkpoint:
        made = super().checkpoint()
        sealed = [(b"s%d" % at, b"segment %d" % at * 100) for at in range(0, self.applied, 50)]
        return Checkpoint(made.applied, made.state, sealed, needed=NEEDED)

    def restore(self, state: bytes, segments: Any) -> None:
        if any(not value.startswith(b"segment") for _, value in segments):
            raise ValueError("a segment is damaged")
        super().restore(state, ())


@implementer(ITransport)
class Wire:
    """Calls go to the services of the nodes; `spoil` sees every answer on its way and may change or refuse it."""

    def __init__(self) -> None:
        self.services: dict[int, RpcService] = {}
        self.calls: list[tuple[int, str, Any]] = []
        self.sent: list[Message] = []
        self.spoil: Callable[[Any, Any], Any] = lambda request, answer: answer

    def send(self, receiver: int, messages: Sequence[tuple[int, Message]]) -> None:
        self.sent.extend(message for _, message in messages)

    def call(self, receiver: int, method: Any, request: Any, timeout: float) -> Deferred[Any]:
        self.calls.append((receiver, method.name, request))
        if method.number not in self.services[receiver].table:
            return fail(RpcError(Status.UNAVAILABLE, "it does not answer"))
        handler: Any = self.services[receiver].table[method.number].handler
        try:
            result = handler(request, None)
        except RpcError as error:
            return fail(error)
        if iscoroutine(result):
            result = Deferred.fromCoroutine(result)
        answer = result if isinstance(result, Deferred) else succeed(result)
        return answer.addCallback(lambda found: self.spoil(request, found))

    def reachable(self) -> frozenset[int]:
        return frozenset(self.services)

    def named(self, name: str) -> list[Any]:
        return [request for _, called, request in self.calls if called == name]


class Turning(Clock):
    """As with a reactor, what is to be done in the next turn is not done in this one."""

    def callLater(self, when: float, what: Callable[..., object], *a: Any, **kw: Any) -> Any:
        return super().callLater(max(when, 0.001), what, *a, **kw)


class Rig:
    """Node 1 is master, has applied LAST entries and trimmed those below NEEDED. Node 0 has none of them."""

    def __init__(self) -> None:
        self.clock = Turning()
        self.wire = Wire()
        self.teacher_journal, self.journal = KeptJournal(), KeptJournal()
        self.teacher = self._node(1, self.teacher_journal)
        self._start(self.teacher)
        self.group = self.teacher.groups[3]
        self.advance(LAST, NEEDED)
        self.service = RpcService("node 1")
        self.teacher.register(self.service)
        self.wire.services[1] = self.service
        self.failures: list[str] = []
        self.start()

    def _node(self, node_id: int, journal: KeptJournal) -> ReplicaNode:
        return ReplicaNode(
            [GroupConfig(group_id=3, node_id=node_id, members=(Member(0), Member(1), Member(2)))],
            lambda group_id: Retaining(),
            journal,
            self.wire,
            self.clock,
            seed=1,
            settings=ReplicaSettings(checkpoint_interval=1e9, checkpoint_entries=10**9, fetch_bytes=60),
            describe_members=lambda reachable: "",
            fail=lambda reason: self.failures.append(reason),
        )

    def _start(self, node: ReplicaNode) -> None:
        assert Deferred.fromCoroutine(node.start()).called

    def start(self) -> None:
        """Start node 0 on what its journal holds."""
        self.node = self._node(0, self.journal)
        self._start(self.node)
        self.behind = self.node.groups[3]

    def advance(self, last: int, first: int | None = None) -> None:
        """Node 1 has applied entries up to `last`; its log begins at `first`."""
        machine: Any = self.group.state_machine
        first = last - 100 if first is None else first
        for instance in range(machine.applied + 1, last + 1):
            machine.apply(instance, EntryKind.VALUE, b"%d" % instance)
            self.teacher_journal.entries[instance] = stored(b"%d" % instance, BALLOT)
        for instance in [instance for instance in self.teacher_journal.entries if instance < first]:
            del self.teacher_journal.entries[instance]
        learner: Any = self.group.core._learner
        learner.known = learner.delivered = last
        self.group.first = first
        self.group.core.log_trimmed(first)

    def restart(self) -> None:
        """Node 0 dies and comes back."""
        Deferred.fromCoroutine(self.node.close())
        self.journal = self.journal.restarted()
        self.start()

    def tell(self, chosen: int = LAST) -> None:
        """The master is heard, and says that what node 0 lacks is trimmed."""
        self.node.receive([(3, Heartbeat(1, 0, BALLOT, chosen, self.clock.seconds(), 1))])
        self.node.receive([(3, LearnReply(1, 0, NEEDED, chosen, ()))])
        self.turn()

    def turn(self, rounds: int = 60) -> None:
        """Let what is submitted become durable, and time pass."""
        for _ in range(rounds):
            self.journal.commit()
            self.teacher_journal.commit()
            self.clock.advance(0.01)

    @property
    def complete(self) -> bool:
        return self.behind.core.complete and self.behind.state_machine.applied == LAST


def rig_without_old_entries() -> Rig:
    """A checkpoint was installed, and nobody gives the entries below it."""
    rig = Rig()

    def spoil(request: Any, answer: Any) -> Any:
        if isinstance(request, LogReadRequest) and request.first < LAST - 255:
            raise RpcError(Status.UNAVAILABLE, "not now")
        return answer

    rig.wire.spoil = spoil
    rig.tell()
    return rig


def test_everything_comes_and_is_installed() -> None:
    rig = Rig()
    rig.tell()
    assert rig.complete
    assert rig.behind.core.chosen == LAST
    assert rig.behind.first == NEEDED
    assert sorted(rig.journal.entries) == list(range(NEEDED, LAST + 1))
    assert rig.failures == []


def test_while_entries_are_missing_it_votes_but_says_so() -> None:
    rig = rig_without_old_entries()
    assert (rig.behind.state_machine.applied, rig.behind.core.complete) == (LAST, False)
    assert rig.behind.status().incomplete
    rig.node.receive([(3, Heartbeat(1, 0, BALLOT, LAST, rig.clock.seconds(), 1))])
    rig.turn(1)
    [reply] = [message for message in rig.wire.sent[-3:] if isinstance(message, HeartbeatReply)]
    assert reply.incomplete
    rig.wire.spoil = lambda request, answer: answer
    rig.turn(100)
    assert rig.complete


def until_restoring(rig: Rig) -> Any:
    """Have node 0 fetch until it restores, with thousands of steps before it; the state machine that does."""
    machine: Any = rig.behind.state_machine
    machine.steps = 100_000
    rig.tell()
    assert machine.restorations == 1
    assert not rig.wire.named("LogRead")
    return machine


def test_it_is_restored_in_portions_and_put_in_place_when_it_is_durable() -> None:
    rig = Rig()
    machine = until_restoring(rig)
    rig.wire.sent.clear()
    rig.node.receive([(3, Heartbeat(1, 0, BALLOT, LAST, rig.clock.seconds(), 1))])
    rig.turn(1)
    assert any(isinstance(message, HeartbeatReply) for message in rig.wire.sent), "the group takes part meanwhile"
    assert rig.journal.blobs.get(("epochs", GROUP_KEY.pack(3))) is None
    machine.steps = 0
    while ("epochs", GROUP_KEY.pack(3)) not in rig.journal.blobs:
        assert (machine.applied, machine.log) == (-1, [])
        rig.turn(1)
    rig.turn()
    assert rig.complete
    assert (machine.restorations, machine.log) == (1, ["restored", "let go"])
    assert rig.failures == []


def test_a_stop_while_it_is_restored_leaves_the_old_state_and_what_was_fetched() -> None:
    rig = Rig()
    machine = until_restoring(rig)
    rig.restart()
    left = machine.steps
    rig.turn(1)
    assert (machine.applied, machine.steps) == (-1, left)
    rig.wire.calls.clear()
    rig.tell()
    assert rig.complete
    assert {request.segment for request in rig.wire.named("CheckpointRead")} == {b""}
    assert rig.failures == []


def test_what_the_group_learned_while_it_was_restored_is_not_undone() -> None:
    """A peer that was away has the log still, after all."""
    rig = Rig()
    machine = until_restoring(rig)
    entries = tuple((instance, entry(b"%d" % instance, BALLOT)) for instance in range(LAST + 1))
    rig.node.receive([(3, LearnReply(2, 0, 0, LAST, entries))])
    rig.turn(1)
    assert machine.applied == LAST
    machine.steps = 0
    rig.turn()
    assert (machine.log[-1], machine.applied) == (("apply", LAST), LAST)
    assert ("epochs", GROUP_KEY.pack(3)) not in rig.journal.blobs
    assert rig.failures == []


def test_a_piece_damaged_on_its_way_is_not_taken() -> None:
    rig = Rig()
    damaged = []

    def spoil(request: Any, answer: Any) -> Any:
        if isinstance(request, CheckpointReadRequest) and request.segment == b"s100" and not damaged:
            damaged.append(request)
            answer.data = b"X" + answer.data[1:]
        return answer

    rig.wire.spoil = spoil
    rig.tell()
    rig.turn(200)
    assert damaged
    assert rig.complete


def test_an_entry_damaged_on_its_way_is_not_taken() -> None:
    rig = Rig()
    damaged = []

    def spoil(request: Any, answer: Any) -> Any:
        if isinstance(request, LogReadRequest) and len(damaged) < 2:
            damaged.append(request)
            answer.entries[0].payload = b"X"
        return answer

    rig.wire.spoil = spoil
    rig.tell()
    rig.turn(300)
    assert len(damaged) == 2
    assert rig.complete
    assert all(one.payload == b"%d" % instance for instance, one in rig.journal.entries.items())


def test_a_checkpoint_that_cannot_be_restored_takes_the_place_of_nothing() -> None:
    rig = Rig()
    bad = [True]

    def spoil(request: Any, answer: Any) -> Any:
        if bad[0] and isinstance(request, CheckpointReadRequest) and request.segment == b"s50":
            answer.data = b"Z" * len(answer.data)
            answer.checksum = xxhash.xxh3_64_intdigest(answer.data)
        return answer

    rig.wire.spoil = spoil
    rig.tell()
    rig.turn(100)
    assert (rig.behind.state_machine.applied, rig.behind.core.chosen) == (-1, -1)
    bad[0] = False
    rig.turn(200)
    assert rig.complete


def test_a_restart_fetches_no_segment_again() -> None:
    rig = Rig()
    rig.tell()
    whole = {request.segment for request in rig.wire.named("CheckpointRead")}
    assert len(whole) == 9  # eight segments and the state
    rig = Rig()

    def spoil(request: Any, answer: Any) -> Any:
        if isinstance(request, CheckpointReadRequest) and request.segment == b"s350":
            raise RpcError(Status.UNAVAILABLE, "the connection broke")
        return answer

    rig.wire.spoil = spoil
    rig.tell()
    rig.restart()
    rig.wire.spoil = lambda request, answer: answer
    rig.wire.calls.clear()
    rig.tell()
    assert rig.complete
    fetched = {request.segment for request in rig.wire.named("CheckpointRead")}
    assert b"s0" not in fetched
    assert fetched < whole


def test_a_restart_goes_on_filling() -> None:
    rig = Rig()
    reads = []

    def spoil(request: Any, answer: Any) -> Any:
        if isinstance(request, LogReadRequest) and request.first < LAST - 255:
            reads.append(request)
            if len(reads) > 1:
                raise RpcError(Status.UNAVAILABLE, "the connection broke")
        return answer

    rig.wire.spoil = spoil
    rig.tell()
    assert not rig.behind.core.complete
    rig.restart()
    rig.wire.spoil = lambda request, answer: answer
    rig.wire.calls.clear()
    rig.turn()
    assert min(request.first for request in rig.wire.named("LogRead")) > NEEDED
    assert rig.behind.core.complete


def test_what_is_not_needed_any_more_is_not_fetched() -> None:
    rig = Rig()
    blocked = [True]

    def spoil(request: Any, answer: Any) -> Any:
        if blocked[0] and isinstance(request, LogReadRequest) and request.first < LAST - 255:
            raise RpcError(Status.UNAVAILABLE, "not now")
        return answer

    rig.wire.spoil = spoil
    rig.tell()
    rig.behind.needed = 140
    blocked[0] = False
    rig.wire.calls.clear()
    rig.turn(100)
    assert rig.complete
    assert min(request.first for request in rig.wire.named("LogRead")) == 140
    assert rig.behind.first == 140


def test_a_gap_that_nobody_can_fill_any_more_makes_room_for_a_newer_checkpoint() -> None:
    rig = rig_without_old_entries()
    assert not rig.behind.core.complete
    rig.advance(LAST + 1000)
    rig.wire.spoil = lambda request, answer: answer
    rig.node.receive([(3, LearnReply(1, 0, LAST + 900, LAST + 1000, ()))])
    rig.turn(200)
    assert rig.behind.core.complete
    assert rig.behind.state_machine.applied == LAST + 1000
    assert (rig.behind.first, rig.journal.blobs.get(("gap", GROUP_KEY.pack(3)))) == (LAST + 900, None)


def test_a_checkpoint_is_fetched_when_all_that_can_be_reached_have_trimmed() -> None:
    rig = Rig()
    rig.wire.services[2] = RpcService("node 2")
    rig.tell()
    assert rig.wire.calls == []
    rig.node.receive([(3, LearnReply(2, 0, NEEDED, LAST, ()))])
    rig.turn(1)
    assert [name for _, name, _ in rig.wire.calls] == ["CheckpointOpen"]


def test_or_when_one_says_so_again() -> None:
    rig = Rig()
    rig.wire.services[2] = RpcService("node 2")
    rig.tell()
    rig.tell()
    assert rig.complete


def test_what_is_left_of_a_fetch_that_nobody_needs_any_more_wakes_nobody() -> None:
    """Found by the simulator's soak: remains of a crashed process, collected as garbage, woke others of its kind."""
    rig = Rig()
    rig.wire.spoil = lambda request, answer: Deferred()  # nothing arrives
    rig.tell()
    node: Any = rig.node
    turn: DeferredLock = node._fetching
    assert turn.locked
    woken: list[Any] = []
    turn.acquire().addCallback(woken.append)
    del rig, node
    gc.collect()
    assert not woken


def test_the_journal_may_refuse_for_a_while() -> None:
    rig = Rig()
    rig.journal.refusing = True
    rig.tell()
    rig.journal.refusing = False
    rig.turn(200)
    assert rig.complete


# ---- the side that gives -----------------------------------------------------------------------------


def ask(rig: Rig, method: Any, **fields: Any) -> Any:
    """Call node 1; the answer or the error, when there is one."""
    return outcome(rig.wire.call(1, method, method.request(group_id=3, **fields), 1.0))


def opened(rig: Rig) -> Any:
    answer = rig.wire.call(1, methods.CHECKPOINT_OPEN, methods.CHECKPOINT_OPEN.request(group_id=3), 1.0)
    assert outcome(answer) is None  # until it is durable
    rig.teacher_journal.commit()
    return outcome(answer)


def test_a_checkpoint_is_made_for_whoever_asks() -> None:
    rig = Rig()
    answer = opened(rig)
    assert (answer.applied, answer.needed, answer.log_first, len(answer.segments)) == (LAST, NEEDED, NEEDED, 8)
    piece = ask(rig, methods.CHECKPOINT_READ, snapshot=answer.snapshot, segment=b"s50", offset=5, max_bytes=10)
    assert (piece.data, piece.size) == ((b"segment 50" * 100)[5:15], 1000)


def test_none_is_made_by_a_node_that_is_not_whole_itself() -> None:
    rig = Rig()
    rig.group.core._learner.complete = False
    error = ask(rig, methods.CHECKPOINT_OPEN)
    assert error.status is Status.RESOURCE_EXHAUSTED
    assert ask(rig, methods.LOG_READ, first=200, last=300, max_bytes=100).status is Status.RESOURCE_EXHAUSTED


def test_it_is_held_for_a_while_and_no_more_than_so_many() -> None:
    rig = Rig()
    first = opened(rig).snapshot
    rig.clock.advance(SNAPSHOT_S - 1)
    assert ask(rig, methods.CHECKPOINT_READ, snapshot=first, max_bytes=1).data
    rig.clock.advance(SNAPSHOT_S - 1)
    assert ask(rig, methods.CHECKPOINT_READ, snapshot=first, max_bytes=1).data
    rig.clock.advance(SNAPSHOT_S)
    assert ask(rig, methods.CHECKPOINT_READ, snapshot=first, max_bytes=1).status is Status.NOT_FOUND
    several = [opened(rig).snapshot for _ in range(MAX_SNAPSHOTS + 1)]
    assert ask(rig, methods.CHECKPOINT_READ, snapshot=several[0], max_bytes=1).status is Status.NOT_FOUND
    assert ask(rig, methods.CHECKPOINT_READ, snapshot=several[1], max_bytes=1).data


def test_a_segment_dropped_meanwhile() -> None:
    rig = Rig()
    answer = opened(rig)
    del rig.teacher_journal.blobs["segments", b"\x00\x03s50"]
    error = ask(rig, methods.CHECKPOINT_READ, snapshot=answer.snapshot, segment=b"s50", max_bytes=10)
    assert error.status is Status.NOT_FOUND
    assert "open another" in error.message


def test_the_log_is_kept_for_a_while_from_where_it_was_read_last() -> None:
    rig = Rig()
    answer = opened(rig)
    assert rig.teacher._server.pinned(3, 300) == NEEDED
    ask(rig, methods.LOG_READ, snapshot=answer.snapshot, first=200, last=300, max_bytes=100)
    assert rig.teacher._server.pinned(3, 300) == 200
    assert rig.teacher._server.pinned(3, 150) == 150
    rig.clock.advance(PIN_S)
    assert rig.teacher._server.pinned(3, 300) == 300


@pytest.mark.parametrize(
    ("error", "status"),
    [(JournalOverloaded("busy"), Status.RESOURCE_EXHAUSTED), (CorruptEntry(3, 200, "spoilt"), Status.UNAVAILABLE)],
)
def test_a_log_that_cannot_be_read(error: Exception, status: Status) -> None:
    rig = Rig()
    rig.teacher_journal.unreadable[200] = error
    assert ask(rig, methods.LOG_READ, first=200, last=300, max_bytes=100).status is status


def test_a_log_that_begins_later_is_told() -> None:
    answer = ask(Rig(), methods.LOG_READ, first=50, last=300, max_bytes=100)
    assert (list(answer.entries), answer.log_first) == ([], NEEDED)


def test_entries_come_as_they_are_stored() -> None:
    answer = ask(Rig(), methods.LOG_READ, first=200, last=202, max_bytes=100)
    made = entry(b"200", BALLOT)
    assert [one.instance for one in answer.entries] == [200, 201, 202]
    assert (answer.entries[0].ballot, answer.entries[0].checksum) == (BALLOT, made.checksum)


def test_a_membership_that_changes_meanwhile() -> None:
    rig = Rig()
    answer = rig.wire.call(1, methods.CHECKPOINT_OPEN, methods.CHECKPOINT_OPEN.request(group_id=3), 1.0)
    rig.teacher_journal.submit([PutBlob(MEMBERSHIP, GROUP_KEY.pack(3), b"other")])
    rig.teacher_journal.commit()
    assert outcome(answer).status is Status.RESOURCE_EXHAUSTED
    assert opened(rig).membership == b"other"


def test_a_journal_too_busy_to_read_the_membership() -> None:
    rig = Rig()
    rig.teacher_journal.blob_fails = JournalOverloaded("too many reads")
    assert ask(rig, methods.CHECKPOINT_OPEN).status is Status.RESOURCE_EXHAUSTED
