"""What an application holds in its hands: a lock that it has, and the way to get one for the length of a block."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import TracebackType

from twisted.internet.defer import Deferred, fail

from phxqueue.lock.client.errors import LockError, LockLost, NotHeld
from phxqueue.lock.client.holding import Holding


class Held:
    """A lock that this process holds, and keeps until it is released or lost.

    Whoever lets go of this object without releasing it lets go of the lock: it is not renewed any more.
    """

    def __init__(self, holding: Holding) -> None:
        self._holding = holding
        self._observers: list[Deferred[LockLost]] = []
        # The timers know the holding, and it knows us by a weak reference only: nobody but the application keeps us.
        holding.on_lost = _weakly(self)
        self._drop = weakref.finalize(self, setattr, holding, "dropped", True)
        self._drop.atexit = False

    @property
    def name(self) -> str:
        """The lock's key."""
        return self._holding.name

    @property
    def client_id(self) -> str:
        """The name under which the lock service knows this acquisition."""
        return self._holding.client_id

    @property
    def lease(self) -> float | None:
        """Its length in seconds; None: it never ends by itself."""
        return self._holding.lease.length

    @property
    def token(self) -> int:
        """The fencing token: it rises with every acquisition of this lock, by whomever.

        Raises:
            LockLost: the lock may be somebody else's.
            NotHeld: it was released.
        """
        holding = self._holding
        if holding.check():
            return holding.token
        raise holding.reason or NotHeld(f"lock {self.name!r} (token {holding.token}) has been released")

    @property
    def valid(self) -> bool:
        """Whether it is held, by the clock."""
        return self._holding.check()

    @property
    def remaining(self) -> float:
        """Seconds of the lease that are left unless it is renewed, as this process counts them; infinity: no end."""
        return self._holding.remaining()

    @property
    def lost(self) -> Deferred[LockLost]:
        """A Deferred that fires with the reason when the lock is lost, and never if it is released before.

        It fires no later than the moment at which the service could give the lock to somebody else; a process that
        was stopped then learns it first thing when it goes on. Each access makes another Deferred.
        """
        observer: _Lost = _Lost(self)
        if not self._holding.check() and self._holding.reason is not None:
            observer.callback(self._holding.reason)
        else:
            self._observers = [other for other in self._observers if not other.called]  # cancelled ones
            self._observers.append(observer)
        return observer

    def renew(self) -> Deferred[None]:
        """Renew now, ahead of time. Fails with LockLost; or with another LockError: then it is tried again in time."""
        if not self._holding.check():
            reason = self._holding.reason or NotHeld(f"lock {self.name!r} has been released")
            return fail(reason)
        return self._holding.renew()

    def release(self) -> Deferred[None]:
        """Give the lock back; from this call on the token is good for nothing. A second release does nothing.

        Cancelling the Deferred does not stop it.

        Fails with LockLost when the lock had been lost before; Unavailable or OutcomeUnknown when the service could
        not be told: then the lock is free when its lease has run out.
        """
        return self._holding.release()

    def _lose(self, reason: LockLost) -> None:
        observers, self._observers = self._observers, []
        for observer in observers:
            if not observer.called:
                observer.callback(reason)

    def __repr__(self) -> str:
        return f"<Held {self.name!r} token {self._holding.token} {self._holding.state.value}>"


class _Lost(Deferred[LockLost]):
    """Keeps the lock as long as somebody is interested in its loss."""

    def __init__(self, held: Held) -> None:
        super().__init__()
        self.held = held


def _weakly(held: Held) -> Callable[[LockLost], None]:
    reference = weakref.ref(held)

    def lost(reason: LockLost) -> None:
        handle = reference()
        if handle is not None:
            handle._lose(reason)

    return lost


class LockContext:
    """`async with client.lock(...) as held`: the lock for the length of a block.

    Leaving the block gives the lock back. If it was lost before, and the block ended without an exception, LockLost is
    raised: what the block did last, it may not have done alone. That the service could not be told of the release is
    logged and no more, unless the lock is without an end: the block had the lock to its end.
    """

    def __init__(self, acquire: Callable[[], Deferred[Held]]) -> None:
        self._acquire = acquire
        self._held: Held | None = None

    async def __aenter__(self) -> Held:
        if self._held is not None:
            raise RuntimeError("this lock(...) has been entered already: make another one for each block")
        self._held = await self._acquire()
        return self._held

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._held is not None
        held = self._held
        try:
            await held.release()
        except LockLost:
            if error is None:
                raise
        except LockError:
            if error is None and held.lease is None:
                raise
