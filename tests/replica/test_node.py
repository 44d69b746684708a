"""A node recovers its groups from checkpoint and log, ticks them, and takes checkpoints."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from zope.interface import implementer

from phxqueue.journal.errors import CorruptEntry, JournalFailed, JournalOverloaded
from phxqueue.journal.records import DeleteBlob, GroupState, PutBlob, PutChosen, PutPromise
from phxqueue.net.status import RpcError, Status
from phxqueue.paxos.config import GroupConfig, Member
from phxqueue.paxos.messages import Accept, Heartbeat, LearnReply, LearnRequest, Message, Prepare, Promise
from phxqueue.replica.checkpoint_table import CHECKPOINTS, SEGMENTS
from phxqueue.replica.interfaces import Checkpoint, ITransport
from phxqueue.replica.node import ReplicaNode, ReplicaSettings
from tests.conftest import LoggedErrors
from tests.replica.fakes import HandJournal, Words, entry, outcome, stored

GROUP = struct.pack(">H", 3)
BALLOT = 1 << 16 | 1


@implementer(ITransport)
class Frames:
    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.frames = 0

    def send(self, receiver: int, messages: Sequence[tuple[int, Message]]) -> None:
        self.frames += 1
        self.sent.extend(message for _, message in messages)

    def call(self, receiver: int, method: Any, request: Any, timeout: float) -> Deferred[Any]:
        return fail(RpcError(Status.UNAVAILABLE, "nobody is there"))

    def reachable(self) -> frozenset[int]:
        return frozenset({2})


class Rig:
    """Node 0 of three. `heartbeat` is node 1's, who is master."""

    def __init__(self, groups: Sequence[int] = (3,), **settings: Any) -> None:
        self.clock = Clock()
        self.journal = HandJournal()
        self.frames = Frames()
        self.failures: list[str] = []
        self.machines: dict[int, Words] = {}
        members = (Member(0), Member(1), Member(2))
        self.node = ReplicaNode(
            [GroupConfig(group_id=group_id, node_id=0, members=members) for group_id in groups],
            self.machine,
            self.journal,
            self.frames,
            self.clock,
            seed=1,
            settings=ReplicaSettings(**settings),
            describe_members=lambda reachable: f"{len(reachable) + 1} of 3 reachable",
            fail=self.failures.append,
        )

    def machine(self, group_id: int) -> Words:
        self.machines[group_id] = Words()
        return self.machines[group_id]

    def start(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.node.start())

    def receive(self, *messages: Message) -> None:
        self.node.receive([(3, message) for message in messages])
        self.clock.advance(0)

    def heartbeat(self, chosen: int = -1) -> None:
        self.receive(Heartbeat(1, 0, BALLOT, chosen, self.clock.seconds(), 1))

    def accept(self, *payloads: bytes, first: int = 0, chosen: int = -1) -> None:
        pairs = tuple((first + offset, entry(payload, BALLOT)) for offset, payload in enumerate(payloads))
        self.receive(Accept(1, 0, BALLOT, chosen, pairs))
        self.journal.commit()

    def words(self) -> list[bytes]:
        return [payload for _, _, payload in self.machines[3].words]

    def blobs(self, table: str) -> list[tuple[bytes, bytes]]:
        return [
            (write.key, write.value)
            for writes, _ in self.journal.submitted
            for write in writes
            if isinstance(write, PutBlob) and write.table == table
        ]


@pytest.fixture
def rig() -> Rig:
    return Rig()


# ---- recovery -------------------------------------------------------------------------------------------------


def test_an_empty_directory(rig: Rig) -> None:
    assert rig.start().called
    assert rig.node.groups[3].state_machine.applied == -1
    assert rig.node.groups[3].core.promised == 0


