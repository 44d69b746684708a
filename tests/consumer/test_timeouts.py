"""Many times that run out, one timer."""

from __future__ import annotations

from twisted.internet.task import Clock

from phxqueue.consumer.timeouts import Timeouts


def test_each_runs_out_in_its_own_time_and_one_timer_serves_all() -> None:
    clock, late = Clock(), list[tuple[str, float, float]]()
    timeouts: Timeouts[str] = Timeouts(clock, lambda key, seconds: late.append((key, seconds, clock.seconds())))
    timeouts.add("long", 10)
    timeouts.add("short", 1)
    timeouts.add("done", 1)
    assert len(clock.getDelayedCalls()) == 1
    timeouts.remove("done")
    timeouts.remove("unknown")
    clock.advance(0.5)
    timeouts.add("second", 1)
    clock.pump([0.25] * 60)
    assert late == [("short", 1, 1.0), ("second", 1, 1.5), ("long", 10, 10.0)]
    assert clock.getDelayedCalls() == []


def test_one_that_ends_another_while_both_are_late() -> None:
    clock, late = Clock(), list[str]()

    def expired(key: str, seconds: float) -> None:
        late.append(key)
        timeouts.remove("b")
        timeouts.add("c", 2)

    timeouts: Timeouts[str] = Timeouts(clock, expired)
    timeouts.add("a", 1)
    timeouts.add("b", 1)
    clock.advance(1)
    assert late == ["a"]
    timeouts.clear()
    clock.advance(10)
    assert late == ["a"]
    assert clock.getDelayedCalls() == []
