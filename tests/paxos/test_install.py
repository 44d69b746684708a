"""A checkpoint takes the place of a stretch of the log, below a running group."""

from __future__ import annotations

from dataclasses import replace

import pytest

from phxqueue.paxos.config import Restored
from phxqueue.paxos.effects import AcceptRecord, CheckpointNeeded, Effects, LostMaster
from phxqueue.paxos.errors import InvariantViolation
from phxqueue.paxos.messages import HeartbeatReply, LearnReply, LearnRequest, PreVote, Promise, Reject
from phxqueue.paxos.roles import Role
from tests.paxos.driver import Driver, ballot, make_config, of_type, value

B1, B2, B3 = ballot(1, 1), ballot(2, 2), ballot(3, 1)


def behind() -> Driver:
    """Node 0 knows 0, has accepted 1 and 2 of node 1, has promised B2, and hears that all up to 100 is trimmed."""
    driver = Driver(make_config(0))
    driver.accept(1, B1, (0, "a"), (1, "x"), (2, "y"))
    driver.persist()
    driver.heartbeat(1, B1, chosen=0)
    driver.now += 10
    driver.prepare(2, B2, first=1)
    driver.persist()
    driver.heartbeat(2, B2, chosen=100)
    [request] = of_type(driver.last.send, LearnRequest)
    driver.step(LearnReply(request.receiver, 0, 90, 100, ()))
    assert CheckpointNeeded(peer=request.receiver, first=90) in driver.last.events
    return driver


def install(driver: Driver, chosen: int = 100, first: int = 90, complete: bool = True) -> Effects:
    return driver.take(driver.group.install(chosen, None, driver.now, first=first, complete=complete))


def test_the_group_goes_on_behind_the_checkpoint() -> None:
    driver = behind()
    out = install(driver)
    assert (driver.group.chosen, driver.group.known) == (100, 100)
    assert out.chosen == []
    driver.accept(2, B2, (101, "n"), chosen=100)
    driver.persist()
    driver.heartbeat(2, B2, chosen=101)
    assert driver.applied == [(0, value(B1, "a")), (101, value(B2, "n"))]


def test_a_promise_never_goes_down() -> None:
    driver = behind()
    promised = driver.group.promised
    assert promised == B2
    install(driver)
    assert driver.group.promised == promised
    [refused, *_] = driver.prepare(1, B1, first=101).send
    assert refused == Reject(0, 1, B1, promised, 0.0)


def test_what_was_accepted_above_it_is_still_told_to_a_candidate() -> None:
    driver = behind()
    install(driver, chosen=1, first=0)
    driver.now += 10
    driver.prepare(1, B3, first=2)
    [promise] = of_type(driver.pending[-1].send_after, Promise)
    assert (promise.chosen, promise.entries) == (1, ((2, value(B1, "y")),))


def test_what_was_accepted_below_it_is_gone_from_memory() -> None:
    driver = behind()
    install(driver)
    assert driver.group._acceptor.entries == {}
    assert driver.group._acceptor.held_bytes == 0
    driver.prepare(1, B3, first=101)


def test_writes_under_way_while_it_is_installed_are_confirmed_afterwards() -> None:
    driver = behind()
    driver.accept(2, B2, (3, "z"), chosen=0)
    install(driver)
    assert driver.persist().chosen == []
    assert driver.group.chosen == 100


def test_an_accepted_entry_right_above_it_is_handed_out_when_it_is_known() -> None:
    driver = behind()
    install(driver, chosen=1, first=0)
    driver.accept(2, B2, (2, "y"), chosen=1)
    driver.persist()
    driver.heartbeat(2, B2, chosen=2)
    assert driver.applied[-1] == (2, value(B2, "y"))


def test_what_could_not_be_read_below_it_does_not_matter_any_more() -> None:
    spoilt = replace(value(B1, "a"), payload=b"b")
    driver = Driver(make_config(0), Restored(promised=B1, entries={0: spoilt}))
    assert driver.group._acceptor.damaged == {0}
    install(driver, chosen=5, first=0)
    driver.now += 10
    driver.prepare(2, B2, first=6)
    [promise] = of_type(driver.pending[-1].send_after, Promise)
    assert (promise.chosen, promise.entries) == (5, ())


def test_the_tail_is_asked_for_at_once() -> None:
    driver = behind()
    driver.heartbeat(2, B2, chosen=120)
    install(driver)
    assert [request.first for request in of_type(driver.last.send, LearnRequest)] == [101]