def test_a_checkpoint_and_the_log_behind_it(rig: Rig) -> None:
    rig.journal.blobs[CHECKPOINTS, GROUP] = b"1\nzero\none"
    rig.journal.state = GroupState(7, 1, 0, [(2, stored(b"two")), (3, stored(b"three"))])
    rig.journal.entries = {instance: stored(b"n%d" % instance) for instance in range(4)}
    assert rig.start().called
    group = rig.node.groups[3]
    assert rig.words() == [b"zero", b"one"]
    assert (group.core.promised, group.core.chosen) == (7, 1)
    rig.clock.advance(1)
    rig.receive(Prepare(1, 0, 9 << 16 | 1, 0))
    rig.journal.commit()
    rig.clock.advance(0)
    promises = [message for message in rig.frames.sent if isinstance(message, Promise)]
    assert [instance for instance, _ in promises[-1].entries] == [2, 3]  # accepted, and not known to be chosen


def test_the_log_beyond_the_checkpoint_is_replayed(rig: Rig) -> None:
    rig.journal.blobs[CHECKPOINTS, GROUP] = b"0\nzero"
    rig.journal.state = GroupState(7, 2, 0, [])
    rig.journal.entries = {instance: stored(b"n%d" % instance) for instance in range(3)}
    assert rig.start().called
    assert rig.words() == [b"zero", b"n1", b"n2"]


def test_a_checkpoint_beyond_the_chosen_mark_counts(rig: Rig) -> None:
    # The mark is lazy, the checkpoint is not: what it holds was chosen.
    rig.journal.blobs[CHECKPOINTS, GROUP] = b"2\na\nb\nc"
    rig.journal.state = GroupState(7, 0, 0, [(1, stored(b"b")), (2, stored(b"c")), (3, stored(b"d"))])
    assert rig.start().called
    assert rig.node.groups[3].core.chosen == 2
    assert rig.words() == [b"a", b"b", b"c"]


def test_segments_of_its_own_group_are_given_back(rig: Rig) -> None:
    given: list[tuple[bytes, bytes]] = []

    class Sealed(Words):
        def restore(self, state: bytes, segments: Any) -> None:
            given.extend(segments)
            super().restore(state, [])

    rig.node._make_state_machine = lambda group_id: Sealed()
    rig.journal.blobs[CHECKPOINTS, GROUP] = b"-1"
    rig.journal.blobs[SEGMENTS, GROUP + b"s1"] = b"one"
    rig.journal.blobs[SEGMENTS, struct.pack(">H", 4) + b"s1"] = b"another group's"
    assert rig.start().called
    assert given == [(b"s1", b"one")]


def test_a_damaged_entry_is_fetched_while_the_group_takes_part(rig: Rig) -> None:
    rig.journal.state = GroupState(BALLOT, 2, 0, [])
    rig.journal.entries = {instance: stored(b"n%d" % instance) for instance in range(3)}
    rig.journal.unreadable[1] = CorruptEntry(3, 1, "checksum")
    started = rig.start()
    assert rig.words() == [b"n0"]
    rig.heartbeat(chosen=2)  # it votes meanwhile, and now knows who to ask
    rig.clock.advance(0.6)
    rig.clock.advance(0)
    asked = [message for message in rig.frames.sent if isinstance(message, LearnRequest)]
    assert [(message.receiver, message.first) for message in asked] == [(1, 1)]
    assert not started.called
    rig.receive(LearnReply(1, 0, 1, 2, ((1, entry(b"n1")),)))
    assert rig.words() == [b"n0", b"n1", b"n2"]
    assert started.called


# ---- taking part -----------------------------------------------------------------------------------------------


def test_frames_before_the_start_are_dropped(rig: Rig) -> None:
    rig.heartbeat()
    assert rig.frames.sent == []


def test_a_message_for_a_group_that_is_not_here_is_dropped(rig: Rig) -> None:
    assert rig.start().called
    rig.node.receive([(99, Heartbeat(1, 0, BALLOT, -1, 0.0, 1))])
    rig.clock.advance(0)
    assert rig.frames.sent == []


