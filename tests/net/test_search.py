from __future__ import annotations

from collections.abc import Callable
from random import Random

from twisted.internet.task import Clock

from phxqueue.net.observations import Sight
from phxqueue.net.search import Search


def test_a_waiter_may_cancel_the_next_one_when_it_is_told() -> None:
    clock = Clock()
    search = Search(clock, Random(1), 0.01, 0.2, 2.0)
    told: list[str] = []
    first, second = search.change(1.0), search.change(1.0)
    first.addCallback(lambda _: second.cancel())
    second.addBoth(lambda result: told.append(type(result).__name__))
    search.found()
    assert first.called
    assert told == ["Failure"]
    clock.advance(2.0)


class Waiters:
    """Calls that wait in a search; whoever has `willing` takes the turn when it is offered."""

    def __init__(self, count: int, willing: Callable[[int], bool]) -> None:
        self.clock = Clock()
        self.search = Search(self.clock, Random(1), 0.01, 0.2, 2.0)
        self.search.calls = count + 1
        self.woken: list[int] = []
        self._willing = willing
        for number in range(count):
            self.search.change(60.0).addCallback(self._wakes, number)

    def _wakes(self, _: None, number: int) -> None:
        self.woken.append(number)
        if self.search.scout is not None:
            return
        if self._willing(number):
            self.search.scout = number
        else:
            self.search.left()

    def round_fails(self, scout: object, sight: Sight = Sight.NO_MASTER) -> None:
        self.search.scout = scout
        self.search.round_failed(scout, self.clock.seconds(), [sight])
        self.search.hand_over(scout)


def test_a_round_without_a_master_wakes_the_next_in_turn_and_nobody_else() -> None:
    waiters = Waiters(1000, lambda _: True)
    waiters.round_fails("first")
    assert waiters.woken == []
    waiters.clock.advance(0.2)
    assert waiters.woken == [0]
    waiters.round_fails(0)
    waiters.clock.advance(0.2)
    assert waiters.woken == [0, 1]


def test_a_turn_that_is_not_taken_goes_to_the_next_however_many_leave() -> None:
    waiters = Waiters(2000, lambda number: number == 1999)
    waiters.round_fails("first")
    waiters.clock.advance(0.2)
    assert waiters.woken == list(range(2000))
    assert waiters.search.scout == 1999


def test_a_master_wakes_all() -> None:
    waiters = Waiters(1000, lambda _: True)
    waiters.search.found()
    assert sorted(waiters.woken) == list(range(1000))


def test_all_are_woken_to_give_up_when_patience_is_over() -> None:
    waiters = Waiters(1000, lambda _: True)
    waiters.round_fails("first")
    waiters.clock.advance(1.0)
    waiters.round_fails(0)
    assert waiters.woken == [0]
    waiters.clock.advance(1.0)
    waiters.round_fails(1, Sight.UNREACHABLE)
    assert len(waiters.woken) == 1000


def test_a_call_that_is_cancelled_while_it_has_the_turn_passes_it_on() -> None:
    waiters = Waiters(3, lambda _: True)
    waiters.search.scout = "first"
    waiters.search.hand_over("first")
    waiters.search.left()
    assert waiters.woken == [0]
    waiters.search.hand_over(0)
    waiters.search.left()
    assert waiters.woken == [0, 1]
