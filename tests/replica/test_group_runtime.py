"""The runtime of one group carries out what the core says, in the core's order, and nothing after a defect."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from phxqueue.journal.errors import CorruptEntry, EntryMissing, JournalFailed, JournalOverloaded
from phxqueue.journal.records import PutChosen, PutEntry, PutPromise
from phxqueue.paxos.effects import (
    AcceptRecord,
    BecameMaster,
    ChosenRecord,
    Effects,
    EntryRepaired,
    LostMaster,
    MasterChanged,
    MessageIgnored,
    PromiseRecord,
    ServeLearn,
)
from phxqueue.paxos.entry import EntryKind
from phxqueue.paxos.errors import InvariantViolation
from phxqueue.paxos.messages import Accept, Accepted, Heartbeat, LearnReply, Promise
from phxqueue.replica.errors import NotServing, OutcomeUnknown, Overloaded
from phxqueue.replica.group_runtime import GroupRuntime
from tests.conftest import LoggedErrors
from tests.replica.fakes import HandJournal, ScriptedCore, Settings, Words, entry, outcome, stored

PROMISE = Promise(0, 1, 5, 0, 0, True, -1, ())
ACCEPTED = Accepted(0, 1, 5, 0, 0, -1)
HEARTBEAT = Heartbeat(0, 2, 5, -1, 0.0, 1)
INCOMING = Heartbeat(1, 0, 5, -1, 0.0, 1)


class Rig:
    """A runtime between fakes. `log` tells what happened in which order."""

    def __init__(self, chosen: int = -1, replayed: bool = True) -> None:
        self.settings = Settings()
        self.log = self.settings.log
        self.clock = self.settings.clock
        self.core: Any = ScriptedCore(chosen=chosen)
        self.journal = HandJournal()
        self.machine = Words(self.log)
        self.runtime = GroupRuntime(
            self.core,
            self.machine,
            self.journal,
            self.clock,
            self.settings.send,
            lambda: "no majority",
            self.settings.failures.append,
            first=0,
            cache_bytes=1000,
        )
        if replayed:
            self.replay()

    def replay(self) -> Deferred[int]:
        return Deferred.fromCoroutine(self.runtime.replay(10, 1.0))

    def carry_out(self, **effects: Any) -> None:
        """Have the core answer the next message with these effects."""
        self.core.script.append(Effects(**effects))
        self.runtime.receive(INCOMING)

    def chosen(self, *payloads: bytes, **effects: Any) -> None:
        """Have the core hand out the next entries."""
        first = self.core.chosen + 1
        self.carry_out(chosen=[(first + offset, entry(payload)) for offset, payload in enumerate(payloads)], **effects)

    def submissions(self) -> list[list[Any]]:
        return [writes for writes, _ in self.journal.submitted]


# ---- the order contract -----------------------------------------------------------------------------------


def test_promises_and_accepts_wait_for_the_disk_and_heartbeats_do_not() -> None:
    rig = Rig()
    accept = AcceptRecord(0, entry(b"a", ballot=5))
    rig.carry_out(persist=[PromiseRecord(5), accept], token=1, send_after=[PROMISE, ACCEPTED], send=[HEARTBEAT])
    assert rig.log == [("send", 2, "Heartbeat")]
    checksum = accept.entry.checksum
    assert rig.submissions() == [[PutPromise(3, 5), PutEntry(3, 0, 5, checksum, EntryKind.VALUE, b"a")]]
    rig.journal.commit()
    assert rig.log[1:] == [("send", 1, "Promise"), ("send", 1, "Accepted")]
    assert rig.core.calls[-1] == ("persisted", 1)


def test_the_core_hears_of_durability_after_the_answers_have_left() -> None:
    rig = Rig()
    rig.carry_out(persist=[PromiseRecord(5)], token=1, send_after=[PROMISE])
    rig.core.script.append(Effects(send=[HEARTBEAT]))  # what it says once it knows
    rig.journal.commit()
    assert rig.log == [("send", 1, "Promise"), ("send", 2, "Heartbeat")]


def test_tokens_are_confirmed_in_order() -> None:
    rig = Rig()
    rig.carry_out(persist=[PromiseRecord(5)], token=1, send_after=[PROMISE])
    rig.carry_out(persist=[PromiseRecord(6)], token=2, send_after=[PROMISE])
    rig.journal.commit(1)
    assert [call for call in rig.core.calls if call[0] == "persisted"] == [("persisted", 1)]
    rig.journal.commit()
    assert [call for call in rig.core.calls if call[0] == "persisted"] == [("persisted", 1), ("persisted", 2)]


def test_a_lone_chosen_mark_is_lazy() -> None:
    rig = Rig()
    rig.carry_out(persist=[ChosenRecord(7)], token=None)
    assert rig.journal.submitted == [([PutChosen(3, 7)], None)]


def test_entries_are_applied_after_sending_and_before_events_are_told() -> None:
    rig = Rig()
    rig.runtime.on_mastership.append(lambda is_master: rig.log.append(("master", is_master)))
    rig.runtime.on_applied.append(lambda instance, payload: rig.log.append(("applied", instance, payload)))
    event = BecameMaster(ballot=5, first_instance=1)
    rig.chosen(b"a", b"b", send=[HEARTBEAT], events=[event])
    assert rig.log == [
        ("send", 2, "Heartbeat"),
        ("apply", 0),
        ("applied", 0, b"a"),
        ("apply", 1),
        ("applied", 1, b"b"),
        ("master", True),
    ]


def test_what_a_service_proposes_while_an_entry_is_applied_comes_after_it() -> None:
    rig = Rig()

    def propose_once(instance: int, payload: bytes) -> None:
        if payload == b"a":
            rig.core.script.append(Effects(send=[HEARTBEAT]))
            rig.runtime.propose(b"next")

    rig.runtime.on_applied.append(propose_once)
    rig.runtime.on_mastership.append(lambda is_master: rig.log.append(("master", is_master)))
    rig.chosen(b"a", b"b", events=[BecameMaster(ballot=5, first_instance=1)])
    assert rig.log == [("apply", 0), ("apply", 1), ("master", True), ("send", 2, "Heartbeat")]


def test_a_core_that_wants_to_send_after_nothing_is_a_defect(logged_errors: LoggedErrors) -> None:
    rig = Rig()
    rig.carry_out(send_after=[PROMISE])
    assert "AssertionError" in rig.settings.failures[0]
    assert rig.log == []
    logged_errors.flush(AssertionError)


def test_no_ops_move_the_state_machine_and_nothing_else() -> None:
    rig = Rig()
    told: list[int] = []
    rig.runtime.on_applied.append(lambda instance, payload: told.append(instance))
    rig.carry_out(chosen=[(0, entry(b"", kind=EntryKind.NOOP)), (1, entry(b"b"))])
    assert rig.machine.words == [(0, EntryKind.NOOP, b""), (1, EntryKind.VALUE, b"b")]
    assert told == [1]
    assert rig.runtime.cached(0) is None
    assert rig.runtime.cached(1) == b"b"


# ---- proposals ----------------------------------------------------------------------------------------------


def test_a_proposer_gets_the_result_of_applying() -> None:
    rig = Rig()
    result = rig.runtime.propose(b"a")
    assert outcome(result) is None
    rig.chosen(b"a")
    assert outcome(result) == b"A"


def test_a_proposal_replaced_by_another_masters_entry_has_no_outcome() -> None:
    rig = Rig()
    result = rig.runtime.propose(b"mine")
    rig.chosen(b"theirs")
    assert isinstance(outcome(result), OutcomeUnknown)


def test_a_no_op_at_its_instance_is_no_outcome_either() -> None:
    rig = Rig()
    result = rig.runtime.propose(b"mine")
    rig.carry_out(chosen=[(0, entry(b"", kind=EntryKind.NOOP))])
    assert isinstance(outcome(result), OutcomeUnknown)


def test_losing_mastership_leaves_the_outcome_unknown() -> None:
    rig = Rig()
    masterships: list[bool] = []
    rig.runtime.on_mastership.append(masterships.append)
    result = rig.runtime.propose(b"a")
    rig.carry_out(events=[LostMaster(ballot=5, reason="test")])
    assert isinstance(outcome(result), OutcomeUnknown)
    assert masterships == [False]
    rig.chosen(b"a")  # it was chosen after all
    assert rig.machine.words == [(0, 0, b"a")]


def test_nothing_is_proposed_by_who_is_not_master() -> None:
    rig = Rig()
    rig.core.is_master = False
    refused = outcome(rig.runtime.propose(b"a"))
    assert isinstance(refused, NotServing)
    assert str(refused) == "no majority"
    assert rig.core.calls == []


def test_a_full_window_or_a_slow_disk_refuses() -> None:
    rig = Rig()
    rig.core.window_free = 0
    assert isinstance(outcome(rig.runtime.propose(b"a")), Overloaded)
    rig.core.window_free = 1
    rig.journal.overloaded = True
    assert not rig.runtime.window_free
    assert isinstance(outcome(rig.runtime.propose(b"a")), Overloaded)
    assert rig.core.calls == []


def test_writes_need_no_lease_and_reads_do() -> None:
    rig = Rig()
    rig.core.leased = False
    assert rig.runtime.proposing()
    assert not rig.runtime.serving()


# ---- room in the window ---------------------------------------------------------------------------------------


def waiter(rig: Rig) -> list[float]:
    """Somebody who found no room and waits to be told."""
    told: list[float] = []
    rig.runtime.on_window_free.append(lambda: told.append(rig.clock.seconds()))
    return told


def test_who_found_the_window_full_is_told_when_a_proposal_has_left_it() -> None:
    rig = Rig()
    told = waiter(rig)
    rig.runtime.propose(b"a")
    rig.core.window_free = 0
    assert not rig.runtime.window_free
    rig.core.window_free = 1
    rig.chosen(b"a")
    assert told


def test_who_found_it_full_of_a_former_masters_entries_is_told_too() -> None:
    # A new master first proposes what it found in phase 1; nobody here waits for those entries.
    rig = Rig()
    told = waiter(rig)
    rig.core.window_free = 0
    assert not rig.runtime.window_free
    rig.chosen(b"theirs")
    assert not told
    rig.core.window_free = 1
    rig.chosen(b"theirs too")
    assert told


def test_who_found_the_journal_overloaded_is_told_when_it_is_not_any_more() -> None:
    rig = Rig()
    told = waiter(rig)
    rig.journal.overloaded = True
    assert not rig.runtime.window_free
    rig.runtime.tick()
    assert not told
    rig.journal.overloaded = False
    rig.runtime.tick()  # even if the core has nothing to do
    assert told


def test_nobody_is_told_of_room_that_nobody_missed() -> None:
    rig = Rig()
    told = waiter(rig)
    assert rig.runtime.window_free
    rig.chosen(b"a")
    rig.runtime.tick()
    assert not told


# ---- what must stop ---------------------------------------------------------------------------------------------


def test_an_entry_of_the_future_halts_the_group_and_hands_its_mastership_on(logged_errors: LoggedErrors) -> None:
    rig = Rig()
    masterships: list[bool] = []
    rig.runtime.on_mastership.append(masterships.append)
    waiting = rig.runtime.propose(b"a")
    rig.chosen(b"halt", b"b")
    assert rig.machine.words == []
    assert masterships == [False]
    assert isinstance(outcome(waiting), OutcomeUnknown)
    assert "version 9 is newer" in rig.runtime.unreachable_reason()
    assert not rig.runtime.serving()
    assert isinstance(outcome(rig.runtime.propose(b"c")), NotServing)
    assert rig.core.calls[-1][0] == "stand_aside"
    rig.chosen(b"c")  # it goes on voting, and applies nothing
    assert rig.machine.words == []
    assert rig.settings.failures == []
    assert logged_errors.flush_critical("version 9 is newer")


def test_a_defect_in_a_state_machine_stops_the_node_before_anything_else_happens(logged_errors: LoggedErrors) -> None:
    rig = Rig()
    rig.carry_out(persist=[PromiseRecord(5)], token=1, send_after=[PROMISE])
    waiting = rig.runtime.propose(b"boom")
    rig.chosen(b"boom", b"b", events=[BecameMaster(ballot=5, first_instance=0)])
    assert rig.settings.failures == ["group 3 failed: ZeroDivisionError: a defect; the log has the traceback"]
    assert rig.machine.words == []
    assert isinstance(outcome(waiting), OutcomeUnknown)
    calls = len(rig.core.calls)
    rig.journal.commit()  # too late: nothing may leave any more
    rig.runtime.receive(INCOMING)
    assert rig.log == []
    assert len(rig.core.calls) == calls
    assert len(logged_errors.flush(ZeroDivisionError)) == 1


def test_a_broken_invariant_of_the_core_stops_the_node(logged_errors: LoggedErrors) -> None:
    rig = Rig()
    rig.core.raises = InvariantViolation("two values")
    rig.runtime.receive(INCOMING)
    assert rig.settings.failures[0].startswith("group 3 failed: InvariantViolation: two values")
    logged_errors.flush(InvariantViolation)


def test_a_defect_in_a_service_harms_nobody_else(logged_errors: LoggedErrors) -> None:
    rig = Rig()
    told: list[bytes] = []

    def raises(instance: int, payload: bytes) -> None:
        raise KeyError(payload)

    rig.runtime.on_applied.extend([raises, lambda instance, payload: told.append(payload)])
    rig.chosen(b"a", b"b")
    assert told == [b"a", b"b"]
    assert rig.settings.failures == []
    assert len(logged_errors.flush(KeyError)) == 2


def test_closing_leaves_outcomes_unknown_and_sends_nothing_more() -> None:
    rig = Rig()
    rig.carry_out(persist=[PromiseRecord(5)], token=1, send_after=[PROMISE])
    waiting = rig.runtime.propose(b"a")
    rig.runtime.close()
    assert isinstance(outcome(waiting), OutcomeUnknown)
    rig.journal.commit()
    assert rig.log == []
    assert isinstance(outcome(rig.runtime.propose(b"a")), NotServing)


# ---- what comes in ----------------------------------------------------------------------------------------------


def test_entries_are_dropped_while_the_disk_cannot_follow() -> None:
    rig = Rig()
    accept = Accept(1, 0, 5, -1, ((0, entry(b"a", ballot=5)),))
    learned = LearnReply(1, 0, 0, 0, ((0, entry(b"a")),))
    rig.journal.overloaded = True
    for message in (accept, learned, INCOMING, ACCEPTED):
        rig.runtime.receive(message)
    assert rig.core.calls == [("step", INCOMING), ("step", ACCEPTED)]
    rig.journal.overloaded = False
    rig.runtime.receive(accept)
    assert rig.core.calls[-1] == ("step", accept)


def test_the_core_is_ticked_when_it_is_due() -> None:
    rig = Rig()
    rig.core.deadline = 1.0
    rig.runtime.tick()
    assert rig.core.calls == []
    rig.clock.advance(1.0)
    rig.runtime.tick()
    assert rig.core.calls == [("tick",)]


def test_a_lost_peer_is_told_to_the_core() -> None:
    rig = Rig()
    rig.runtime.peer_unreachable(2)
    assert rig.core.calls == [("unreachable", 2)]


def test_events_without_consequences_are_only_logged() -> None:
    rig = Rig()
    rig.carry_out(events=[MasterChanged(master_id=1, ballot=5), MessageIgnored(sender=9, reason="unknown")])
    assert rig.settings.failures == []


def test_peers_are_taught_from_the_log() -> None:
    rig = Rig(chosen=1, replayed=False)
    rig.journal.entries = {0: stored(b"a"), 1: stored(b"b")}
    rig.carry_out(serve=[ServeLearn(2, 0, 1000)])
    assert rig.journal.reads == [(0, 1)]
    assert rig.log == [("send", 2, "LearnReply")]


# ---- replay -----------------------------------------------------------------------------------------------------


def log_of(rig: Rig, *payloads: bytes) -> None:
    rig.journal.entries = {instance: stored(payload) for instance, payload in enumerate(payloads)}


def test_a_restart_applies_the_log_page_by_page() -> None:
    rig = Rig(chosen=3, replayed=False)
    log_of(rig, b"aaaaaa", b"bbbbbb", b"cc", b"dd")
    assert not rig.runtime.serving()
    assert outcome(rig.replay()) == 4
    assert [payload for _, _, payload in rig.machine.words] == [b"aaaaaa", b"bbbbbb", b"cc", b"dd"]
    assert rig.journal.reads == [(0, 3), (1, 3)]
    assert rig.runtime.serving()


def test_a_replay_begins_behind_the_checkpoint() -> None:
    rig = Rig(chosen=2, replayed=False)
    log_of(rig, b"a", b"b", b"c")
    rig.machine.applied = 1
    assert outcome(rig.replay()) == 1
    assert rig.machine.words == [(2, 0, b"c")]


def test_what_is_chosen_during_the_replay_is_applied_once_and_in_order() -> None:
    rig = Rig(chosen=1, replayed=False)
    log_of(rig, b"a", b"b", b"c")
    rig.journal.waiting = []
    done = rig.replay()
    rig.chosen(b"c")  # already on this disk, as all that the core hands out
    assert rig.machine.words == []
    while rig.journal.waiting:
        rig.journal.waiting.pop(0).callback(None)
    assert outcome(done) == 3
    assert [payload for _, _, payload in rig.machine.words] == [b"a", b"b", b"c"]
    rig.journal.entries[3] = stored(b"d")
    rig.chosen(b"d")
    assert rig.machine.words[-1] == (3, 0, b"d")


def test_a_damaged_entry_is_fetched_from_a_peer() -> None:
    rig = Rig(chosen=2, replayed=False)
    log_of(rig, b"a", b"b", b"c")
    rig.journal.unreadable[1] = CorruptEntry(3, 1, "checksum")
    done = rig.replay()
    assert ("repair", 1) in rig.core.calls
    assert outcome(done) is None
    rig.carry_out(events=[EntryRepaired(instance=1, entry=entry(b"b"))])
    assert outcome(done) == 3
    assert [payload for _, _, payload in rig.machine.words] == [b"a", b"b", b"c"]


def test_a_damaged_entry_that_no_peer_sends_is_asked_for_again() -> None:
    rig = Rig(chosen=0, replayed=False)
    log_of(rig, b"a")
    rig.journal.unreadable[0] = CorruptEntry(3, 0, "checksum")
    done = rig.replay()
    rig.clock.advance(5.0)  # the reader gives up ...
    rig.clock.advance(1.0)  # ... and the replay tries again
    assert rig.core.calls.count(("repair", 0)) == 2
    rig.carry_out(events=[EntryRepaired(instance=0, entry=entry(b"a"))])
    assert outcome(done) == 1


def test_a_replay_waits_while_reads_are_refused() -> None:
    rig = Rig(chosen=0, replayed=False)
    log_of(rig, b"a")
    rig.journal.unreadable[0] = JournalOverloaded("too many reads")
    done = rig.replay()
    assert outcome(done) is None
    rig.journal.unreadable.clear()
    rig.clock.advance(1.0)
    assert outcome(done) == 1


def test_a_hole_in_the_log_ends_the_start() -> None:
    rig = Rig(chosen=0, replayed=False)
    rig.journal.unreadable[0] = EntryMissing(3, 0, 5)
    assert isinstance(outcome(rig.replay()), EntryMissing)


def test_a_replay_ends_when_the_group_halts(logged_errors: LoggedErrors) -> None:
    rig = Rig(chosen=1, replayed=False)
    log_of(rig, b"halt", b"b")
    done = rig.replay()
    assert outcome(done) is not None
    assert rig.machine.words == []
    assert not rig.runtime.serving()
    assert logged_errors.flush_critical("version 9 is newer")


def test_a_defect_during_the_replay_is_told_to_who_starts_the_node() -> None:
    rig = Rig(chosen=0, replayed=False)
    log_of(rig, b"boom")
    assert isinstance(outcome(rig.replay()), ZeroDivisionError)
    assert rig.runtime.failed
    assert not rig.runtime.serving()


def test_a_failed_journal_ends_the_node_without_a_traceback() -> None:
    """It is the disk's fault and told by the journal: the log of a full disk must not look like a defect."""
    rig = Rig()
    reason = "the journal has stopped: the disk is full; restart the node when that is mended"

    def submit(*_: object) -> None:
        raise JournalFailed(reason)

    rig.journal.submit = submit  # type: ignore[method-assign]
    rig.carry_out(persist=[PromiseRecord(5)], token=1, send_after=[PROMISE])
    assert rig.settings.failures == [reason]
    assert rig.runtime.failed
    assert "send" not in " ".join(map(str, rig.log))
