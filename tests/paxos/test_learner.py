"""What is chosen, what may be applied, and catching up."""

from __future__ import annotations

import pytest

from phxqueue.paxos.config import Restored
from phxqueue.paxos.effects import AcceptRecord, CheckpointNeeded, ChosenRecord, CorruptEntry, EntryRepaired, ServeLearn
from phxqueue.paxos.entry import Entry, EntryKind
from phxqueue.paxos.errors import InvariantViolation
from phxqueue.paxos.messages import HeartbeatReply, LearnReply, LearnRequest
from tests.paxos.driver import Driver, ballot, make_config, of_type, value

B1, B2 = ballot(1, 1), ballot(2, 2)


def entries(first: int, *texts: str, at: int = B1) -> tuple[tuple[int, Entry], ...]:
    return tuple((first + index, value(at, text)) for index, text in enumerate(texts))


def asks(driver: Driver) -> list[tuple[int, int]]:
    """(peer, first) of the requests in the last Effects."""
    return [(request.receiver, request.first) for request in of_type(driver.last.send, LearnRequest)]


def test_the_masters_mark_proves_the_entries_of_its_own_ballot() -> None:
    driver = Driver(make_config(0))
    driver.accept(1, B1, (0, "a"), (1, "b"))
    driver.persist()
    driver.heartbeat(1, B1, chosen=0)
    assert driver.applied == list(entries(0, "a"))


def test_a_mark_never_proves_an_entry_of_another_ballot() -> None:
    # The original took a later message of the same ballot as proof; with five nodes it could learn what was not chosen.
    driver = Driver(make_config(0, size=5))
    driver.accept(1, B1, (0, "a"))
    driver.persist()
    driver.heartbeat(2, B2, chosen=0)
    assert driver.applied == []
    assert asks(driver) == [(2, 0)]


def test_nothing_is_applied_before_it_is_on_the_own_disk() -> None:
    driver = Driver(make_config(0))
    driver.accept(1, B1, (0, "a"))
    driver.heartbeat(1, B1, chosen=0)
    assert driver.applied == []
    assert driver.group.chosen == -1
    driver.persist()
    assert driver.applied == list(entries(0, "a"))


def test_what_is_learned_is_written_before_it_is_applied() -> None:
    driver = Driver(make_config(0))
    driver.heartbeat(1, B1, chosen=1)
    out = driver.step(LearnReply(1, 0, 0, 1, entries(0, "a", "b")))
    assert out.persist == [AcceptRecord(0, value(B1, "a")), AcceptRecord(1, value(B1, "b"))]
    assert driver.applied == []
    driver.persist()
    assert driver.applied == list(entries(0, "a", "b"))


def test_what_is_held_already_is_not_written_again() -> None:
    driver = Driver(make_config(0))
    driver.accept(1, B1, (0, "a"))
    driver.persist()
    driver.heartbeat(2, B2, chosen=0)
    assert driver.step(LearnReply(2, 0, 0, 0, entries(0, "a"))).persist == []
    assert driver.applied == list(entries(0, "a"))


def test_the_same_value_with_a_higher_ballot_is_written() -> None:
    # So that the ballot in a log is never below the one at which the entry was chosen: the checks of others rest on it.
    driver = Driver(make_config(0))
    driver.accept(1, B1, (0, "a"))
    driver.heartbeat(2, B2, chosen=0)
    out = driver.step(LearnReply(2, 0, 0, 0, entries(0, "a", at=B2)))
    assert AcceptRecord(0, value(B2, "a")) in out.persist


def test_two_chosen_values_are_a_violation() -> None:
    driver = Driver(make_config(0), Restored(promised=B2, entries={0: value(B2, "mine")}))
    with pytest.raises(InvariantViolation, match="instance 0 is chosen with two values"):
        driver.step(LearnReply(1, 0, 0, 0, entries(0, "theirs")))


def test_the_chosen_mark_rides_on_the_next_write() -> None:
    driver = Driver(make_config(0))
    driver.accept(1, B1, (0, "a"))
    driver.persist()
    out = driver.accept(1, B1, (1, "b"), chosen=0)
    assert out.persist == [AcceptRecord(1, value(B1, "b")), ChosenRecord(0)]
    assert out.token is not None


def test_on_an_idle_group_the_chosen_mark_is_written_once_and_nobody_waits() -> None:
    driver = Driver(make_config(0))
    driver.accept(1, B1, (0, "a"))
    driver.persist()
    written = [driver.heartbeat(1, B1, chosen=0) for _ in range(4)]
    assert [out.persist for out in written if out.persist] == [[ChosenRecord(0)]]
    assert all(out.token is None for out in written)


def test_catching_up_goes_on_range_by_range() -> None:
    driver = Driver(make_config(0))
    driver.heartbeat(1, B1, chosen=4)
    assert asks(driver) == [(1, 0)]
    driver.step(LearnReply(1, 0, 0, 4, entries(0, "a", "b")))
    assert asks(driver) == [(1, 2)]
    driver.step(LearnReply(1, 0, 2, 4, entries(2, "c", "d", "e")))
    assert asks(driver) == []
    driver.persist()
    assert driver.group.chosen == 4


