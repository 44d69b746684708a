"""Lagging peers are taught from the log: what is there, once per peer at a time, and never a damaged entry."""

from __future__ import annotations

from twisted.internet.task import Clock

from phxqueue.journal.errors import CorruptEntry, EntryMissing, JournalFailed
from phxqueue.paxos.effects import ServeLearn
from phxqueue.paxos.messages import LearnReply, Message
from phxqueue.replica.learn_server import LONGEST_WAIT_S, LearnServer
from phxqueue.replica.pace import Pace
from tests.conftest import LoggedErrors
from tests.replica.fakes import HandJournal, entry, stored


class Rig:
    def __init__(self, rate: int = 0) -> None:
        self.clock = Clock()
        self.journal = HandJournal()
        self.journal.entries = {instance: stored(b"entry %d" % instance) for instance in range(4)}
        self.sent: list[Message] = []
        self.repairs: list[CorruptEntry] = []
        self.server = LearnServer(
            3,
            0,
            self.journal,
            lambda receiver, message: self.sent.append(message),
            self.repairs.append,
            self.clock,
            Pace(rate),
        )


def test_a_range_with_the_mark_up_to_which_it_was_read() -> None:
    rig = Rig()
    rig.server.serve(ServeLearn(2, 1, 1000), last=3)
    entries = tuple((instance, entry(b"entry %d" % instance)) for instance in (1, 2, 3))
    assert rig.sent == [LearnReply(0, 2, 1, 3, entries)]


def test_no_more_bytes_than_asked_for() -> None:
    rig = Rig()
    rig.server.serve(ServeLearn(2, 0, 14), last=3)
    assert [reply.entries[-1][0] for reply in rig.sent if isinstance(reply, LearnReply)] == [1]


def test_nothing_to_teach() -> None:
    rig = Rig()
    rig.server.serve(ServeLearn(2, 4, 1000), last=3)
    assert (rig.sent, rig.journal.reads) == ([], [])


def test_one_read_per_peer_at_a_time() -> None:
    rig = Rig()
    rig.journal.waiting = []
    for peer in (1, 2, 1, 2, 1):
        rig.server.serve(ServeLearn(peer, 0, 1000), last=3)
    assert len(rig.journal.waiting) == 2
    for gate in rig.journal.waiting:
        gate.callback(None)
    assert [message.receiver for message in rig.sent] == [1, 2]
    rig.journal.waiting = None
    rig.server.serve(ServeLearn(1, 2, 1000), last=3)  # it asks again
    assert [message.receiver for message in rig.sent] == [1, 2, 1]


def test_a_damaged_entry_is_not_taught_but_repaired() -> None:
    rig = Rig()
    rig.journal.unreadable[1] = CorruptEntry(3, 1, "checksum")
    rig.server.serve(ServeLearn(2, 0, 1000), last=3)
    assert [reply.entries[-1][0] for reply in rig.sent if isinstance(reply, LearnReply)] == [0]
    rig.server.serve(ServeLearn(2, 1, 1000), last=3)
    assert len(rig.sent) == 1
    assert [corrupt.instance for corrupt in rig.repairs] == [1]


def test_an_unreadable_log_leaves_the_peer_to_others(logged_errors: LoggedErrors) -> None:
    rig = Rig()
    for error in (EntryMissing(3, 0, 5), JournalFailed("the journal has stopped")):
        rig.journal.unreadable[0] = error
        rig.server.serve(ServeLearn(2, 0, 1000), last=3)
    assert (rig.sent, rig.repairs) == ([], [])
    assert logged_errors.events == []


def test_a_defect_is_logged_with_its_traceback(logged_errors: LoggedErrors) -> None:
    rig = Rig()
    rig.journal.unreadable[0] = ZeroDivisionError("a defect")
    rig.server.serve(ServeLearn(2, 0, 1000), last=3)
    assert len(logged_errors.flush(ZeroDivisionError)) == 1
    rig.journal.unreadable.clear()
    rig.server.serve(ServeLearn(2, 0, 1000), last=3)
    assert len(rig.sent) == 1


def test_answers_are_held_back_to_the_pace_that_all_share() -> None:
    rig = Rig(rate=200)
    for receiver in (1, 2):
        rig.server.serve(ServeLearn(receiver, 0, 1000), 3)  # 28 bytes each
    assert [message.receiver for message in rig.sent] == [1]
    rig.server.serve(ServeLearn(2, 0, 1000), 3)  # it has not been answered yet
    rig.clock.advance(0.3)
    assert [message.receiver for message in rig.sent] == [1, 2]


def test_no_answer_is_held_back_until_the_peer_would_ask_another() -> None:
    rig = Rig(rate=1000)
    rig.journal.waiting = []
    for receiver in range(1, 12):
        rig.server.serve(ServeLearn(receiver, 0, 1000), 3)  # all are being read before the first is sent
    for gate in rig.journal.waiting:
        gate.callback(None)
    rig.clock.advance(LONGEST_WAIT_S)
    assert [message.receiver for message in rig.sent] == list(range(1, 12))


def test_what_cannot_be_answered_in_time_is_not_even_read() -> None:
    rig = Rig(rate=200)
    for receiver in (1, 2):
        rig.server.serve(ServeLearn(receiver, 0, 1000), 3)  # 28 bytes each
    reads = len(rig.journal.reads)
    rig.server.serve(ServeLearn(3, 0, 1000), 3)  # it would have to wait for too long
    assert len(rig.journal.reads) == reads
    rig.clock.advance(0.5)
    rig.server.serve(ServeLearn(3, 0, 1000), 3)  # it asks again
    assert [message.receiver for message in rig.sent] == [1, 2, 3]
