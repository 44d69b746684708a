from __future__ import annotations

from random import Random

from twisted.internet.task import Clock

from phxqueue.net.search import Search


def test_a_waiter_may_cancel_the_next_one_when_it_is_told() -> None:
    clock = Clock()
    search = Search(clock, Random(1), 0.01, 0.2)
    told: list[str] = []
    first, second = search.change(1.0), search.change(1.0)
    first.addCallback(lambda _: second.cancel())
    second.addBoth(lambda result: told.append(type(result).__name__))
    search.found()
    assert first.called
    assert told == ["Failure"]
    clock.advance(2.0)