def test_one_that_is_not_ahead_is_refused() -> None:
    driver = behind()
    with pytest.raises(InvariantViolation, match="not ahead of 0"):
        driver.group.install(0, None, driver.now, first=0)
    with pytest.raises(InvariantViolation, match="beyond the checkpoint"):
        driver.group.install(50, None, driver.now, first=52)


def test_a_master_that_needs_one_gives_up_first() -> None:
    driver = Driver(make_config(0))
    driver.become_master()
    out = install(driver, chosen=10, first=5)
    assert of_type(out.events, LostMaster)
    assert driver.group.role is Role.FOLLOWER


# ---- a log that is not complete yet ------------------------------------------------------------------------------


def test_a_node_whose_log_is_incomplete_votes_but_does_not_stand() -> None:
    driver = behind()
    install(driver, complete=False)
    driver.now += 100
    assert of_type(driver.tick(driver.now).send, PreVote) == []
    driver.prepare(1, B3, first=101)
    assert of_type(driver.pending[-1].send_after, Promise)
    driver.persist()
    driver.accept(1, B3, (101, "n"), chosen=100)
    assert driver.pending[-1].persist[-1] == AcceptRecord(101, value(B3, "n"))
    driver.group.log_complete(40)
    driver.now += 100
    assert of_type(driver.tick(driver.now).send, PreVote)


def test_it_says_so_in_its_answers_to_heartbeats_until_it_is_complete() -> None:
    driver = behind()
    install(driver, complete=False)
    told = []
    for step in range(2):
        driver.now += 0.1
        told += [reply.incomplete for reply in of_type(driver.heartbeat(2, B2, 100).send, HeartbeatReply)]
        if not step:
            driver.group.log_complete(40)
    assert told == [True, False]


def test_a_master_knows_whose_log_is_incomplete() -> None:
    driver = Driver(make_config(0))
    driver.become_master()
    for incomplete in (True, False):
        driver.step(HeartbeatReply(1, 0, driver.group.ballot, 3, 0.0, 1, incomplete))
        assert driver.group.peers[1].incomplete is incomplete


def test_it_does_not_say_that_what_it_lacks_is_trimmed() -> None:
    driver = behind()
    install(driver, complete=False)
    assert driver.step(LearnRequest(1, 0, 50, 1000)).send == [LearnReply(0, 1, 50, 100, ())]
    driver.group.log_complete(60)
    assert driver.step(LearnRequest(1, 0, 50, 1000)).send == [LearnReply(0, 1, 60, 100, ())]
    driver.now += 1
    [serve] = driver.step(LearnRequest(1, 0, 60, 1000)).serve
    assert serve.first == 60


def test_it_teaches_what_lies_right_below_its_checkpoint() -> None:
    driver = behind()
    install(driver, complete=False)
    [serve] = driver.step(LearnRequest(1, 0, 95, 1000)).serve
    assert serve.first == 95


def test_a_restart_finds_it_as_it_was() -> None:
    driver = Driver(make_config(0), Restored(promised=B1, chosen=100, first=90, complete=False))
    assert not driver.group.complete
    driver.now += 100
    assert of_type(driver.tick(driver.now).send, PreVote) == []


def asked_when(chosen: int, incomplete: bool) -> int:
    """Whom node 0 asks when the master 2 and node 1 have so much more than it."""
    driver = Driver(make_config(0))
    driver.heartbeat(2, B2)
    driver.group._learner._pause_until = driver.now + 0.1
    driver.step(HeartbeatReply(1, 0, B2, chosen, 0.0, 1, incomplete))
    driver.heartbeat(2, B2, chosen=chosen)
    driver.now += 0.1
    [request] = of_type(driver.tick(driver.now).send, LearnRequest)
    return request.receiver


def test_who_is_far_behind_leaves_the_master_to_its_clients() -> None:
    assert asked_when(1000, incomplete=False) == 1
    assert asked_when(100, incomplete=False) == 2
    assert asked_when(1000, incomplete=True) == 2


def test_one_whose_log_begins_too_late_is_not_asked_in_the_place_of_the_master() -> None:
    driver = Driver(make_config(0))
    driver.heartbeat(2, B2)
    driver.group._learner._pause_until = driver.now + 0.1
    driver.step(HeartbeatReply(1, 0, B2, 1000, 0.0, 1))
    driver.heartbeat(2, B2, chosen=1000)
    driver.step(LearnReply(1, 0, 500, 1000, ()))
    driver.now = driver.group._learner._pause_until
    driver.heartbeat(2, B2, chosen=1000)
    for first in range(3):
        [request] = of_type(driver.last.send, LearnRequest)
        assert (request.receiver, request.first) == (2, first)
        driver.step(LearnReply(2, 0, first, 1000, ((first, value(B2, "x")),)))
