"""What the papers claim, one test each.

PMS: Leslie Lamport, *Paxos Made Simple*, 2001. PML: Tushar Chandra, Robert Griesemer, Joshua Redstone, *Paxos Made
Live: An Engineering Perspective*, 2007. The claims are told in our own words.
"""

from __future__ import annotations

import pytest

from phxqueue.paxos.ballot import node_of, round_of
from phxqueue.paxos.config import Restored
from phxqueue.paxos.effects import AcceptRecord, CheckpointNeeded, CorruptEntry, LostMaster, PromiseRecord
from phxqueue.paxos.entry import Entry, EntryKind
from phxqueue.paxos.errors import InvariantViolation, NotMaster, WindowFull
from phxqueue.paxos.messages import (
    Accept,
    Accepted,
    HeartbeatReply,
    LearnReply,
    LearnRequest,
    Prepare,
    PreVote,
    Promise,
    Reject,
)
from tests.paxos.driver import Driver, ballot, make_config, of_type, value

# -- PMS 2.2: choosing a value ----------------------------------------------------------------------------------------


def test_pms_2_2_an_acceptor_accepts_the_first_proposal_that_it_receives() -> None:
    """P1."""
    driver = Driver(make_config(0))
    driver.accept(1, ballot(1, 1), (0, "first"))
    driver.persist()
    assert driver.pending == []
    assert driver.group.promised == ballot(1, 1)


def test_pms_2_2_an_acceptor_accepts_below_no_promise() -> None:
    """P1a: it accepts a proposal numbered n unless it has answered a prepare numbered above n."""
    driver = Driver(make_config(0), start=10.0)
    driver.now = 11.0
    driver.prepare(2, ballot(5, 2))
    driver.persist()
    out = driver.accept(1, ballot(4, 1), (0, "late"))
    assert out.persist == []
    assert out.send == [Reject(0, 1, ballot(4, 1), ballot(5, 2), 0.0)]
    # At the promised number itself, or above, it accepts.
    assert driver.accept(2, ballot(5, 2), (0, "due")).persist == [AcceptRecord(0, value(ballot(5, 2), "due"))]
    out = driver.accept(1, ballot(6, 1), (1, "later"))
    assert out.persist == [PromiseRecord(ballot(6, 1)), AcceptRecord(1, value(ballot(6, 1), "later"))]


def test_pms_2_2_a_proposer_proposes_the_value_of_the_highest_number_that_it_is_told() -> None:
    """P2c: else some majority that the promising majority meets may have chosen another value."""
    driver = Driver(make_config(0, size=5))
    b = driver.stand()
    driver.promise(1, b, (0, value(ballot(1, 3), "old")))
    driver.promise(2, b, (0, value(ballot(1, 4), "newer")))
    [accept, *_] = of_type(driver.last.send, Accept)
    assert accept.entries == ((0, value(b, "newer")),)


def test_pms_2_2_what_the_proposer_accepted_itself_counts_like_any_report() -> None:
    """P2c, with the proposer among its own majority."""
    mine = Restored(promised=ballot(7, 1), entries={0: value(ballot(7, 1), "mine")})
    driver = Driver(make_config(0), mine)
    b = driver.stand()
    driver.promise(1, b, (0, value(ballot(3, 2), "theirs")))
    [accept, *_] = of_type(driver.last.send, Accept)
    assert accept.entries == ((0, value(b, "mine")),)


def test_pms_2_2_a_proposer_is_free_where_nothing_was_accepted() -> None:
    """P2c, the other case."""
    driver = Driver(make_config(0))
    b = driver.become_master()
    assert driver.propose("free") == 0
    assert of_type(driver.last.send, Accept)[0].entries == ((0, value(b, "free")),)


