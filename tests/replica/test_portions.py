"""Work in portions: what a turn of the reactor may cost, and that nothing is left out."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from phxqueue.replica.portions import FREED, PORTION_S, PORTION_STEPS, Portions, at_once, emptying, in_portions


class Work:
    """So many steps, each of which takes so long."""

    def __init__(self, steps: int, each: float = 0.0) -> None:
        self.clock = Clock()
        self.done = 0
        self.turns: list[Deferred[None]] = []
        self._steps, self._each = steps, each

    def work(self) -> Portions[str]:
        for _ in range(self._steps):
            self.done += 1
            self.clock.rightNow += self._each
            yield
        return "result"

    def turn(self) -> Deferred[None]:
        self.turns.append(Deferred())
        return self.turns[-1]

    def begin(self) -> list[Any]:
        """Returns what will hold the result."""
        found: list[Any] = []
        running = Deferred.fromCoroutine(in_portions(self.work(), self.clock, self.turn))
        running.addBoth(found.append)
        return found

    def turned(self) -> int:
        """The reactor's turn is over; returns how many steps the next one had."""
        before = self.done
        self.turns.pop().callback(None)
        return self.done - before


def test_all_at_once() -> None:
    work = Work(40)
    assert at_once(work.work()) == "result"
    assert work.done == 40


def test_nothing_is_done_before_the_first_turn_and_no_more_than_so_many_steps_in_one() -> None:
    work = Work(2 * PORTION_STEPS + 3)
    found = work.begin()
    assert work.done == 0
    assert [work.turned() for _ in range(2)] == [PORTION_STEPS, PORTION_STEPS]
    assert found == []
    assert work.turned() == 3
    assert (found, work.turns) == (["result"], [])


@pytest.mark.parametrize(("each", "steps"), [(PORTION_S * 0.4, 3), (PORTION_S, 1), (PORTION_S * 10, 1)])
def test_no_step_is_begun_when_the_time_of_a_turn_is_up(each: float, steps: int) -> None:
    work = Work(10, each)
    work.begin()
    assert [work.turned() for _ in range(3)] == [steps] * 3


def test_an_error_ends_it() -> None:
    def work() -> Portions[None]:
        yield
        raise ValueError("damaged")

    turns = Work(0)
    running = Deferred.fromCoroutine(in_portions(work(), turns.clock, turns.turn))
    failed: list[Any] = []
    running.addErrback(failed.append)
    turns.turned()
    assert failed[0].check(ValueError)


def test_tables_are_emptied_some_entries_at_a_time() -> None:
    tables: list[dict[int, int]] = [dict.fromkeys(range(2 * FREED + 1)), {}, {1: 1}]
    sizes = [sum(map(len, tables)) for _ in emptying(tables)]
    assert sizes == [FREED + 2, 2, 1, 0]
