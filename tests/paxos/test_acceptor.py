"""The memory of one node: what it holds, what is durable, and its bounds."""

from __future__ import annotations

import pytest

from phxqueue.paxos.acceptor import Acceptor
from phxqueue.paxos.config import Restored
from phxqueue.paxos.effects import AcceptRecord, CorruptEntry, Effects, PromiseRecord, ServeLearn
from phxqueue.paxos.entry import Entry, EntryKind
from phxqueue.paxos.errors import InvariantViolation
from phxqueue.paxos.messages import Accept, Accepted, LearnReply, LearnRequest, Prepare, Promise
from tests.paxos.driver import Driver, ballot, make_config, of_type, value

B1, B2 = ballot(1, 1), ballot(2, 2)


def test_a_promise_never_goes_down() -> None:
    acceptor = Acceptor(make_config(), Restored(promised=B2))
    with pytest.raises(InvariantViolation, match="promise would go down"):
        acceptor.promise(B1, Effects())


def test_what_is_learned_lowers_no_promise() -> None:
    # The original overwrote the promise with the ballot of what it learned, and could then choose two values.
    driver = Driver(make_config(0), Restored(promised=ballot(9, 2)))
    driver.heartbeat(2, ballot(9, 2), chosen=0)
    out = driver.step(LearnReply(1, 0, 0, 0, ((0, value(B1, "v")),)))
    assert out.persist == [AcceptRecord(0, value(B1, "v"))]
    assert driver.group.promised == ballot(9, 2)


def test_a_log_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(InvariantViolation, match="entry 3 is restored as not chosen, chosen is 3"):
        Driver(make_config(), Restored(chosen=3, entries={3: value(B1, "v")}))


def test_a_log_may_begin_above_what_is_chosen() -> None:
    # Of four entries in flight only the last one came through; nothing is trimmed.
    driver = Driver(make_config(), Restored(promised=B1, entries={3: value(B1, "d")}, first=3))
    driver.heartbeat(1, B1, chosen=3)
    driver.step(LearnReply(1, 0, 0, 3, tuple((i, value(B1, "abcd"[i])) for i in range(4))))
    driver.persist()
    assert driver.step(LearnRequest(2, 0, 0, 10)).serve == [ServeLearn(2, 0, 10)]


def test_only_the_newest_write_of_an_instance_makes_it_durable() -> None:
    acceptor = Acceptor(make_config(), Restored())
    tokens = []
    for b in (B1, B2):
        out = Effects()
        acceptor.store(0, value(b, "v"), out)
        acceptor.seal(out)
        assert out.token is not None
        tokens.append(out.token)
    assert acceptor.confirm(tokens[0]) == []
    assert not acceptor.is_durable(0)
    assert acceptor.confirm(tokens[1]) == [0]
    assert acceptor.is_durable(0)


def test_a_token_confirms_all_before_it_and_nothing_unknown() -> None:
    acceptor = Acceptor(make_config(), Restored())
    for instance in range(3):
        out = Effects()
        acceptor.store(instance, value(B1, "v"), out)
        acceptor.seal(out)
    assert acceptor.confirm(3) == [0, 1, 2]
    assert acceptor.confirm(3) == []
    with pytest.raises(InvariantViolation, match="token 4"):
        acceptor.confirm(4)


def test_an_accept_too_far_ahead_is_left_to_catching_up() -> None:
    driver = Driver(make_config(0, window=4, accept_ahead=8))
    assert driver.accept(1, B1, (8, "far")).persist == [PromiseRecord(B1)]
    assert driver.accept(1, B1, (7, "near")).persist == [AcceptRecord(7, value(B1, "near"))]


def test_an_accept_beyond_the_bytes_is_refused_but_gaps_are_filled() -> None:
    driver = Driver(make_config(0, window_bytes=5, accept_ahead_bytes=10))
    driver.accept(1, B1, (1, "x" * 6), (3, "y" * 4))
    assert driver.accept(1, B1, (4, "z")).persist == []
    assert driver.accept(1, B1, (2, "z")).persist == [AcceptRecord(2, value(B1, "z"))]
    assert driver.accept(1, B1, (0, "z")).persist == [AcceptRecord(0, value(B1, "z"))]


