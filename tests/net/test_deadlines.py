from __future__ import annotations

import math

from twisted.internet.task import Clock

from phxqueue.net.deadlines import DeadlineWatch


class Deadlines:
    def __init__(self) -> None:
        self.clock = Clock()
        self.pending: list[float] = []
        self.looks: list[float] = []
        self.watch = DeadlineWatch(self.clock, 0.01, self.look)

    def add(self, deadline: float) -> None:
        self.pending.append(deadline)
        if deadline < self.watch.next_at:
            self.watch.note(deadline)

    def look(self, now: float) -> float:
        self.looks.append(now)
        self.pending = [deadline for deadline in self.pending if deadline > now]
        return min(self.pending, default=math.inf)


def test_one_timer_whatever_the_number_of_calls() -> None:
    deadlines = Deadlines()
    for number in range(1000):
        deadlines.add(1.0 + number)
    assert len(deadlines.clock.getDelayedCalls()) == 1


def test_calls_that_end_in_time_cost_one_look() -> None:
    deadlines = Deadlines()
    for _ in range(100):
        deadlines.add(deadlines.clock.seconds() + 1.0)
        deadlines.pending.clear()
        deadlines.clock.advance(0.01)
    assert len(deadlines.looks) <= 1


def test_an_earlier_deadline_moves_the_timer() -> None:
    deadlines = Deadlines()
    deadlines.add(10.0)
    deadlines.add(2.0)
    deadlines.clock.advance(2.0)
    assert deadlines.looks == [2.0]
    assert deadlines.watch.next_at == 10.0
    deadlines.clock.advance(8.0)
    assert deadlines.pending == []
    assert deadlines.clock.getDelayedCalls() == []


def test_dense_deadlines_are_looked_at_no_more_often_than_the_granularity() -> None:
    deadlines = Deadlines()
    for number in range(1, 1001):
        deadlines.add(number / 1000)
    deadlines.clock.pump([0.0005] * 2040)
    assert deadlines.pending == []
    assert len(deadlines.looks) <= 102


def test_a_deadline_announced_while_looking_is_kept() -> None:
    deadlines = Deadlines()

    def look(now: float) -> float:
        if now < 2:
            deadlines.watch.note(now + 1.0)
        deadlines.looks.append(now)
        return math.inf

    deadlines.watch = DeadlineWatch(deadlines.clock, 0.01, look)
    deadlines.watch.note(1.0)
    deadlines.clock.advance(1.0)
    deadlines.clock.advance(1.0)
    assert deadlines.looks == [1.0, 2.0]


def test_stop_while_looking() -> None:
    clock = Clock()

    def look(now: float) -> float:
        watch.stop()
        return now + 1

    watch = DeadlineWatch(clock, 0.01, look)
    watch.note(1.0)
    clock.advance(1.0)
    watch.note(5.0)
    assert clock.getDelayedCalls() == []
