"""Gathering promises."""

from __future__ import annotations

import pytest

from phxqueue.paxos.effects import BecameMaster, CorruptEntry
from phxqueue.paxos.entry import Entry, EntryKind
from phxqueue.paxos.errors import InvariantViolation
from phxqueue.paxos.messages import Accept, LearnRequest, Prepare, Promise, Reject
from tests.paxos.driver import Driver, ballot, make_config, of_type, value

OLD = ballot(1, 2)


def page(b: int, sender: int, first: int, last: int, final: bool, chosen: int, *entries: tuple[int, Entry]) -> Promise:
    return Promise(sender, 0, b, first, last, final, chosen, entries)


def test_a_promise_counts_when_its_last_page_is_there() -> None:
    driver = Driver(make_config(0))
    b = driver.stand()
    out = driver.step(page(b, 1, 0, 1, False, -1, (0, value(OLD, "a")), (1, value(OLD, "b"))))
    assert out.send == [Prepare(0, 1, b, 2)]
    assert not driver.group.is_master
    # A repeated page, and one out of turn, are dropped.
    assert driver.step(page(b, 1, 0, 1, False, -1)).send == []
    assert driver.step(page(b, 1, 5, 5, True, -1)).send == []
    out = driver.step(page(b, 1, 2, 2, True, -1, (2, value(OLD, "c"))))
    assert out.events == [BecameMaster(ballot=b, first_instance=3)]


def test_nothing_is_proposed_up_to_the_highest_chosen_prefix_told_in_any_page() -> None:
    driver = Driver(make_config(0))
    b = driver.stand()
    # The prefix of node 1 moves while it is telling: what it left out of the second page it had told in the first.
    driver.step(page(b, 1, 0, 1, False, 3, (4, value(OLD, "e"))))
    driver.step(page(b, 1, 2, 9, True, -1, (9, value(OLD, "j"))))
    assert driver.group.is_master
    proposed = [instance for message in of_type(driver.last.send, Accept) for instance, _ in message.entries]
    assert min(proposed) == 4
    assert max(proposed) == 9
    assert len(of_type(driver.last.send, LearnRequest)) == 0  # under way since the first page
    assert driver.group._learner.target == 3


def test_a_page_with_a_corrupt_entry_counts_for_nothing_and_is_asked_for_again() -> None:
    driver = Driver(make_config(0))
    b = driver.stand()
    spoilt = Entry(OLD, EntryKind.VALUE, 1, b"spoilt")
    out = driver.step(page(b, 1, 0, 0, True, -1, (0, spoilt)))
    assert out.events == [CorruptEntry(sender=1, instance=0)]
    assert not driver.group.is_master
    driver.tick(driver.now + driver.config.heartbeat_interval)
    assert Prepare(0, 1, b, 0) in driver.last.send


def test_promises_at_another_ballot_or_from_a_learner_count_for_nothing() -> None:
    driver = Driver(make_config(0))
    b = driver.stand()
    driver.promise(1, ballot(9, 0))
    assert not driver.group.is_master
    driver.promise(1, b)
    assert driver.group.is_master


def test_lost_prepares_are_sent_again_and_the_attempt_ends_in_time() -> None:
    driver = Driver(make_config(0))
    b = driver.stand()
    began = driver.now
    asked = 0
    while driver.group.role.value == "candidate":
        driver.tick()
        asked += len(of_type(driver.last.send, Prepare))
        assert driver.now < began + 1
    assert asked >= 4
    assert driver.now == pytest.approx(began + driver.config.lease)
    assert driver.promise(1, b).events == []


def test_a_voter_bound_by_a_lease_is_asked_again_when_it_is_free() -> None:
    driver = Driver(make_config(0))
    b = driver.stand()
    driver.step(Reject(1, 0, b, 0, 0.05))
    assert driver.group.next_deadline() == pytest.approx(driver.now + 0.05)
    driver.tick()
    assert Prepare(0, 1, b, 0) in driver.last.send


def test_two_values_under_one_ballot_are_a_violation() -> None:
    driver = Driver(make_config(0, size=5))
    b = driver.stand()
    driver.promise(1, b, (0, value(OLD, "a")))
    with pytest.raises(InvariantViolation, match="two values at instance 0"):
        driver.promise(2, b, (0, value(OLD, "b")))