def test_pms_2_2_a_promise_tells_what_was_accepted_with_the_highest_number() -> None:
    """Phase 1 (b)."""
    driver = Driver(make_config(0))
    driver.accept(1, ballot(1, 1), (0, "a"), (1, "b"))
    driver.accept(2, ballot(2, 2), (0, "c"))
    driver.persist()
    driver.now += 1
    driver.prepare(1, ballot(3, 1))
    [promise] = of_type(driver.last.send_after, Promise)
    assert promise.entries == ((0, value(ballot(2, 2), "c")), (1, value(ballot(1, 1), "b")))
    assert promise.final


def test_pms_2_2_an_acceptor_may_ignore_a_lower_prepare_and_better_says_so() -> None:
    """It need not answer a prepare below its promise; telling the proposer why lets it give up (2.2, end)."""
    driver = Driver(make_config(0))
    driver.now += 1
    driver.prepare(2, ballot(5, 2))
    driver.persist()
    out = driver.prepare(1, ballot(4, 1))
    assert out.send == [Reject(0, 1, ballot(4, 1), ballot(5, 2), 0.0)]
    assert out.persist == []


def test_pms_2_2_a_proposer_abandons_a_number_that_was_outbid() -> None:
    """See above, from the other side; the next attempt is above what it was told."""
    driver = Driver(make_config(0))
    b = driver.stand()
    driver.step(Reject(1, 0, b, ballot(9, 2), 0.0))
    assert driver.promise(1, b).send == []
    assert not driver.group.is_master
    driver.tick()
    assert round_of(of_type(driver.last.send, PreVote)[0].ballot) == 10


def test_pms_2_2_a_repeated_prepare_is_answered_again() -> None:
    """Messages may be lost and repeated (2.1): a promise is not given twice, but told twice."""
    driver = Driver(make_config(0))
    driver.now += 1
    driver.prepare(1, ballot(1, 1))
    driver.persist()
    assert len(of_type(driver.prepare(1, ballot(1, 1)).send, Promise)) == 1


# -- PMS 2.3: learning a chosen value
# -----------------------------------------------------------------------------------


def test_pms_2_3_a_value_is_chosen_when_a_majority_accepted_it_with_one_number() -> None:
    driver = Driver(make_config(0, size=5))
    b = driver.become_master()
    driver.propose("v")
    driver.persist()
    driver.accepted(1, b, 0)
    driver.accepted(1, b, 0)  # The same vote again is the same vote.
    driver.accepted(2, ballot(1, 2), 0)  # A vote at another number is another proposal's.
    assert driver.applied == []
    driver.accepted(3, b, 0)
    assert driver.applied == [(0, value(b, "v"))]


def test_pms_2_3_a_value_may_be_chosen_without_anybody_knowing() -> None:
    """All answers are lost and the master is gone; the next one finds the value and has it chosen once more."""
    driver = Driver(make_config(0), Restored(promised=ballot(1, 2), entries={0: value(ballot(1, 2), "v")}))
    b = driver.become_master((0, value(ballot(1, 2), "v")))
    driver.persist()
    driver.accepted(1, b, 0)
    assert driver.applied == [(0, value(b, "v"))]


def test_pms_2_3_an_acceptance_alone_is_not_knowledge_of_a_choice() -> None:
    """A follower applies what it accepted only when the master of that very ballot says it is chosen."""
    driver = Driver(make_config(0))
    driver.accept(1, ballot(1, 1), (0, "v"))
    driver.persist()
    assert driver.applied == []
    # Another master, of a higher ballot, says that instance 0 is chosen: perhaps with another value.
    driver.heartbeat(2, ballot(2, 2), chosen=0)
    assert driver.applied == []
    # Node 2 proposes it again, hence it is what was chosen.
    driver.accept(2, ballot(2, 2), (0, "v"), chosen=0)
    driver.persist()
    assert driver.applied == [(0, value(ballot(2, 2), "v"))]


# -- PMS 2.4, 2.5: progress, and an implementation
# ----------------------------------------------------------------------


def test_pms_2_4_there_is_one_distinguished_proposer() -> None:
    """Only the master issues proposals, so that none starves another."""
    driver = Driver(make_config(0))
    with pytest.raises(NotMaster):
        driver.propose("v")


