from __future__ import annotations

import time

import pytest
from twisted.internet.epollreactor import EPollReactor

from phxqueue.net.clock import use_monotonic_time
from phxqueue.net.turn import TurnEnd


def test_timers_follow_the_monotonic_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    reactor = EPollReactor()
    use_monotonic_time(reactor)
    use_monotonic_time(reactor)  # again: nothing to do
    fired: list[float] = []
    reactor.callLater(0.001, lambda: fired.append(reactor.seconds()))
    monkeypatch.setattr(time, "time", lambda: 0.0)  # the administrator sets the clock back
    end = time.monotonic() + 5
    while not fired and time.monotonic() < end:
        reactor.iterate(0.01)
    assert fired
    assert abs(fired[0] - time.monotonic()) < 5


def test_too_late_once_a_timer_is_pending() -> None:
    reactor = EPollReactor()
    call = reactor.callLater(10, lambda: None)
    with pytest.raises(RuntimeError, match="before the first timer"):
        use_monotonic_time(reactor)
    call.cancel()


def test_the_end_of_the_turn_comes_before_the_next_wait() -> None:
    reactor = EPollReactor()
    order: list[str] = []
    turn = TurnEnd(reactor)

    def input_arrives() -> None:
        for name in "abc":
            turn.add(lambda name=name: order.append(name))  # type: ignore[misc]
        assert len(reactor.getDelayedCalls()) == 1

    reactor.callFromThread(input_arrives)
    reactor.runUntilCurrent()
    assert order == ["a", "b", "c"]
