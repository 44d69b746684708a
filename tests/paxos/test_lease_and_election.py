"""Leases, and who stands when."""

from __future__ import annotations

import itertools

import pytest

from phxqueue.paxos.config import Member, MemberKind, Restored
from phxqueue.paxos.effects import LostMaster
from phxqueue.paxos.lease import LeaseGiven, LeaseHeld
from phxqueue.paxos.membership import Membership
from phxqueue.paxos.messages import HeartbeatReply, PreVote, PreVoteReply, Promise, Reject
from tests.paxos.driver import Driver, ballot, make_config, members, of_type

B1, B2 = ballot(1, 1), ballot(2, 2)


# -- leases
# ---------------------------------------------------------------------------------------------------------------


def test_a_restarted_node_is_bound_to_it_knows_not_whom() -> None:
    lease = LeaseGiven(0.4, 10.0)
    assert lease.wait_for(1, 10.39) > 0
    assert lease.wait_for(2, 10.39) > 0
    assert lease.wait_for(1, 10.4) == 0
    driver = Driver(make_config(0), Restored(promised=B1))
    assert driver.prepare(2, B2).persist == []
    driver.now += 0.4
    assert driver.prepare(2, B2).persist != []


def test_the_holder_of_a_lease_is_not_bound_against_itself() -> None:
    lease = LeaseGiven(0.4, 10.0)
    lease.renew(1, ballot(1, 1), 10.1)
    assert lease.wait_for(1, 10.39) > 0  # nobody knows to whom it was bound before it started
    assert lease.wait_for(1, 10.41) == 0
    assert lease.wait_for(2, 10.49) > 0
    assert lease.wait_for(2, 10.51) == 0


def test_the_lease_held_is_that_of_the_slowest_of_the_fastest_majority() -> None:
    held = LeaseHeld(Membership(make_config(0, size=5)), 0.4, 0.02, 10.0)
    held.answered(1, 10.1)
    assert held.until == float("-inf")
    held.answered(2, 10.2)
    assert held.until == pytest.approx(10.48)
    held.answered(3, 10.3)
    assert held.until == pytest.approx(10.58)
    held.answered(3, 10.0)  # late
    assert held.until == pytest.approx(10.58)


def test_only_voters_lend_a_lease() -> None:
    config = make_config(0, members=members(4, n3=MemberKind.LEARNER))
    held = LeaseHeld(Membership(config), 0.4, 0.02, 10.0)
    held.answered(3, 10.1)
    assert held.until == float("-inf")


def test_an_answer_to_a_heartbeat_of_another_ballot_or_never_sent_lends_nothing() -> None:
    driver = Driver(make_config(0))
    b = driver.become_master()
    driver.step(HeartbeatReply(1, 0, ballot(9, 0), -1, driver.now, 1))
    driver.step(HeartbeatReply(1, 0, b, -1, driver.now + 5, 1))
    assert driver.group.lease_until == float("-inf")


def test_an_accept_tells_of_the_master_but_only_a_heartbeat_binds_once_it_is_gone() -> None:
    # Under load accepts come all the time; the lease the master counts on is that of its heartbeats.
    driver = Driver(make_config(0))
    driver.heartbeat(1, B1)
    driver.now += 0.3
    driver.accept(1, B1, (0, "a"))
    driver.now += 0.2
    assert driver.pre_vote(2, B2).wait == pytest.approx(0.2)
    driver.take(driver.group.peer_unreachable(1, driver.now))
    assert driver.pre_vote(2, B2).granted


def test_a_master_refuses_promises_to_others() -> None:
    driver = Driver(make_config(0))
    b = driver.become_master()
    driver.now += 5
    assert not driver.pre_vote(2, ballot(9, 2)).granted
    [reject] = of_type(driver.prepare(2, ballot(9, 2)).send, Reject)
    assert reject.promised == b
    assert reject.wait > 0
    assert driver.group.is_master


def test_a_stale_heartbeat_is_refused_and_binds_to_nobody() -> None:
    driver = Driver(make_config(0))
    driver.now += 1
    driver.prepare(2, B2)
    out = driver.heartbeat(1, B1)
    assert out.send == [Reject(0, 1, B1, B2, 0.0)]
    assert driver.group.master_id is None


def test_a_heartbeat_of_a_master_whose_prepare_was_missed_binds_without_a_promise() -> None:
    driver = Driver(make_config(0))
    out = driver.heartbeat(2, B2)
    assert out.persist == []
    assert len(of_type(out.send, HeartbeatReply)) == 1
    # From then on a lower master is refused, though nothing was promised.
    assert of_type(driver.heartbeat(1, B1).send, Reject)[0].promised == B2
    assert of_type(driver.accept(1, B1, (0, "a")).send, Reject)[0].promised == B2