def test_pms_2_4_a_distinguished_proposer_chooses_a_number_high_enough_in_the_end() -> None:
    driver = Driver(make_config(0))
    for above in (ballot(4, 1), ballot(9, 2)):
        b = driver.stand()
        driver.step(Reject(1, 0, b, above, 0.0))
    assert driver.stand() == ballot(10, 0)


def test_pms_2_5_an_acceptor_answers_when_the_answer_is_on_stable_storage() -> None:
    driver = Driver(make_config(0))
    driver.now += 1
    out = driver.prepare(1, ballot(1, 1))
    assert out.send == []
    assert out.persist == [PromiseRecord(ballot(1, 1))]
    assert len(of_type(out.send_after, Promise)) == 1
    out = driver.accept(1, ballot(1, 1), (0, "v"))
    assert out.send == []
    assert out.persist == [AcceptRecord(0, value(ballot(1, 1), "v"))]
    assert out.send_after == [Accepted(0, 1, ballot(1, 1), 0, 0, -1)]


def test_pms_2_5_a_repeated_request_is_not_answered_before_the_first_one_is_durable() -> None:
    """The answer to a repetition says the same as the first, so it must wait as well."""
    driver = Driver(make_config(0))
    driver.now += 1
    driver.prepare(1, ballot(1, 1))
    out = driver.prepare(1, ballot(1, 1))
    assert of_type(out.send, Promise) == []
    assert len(of_type(out.send_after, Promise)) == 1
    driver.accept(1, ballot(1, 1), (0, "v"))
    out = driver.accept(1, ballot(1, 1), (0, "v"))
    assert all(message.last < message.first for message in of_type(out.send, Accepted))
    driver.persist()
    assert driver.accept(1, ballot(1, 1), (0, "v")).send == [Accepted(0, 1, ballot(1, 1), 0, 0, -1)]


def test_pms_2_5_the_proposers_own_acceptance_counts_when_it_is_durable() -> None:
    driver = Driver(make_config(0))
    b = driver.become_master()
    driver.propose("v")
    driver.accepted(1, b, 0)
    assert driver.applied == []
    driver.persist()
    assert driver.applied == [(0, value(b, "v"))]


def test_pms_2_5_an_acceptor_remembers_over_a_failure() -> None:
    driver = Driver(make_config(0), Restored(promised=ballot(5, 1), entries={0: value(ballot(5, 1), "v")}))
    driver.now += 1
    assert of_type(driver.accept(2, ballot(4, 2), (0, "w")).send, Reject)[0].promised == ballot(5, 1)
    driver.prepare(2, ballot(6, 2))
    assert of_type(driver.last.send_after, Promise)[0].entries == ((0, value(ballot(5, 1), "v")),)


def test_pms_2_5_no_two_proposals_have_the_same_number() -> None:
    """Numbers of different proposers differ, and a proposer makes its own durable before anybody hears of it."""
    driver = Driver(make_config(2))
    driver.tick()
    [pre_vote, *_] = of_type(driver.last.send, PreVote)
    assert node_of(pre_vote.ballot) == 2
    out = driver.grant(0, pre_vote.ballot)
    assert out.persist == [PromiseRecord(pre_vote.ballot)]
    assert of_type(out.send, Prepare) == []
    assert len(of_type(out.send_after, Prepare)) == 2
    # After a failure it goes on above it.
    again = Driver(make_config(2), Restored(promised=pre_vote.ballot))
    again.tick()
    assert of_type(again.last.send, PreVote)[0].ballot == ballot(2, 2)


# -- PMS 3: a state machine
# ---------------------------------------------------------------------------------------------


def test_pms_3_phase_1_is_run_for_all_instances_at_once() -> None:
    """The new leader knows the commands 0 to 4: one prepare asks for every instance from 5 on."""
    driver = Driver(make_config(0), Restored(chosen=4))
    driver.tick()
    out = driver.grant(1, ballot(1, 0))
    assert out.send_after == [Prepare(0, node, ballot(1, 0), 5) for node in (1, 2)]


