"""What a master does."""

from __future__ import annotations

import itertools

import pytest

from phxqueue.paxos.config import MemberKind
from phxqueue.paxos.effects import ChosenRecord
from phxqueue.paxos.errors import WindowFull
from phxqueue.paxos.messages import Accept, Heartbeat, LearnReply, Prepare
from tests.paxos.driver import Driver, ballot, make_config, members, of_type, value

OLD = ballot(1, 2)


def accepts(driver: Driver, to: int) -> list[list[int]]:
    """The instances of each Accept to one node in the last Effects."""
    return [[i for i, _ in m.entries] for m in of_type(driver.last.send, Accept) if m.receiver == to]


def master(**settings: object) -> tuple[Driver, int]:
    """A master that has heard from everybody."""
    driver = Driver(make_config(0, **settings))
    b = driver.become_master()
    for node in driver.group.peers:
        driver.heartbeat_reply(node, driver.now)
    return driver, b


def quiet(driver: Driver, seconds: float, answering: tuple[int, ...] = (1, 2)) -> list[tuple[float, list[list[int]]]]:
    """Let time pass while these nodes answer heartbeats only; when Accepts went to node 1, and which."""
    sent, end = [], driver.now + seconds
    while driver.group.next_deadline() <= end:
        driver.tick()
        if accepts(driver, 1):
            sent.append((round(driver.now, 3), accepts(driver, 1)))
        for node in answering:
            driver.heartbeat_reply(node, driver.now)
    return sent


def test_entries_go_out_at_once_to_everybody_with_the_chosen_prefix() -> None:
    driver, b = master()
    driver.propose("a")
    driver.persist()
    driver.accepted(1, b, 0)
    driver.propose("b")
    sent = of_type(driver.last.send, Accept)
    assert [(m.receiver, m.chosen) for m in sent] == [(1, 0), (2, 0)]
    assert sent[0].entries is sent[1].entries  # encoded once


def test_the_window_is_bounded_in_bytes_but_a_large_entry_goes_alone() -> None:
    driver, b = master(window_bytes=10)
    driver.propose("x" * 100)
    assert driver.group.window_free == 0
    with pytest.raises(WindowFull, match="1 entries, 100 bytes in flight"):
        driver.propose("y")
    driver.persist()
    driver.accepted(1, b, 0)
    assert driver.group.window_free == 64
    driver.propose("x" * 6)
    with pytest.raises(WindowFull):
        driver.propose("y" * 5)


def test_the_window_counts_what_the_own_disk_has_not_written() -> None:
    driver, b = master(window=2)
    for text in "ab":
        driver.propose(text)
    driver.accepted(1, b, 0, 1)
    driver.accepted(2, b, 0, 1)
    assert (driver.group.in_flight, driver.group.window_free) == (2, 0)
    with pytest.raises(WindowFull):
        driver.propose("c")
    driver.persist()
    assert (driver.group.in_flight, driver.group.window_free) == (0, 2)


def test_what_phase_1_brought_up_goes_through_the_window_first() -> None:
    driver = Driver(make_config(0, window=2, accept_ahead=8))
    b = driver.become_master(*((i, value(OLD, "x")) for i in range(5)))
    assert accepts(driver, 1) == [[0, 1]]
    assert driver.group.window_free == 0
    with pytest.raises(WindowFull):
        driver.propose("new")
    driver.persist()
    driver.accepted(1, b, 0, 1)
    assert accepts(driver, 1) == [[2, 3]]
    driver.persist()
    driver.accepted(1, b, 2, 3)
    assert accepts(driver, 1) == [[4]]
    assert driver.propose("new") == 5


def test_nothing_new_overtakes_what_phase_1_brought_up() -> None:
    driver = Driver(make_config(0, window_bytes=10))
    driver.become_master((0, value(OLD, "x" * 6)), (1, value(OLD, "x" * 6)))
    assert accepts(driver, 1) == [[0]]
    with pytest.raises(WindowFull):
        driver.propose("tiny")


def test_what_was_learned_meanwhile_is_not_proposed() -> None:
    driver = Driver(make_config(0, window=1))
    driver.become_master(*((i, value(OLD, "x")) for i in range(3)))
    driver.step(LearnReply(2, 0, 0, 2, tuple((i, value(OLD, "x")) for i in range(3))))
    driver.persist()
    assert driver.group.chosen == 2
    assert driver.propose("new") == 3
    assert accepts(driver, 1) == [[3]]


def test_what_a_candidate_learns_is_below_its_first_instance() -> None:
    driver = Driver(make_config(0))
    b = driver.stand()
    driver.step(LearnReply(2, 0, 0, 3, tuple((i, value(OLD, "x")) for i in range(4))))
    assert driver.group.chosen == -1  # not durable yet
    driver.promise(1, b, (0, value(OLD, "x")))
    assert accepts(driver, 1) == []
    assert driver.propose("new") == 4


def test_phase_1_does_not_ask_for_what_is_known_to_be_chosen() -> None:
    driver = Driver(make_config(0))
    driver.heartbeat(1, ballot(1, 1), chosen=1)
    driver.step(LearnReply(1, 0, 0, 1, tuple((i, value(ballot(1, 1), "x")) for i in range(2))))
    driver.tick()
    driver.grant(2, ballot(2, 0))
    assert [prepare.first for prepare in of_type(driver.last.send_after, Prepare)] == [2, 2]


def test_accepts_are_cut_to_the_size_of_messages() -> None:
    driver = Driver(make_config(0, max_message_bytes=4))
    driver.become_master(*((i, value(OLD, "xx")) for i in range(4)), (4, value(OLD, "x" * 9)))
    assert accepts(driver, 1) == [[0, 1], [2, 3], [4]]