def test_answers_of_all_groups_leave_in_one_frame() -> None:
    rig = Rig(groups=range(50))
    assert rig.start().called
    rig.node.receive([(group_id, Heartbeat(1, 0, BALLOT, -1, 0.0, 1)) for group_id in range(50)])
    rig.clock.advance(0)
    assert len(rig.frames.sent) == 50
    assert rig.frames.frames == 1


def test_a_node_alone_says_who_it_reaches(rig: Rig) -> None:
    assert rig.start().called
    assert rig.node.groups[3].unreachable_reason() == "2 of 3 reachable"


def test_a_lost_peer_is_told_to_every_group() -> None:
    rig = Rig(groups=(3, 4))
    assert rig.start().called
    rig.node.peer_unreachable(2)
    assert [group.core.peers[2].unreachable for group in rig.node.groups.values()] == [True, True]


# ---- checkpoints ------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_taken_when_enough_was_applied() -> None:
    rig = Rig(checkpoint_entries=2, checkpoint_interval=1000.0)
    assert rig.start().called
    rig.accept(b"a", b"b", b"c")
    rig.heartbeat(chosen=0)
    rig.clock.advance(0.05)
    assert rig.blobs(CHECKPOINTS) == []
    rig.heartbeat(chosen=1)
    rig.clock.advance(0.05)
    assert rig.blobs(CHECKPOINTS) == [(GROUP, b"1\na\nb")]
    assert any(PutChosen(3, 1) in writes and len(writes) == 2 for writes, _ in rig.journal.submitted)


def test_a_checkpoint_is_taken_after_a_while_if_anything_was_applied() -> None:
    rig = Rig(checkpoint_entries=1000, checkpoint_interval=1.0)
    assert rig.start().called
    rig.accept(b"a")
    rig.heartbeat(chosen=0)
    for _ in range(30):
        rig.clock.advance(0.05)
        rig.heartbeat(chosen=0)
    assert rig.blobs(CHECKPOINTS) == [(GROUP, b"0\na")]


def test_no_checkpoint_while_the_disk_cannot_follow() -> None:
    rig = Rig(checkpoint_entries=1)
    assert rig.start().called
    rig.accept(b"a")
    rig.heartbeat(chosen=0)
    rig.journal.overloaded = True
    rig.clock.advance(0.05)
    assert rig.blobs(CHECKPOINTS) == []
    rig.journal.overloaded = False
    rig.clock.advance(0.05)
    assert rig.blobs(CHECKPOINTS) == [(GROUP, b"0\na")]


def test_a_checkpoint_that_meets_a_failed_journal_ends_the_node_without_a_traceback() -> None:
    """The journal has failed and says so in a moment: the log of a full disk must not look like a defect."""
    rig = Rig(checkpoint_entries=1)
    assert rig.start().called
    rig.accept(b"a")
    rig.heartbeat(chosen=0)
    reason = "the journal has stopped: the disk is full; restart the node when that is mended"

    def submit(*_: object) -> None:
        raise JournalFailed(reason)

    rig.journal.submit = submit  # type: ignore[method-assign]
    rig.clock.advance(0.05)
    assert any(reason in failure for failure in rig.failures)


def test_segments_that_the_journal_refused_go_with_the_next_checkpoint() -> None:
    class Sealing(Words):
        def checkpoint(self) -> Checkpoint:
            made = super().checkpoint()
            return Checkpoint(made.applied, made.state, [(b"s%d" % made.applied, b"rows")])

    rig = Rig(checkpoint_entries=1, checkpoint_interval=1.0)
    rig.node._make_state_machine = lambda group_id: Sealing()
    assert rig.start().called
    rig.accept(b"a", b"b")
    rig.heartbeat(chosen=0)
    rig.journal.refusing = True
    rig.clock.advance(0.05)
    assert rig.blobs(SEGMENTS) == []
    rig.journal.refusing = False
    rig.heartbeat(chosen=1)
    rig.clock.advance(0.5)
    assert rig.blobs(SEGMENTS) == []  # not with every tick: making one is dear
    rig.clock.advance(0.6)
    assert rig.blobs(SEGMENTS) == [(GROUP + b"s0", b"rows"), (GROUP + b"s1", b"rows")]
    assert rig.blobs(CHECKPOINTS) == [(GROUP, b"1\na\nb")]