def test_pms_3_phase_1_need_not_be_repeated_for_every_command() -> None:
    driver = Driver(make_config(0))
    b = driver.become_master()
    for number in range(3):
        driver.propose(str(number))
        driver.persist()
        assert of_type(driver.accepted(1, b, number).send, Prepare) == []
    assert [entry.payload for _, entry in driver.applied] == [b"0", b"1", b"2"]


def test_pms_3_the_leader_closes_gaps_with_no_ops() -> None:
    """It is told of commands 1 and 3, and of nothing at 0 and 2."""
    driver = Driver(make_config(0))
    b = driver.become_master((1, value(ballot(1, 2), "x")), (3, value(ballot(1, 2), "y")))
    [accept, *_] = of_type(driver.last.send, Accept)
    kinds = [(instance, entry.kind, entry.payload) for instance, entry in accept.entries]
    noop, command = EntryKind.NOOP, EntryKind.VALUE
    assert kinds == [(0, noop, b""), (1, command, b"x"), (2, noop, b""), (3, command, b"y")]
    assert driver.propose("new") == 4
    assert all(entry.ballot == b for _, entry in accept.entries)


def test_pms_3_the_leader_may_propose_ahead_of_what_is_chosen_but_not_without_bound() -> None:
    """Alpha commands may be pending."""
    driver = Driver(make_config(0, window=3))
    b = driver.become_master()
    assert [driver.propose(text) for text in "abc"] == [0, 1, 2]
    with pytest.raises(WindowFull):
        driver.propose("d")
    driver.persist()
    driver.accepted(1, b, 0)
    assert driver.propose("d") == 3


def test_pms_3_commands_are_executed_in_order_though_chosen_in_any() -> None:
    driver = Driver(make_config(0))
    b = driver.become_master()
    for text in "abc":
        driver.propose(text)
    driver.persist()
    driver.accepted(1, b, 2)
    driver.accepted(1, b, 1)
    assert driver.applied == []
    driver.accepted(1, b, 0)
    assert [instance for instance, _ in driver.applied] == [0, 1, 2]


# -- PML
# ----------------------------------------------------------------------------------------------------------------


def test_pml_4_2_a_replica_that_lags_catches_up_from_another() -> None:
    driver = Driver(make_config(0))
    out = driver.heartbeat(1, ballot(1, 1), chosen=1)
    [request] = [message for message in out.send if not isinstance(message, HeartbeatReply)]
    assert (request.receiver, request.first) == (1, 0)  # type: ignore[attr-defined]
    entries = ((0, value(ballot(1, 1), "a")), (1, value(ballot(1, 1), "b")))
    driver.step(LearnReply(1, 0, 0, 1, entries))
    driver.persist()
    assert driver.applied == list(entries)


def test_pml_5_1_a_replica_with_a_corrupt_disk_does_not_vote_on_what_it_forgot() -> None:
    """It accepted something at instance 3, but cannot read what. Until it knows what was chosen there it promises
    nothing.
    """
    spoilt = Entry(ballot(1, 1), EntryKind.VALUE, 12345, b"spoilt")
    driver = Driver(make_config(0), Restored(promised=ballot(1, 1), chosen=2, entries={3: spoilt}))
    driver.now += 1
    out = driver.prepare(2, ballot(2, 2), first=3)
    assert out.persist == []
    assert out.send == []
    assert CorruptEntry(sender=0, instance=3) in out.events
    assert not driver.pre_vote(2, ballot(2, 2)).granted
    assert not driver.stands()
    # It learns what was chosen there, and votes again.
    driver.heartbeat(1, ballot(1, 1), chosen=3)
    driver.step(LearnReply(1, 0, 3, 3, ((3, value(ballot(1, 1), "v")),)))
    driver.persist()
    driver.now += 1
    assert len(of_type(driver.prepare(2, ballot(2, 2), first=4).send_after, Promise)) == 1


