"""Who holds the lock is the master, from then until it is lost or given back."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from phxqueue.lock.client import LockLost, Unavailable
from phxqueue.scheduler.mastership import Mastership


class FakeHeld:
    """A lock in somebody's hands."""

    def __init__(self, token: int) -> None:
        self.token = token
        self.lost: Deferred[LockLost] = Deferred()
        self.released = 0
        self.release_fails: Exception | None = None

    def release(self) -> Deferred[None]:
        self.released += 1
        answer: Deferred[None] = Deferred()
        if self.release_fails is not None:
            answer.errback(self.release_fails)
        else:
            answer.callback(None)
        return answer


class Rig:
    def __init__(self) -> None:
        self.clock = Clock()
        self.asked: list[tuple[str, float | None, float | None]] = []
        self.waiting: list[Deferred[Any]] = []
        self.events: list[Any] = []
        self.mastership = Mastership(
            self, "the master", 4.0, self.clock,
            begin=self.events.append, end=lambda: self.events.append("end"),
        )  # fmt: skip
        self.mastership.start()

    def acquire(self, name: str, lease: float | None = 30.0, wait: float | None = None) -> Deferred[Any]:
        self.asked.append((name, lease, wait))
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def grant(self, token: int) -> FakeHeld:
        held = FakeHeld(token)
        self.waiting.pop().callback(held)
        return held

    def stopped(self) -> bool:
        done: list[Any] = []
        self.mastership.stop().addBoth(done.append)
        return len(done) == 1


def test_it_waits_in_turn_without_end() -> None:
    rig = Rig()
    assert rig.asked == [("the master", 4.0, None)]
    assert rig.events == []


def test_the_holder_is_the_master_and_its_token_the_term() -> None:
    rig = Rig()
    rig.grant(17)
    assert rig.events == [17]


def test_a_lost_lock_ends_it_and_the_next_one_begins_anew() -> None:
    rig = Rig()
    held = rig.grant(17)
    held.lost.callback(LockLost("too late"))
    assert rig.events == [17, "end"]
    rig.grant(20)
    assert rig.events == [17, "end", 20]


def test_stopping_gives_the_lock_back() -> None:
    rig = Rig()
    held = rig.grant(17)
    assert rig.stopped()
    assert rig.events == [17, "end"]
    assert held.released == 1
    assert rig.waiting == []
    assert rig.stopped(), "a second time does nothing"


def test_a_lock_that_cannot_be_given_back_does_not_keep_it_from_stopping() -> None:
    rig = Rig()
    held = rig.grant(17)
    held.release_fails = Unavailable("nobody there")
    with capturedLogs() as logged:
        assert rig.stopped()
    assert len(logged) == 1
    assert rig.events == [17, "end"]


def test_stopping_while_waiting_waits_no_more() -> None:
    rig = Rig()
    assert rig.stopped()
    assert rig.waiting[0].called
    assert rig.events == []


def test_a_lock_service_that_is_away_is_asked_again_and_said_once() -> None:
    rig = Rig()
    with capturedLogs() as logged:
        for _ in range(5):
            rig.waiting.pop().errback(Unavailable("nobody there"))
            rig.clock.advance(1.0)
    assert len(logged) == 1
    rig.grant(3)
    assert rig.events == [3]


def test_who_waits_behind_the_master_is_not_failing() -> None:
    """Waiting in the lock's queue ends only when the lock comes; an attempt that nobody answers would have failed."""
    rig = Rig()
    rig.waiting.pop().errback(Unavailable("nobody there"))
    rig.clock.advance(1.0)
    assert rig.mastership.failing == "nobody there"
    rig.clock.advance(30.0)
    assert rig.mastership.failing == "nobody there", "it might yet fail"
    rig.clock.advance(5.0)
    assert not rig.mastership.failing


def test_a_lock_service_that_stays_away_is_failing_all_the_time() -> None:
    rig = Rig()
    rig.waiting.pop().errback(Unavailable("nobody there"))
    for _ in range(3):
        rig.clock.advance(1.0)
        rig.clock.pump([1.0] * 31)
        assert rig.mastership.failing
        rig.waiting.pop().errback(Unavailable("nobody there"))
    rig.clock.advance(1.0)
    rig.grant(3)
    assert not rig.mastership.failing


def test_stopping_while_it_pauses_leaves_no_timer() -> None:
    rig = Rig()
    rig.waiting.pop().errback(Unavailable("nobody there"))
    assert rig.stopped()
    assert rig.clock.getDelayedCalls() == []