class Forgetful(Words):
    """Needs no entries but the last two it applied; each checkpoint brings a segment and drops the one before."""

    def checkpoint(self) -> Checkpoint:
        made = super().checkpoint()
        return Checkpoint(
            made.applied,
            made.state,
            [(b"s%d" % made.applied, b"rows")],
            dropped=[b"s%d" % (made.applied - 1)],
            needed=max(made.applied - 1, 0),
        )


def forgetful(**settings: Any) -> Rig:
    rig = Rig(checkpoint_entries=1, **settings)
    rig.node._make_state_machine = lambda group_id: Forgetful()
    assert rig.start().called
    rig.accept(*[b"%d" % number for number in range(10)])
    return rig


def test_the_log_is_trimmed_behind_a_durable_checkpoint_and_what_is_needed() -> None:
    rig = forgetful(keep_entries=0)
    rig.heartbeat(chosen=5)
    rig.clock.advance(0.05)
    assert rig.journal.trimmed == []
    rig.journal.commit()
    assert rig.journal.trimmed == [(3, 4)]
    group = rig.node.groups[3]
    assert (group.first, group.status().first) == (4, 4)
    rig.receive(LearnRequest(2, 0, 0, 1000))
    assert rig.frames.sent[-1] == LearnReply(0, 2, 4, 5, ())


def test_the_newest_entries_stay_for_members_that_lag_a_little() -> None:
    rig = forgetful(keep_entries=4)
    rig.heartbeat(chosen=2)
    rig.clock.advance(0.05)
    rig.journal.commit()
    assert rig.journal.trimmed == []
    rig.heartbeat(chosen=9)
    rig.clock.advance(0.05)
    rig.journal.commit()
    assert rig.journal.trimmed == [(3, 6)]


def test_a_trim_that_the_journal_does_not_take_goes_with_the_next() -> None:
    rig = forgetful(keep_entries=0)
    rig.journal.trim_fails = JournalOverloaded("too much waits")
    rig.heartbeat(chosen=5)
    rig.clock.advance(0.05)
    rig.journal.commit()
    rig.journal.trim_fails = None
    rig.heartbeat(chosen=9)
    rig.clock.advance(0.05)
    rig.journal.commit()
    assert rig.journal.trimmed == [(3, 8)]


def test_dropped_segments_go_with_the_checkpoint_that_does_without_them() -> None:
    rig = forgetful()
    rig.heartbeat(chosen=5)
    rig.journal.refusing = True
    rig.clock.advance(0.05)
    rig.journal.refusing = False
    rig.heartbeat(chosen=6)
    rig.clock.advance(11)
    [writes] = [writes for writes, _ in rig.journal.submitted if any(isinstance(one, DeleteBlob) for one in writes)]
    assert writes == [
        PutBlob(SEGMENTS, GROUP + b"s5", b"rows"),
        DeleteBlob(SEGMENTS, GROUP + b"s4"),
        PutBlob(SEGMENTS, GROUP + b"s6", b"rows"),
        DeleteBlob(SEGMENTS, GROUP + b"s5"),
        PutBlob(CHECKPOINTS, GROUP, b"6\n0\n1\n2\n3\n4\n5\n6"),
        PutChosen(3, 6),
    ]