def test_pml_5_2_while_a_lease_runs_replicas_refuse_other_masters() -> None:
    driver = Driver(make_config(0))
    driver.now = 20.0
    driver.heartbeat(1, ballot(1, 1))
    driver.now = 20.3
    out = driver.prepare(2, ballot(2, 2))
    assert out.persist == []
    [reject] = of_type(out.send, Reject)
    assert reject.wait == pytest.approx(0.1)
    # The holder itself is not refused: it has lost its lease itself, if it asks.
    assert len(of_type(driver.prepare(1, ballot(2, 1)).send_after, Promise)) == 1


def test_pml_5_2_the_masters_lease_is_shorter_than_that_of_the_replicas() -> None:
    """It counts from when it sent the heartbeat, less the drift of clocks; they count from when they received it."""
    config = make_config(0, lease=0.4, max_clock_drift=0.05)
    driver = Driver(config)
    driver.become_master()
    sent = driver.now
    assert not driver.group.lease_valid(driver.now)
    driver.now += 0.1
    driver.heartbeat_reply(1, sent)
    assert driver.group.lease_valid(sent + 0.349)
    assert not driver.group.lease_valid(sent + 0.351)


def test_pml_5_2_a_master_without_a_majority_loses_its_lease() -> None:
    driver = Driver(make_config(0, size=5))
    driver.become_master()
    driver.heartbeat_reply(1, driver.now)
    assert not driver.group.lease_valid(driver.now)  # two of five
    driver.heartbeat_reply(2, driver.now)
    assert driver.group.lease_valid(driver.now)


def test_pml_5_2_reads_wait_until_the_new_master_knows_all_that_its_predecessors_may_have_acknowledged() -> None:
    driver = Driver(make_config(0))
    b = driver.become_master((0, value(ballot(1, 2), "v")))
    driver.heartbeat_reply(1, driver.now)
    assert not driver.group.lease_valid(driver.now)
    driver.persist()
    driver.accepted(1, b, 0)
    assert driver.group.lease_valid(driver.now)


def test_pml_5_2_a_replica_that_reconnects_does_not_unseat_a_healthy_master() -> None:
    """There, sequence numbers of a disconnected replica grew until it deposed the master. Here a pre-vote is refused
    first.
    """
    lonely = Driver(make_config(0))
    for _ in range(20):
        lonely.tick()
    assert lonely.group.promised == 0
    follower = Driver(make_config(1))
    follower.now += 1
    follower.heartbeat(2, ballot(1, 2))
    reply = follower.pre_vote(0, ballot(2, 0))
    assert not reply.granted
    assert reply.wait == pytest.approx(0.4)


def test_pml_5_3_operations_begun_under_a_lost_mastership_are_not_confirmed_by_it() -> None:
    driver = Driver(make_config(0))
    b = driver.become_master()
    driver.propose("v")
    driver.persist()
    out = driver.step(Reject(1, 0, b, ballot(2, 2), 0.0))
    assert [type(event) for event in out.events] == [LostMaster]
    driver.accepted(2, b, 0)
    assert driver.applied == []


def test_pml_5_5_a_replica_behind_the_trimmed_log_needs_a_snapshot() -> None:
    driver = Driver(make_config(0))
    driver.heartbeat(1, ballot(1, 1), chosen=9)
    out = driver.step(LearnReply(1, 0, 5, 9, ()))
    assert out.events == [CheckpointNeeded(peer=1, first=5)]
    behind = Driver(make_config(1), Restored(chosen=9, first=5))
    assert behind.step(LearnRequest(0, 1, 0, 100)).send == [LearnReply(1, 0, 5, 9, ())]


def test_pml_6_2_inconsistency_is_found_at_run_time_and_stops_the_replica() -> None:
    """Two values at one instance under one ballot: a bug somewhere, or a disk that lied. Nothing good can follow."""
    driver = Driver(make_config(0))
    driver.accept(1, ballot(1, 1), (0, "a"))
    with pytest.raises(InvariantViolation, match="two values at instance 0"):
        driver.accept(1, ballot(1, 1), (0, "b"))