def test_the_next_instance_is_accepted_however_large() -> None:
    driver = Driver(make_config(0, window_bytes=5, accept_ahead_bytes=10))
    assert len(driver.accept(1, B1, (0, "x" * 100)).persist) == 2


def test_one_answer_for_every_unbroken_run() -> None:
    driver = Driver(make_config(0))
    out = driver.accept(1, B1, (0, "a"), (1, "b"), (3, "d"), (5, "f"), (6, "g"))
    assert [(answer.first, answer.last) for answer in of_type(out.send_after, Accepted)] == [(0, 1), (3, 3), (5, 6)]


def test_a_corrupt_entry_is_reported_and_nothing_else() -> None:
    driver = Driver(make_config(0))
    spoilt = Entry(B1, EntryKind.VALUE, 1, b"spoilt")
    out = driver.step(Accept(1, 0, B1, -1, ((0, spoilt), (1, value(B1, "whole")))))
    assert out.events[-1] == CorruptEntry(sender=1, instance=0)
    assert [(answer.first, answer.last) for answer in of_type(out.send_after, Accepted)] == [(1, 1)]


def test_an_entry_at_another_ballot_than_its_message_is_refused() -> None:
    driver = Driver(make_config(0))
    out = driver.step(Accept(1, 0, B1, -1, ((0, value(B2, "v")),)))
    assert out.persist == [PromiseRecord(B1)]
    assert out.events[-1] == CorruptEntry(sender=1, instance=0)


def test_an_accept_of_what_is_known_to_be_chosen_is_no_vote() -> None:
    # It may be chosen at a later ballot than the sender's; whoever still asks is told how far this node is, and learns.
    driver = Driver(make_config(0))
    driver.accept(1, B1, (0, "v"), chosen=0)  # known to be chosen, not durable yet
    out = driver.accept(2, B2, (0, "v"))
    assert out.persist == [PromiseRecord(B2)]
    assert out.send == [Accepted(0, 2, B2, 0, -1, -1)]
    driver.persist()
    assert driver.accept(2, B2, (0, "v")).send == [Accepted(0, 2, B2, 0, -1, 0)]


def test_what_was_learned_before_a_restart_is_not_overwritten_by_a_lower_ballot() -> None:
    driver = Driver(make_config(0), Restored(promised=B1, entries={0: value(ballot(3, 2), "chosen")}))
    assert driver.accept(1, B1, (0, "other")).persist == []


def test_a_long_promise_comes_in_pages() -> None:
    entries = {instance: value(B1, "xx") for instance in range(5)}
    driver = Driver(make_config(0, max_message_bytes=4), Restored(promised=B1, entries=entries))
    driver.now += 1
    [page] = of_type(driver.prepare(2, B2).send_after, Promise)
    assert (page.first, page.last, page.final) == (0, 1, False)
    driver.persist()
    [page] = of_type(driver.step(Prepare(2, 0, B2, 2)).send, Promise)
    assert (page.first, page.last, page.final, [i for i, _ in page.entries]) == (2, 3, False, [2, 3])
    [page] = of_type(driver.step(Prepare(2, 0, B2, 4)).send, Promise)
    assert (page.first, page.last, page.final, [i for i, _ in page.entries]) == (4, 4, True, [4])


def test_a_promise_does_not_list_what_was_handed_out() -> None:
    driver = Driver(make_config(0))
    driver.accept(1, B1, (0, "a"), (1, "b"))
    driver.persist()
    driver.heartbeat(1, B1, chosen=0)
    driver.now += 1
    [promise] = of_type(driver.prepare(2, B2).send_after, Promise)
    assert promise.chosen == 0
    assert [instance for instance, _ in promise.entries] == [1]
