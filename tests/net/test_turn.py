from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from phxqueue.net.turn import MAX_ROUNDS, TurnClock, TurnEnd
from tests.conftest import LoggedErrors


def test_everything_on_one_reactor_shares_one() -> None:
    clock = Clock()
    assert TurnEnd.of(clock) is TurnEnd.of(clock)
    assert TurnEnd.of(clock) is not TurnEnd.of(Clock())


def test_what_follows_from_it_happens_in_the_same_turn_in_order() -> None:
    clock, told = Clock(), []
    turn = TurnEnd.of(clock)

    def first() -> None:
        told.append("first")
        turn.add(lambda: told.append("third"))

    turn.add(first)
    turn.add(lambda: told.append("second"))
    assert len(clock.getDelayedCalls()) == 1
    clock.advance(0)
    assert told == ["first", "second", "third"]
    assert clock.getDelayedCalls() == []


def test_a_chain_without_end_lets_the_reactor_look_at_its_sockets() -> None:
    clock = Clock()
    turn, rounds = TurnEnd.of(clock), []

    def again() -> None:
        rounds.append(None)
        turn.add(again)

    turn.add(again)
    (call,) = clock.getDelayedCalls()
    clock.calls.remove(call)
    call.func()
    assert len(rounds) == MAX_ROUNDS
    assert len(clock.getDelayedCalls()) == 1


def test_one_failure_does_not_stop_the_others(logged_errors: LoggedErrors) -> None:
    clock, told = Clock(), []
    turn = TurnEnd.of(clock)
    turn.add(lambda: 1 // 0)  # type: ignore[arg-type, return-value]
    turn.add(lambda: told.append("next"))
    clock.advance(0)
    assert told == ["next"]
    assert len(logged_errors.flush(ZeroDivisionError)) == 1


def test_the_clock_joins_calls_without_delay_to_the_turn() -> None:
    reactor, told = Clock(), []
    clock = TurnClock(reactor)
    taken_back = clock.callLater(0, told.append, "never")
    kept = clock.callLater(0, told.append, "now")
    clock.callLater(1.5, told.append, "later")
    taken_back.cancel()
    assert (taken_back.active(), kept.active()) == (False, True)
    reactor.advance(0)
    assert (told, kept.active()) == (["now"], False)
    reactor.advance(1.5)
    assert told == ["now", "later"]
    assert clock.seconds() == reactor.seconds() == pytest.approx(1.5)
