"""Makes one of several schedulers the master: whoever holds the lock `scheduler_lock_key`.

The lock's fencing token numbers the mastership, so a later one is always higher. Weights do no harm when two masters
answer for a moment: a queue is owned through a lock of its own, whatever the weights say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from phxqueue.lock.client import Held, LockError

#: An attempt that fails ends at most so long after its patience, in seconds.
_SLACK_S = 5.0


class Locks(Protocol):
    """What is needed of a lock client (`LockClient` is one)."""

    def acquire(self, name: str, lease: float | None = 30.0, wait: float | None = None) -> Deferred[Held]:
        """Get a lock, waiting in turn."""


class Mastership:
    """Holds the lock whenever it can.

    Args:
        locks: the lock service.
        key: of the lock.
        lease_s: its lease.
        begin: called with the fencing token when mastership begins ...
        end: ... and when it is over.
        retry_s: pause when the lock service cannot be reached.
        patience_s: asking for the lock fails when nobody has answered for so long (lock_patience_s).
    """

    log = Logger(namespace="phxqueue.scheduler")

    def __init__(
        self,
        locks: Locks,
        key: str,
        lease_s: float,
        clock: IReactorTime,
        *,
        begin: Callable[[int], None],
        end: Callable[[], None],
        retry_s: float = 1.0,
        patience_s: float = 30.0,
    ) -> None:
        self._locks = locks
        self._key = key
        self._lease_s = lease_s
        self._clock = clock
        self._begin = begin
        self._end = end
        self._retry_s = retry_s
        self._patience_s = patience_s
        self.failing = ""  # why the lock cannot be asked for; "": it can, or it is held
        self._run: Deferred[None] | None = None

    def start(self) -> None:
        """Begin to wait for the lock."""
        self._run = Deferred.fromCoroutine(self._hold_on())
        self._run.addErrback(self._ended)

    def stop(self) -> Deferred[None]:
        """Wait no more, or give the lock back; fires when that is done."""
        run, self._run = self._run, None
        if run is None:
            return Deferred.fromCoroutine(_nothing())
        run.cancel()
        return run

    async def _hold_on(self) -> None:
        while True:
            try:
                held = await self._ask()
            except LockError as error:
                await self._wait(error)
                continue
            self._answered()
            await self._be_master(held)

    async def _ask(self) -> Held:
        # Who waits in the lock's queue, behind the master, waits for ever, and is told nothing meanwhile; but it would
        # have failed by then if nobody had answered.
        answered = self._clock.callLater(self._patience_s + _SLACK_S, self._answered)
        try:
            return await self._locks.acquire(self._key, self._lease_s, None)
        finally:
            if answered.active():
                answered.cancel()

    def _answered(self) -> None:
        self.failing = ""

    async def _be_master(self, held: Held) -> None:
        """Until the lock is lost, or somebody stops us: then it is given back."""
        try:
            self._begin(held.token)
            reason = str(await held.lost)
        except LockError as error:  # lost before it was used
            reason = str(error)
        except CancelledError:
            self._end()
            await self._release(held)
            raise
        self._end()
        self.log.warn("the lock {key} of the schedulers' master is lost: {reason}", key=self._key, reason=reason)

    async def _release(self, held: Held) -> None:
        try:
            await held.release()
        except LockError as error:
            self.log.warn(
                "the lock {key} could not be given back ({reason}); another scheduler gets it in {lease:g} s",
                key=self._key,
                reason=str(error),
                lease=self._lease_s,
            )

    async def _wait(self, error: LockError) -> None:
        failing, self.failing = self.failing, str(error)
        if not failing:  # one log line per change, not per attempt
            self.log.warn(
                "cannot ask for the lock {key}: {reason}; trying until it works. Consumers keep their queues meanwhile",
                key=self._key,
                reason=str(error),
            )
        timer: Any = None
        pause: Deferred[None] = Deferred(lambda _: timer.cancel())
        timer = self._clock.callLater(self._retry_s, pause.callback, None)
        await pause

    def _ended(self, failure: Any) -> None:
        if failure.check(CancelledError) is None:
            self.log.failure("a defect of the scheduler: it will not become the master any more", failure)


async def _nothing() -> None:
    return None