def test_one_request_at_a_time() -> None:
    driver = Driver(make_config(0))
    driver.heartbeat(1, B1, chosen=4)
    driver.heartbeat(1, B1, chosen=5)
    assert asks(driver) == []


def test_a_peer_that_does_not_answer_is_left_for_another() -> None:
    driver = Driver(make_config(0))
    driver.step(HeartbeatReply(2, 0, 0, 4, 0.0, 1))  # node 2 tells that it has something
    assert asks(driver) == [(2, 0)]
    driver.heartbeat(1, B1, chosen=4)
    assert asks(driver) == []
    for peer in (1, 2, 1, 2):  # the master first, unless it was the last to fail
        driver.now += driver.config.learn_timeout
        driver.heartbeat(1, B1, chosen=4)
        assert asks(driver) == [(peer, 0)]


def test_the_only_peer_is_asked_again_and_again_at_a_pace() -> None:
    driver = Driver(make_config(0))
    driver.heartbeat(1, B1, chosen=4)
    times = []
    for _ in range(40):
        driver.now += 0.1
        driver.heartbeat(1, B1, chosen=4)
        times += [driver.now for _ in asks(driver)]
    assert 6 <= len(times) <= 8


def test_a_corrupt_entry_is_asked_for_at_another_peer() -> None:
    driver = Driver(make_config(0))
    driver.heartbeat(1, B1, chosen=1)
    driver.step(HeartbeatReply(2, 0, 0, 1, 0.0, 1))
    spoilt = Entry(B1, EntryKind.VALUE, 1, b"spoilt")
    out = driver.step(LearnReply(1, 0, 0, 1, ((0, value(B1, "a")), (1, spoilt))))
    assert out.persist == [AcceptRecord(0, value(B1, "a"))]
    assert out.events == [CorruptEntry(sender=1, instance=1)]
    driver.tick(driver.now + driver.config.learn_timeout)
    assert asks(driver) == [(2, 1)]


def test_what_does_not_continue_the_prefix_is_dropped() -> None:
    driver = Driver(make_config(0))
    assert driver.step(LearnReply(1, 0, 3, 9, entries(3, "d"))).persist == []
    assert driver.step(LearnReply(1, 0, 0, 9, (*entries(0, "a"), *entries(2, "c")))).persist == [
        AcceptRecord(0, value(B1, "a"))
    ]
    # Nor is what the sender itself does not call chosen.
    assert driver.step(LearnReply(1, 0, 1, 0, entries(1, "b"))).persist == []


def test_chosen_above_a_gap_follows_when_the_gap_is_learned() -> None:
    driver = Driver(make_config(0))
    b = driver.become_master(chosen=0)
    driver.propose("b")
    driver.persist()
    driver.accepted(1, b, 1)
    assert driver.applied == []
    driver.step(LearnReply(1, 0, 0, 0, entries(0, "a", at=ballot(1, 2))))
    driver.persist()
    assert [entry.payload for _, entry in driver.applied] == [b"a", b"b"]


def test_while_the_disk_is_behind_nothing_more_is_asked_for() -> None:
    driver = Driver(make_config(0, window_bytes=2, accept_ahead_bytes=4))
    driver.heartbeat(1, B1, chosen=9)
    driver.step(LearnReply(1, 0, 0, 9, entries(0, "aaa", "bbb")))
    assert asks(driver) == []
    assert driver.group.next_deadline() > driver.now + 0.3  # not at once: the disk will say
    driver.persist()
    assert asks(driver) == [(1, 2)]


def test_behind_the_trimmed_log_a_checkpoint_is_needed_and_another_peer_is_tried() -> None:
    driver = Driver(make_config(0))
    driver.heartbeat(1, B1, chosen=9)
    driver.step(HeartbeatReply(2, 0, 0, 9, 0.0, 1))
    out = driver.step(LearnReply(1, 0, 5, 9, ()))
    assert out.events == [CheckpointNeeded(peer=1, first=5)]
    driver.tick(driver.now + driver.config.learn_timeout)
    assert asks(driver) == [(2, 0)]


# -- serving others
# -----------------------------------------------------------------------------------------------------


def test_a_request_is_served_from_the_log_within_the_bound() -> None:
    driver = Driver(make_config(0, max_message_bytes=100), Restored(chosen=9, first=3))
    assert driver.step(LearnRequest(1, 0, 5, 10**9)).serve == [ServeLearn(1, 5, 100)]
    assert driver.step(LearnRequest(2, 0, 5, 0)).serve == [ServeLearn(2, 5, 1)]


def test_the_same_range_is_not_read_again_at_once() -> None:
    driver = Driver(make_config(0), Restored(chosen=9))
    assert len(driver.step(LearnRequest(1, 0, 5, 10)).serve) == 1
    assert driver.step(LearnRequest(1, 0, 5, 10)).serve == []
    driver.now += driver.config.learn_timeout
    assert len(driver.step(LearnRequest(1, 0, 5, 10)).serve) == 1