def test_a_checkpoint_is_taken_when_much_was_applied() -> None:
    rig = Rig(checkpoint_entries=1000, checkpoint_bytes=5000, checkpoint_interval=1000.0)
    assert rig.start().called
    rig.accept(b"a" * 3000, b"b" * 3000)
    rig.heartbeat(chosen=0)
    rig.clock.advance(0.05)
    assert rig.blobs(CHECKPOINTS) == []
    rig.heartbeat(chosen=1)
    rig.clock.advance(0.05)
    assert len(rig.blobs(CHECKPOINTS)) == 1


def test_a_state_that_a_defect_has_half_changed_is_not_kept(logged_errors: LoggedErrors) -> None:
    rig = Rig(checkpoint_entries=1, checkpoint_interval=0.1)
    assert rig.start().called
    rig.accept(b"a", b"boom")
    rig.heartbeat(chosen=1)
    assert rig.failures
    rig.clock.advance(1)
    Deferred.fromCoroutine(rig.node.close())
    assert rig.blobs(CHECKPOINTS) == []
    logged_errors.flush(ZeroDivisionError)


def test_a_checkpoint_that_cannot_be_made_ends_the_node(logged_errors: LoggedErrors) -> None:
    class Broken(Words):
        def checkpoint(self) -> Checkpoint:
            raise ZeroDivisionError("a defect")

    rig = Rig(checkpoint_entries=1)
    rig.node._make_state_machine = lambda group_id: Broken()
    assert rig.start().called
    rig.accept(b"a")
    rig.heartbeat(chosen=0)
    rig.clock.advance(0.05)
    assert rig.failures == [
        "group 3 failed: its checkpoint failed: ZeroDivisionError: a defect; the log has the traceback"
    ]
    rig.clock.advance(1)
    assert len(logged_errors.flush(ZeroDivisionError)) == 1


# ---- the end ---------------------------------------------------------------------------------------------------


def test_closing_takes_a_last_checkpoint_and_waits_for_it(rig: Rig) -> None:
    assert rig.start().called
    rig.accept(b"a")
    rig.heartbeat(chosen=0)
    rig.journal.commit()
    closed: list[object] = []
    Deferred.fromCoroutine(rig.node.close()).addCallback(closed.append)
    assert rig.blobs(CHECKPOINTS) == [(GROUP, b"0\na")]
    assert not closed
    rig.journal.commit()
    assert closed == [None]
    assert rig.clock.getDelayedCalls() == []


def test_closing_does_not_wait_for_a_journal_that_has_failed(rig: Rig) -> None:
    rig.start()
    rig.heartbeat()
    rig.accept(b"a")
    rig.heartbeat(chosen=0)
    closed = Deferred.fromCoroutine(rig.node.close())
    assert not closed.called
    rig.node.journal_failed()
    assert closed.called
    rig.journal.commit()


def test_closing_a_node_whose_journal_has_failed_closes_all_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(groups=(3, 4))
    rig.start()
    rig.heartbeat()
    rig.accept(b"a")
    rig.heartbeat(chosen=0)

    def submit(*_: Any) -> None:
        raise JournalFailed("the journal has stopped: the disk is gone")

    monkeypatch.setattr(rig.journal, "submit", submit)
    with capturedLogs() as logged:
        assert Deferred.fromCoroutine(rig.node.close()).called
    assert [event["log_level"].name for event in logged] == ["warn"]
    assert all(group._closed for group in rig.node.groups.values())


def test_a_closed_node_says_nothing_more(rig: Rig) -> None:
    assert rig.start().called
    outcome(Deferred.fromCoroutine(rig.node.close()))
    rig.frames.sent.clear()
    rig.heartbeat()
    rig.clock.advance(10)
    assert rig.frames.sent == []


def test_a_broken_core_ends_the_node(rig: Rig, logged_errors: Any) -> None:
    assert rig.start().called
    rig.clock.rightNow = -1.0  # a monotonic clock that goes back
    rig.heartbeat()
    assert "InvariantViolation" in rig.failures[0]
    assert not any(PutPromise(3, BALLOT) in writes for writes, _ in rig.journal.submitted)
    logged_errors.flush()
