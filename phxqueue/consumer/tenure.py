"""One queue at one consumer: from the moment it is meant to have it until it has let go of it.

    wanted -> waits for the queue's lock -> a Worker reads, under the lock's fencing token -> stops, acknowledges,
    gives the lock back -> gone

Without a lock (`skip_lock`, or no lock service configured) the Worker begins at once. When the lock is lost, or a store
says that a newer holder reads (FENCED), the Worker is cut off, because nothing that it would acknowledge counts any
more, and the queue is waited for again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from phxqueue.consumer.worker import Worker
from phxqueue.lock.client import Held, LockError


class Locks(Protocol):
    """What is needed of a lock client (`LockClient` is one)."""

    def acquire(self, name: str, lease: float | None = 30.0, wait: float | None = None) -> Deferred[Held]:
        """Get a lock, waiting in turn."""


class LockHealth:
    """Whether the lock service answers: logged when that changes, not by each queue again and again."""

    log = Logger()

    def __init__(self) -> None:
        self._failing = False

    def failed(self, error: LockError) -> None:
        """It could not be asked."""
        if not self._failing:
            self._failing = True
            self.log.warn(
                "queues cannot be locked: {error}; trying until it works. Queues without a lock are not consumed",
                error=error,
            )

    def worked(self) -> None:
        """It gave a lock."""
        if self._failing:
            self._failing = False
            self.log.info("queues are locked again")


class Tenure:
    """The life of one queue at this consumer.

    Args:
        make_worker: of a fencing token and of what is to be called when the store says that it is stale.
        acquire: asks for the queue's lock; None: it needs none.
        stop_timeout_s: longest a Worker that stops waits for what is at work.
        retry_s: pause when the lock service cannot be asked.

    Attributes:
        worker: at work; None while there is no lock.
    """

    log = Logger()

    def __init__(
        self,
        make_worker: Callable[[int, Callable[[], None]], Worker],
        acquire: Callable[[], Deferred[Held]] | None,
        clock: IReactorTime,
        health: LockHealth,
        *,
        stop_timeout_s: float,
        retry_s: float = 1.0,
    ) -> None:
        self.worker: Worker | None = None
        self._make_worker = make_worker
        self._acquire = acquire
        self._clock = clock
        self._health = health
        self._stop_timeout_s = stop_timeout_s
        self._retry_s = retry_s
        self._held: Held | None = None
        self._waiting: Deferred[Held] | None = None
        self._lost: Deferred[object] | None = None
        self._pause: IDelayedCall | None = None
        self._ending: Deferred[None] | None = None  # a Worker that was cut off
        self._left = False

    def start(self) -> None:
        """Begin: with the Worker, or with waiting for the lock."""
        if self._acquire is None:
            self._work(0)
            return
        self._pause = None
        self._waiting = self._acquire()
        self._waiting.addCallbacks(self._acquired, self._not_acquired)
        self._waiting.addErrback(lambda failure: self.log.failure("a defect of the consumer itself", failure))

    async def leave(self) -> None:
        """Let go: wait no more, or finish what cannot be left out, acknowledge it, and give the lock back."""
        self._left = True
        if self._pause is not None and self._pause.active():
            self._pause.cancel()
        if self._waiting is not None:
            self._waiting.cancel()
        worker, self.worker = self.worker, None
        try:
            if worker is not None:
                await self._stopped(worker)
            if self._ending is not None:
                await self._ending
        finally:
            await self._release()

    # ---- the lock ----------------------------------------------------------------------

    def _acquired(self, held: Held) -> None:
        self._waiting = None
        self._health.worked()
        try:
            token = held.token
        except LockError:  # lost before anybody could use it
            self.start()
            return
        self._held = held
        self._lost = held.lost.addCallbacks(self._cut_off, lambda failure: None)  # cancelled, when we let go of it
        self._work(token)

    def _not_acquired(self, failure: Failure) -> None:
        self._waiting = None
        if self._left or failure.check(CancelledError):
            return
        error = failure.value
        if not isinstance(error, LockError):
            failure.raiseException()
        self._health.failed(error)
        self._pause = self._clock.callLater(self._retry_s, self.start)

    def _fenced(self) -> None:
        """A store has seen a newer holder: whatever we believe, the lock is not ours."""
        if self._held is not None and not self._left:
            self._cut_off("a newer holder reads the queue")

    def _cut_off(self, reason: object) -> None:
        """The queue is somebody else's: nothing that is done from here on counts. Then wait for it again."""
        worker, self.worker = self.worker, None
        if worker is None or self._left:
            return
        self.log.warn("{place}: the lock is lost ({reason}); stopping", place=worker.place, reason=str(reason))
        worker.abort()
        self._ending = Deferred.fromCoroutine(self._ended(worker))
        self._ending.addErrback(lambda failure: self.log.failure("a defect of the consumer itself", failure))

    async def _ended(self, worker: Worker) -> None:
        try:
            await worker.stop()
        except Exception:  # a defect there must not leave the queue to nobody
            self.log.failure("{place}: stopping failed", place=worker.place)
        await self._release()
        self._ending = None
        if not self._left:
            self.start()

    async def _release(self) -> None:
        held, self._held = self._held, None
        if self._lost is not None:
            self._lost.cancel()
            self._lost = None
        if held is None:
            return
        try:
            await held.release()
        except LockError as error:
            self.log.info("{name} was not given back: {error}", name=held.name, error=str(error))

    # ---- the worker --------------------------------------------------------------------

    def _work(self, token: int) -> None:
        self.worker = self._make_worker(token, self._fenced)
        self.worker.fetch()

    async def _stopped(self, worker: Worker) -> None:
        timeout = self._clock.callLater(self._stop_timeout_s, self._give_up, worker)
        try:
            await worker.stop()
        finally:
            if timeout.active():
                timeout.cancel()

    def _give_up(self, worker: Worker) -> None:
        self.log.warn(
            "{place}: {count} items still at work after {seconds:g} s (stop_timeout_s); they will be delivered again",
            place=worker.place, count=worker.at_work, seconds=self._stop_timeout_s,
        )  # fmt: skip
        worker.abort()