# -- standing
# ---------------------------------------------------------------------------------------------------------------


def deadline_after_master(node: int, master: int, *gone: int, size: int = 3, **settings: object) -> float:
    """How long after the last heartbeat of ``master`` a node stands."""
    driver = Driver(make_config(node, size=size, **settings))
    driver.now = 20.0
    driver.heartbeat(master, ballot(1, master))
    for peer in gone:
        driver.take(driver.group.peer_unreachable(peer, driver.now))
    return driver.group.next_deadline() - 20.0


def test_followers_wait_longer_than_a_lease_so_that_a_pause_deposes_nobody() -> None:
    assert deadline_after_master(1, master=0) == pytest.approx(0.5)


def test_followers_stand_one_after_the_other_in_order_of_preference() -> None:
    assert [deadline_after_master(n, 0, size=5) for n in (1, 2, 3, 4)] == pytest.approx([0.5, 0.52, 0.54, 0.56])
    assert [deadline_after_master(n, 1, size=3, group_id=2) for n in (2, 0)] == pytest.approx([0.5, 0.52])


def test_when_the_process_of_the_master_is_gone_they_wait_for_the_lease_alone() -> None:
    assert [deadline_after_master(n, 0, 0) for n in (1, 2)] == pytest.approx([0.4, 0.42])


def test_who_is_known_to_be_gone_is_not_waited_for() -> None:
    assert deadline_after_master(2, 0, 0, 1) == pytest.approx(0.4)


def test_a_sign_of_life_takes_the_news_of_its_end_back() -> None:
    driver = Driver(make_config(1))
    driver.heartbeat(0, ballot(1, 0))
    driver.take(driver.group.peer_unreachable(0, driver.now))
    assert driver.group.master_id is None
    driver.heartbeat(0, ballot(1, 0))
    assert driver.group.master_id == 0
    assert driver.group.next_deadline() - driver.now == pytest.approx(0.5)


@pytest.mark.parametrize("kind", [MemberKind.WITNESS, MemberKind.LEARNER])
def test_witnesses_and_learners_never_stand(kind: MemberKind) -> None:
    driver = Driver(make_config(2, members=members(3, n2=kind)))
    assert not driver.stands()
    driver.now += 100
    assert not driver.stands()


def test_a_learner_is_asked_nothing_and_promises_nothing() -> None:
    who = members(4, n3=MemberKind.LEARNER)
    driver = Driver(make_config(0, members=who))
    assert {message.receiver for message in of_type(driver.tick().send, PreVote)} == {1, 2}
    learner = Driver(make_config(3, members=who))
    learner.now += 1
    assert learner.prepare(1, B1).persist == []
    assert not learner.pre_vote(1, B1).granted


def test_a_priority_comes_before_the_turn_of_the_group() -> None:
    who = (Member(0), Member(1), Member(2, priority=1))
    assert Driver(make_config(2, members=who)).group.next_deadline() == pytest.approx(10.5)
    assert Driver(make_config(0, members=who)).group.next_deadline() == pytest.approx(10.52)


def test_a_refusal_for_a_lease_says_when_to_ask_again() -> None:
    driver = Driver(make_config(0))
    driver.tick()
    driver.step(PreVoteReply(1, 0, ballot(1, 0), False, 0, -1, 0.06))
    assert driver.group.next_deadline() == pytest.approx(driver.now + 0.06)
    driver.step(PreVoteReply(2, 0, ballot(1, 0), False, 0, -1, 0.03))
    assert driver.group.next_deadline() == pytest.approx(driver.now + 0.03)
    assert len(of_type(driver.tick().send, PreVote)) == 2


def test_rounds_without_an_answer_follow_each_other_at_a_pace() -> None:
    driver = Driver(make_config(0))
    times = []
    for _ in range(20):
        driver.tick()
        times.append(driver.now)
        assert len(of_type(driver.last.send, PreVote)) == 2
        # Even refusals that invite to ask at once do not make it faster than this.
        driver.step(PreVoteReply(1, 0, ballot(1, 0), False, 0, -1, 0.0001))
    assert min(b - a for a, b in itertools.pairwise(times)) >= driver.config.ask_again - 1e-9