def test_what_was_not_answered_is_sent_again_at_growing_intervals() -> None:
    driver, _ = master(retransmit_interval=0.2, retransmit_interval_max=0.8)
    driver.propose("a")
    start = driver.now
    sent = quiet(driver, 3.0)
    gaps = [b - a for (a, _), (b, _) in itertools.pairwise(sent)]
    assert all(pages == [[0]] for _, pages in sent)
    assert sent[0][0] - start == pytest.approx(0.2, abs=0.1)
    assert gaps[0] == pytest.approx(0.2, abs=0.1)
    assert gaps[-1] == pytest.approx(0.8, abs=0.11)  # they ride on heartbeats


def test_an_answer_makes_the_intervals_short_again() -> None:
    driver, b = master(size=5)
    for node in (3, 4):
        driver.heartbeat_reply(node, driver.now)
    driver.propose("a")
    quiet(driver, 3.0, (1, 2, 3, 4))
    driver.propose("b")
    driver.accepted(1, b, 0)
    sent = quiet(driver, 1.0, (1, 2, 3, 4))
    assert len(sent) >= 2
    assert sent[-1][1] == [[1]]


def test_what_is_chosen_is_not_sent_again() -> None:
    driver, b = master()
    driver.propose("a")
    driver.persist()
    driver.accepted(2, b, 0)
    assert quiet(driver, 2.0) == []


def test_a_silent_peer_gets_heartbeats_only_until_it_is_heard() -> None:
    driver, b = master()
    quiet(driver, 2.0, (2,))
    driver.propose("a")
    assert (accepts(driver, 1), accepts(driver, 2)) == ([], [[0]])
    assert quiet(driver, 1.0, (2,)) == []
    driver.heartbeat_reply(1, driver.now)
    assert accepts(driver, 1) == [[0]]
    driver.persist()
    assert driver.accepted(1, b, 0).chosen != []


def test_a_peer_whose_process_is_gone_gets_nothing() -> None:
    driver, _ = master()
    driver.take(driver.group.peer_unreachable(1, driver.now))
    driver.propose("a")
    assert (accepts(driver, 1), accepts(driver, 2)) == ([], [[0]])


def test_a_peer_far_behind_is_left_to_catch_up() -> None:
    driver, b = master(window=4, accept_ahead=8)
    for number in range(12):
        driver.propose(str(number))
        driver.persist()
        driver.accepted(2, b, number, chosen=number - 1)
    driver.propose("12")
    assert (accepts(driver, 1), accepts(driver, 2)) == ([], [[12]])
    driver.heartbeat_reply(1, driver.now, chosen=10)
    driver.propose("13")
    assert accepts(driver, 1) == [[13]]


def test_votes_of_learners_do_not_count() -> None:
    driver = Driver(make_config(0, members=members(3, n2=MemberKind.LEARNER)))
    b = driver.become_master()
    driver.propose("a")
    driver.persist()
    driver.accepted(2, b, 0)
    assert driver.applied == []
    driver.accepted(1, b, 0)
    assert len(driver.applied) == 1


def test_votes_of_an_earlier_mastership_do_not_count() -> None:
    driver, b = master()
    driver.propose("a")
    driver.persist()
    driver.propose("b")
    driver.persist()
    driver.accepted(2, b, 1)
    driver.heartbeat(1, ballot(2, 1))  # deposed
    assert driver.group._learner._scattered == set()  # the next master will tell what became of "b"
    again = driver.become_master()
    assert again > b
    driver.persist()
    driver.accepted(1, b, 0)
    assert driver.applied == []
    driver.accepted(1, again, 0)
    assert driver.applied == [(0, value(again, "a"))]
    driver.accepted(1, again, 1)
    assert driver.applied[1:] == [(1, value(again, "b"))]


def test_a_vote_for_more_than_is_in_flight_costs_no_time() -> None:
    driver, b = master()
    driver.propose("a")
    driver.persist()
    driver.accepted(1, b, 0, 10**15)
    assert len(driver.applied) == 1


def test_an_entry_learned_instead_of_voted_through_leaves_the_window() -> None:
    driver, b = master()
    driver.propose("a")
    driver.propose("b")
    driver.persist()
    driver.step(LearnReply(1, 0, 0, 0, ((0, value(b, "a")),)))
    assert driver.group.in_flight == 1
    assert [entry.payload for _, entry in driver.applied] == [b"a"]


def test_heartbeats_go_to_everybody_on_a_common_grid() -> None:
    times = []
    for start in (10.013, 10.049):
        driver = Driver(make_config(0), start=start)
        driver.become_master()
        quiet(driver, 0.5)
        times.append([driver.now, len(of_type(driver.last.send, Heartbeat))])
    assert times[0][0] == pytest.approx(round(times[0][0], 1))
    assert times[1][0] == pytest.approx(round(times[1][0], 1))


def test_a_leap_of_time_makes_one_heartbeat_not_many() -> None:
    driver, _ = master()
    driver.now += 0.35
    driver.tick(driver.now)
    assert len(of_type(driver.last.send, Heartbeat)) == 2
    assert driver.group.next_deadline() > driver.now


def test_an_idle_master_writes_its_chosen_mark_once() -> None:
    driver, b = master()
    driver.propose("a")
    driver.persist()
    driver.accepted(1, b, 0)
    written = []
    for _ in range(5):
        driver.tick()
        written += driver.last.persist
        driver.heartbeat_reply(1, driver.now)
    assert written == [ChosenRecord(0)]