def test_what_cannot_be_served_is_answered_all_the_same() -> None:
    driver = Driver(make_config(0), Restored(chosen=9))
    driver.group.log_trimmed(3)
    driver.group.log_trimmed(2)  # a late word
    assert driver.step(LearnRequest(1, 0, 2, 10)).send == [LearnReply(0, 1, 3, 9, ())]
    assert driver.step(LearnRequest(1, 0, 10, 10)).send == [LearnReply(0, 1, 10, 9, ())]


# -- repairing
# ----------------------------------------------------------------------------------------------------------


def restored_to_nine() -> Driver:
    driver = Driver(make_config(0), Restored(promised=B1, chosen=9))
    driver.heartbeat(1, B1, chosen=9)
    driver.step(HeartbeatReply(2, 0, 0, 9, 0.0, 1))
    return driver


def test_a_spoilt_entry_of_the_log_is_fetched_from_a_peer_and_written_back() -> None:
    driver = restored_to_nine()
    driver.take(driver.group.repair(4, driver.now))
    assert asks(driver) == [(1, 4)]
    out = driver.step(LearnReply(1, 0, 4, 9, entries(4, "e")))
    assert out.persist == [AcceptRecord(4, value(B1, "e"))]
    assert out.events == [EntryRepaired(instance=4, entry=value(B1, "e"))]
    driver.persist()
    assert driver.applied == []
    assert driver.group._acceptor.entries == {}  # it is the log's business
    assert driver.step(LearnReply(1, 0, 4, 9, entries(4, "e"))).persist == []


def test_a_repair_goes_from_peer_to_peer_until_one_can() -> None:
    driver = restored_to_nine()
    driver.take(driver.group.repair(4, driver.now))
    spoilt = ((4, Entry(B1, EntryKind.VALUE, 1, b"spoilt")),)
    assert driver.step(LearnReply(1, 0, 4, 9, spoilt)).events == [CorruptEntry(sender=1, instance=4)]
    driver.tick(driver.now + driver.config.learn_timeout)
    assert asks(driver) == [(2, 4)]
    driver.tick(driver.now + driver.config.learn_timeout)
    assert asks(driver) == [(1, 4)]


def test_with_its_checksum_a_peer_helps_that_does_not_know_the_entry_to_be_chosen() -> None:
    # This node may have been the only one that knew; after a crash of the others their marks are gone.
    driver = Driver(make_config(0), Restored(promised=B1, chosen=9))
    wanted = value(B1, "e")
    driver.take(driver.group.repair(4, driver.now, wanted.checksum))
    [request] = of_type(driver.last.send, LearnRequest)
    assert request.accepted
    assert driver.step(LearnReply(1, 0, 4, 3, entries(4, "other"))).events == []
    assert driver.step(LearnReply(2, 0, 4, 3, entries(4, "e"))).events == [EntryRepaired(instance=4, entry=wanted)]


def test_without_it_only_what_is_chosen_there_is_taken() -> None:
    driver = Driver(make_config(0), Restored(promised=B1, chosen=9))
    assert of_type(driver.take(driver.group.repair(4, driver.now)).send, LearnRequest) == []
    assert driver.step(LearnReply(1, 0, 4, 3, entries(4, "e"))).events == []
    driver.step(HeartbeatReply(1, 0, 0, 9, 0.0, 1))
    assert driver.step(LearnReply(1, 0, 4, 9, entries(4, "e"))).events == [
        EntryRepaired(instance=4, entry=value(B1, "e"))
    ]


def test_an_accepted_entry_is_told_when_it_is_durable_and_asked_for_as_such() -> None:
    driver = Driver(make_config(0))
    driver.accept(1, B1, (0, "a"))
    asked = LearnRequest(1, 0, 0, 1, True)
    assert driver.step(asked).send == [LearnReply(0, 1, 0, -1, ())]
    driver.persist()
    assert driver.step(asked).send == [LearnReply(0, 1, 0, -1, entries(0, "a"))]
    assert driver.step(LearnRequest(1, 0, 0, 1)).send == [LearnReply(0, 1, 0, -1, ())]


def test_what_is_trimmed_is_not_asked_for_any_more() -> None:
    driver = restored_to_nine()
    driver.take(driver.group.repair(4, driver.now))
    driver.group.log_trimmed(5)
    driver.tick(driver.now + driver.config.learn_timeout)
    assert asks(driver) == []


def test_repairs_are_bounded() -> None:
    driver = Driver(make_config(0, max_repairs=2), Restored(chosen=9))
    driver.heartbeat(1, B1, chosen=9)
    asked = [len(driver.group.repair(instance, driver.now).send) for instance in (4, 4, 5, 6)]
    assert asked == [1, 0, 1, 0]


def test_only_what_was_handed_out_can_be_repaired() -> None:
    driver = Driver(make_config(0), Restored(chosen=9, first=3))
    for instance in (2, 10):
        with pytest.raises(InvariantViolation, match="not between 3 and 9"):
            driver.group.repair(instance, driver.now)