def test_a_node_far_behind_gets_no_pre_vote_from_one_that_can_stand_itself() -> None:
    driver = Driver(make_config(0, window=4, accept_ahead=8), Restored(chosen=100))
    driver.now += 1
    assert not driver.pre_vote(1, B1, chosen=95).granted
    assert driver.pre_vote(1, B1, chosen=96).granted
    witness = Driver(make_config(2, members=members(3, n2=MemberKind.WITNESS)), Restored(chosen=100))
    witness.now += 1
    assert witness.pre_vote(1, B1, chosen=0).granted


def test_granting_a_pre_vote_or_a_promise_puts_off_standing_oneself() -> None:
    driver = Driver(make_config(0))
    driver.now = 10.5
    assert driver.pre_vote(1, B1).granted
    assert driver.group.next_deadline() == pytest.approx(10.6)
    driver.prepare(1, B1)
    assert driver.group.next_deadline() == pytest.approx(10.9)


def test_of_two_that_ask_at_once_the_lower_gives_way() -> None:
    for other, role in ((ballot(1, 2), "follower"), (ballot(1, 0), "pre-candidate")):
        driver = Driver(make_config(1))
        driver.tick()
        assert driver.pre_vote(other & 0xFFFF, other).granted
        assert driver.group.role.value == role


def test_a_candidate_yields_to_a_higher_ballot_but_grants_no_pre_vote() -> None:
    driver = Driver(make_config(0))
    driver.stand()
    assert not driver.pre_vote(2, B2).granted
    assert len(of_type(driver.prepare(2, B2).send_after, Promise)) == 1
    assert driver.group.role.value == "follower"


# -- stepping down
# ------------------------------------------------------------------------------------------------------------


def lonely_master(*gone: int) -> tuple[Driver, float]:
    """A master that hears nothing any more, run until it gives up; after how long."""
    driver = Driver(make_config(0))
    driver.become_master()
    driver.heartbeat_reply(1, driver.now)
    start = driver.now
    for node in gone:
        driver.take(driver.group.peer_unreachable(node, driver.now))
    while driver.group.is_master:
        driver.tick()
        assert driver.now < start + 3
    return driver, driver.now - start


def test_a_master_that_no_majority_answers_steps_down() -> None:
    driver, after = lonely_master()
    assert 0.8 < after < 1.1
    [lost] = of_type(driver.last.events, LostMaster)
    assert lost.reason == "no majority answers"


def test_it_does_so_sooner_when_the_others_are_known_to_be_gone() -> None:
    assert 0.4 < lonely_master(1, 2)[1] < 0.7


def test_a_pause_of_the_master_itself_is_not_held_against_the_others() -> None:
    driver = Driver(make_config(0))
    driver.become_master()
    for _ in range(5):
        driver.heartbeat_reply(1, driver.now)
        driver.tick()
    driver.heartbeat_reply(1, driver.now)
    driver.now += 30.0
    assert not driver.group.lease_valid(driver.now)
    driver.tick(driver.now)
    assert driver.group.is_master
    driver.heartbeat_reply(1, driver.now)
    assert driver.group.lease_valid(driver.now)


def test_a_new_master_that_cannot_learn_what_is_chosen_gives_up() -> None:
    driver = Driver(make_config(0))
    driver.become_master(chosen=5)
    start = driver.now
    while driver.group.is_master:
        assert driver.now < start + 10
        driver.heartbeat_reply(1, driver.now)
        driver.tick()
    assert driver.now - start == pytest.approx(2.0, abs=0.15)
    assert of_type(driver.last.events, LostMaster)[0].reason == "nobody tells what is chosen up to instance 5"


def test_a_deposed_master_stands_again_only_after_the_usual_wait() -> None:
    driver = Driver(make_config(0))
    b = driver.become_master()
    driver.step(Reject(1, 0, b, B2, 0.0))
    assert driver.group.next_deadline() - driver.now == pytest.approx(0.5)


def test_a_node_that_stands_aside_votes_but_leads_no_more() -> None:
    driver = Driver(make_config(0))
    driver.become_master()
    out = driver.take(driver.group.stand_aside("its state machine stopped", driver.now))
    assert of_type(out.events, LostMaster)[0].reason == "its state machine stopped"
    assert not driver.stands()
    driver.now += 1
    assert driver.pre_vote(2, B2).granted


def test_a_lone_voter_waits_for_nobody_and_needs_no_lease() -> None:
    driver = Driver(make_config(0, size=1))
    assert driver.group.next_deadline() == driver.now
    driver.tick()
    driver.persist()
    assert driver.group.is_master
    assert driver.group.lease_valid(driver.now + 1e9)
