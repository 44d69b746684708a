"""Who lives, from when to when, and what weights a master answers."""

from __future__ import annotations

import pytest

from phxqueue.scheduler.balance import BalanceRule
from phxqueue.scheduler.load import Report
from phxqueue.scheduler.roll import Roll, RollRule, UnknownConsumer

RULE = RollRule(keep_time=5.0, grace=3.0, warm_up=6.0, balance_interval=10.0)
IDLE = Report(cpu=0.0)


class Clock:
    """A roll, and everybody who reports once a second."""

    def __init__(self, rule: RollRule = RULE, **scales: int) -> None:
        self.roll = Roll(scales or {"a": 1000, "b": 1000, "c": 1000}, rule, 0.0)
        self.now = 0.0
        self.reports: dict[str, Report] = {}

    def say(self, **reports: Report) -> None:
        """Somebody begins to report this."""
        self.reports.update(reports)

    def run(self, seconds: int) -> None:
        """Let time pass."""
        for _ in range(seconds):
            self.now += 1.0
            for name, report in self.reports.items():
                self.roll.report(name, report, self.now)
            self.roll.advance(self.now)


def warm(rule: RollRule = RULE, **scales: int) -> Clock:
    clock = Clock(rule, **scales)
    clock.say(**dict.fromkeys(clock.roll.weights() or scales or {"a": 1, "b": 1, "c": 1}, IDLE))
    clock.run(6)
    assert clock.roll.warm
    return clock


def test_a_new_master_answers_nothing_before_everybody_had_time_to_report() -> None:
    clock = Clock()
    clock.say(a=IDLE, b=IDLE)
    clock.run(5)
    assert clock.roll.weights() == {}
    assert clock.roll.version == 0
    clock.run(1)
    assert clock.roll.weights() == {"a": 1000, "b": 1000, "c": 0}


def test_a_new_master_does_not_wait_when_there_is_nobody_to_wait_for() -> None:
    clock = Clock()
    clock.say(a=IDLE, b=IDLE, c=Report(cpu=0.0, weight=700))
    clock.run(1)
    assert clock.roll.weights() == {"a": 1000, "b": 1000, "c": 700}


def test_a_master_that_heard_nobody_waits_for_the_first_report() -> None:
    clock = Clock()
    clock.run(60)
    assert not clock.roll.warm
    assert clock.roll.next_deadline() is None
    clock.say(c=IDLE)
    clock.run(1)
    assert clock.roll.weights() == {"a": 0, "b": 0, "c": 1000}


def test_a_new_master_takes_over_the_weights_that_are_in_force() -> None:
    clock = Clock()
    clock.say(a=Report(cpu=10.0, weight=400), b=Report(cpu=10.0, weight=1700), c=Report(cpu=10.0, weight=90_000))
    clock.run(6)
    assert clock.roll.weights() == {"a": 400, "b": 1700, "c": 2000}


def test_the_silent_die_after_the_keep_time_and_not_before() -> None:
    clock = warm()
    version = clock.roll.version
    del clock.reports["b"]
    clock.run(4)
    assert clock.roll.weights()["b"] == 1000
    assert clock.roll.version == version
    clock.run(1)
    assert clock.roll.weights() == {"a": 1000, "b": 0, "c": 1000}
    assert clock.roll.version == version + 1


def test_the_dead_are_dropped_from_an_idle_cluster() -> None:
    """The original stops at a sum of loads of 0, before it looks who is dead."""
    clock = warm()
    del clock.reports["a"]
    clock.run(5)
    assert clock.roll.weights()["a"] == 0


def test_who_comes_back_has_its_configured_weight_at_once() -> None:
    clock = warm()
    del clock.reports["a"]
    clock.run(7)
    clock.say(a=Report(cpu=0.0, weight=5))
    clock.run(1)
    assert clock.roll.weights()["a"] == 1000


def test_a_restart_within_the_grace_time_moves_nothing() -> None:
    clock = warm()
    version = clock.roll.version
    clock.roll.leave("a", clock.now)
    del clock.reports["a"]
    clock.run(2)
    clock.say(a=IDLE)
    clock.run(20)
    assert clock.roll.version == version


def test_who_said_good_bye_is_not_waited_for_as_long_as_the_silent() -> None:
    clock = warm()
    clock.roll.leave("a", clock.now)
    assert clock.roll.next_deadline() == clock.now + 3.0
    del clock.reports["a"]
    clock.run(3)
    assert clock.roll.weights()["a"] == 0


def test_a_good_bye_does_not_make_the_silent_live_longer() -> None:
    clock = warm()
    del clock.reports["a"]
    clock.run(4)
    clock.roll.leave("a", clock.now)
    clock.run(1)
    assert clock.roll.weights()["a"] == 0


def test_the_last_one_that_dies_leaves_nobody() -> None:
    clock = warm()
    clock.reports.clear()
    clock.run(60)
    assert clock.roll.weights() == {"a": 0, "b": 0, "c": 0}


def test_configuration_changes_are_in_force_at_once() -> None:
    clock = warm()
    clock.roll.reconfigure({"a": 0, "b": 500, "d": 1000})
    assert clock.roll.weights() == {"a": 0, "b": 500, "d": 0}
    clock.say(d=IDLE)
    del clock.reports["c"]
    clock.run(1)
    assert clock.roll.weights() == {"a": 0, "b": 500, "d": 1000}


def test_a_weight_of_zero_drains_for_good() -> None:
    clock = warm(a=0, b=1000)
    clock.say(a=Report(cpu=0.0, weight=1000), b=Report(cpu=100.0))
    clock.run(60)
    assert clock.roll.weights()["a"] == 0


def test_weights_follow_the_load() -> None:
    clock = warm()
    clock.say(a=Report(cpu=100.0), b=Report(cpu=10.0), c=Report(cpu=10.0))
    clock.run(10)
    weights = clock.roll.weights()
    assert weights["a"] < 1000 < weights["b"]


def test_weights_do_not_follow_the_load_when_they_should_not() -> None:
    clock = warm(RollRule(use_init_weight=True))
    clock.say(a=Report(cpu=100.0), b=Report(cpu=0.0), c=Report(cpu=0.0))
    clock.run(60)
    assert set(clock.roll.weights().values()) == {1000}


def test_an_unknown_consumer_is_told_so() -> None:
    clock = Clock()
    with pytest.raises(UnknownConsumer, match=r"consumer x is not in consumerconfig\.conf"):
        clock.roll.report("x", IDLE, 0.0)
    with pytest.raises(UnknownConsumer):
        clock.roll.leave("x", 0.0)


def test_the_next_deadline_is_never_in_the_past_after_advancing() -> None:
    clock = warm(RollRule(balance=BalanceRule(sticky=0)))
    for step in range(100):
        clock.say(a=Report(cpu=float(step % 90)), b=Report(cpu=float(step % 37)))
        if step == 50:
            del clock.reports["c"]
        clock.run(1)
        deadline = clock.roll.next_deadline()
        assert deadline is not None
        assert deadline > clock.now
