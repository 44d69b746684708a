"""A queue's life at one consumer: its lock, its Worker, and what ends them."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from phxqueue.consumer.tenure import LockHealth, Tenure
from phxqueue.lock.client import LockLost, Unavailable
from tests.conftest import LoggedErrors


class FakeWorker:
    """A Worker whose stopping the test decides."""

    def __init__(self, token: int, fenced: Any, at_once: bool) -> None:
        self.token = token
        self.fenced = fenced
        self.place = "a queue"
        self.at_work = 2
        self.fetched = self.aborted = 0
        self.stopping: Deferred[None] | None = None
        self._at_once = at_once

    def fetch(self) -> None:
        self.fetched += 1

    def stop(self) -> Deferred[None]:
        self.stopping = Deferred()
        if self._at_once:
            self.stopping.callback(None)
        return self.stopping

    def abort(self) -> None:
        self.aborted += 1
        if self.stopping is not None and not self.stopping.called:
            self.stopping.callback(None)


class FakeHeld:
    name = "the lock"

    def __init__(self, token: int) -> None:
        self._token = token
        self._reason: LockLost | None = None
        self.lost: Deferred[LockLost] = Deferred()
        self.released = False

    @property
    def token(self) -> int:
        if self._reason is not None:
            raise self._reason
        return self._token

    def lose(self) -> None:
        self._reason = LockLost("too late")
        if not self.lost.called:
            self.lost.callback(self._reason)

    def release(self) -> Deferred[None]:
        self.released = True
        answer: Deferred[None] = Deferred()
        if self._reason is not None:
            answer.errback(self._reason)
        else:
            answer.callback(None)
        return answer


class Rig:
    def __init__(self, *, locked: bool = True, stops_at_once: bool = True) -> None:
        self.clock = Clock()
        self.workers: list[FakeWorker] = []
        self.asked: list[Deferred[Any]] = []
        self.stops_at_once = stops_at_once
        self.left: list[Any] = []
        self.tenure = Tenure(
            self._make,  # type: ignore[arg-type]
            self._acquire if locked else None,
            self.clock,
            LockHealth(),
            stop_timeout_s=30.0,
        )
        self.tenure.start()

    def _make(self, token: int, fenced: Any) -> FakeWorker:
        self.workers.append(FakeWorker(token, fenced, self.stops_at_once))
        return self.workers[-1]

    def _acquire(self) -> Deferred[Any]:
        self.asked.append(Deferred())
        return self.asked[-1]

    def grant(self, token: int) -> FakeHeld:
        held = FakeHeld(token)
        self.asked[-1].callback(held)
        return held

    def leave(self) -> None:
        Deferred.fromCoroutine(self.tenure.leave()).addBoth(self.left.append)


def test_without_a_lock_it_works_at_once() -> None:
    rig = Rig(locked=False)
    [worker] = rig.workers
    assert (worker.token, worker.fetched) == (0, 1)
    rig.leave()
    assert rig.left == [None]


def test_it_works_when_it_has_the_lock_and_under_its_token() -> None:
    rig = Rig()
    assert rig.workers == []
    rig.grant(17)
    [worker] = rig.workers
    assert (worker.token, worker.fetched) == (17, 1)


def test_the_lock_is_given_back_after_the_worker_has_acknowledged() -> None:
    rig = Rig(stops_at_once=False)
    held = rig.grant(17)
    rig.leave()
    assert (held.released, rig.left) == (False, [])
    stopping = rig.workers[0].stopping
    assert stopping is not None
    stopping.callback(None)
    assert (held.released, rig.left) == (True, [None])
    assert rig.clock.getDelayedCalls() == []


def test_a_worker_that_does_not_come_to_an_end_is_cut_off() -> None:
    rig = Rig(stops_at_once=False)
    rig.grant(17)
    rig.leave()
    with capturedLogs() as logged:
        rig.clock.advance(30.0)
    assert "2 items still at work after 30 s" in logged[0]["log_format"].format(**logged[0])
    assert rig.workers[0].aborted == 1
    assert rig.left == [None]


def test_a_worker_that_cannot_even_stop_leaves_its_queue_to_another(logged_errors: LoggedErrors) -> None:
    rig = Rig(stops_at_once=False)
    held = rig.grant(17)
    held.lose()
    stopping = rig.workers[0].stopping
    assert stopping is not None
    if not stopping.called:
        stopping.errback(ZeroDivisionError("a defect"))
    assert len(logged_errors.flush(ZeroDivisionError)) == 1
    assert len(rig.asked) == 2, "it waits for the lock again"
    rig.grant(18)
    assert rig.workers[-1].token == 18


def test_the_lock_is_given_back_even_if_the_worker_could_not_stop() -> None:
    rig = Rig(stops_at_once=False)
    held = rig.grant(17)
    rig.leave()
    stopping = rig.workers[0].stopping
    assert stopping is not None
    stopping.errback(ZeroDivisionError("a defect"))
    assert held.released
    assert [failure.type for failure in rig.left] == [ZeroDivisionError]


def test_leaving_while_it_waits_waits_no_more() -> None:
    rig = Rig()
    rig.leave()
    assert rig.asked[0].called
    assert rig.left == [None]
    assert rig.workers == []


def test_a_lost_lock_cuts_the_worker_off_and_the_queue_is_waited_for_again() -> None:
    rig = Rig()
    held = rig.grant(17)
    with capturedLogs():
        held.lose()
    assert rig.workers[0].aborted == 1
    assert rig.tenure.worker is None
    assert len(rig.asked) == 2
    rig.grant(20)
    assert rig.workers[1].token == 20


def test_a_newer_holder_that_a_store_has_seen_counts_as_a_lost_lock() -> None:
    rig = Rig()
    held = rig.grant(17)
    with capturedLogs():
        rig.workers[0].fenced()
        rig.workers[0].fenced()
    assert rig.workers[0].aborted == 1
    assert held.released
    assert len(rig.asked) == 2


def test_leaving_while_a_worker_is_being_cut_off_waits_for_it() -> None:
    rig = Rig(stops_at_once=False)
    held = rig.grant(17)
    worker = rig.workers[0]
    worker.abort = lambda: None  # type: ignore[method-assign]
    with capturedLogs():
        held.lose()
    rig.leave()
    assert rig.left == []
    assert worker.stopping is not None
    worker.stopping.callback(None)
    assert rig.left == [None]
    assert len(rig.asked) == 1


def test_a_lock_that_is_lost_before_it_is_used_is_asked_for_again() -> None:
    rig = Rig()
    held = FakeHeld(17)
    held.lose()
    rig.asked[-1].callback(held)
    assert rig.workers == []
    assert len(rig.asked) == 2


def test_a_lock_service_that_is_away_is_asked_again_and_said_once() -> None:
    rig = Rig()
    with capturedLogs() as logged:
        for _ in range(5):
            rig.asked[-1].errback(Unavailable("nobody there"))
            rig.clock.advance(1.0)
        rig.grant(3)
    assert len(logged) == 2
    assert rig.workers[0].token == 3


def test_leaving_while_it_pauses_leaves_no_timer() -> None:
    rig = Rig()
    with capturedLogs():
        rig.asked[-1].errback(Unavailable("nobody there"))
    rig.leave()
    assert rig.left == [None]
    assert rig.clock.getDelayedCalls() == []
