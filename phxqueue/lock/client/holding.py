"""Keeps one lock held: renews its lease in time, and says so in time when it may be somebody else's.

A timer of its own renews it, whatever its holder is doing, as long as the reactor runs. That the lease is over is
decided by the clock, never by the order in which the reactor calls its timers: a process that was stopped, or busy, for
longer than the lease finds it over wherever it looks first.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from phxqueue.lock.client.acquiring import Granted
from phxqueue.lock.client.calls import Calls
from phxqueue.lock.client.errors import LockError, LockLost, told
from phxqueue.lock.client.locating import Locator
from phxqueue.lock.client.renewing import Renewals
from phxqueue.lock.client.rounds import Rounds, Turn
from phxqueue.lock.client.routes import Place
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.lock_pb2 import ReleaseLockRequest, RenewLockRequest
from phxqueue.proto.methods import RELEASE_LOCK

#: A renewal that failed is tried again after this part of the lease, and after this many seconds at most.
_RETRY_PART = 0.05
_RETRY_MOST_S = 1.0
#: One node gets this part of the lease to answer a renewal: so that there is time to ask another one.
_TRY_PART = 0.15

#: The end of a lease is looked for no more often than this; less than what `clock_drift` takes off the shortest one.
_LOOK_AGAIN_S = 0.001

_NOT_OURS = frozenset({Status.NOT_FOUND, Status.VERSION_MISMATCH, Status.FENCED})


class State(enum.Enum):
    """What has become of a lock that was granted."""

    HELD = "held"
    RELEASING = "being given back"
    RELEASED = "given back"
    LOST = "lost"


class Holding:
    """One lock of this process.

    Args:
        renewals, rounds: the client's, in which all its locks are renewed together.
        lease_clock: seconds, as leases are counted.
        ended: called once, when it is held no longer.

    Attributes:
        dropped: set when the application has let go of its handle without releasing: it is not renewed any more.
        on_lost: called with the reason when it is lost.
    """

    log = Logger()

    def __init__(
        self,
        calls: Calls,
        locator: Locator,
        renewals: Renewals,
        rounds: Rounds,
        place: Place,
        name: str,
        client_id: str,
        granted: Granted,
        lease_clock: Callable[[], float],
        ended: Callable[[Holding], None],
    ) -> None:
        self.name = name
        self.client_id = client_id
        self.token = granted.token
        self.lease = granted.lease
        self.state = State.HELD
        self.reason: LockLost | None = None
        self.dropped = False
        self.on_lost: Callable[[LockLost], None] | None = None
        self._calls = calls
        self._clock = calls.clock
        self._locator = locator
        self._place = place
        self._lease_clock = lease_clock
        self._ended = ended
        self._common = renewals
        self._rounds = rounds
        self._renewals: list[Deferred[None]] = []
        self._renewal: Turn | None = None
        self._request: RenewLockRequest | None = None
        self._end: IDelayedCall | None = None
        self._releases: list[Deferred[None]] = []
        self._schedule()
        if self.lease.length is not None:
            self._end = self._clock.callLater(self.lease.remaining(lease_clock()), self._look_at_the_clock)

    def check(self) -> bool:
        """Whether it is held, by the clock."""
        if self.state is State.HELD and self.lease.over(self._lease_clock()):
            self._lose(
                f"lock {self.name!r} (token {self.token}): its lease of {self.lease.length:g} s has run out before it "
                "could be renewed; others may hold it now"
            )
        return self.state is State.HELD

    def remaining(self) -> float:
        """Seconds left of the lease as we count it, 0 when it is not held."""
        return self.lease.remaining(self._lease_clock()) if self.check() else 0.0

    # ---- renewing -------------------------------------------------------------------------------

    def renew(self) -> Deferred[None]:
        """Renew now, or share the renewal that is under way.

        Fails with LockLost; or with another LockError when it could not be renewed yet (that is tried again).
        """
        waiter: Deferred[None] = Deferred()
        self._renewals.append(waiter)
        if len(self._renewals) == 1:
            self._cancel(self._renewal)
            Deferred.fromCoroutine(self._renew()).addBoth(self._told_of_renewal)
        return waiter

    async def _renew(self) -> None:
        if not self.check():
            raise self.reason or LockLost(f"lock {self.name!r} (token {self.token}) is held no longer")
        length = self.lease.length
        sent_at = self._lease_clock()
        deadline_s = min(self.lease.remaining(sent_at), self._calls.settings.call_timeout_s)
        try_s = None if length is None else max(0.02, length * _TRY_PART)
        try:
            await self._common.renew(self._place, self._renewal_request(), deadline_s, try_s)
        except RpcError as error:
            if error.status in _NOT_OURS:
                self._lose(f"lock {self.name!r} (token {self.token}) is ours no longer: {error.message}")
            moved = await self._locator.moved(self.name, self._place, error)
            if moved is not None:
                self._place, self._request = moved, None
            if self.check():
                raise told(error, changes=False) from None
        if self.check():
            self.lease.renewed(sent_at)
        elif self.reason is not None:
            raise self.reason

    def _renewal_request(self) -> RenewLockRequest:
        """What is sent for each renewal: the same, as long as the lock stays where it is."""
        if self._request is None:
            length = self.lease.length
            self._request = RenewLockRequest(
                topic_id=self._place.topic_id,
                lock_id=self._place.lock_id,
                lock_key=self.name,
                client_id=self.client_id,
                lease_time_ms=round((length or 0) * 1000),
                infinite=length is None,
                version=self.token,
            )
        return self._request

    def _told_of_renewal(self, result: Failure | None) -> None:
        renewals, self._renewals = self._renewals, []
        if self.state is State.HELD:
            self._schedule(failed=isinstance(result, Failure))
        _tell(renewals, result)

    def _schedule(self, *, failed: bool = False) -> None:
        settings, length = self._calls.settings, self.lease.length
        pause = settings.check_s if length is None else length / settings.renewals_per_lease
        if failed:
            pause = min(pause, _RETRY_MOST_S if length is None else length * _RETRY_PART, _RETRY_MOST_S)
        self._renewal = self._rounds.after(pause, self._renewal_due)

    def _renewal_due(self) -> None:
        self._renewal = None
        if self.dropped:
            self.log.warn(
                "lock {name} (token {token}) was neither released nor kept: it is given back",
                name=self.name,
                token=self.token,
            )
            self.release().addErrback(lambda _: None)  # `_release` has logged it
        elif self.check():
            self.renew().addErrback(self._not_renewed)

    def _not_renewed(self, failure: Failure) -> None:
        if failure.check(LockError) is None:
            self.log.failure("renewing lock {name} failed", failure, name=self.name)
        elif self.state is State.HELD:
            self.log.warn(
                "lock {name} (token {token}) could not be renewed, {left:.1f} s left: {error}",
                name=self.name,
                token=self.token,
                left=self.lease.remaining(self._lease_clock()),
                error=failure.value,
            )

    # ---- the end --------------------------------------------------------------------------------

    def _look_at_the_clock(self) -> None:
        self._end = None
        if self.check():  # renewed meanwhile; or the reactor's clock is ahead of the one that leases are counted by
            remaining = max(_LOOK_AGAIN_S, self.lease.remaining(self._lease_clock()))
            self._end = self._clock.callLater(remaining, self._look_at_the_clock)

    def _lose(self, text: str) -> None:
        if self.state is not State.HELD:
            return
        self.state = State.LOST
        self.reason = LockLost(text)
        self._stop_timers()
        self.log.warn("{reason}", reason=text)
        self._ended(self)
        if self.on_lost is not None:
            self.on_lost(self.reason)

    def release(self) -> Deferred[None]:
        """Give it back; it is held no longer from this call on, and its token is good for nothing.

        Cancelling the Deferred does not stop it. Fails with LockLost when it had been lost before; Unavailable or
        OutcomeUnknown when nobody could be told: then it is free when its lease has run out.
        """
        waiter: Deferred[None] = Deferred()
        if self.check():
            self.state = State.RELEASING
            self._stop_timers()
            self._releases.append(waiter)
            Deferred.fromCoroutine(self._release()).addBoth(self._told_of_release)
        elif self.state is State.RELEASING:
            self._releases.append(waiter)
        elif self.reason is not None:
            waiter.errback(self.reason)
        else:
            waiter.callback(None)
        return waiter

    async def _release(self) -> None:
        try:
            await self._locator.ask(self.name, self._release_at, self._place)
        except RpcError as error:
            if error.status not in _NOT_OURS:
                when = "when it is released by force" if self.lease.length is None else "when its lease has run out"
                self.log.warn(
                    "lock {name} (token {token}) could not be given back: {error}. It is free {when}",
                    name=self.name,
                    token=self.token,
                    error=error,
                    when=when,
                )
                raise told(error) from None
            if not error.maybe_executed:
                self.reason = LockLost(f"lock {self.name!r} (token {self.token}) was ours no longer: {error.message}")
                raise self.reason from None

    def _release_at(self, place: Place) -> Deferred[Any]:
        request = ReleaseLockRequest(
            topic_id=place.topic_id,
            lock_id=place.lock_id,
            lock_key=self.name,
            client_id=self.client_id,
            version=self.token,
        )
        return self._calls.repeat(place, RELEASE_LOCK, request, self._calls.settings.close_timeout_s)

    def _told_of_release(self, result: Failure | None) -> None:
        self.state = State.RELEASED
        self._ended(self)
        releases, self._releases = self._releases, []
        _tell(releases, result)

    def _stop_timers(self) -> None:
        self._cancel(self._renewal)
        self._cancel(self._end)
        self._renewal = self._end = None

    def _cancel(self, timer: IDelayedCall | Turn | None) -> None:
        if timer is not None and timer.active():
            timer.cancel()


def _tell(waiters: list[Deferred[None]], result: Failure | None) -> None:
    for waiter in waiters:
        if not waiter.called:  # its owner may have cancelled it
            waiter.callback(result)
