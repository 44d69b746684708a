"""AcquireLock: at once, in turn, or not at all; and giving back what was granted to somebody who is gone.

A lock that is held is not asked for in the log: who waits for it stands in a queue at the master (waiters.py), and an
entry is proposed for the first of them when the lock is about to be free, right behind the entry that frees it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred

from phxqueue.lock.keeping import Keeping, mismatch
from phxqueue.lock.operations import grant_operation, release_of
from phxqueue.lock.proposals import Result
from phxqueue.lock.records import LOCKS, Lock, Record
from phxqueue.lock.waiters import Waiter, Waiters
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.lock_pb2 import AcquireLockResponse, LockOperation
from phxqueue.replica.interfaces import Clock, DelayedCall

_SINCE_WHEN = "it is granted, but nobody here can tell since when: this node may be master no longer; ask again"


class _Call:
    """One AcquireLock that has not been answered yet.

    Attributes:
        gone: nobody wants the answer any more.
        over: it has waited long enough; if an entry is under way for it, that one still decides.
        on_gone: called when the caller gives up.
    """

    def __init__(self, operation: LockOperation, wait_s: float, waited_s: float, arrived: float) -> None:
        self.operation = operation
        self.wait_s = wait_s
        self.since = arrived - waited_s
        self.arrived = arrived
        self.answer: Deferred[AcquireLockResponse] = Deferred(self._cancelled)
        self.gone = False
        self.over = False
        self.timer: DelayedCall | None = None
        self.on_gone: Callable[[], None] | None = None

    def succeed(self, response: AcquireLockResponse) -> None:
        self._stop_timer()
        if not self.answer.called:
            self.answer.callback(response)

    def fail(self, error: RpcError) -> None:
        self._stop_timer()
        if not self.answer.called:
            self.answer.errback(error)

    def _cancelled(self, answer: Deferred[Any]) -> None:
        self.gone = True
        self._stop_timer()
        if self.on_gone is not None:
            self.on_gone()

    def _stop_timer(self) -> None:
        if self.timer is not None and self.timer.active():
            self.timer.cancel()
        self.timer = None


class Acquiring:
    """The acquisitions of one Paxos group.

    Args:
        keeping: the table with its leases, and the way to change it.
        clock: monotonic seconds and timers.
        may_wait: checks that one more call may wait on this node; raises RpcError.
    """

    def __init__(self, keeping: Keeping, clock: Clock, may_wait: Callable[[], None]) -> None:
        self.waiters: Waiters[_Call] = Waiters()
        self._keeping = keeping
        self._clock = clock
        self._may_wait = may_wait
        self._granting: set[str] = set()  # locks with an entry under way that grants them to the first in the queue
        self._orphans: dict[str, Lock] = {}  # granted to somebody who was gone by then

    def acquire(self, operation: LockOperation, wait_s: float, waited_s: float) -> Deferred[AcquireLockResponse]:
        """Get a lock, or be told who has it. Raises RpcError when there is no room for the request.

        Args:
            operation: of kind ACQUIRE.
            wait_s: how long the call may wait.
            waited_s: how long its caller has waited before.
        """
        keeping, name = self._keeping, operation.key
        call = _Call(operation, wait_s, waited_s, self._clock.seconds())
        held = keeping.table.locks.get(name)
        if held is not None and not operation.force and keeping.settled((LOCKS, name)):
            if held.client_id != operation.client_id:
                self._occupied(call, held)
                return call.answer
            if held.lease_ms == operation.lease_ms and keeping.renewable(name):  # a retry: its first answer was lost
                keeping.renewed((LOCKS, name))
                self._orphans.pop(name, None)
                call.succeed(self._acquired(call, held))
                return call.answer
        if wait_s and not operation.force and self.waiters.count(name):
            self._occupied(call, held)
            return call.answer
        keeping.check_room(operation)
        keeping.change((LOCKS, name), operation, partial(self._tried, call))
        return call.answer

    def about_to_be_free(self, name: str) -> None:
        """An operation has been offered that frees a lock: the first in its queue comes right behind it."""
        first = self.waiters.first(name)
        if first is not None and name not in self._granting:
            self._granting.add(name)
            first.proposed = True
            grant = grant_operation(name, first.client_id, first.lease_ms)
            self._keeping.change((LOCKS, name), grant, partial(self._granted, first))

    def changed(self, name: str) -> None:
        """A lock has changed: if it is free, it is somebody's turn."""
        held = self._keeping.table.locks.get(name)
        orphan = self._orphans.get(name)
        if orphan is not None and (held is None or held.version != orphan.version):
            del self._orphans[name]
        if held is None:
            self.about_to_be_free(name)

    def abandon(self, refuse: Callable[[], RpcError]) -> None:
        """Mastership is gone: whoever waits has to ask the next master, who asks how long they have waited."""
        self._granting.clear()
        self._orphans.clear()
        for waiter in self.waiters.clear():
            if waiter.call is not None:
                waiter.call.fail(refuse())

    # ---- outcomes -------------------------------------------------------------------------------

    def _tried(self, call: _Call, result: Result) -> None:
        """An entry asked for the lock on behalf of a call that did not stand in the queue."""
        name = call.operation.key
        if isinstance(result, RpcError):
            call.fail(result)
        elif isinstance(result.record, Lock) and result.status is Status.OK:
            self._hand_over(call, name, result.record)
        elif result.status is Status.VERSION_MISMATCH:
            call.fail(mismatch((LOCKS, name), result.record))
        elif not call.gone:
            try:
                self._occupied(call, result.record)
            except RpcError as error:
                call.fail(error)
        self._give_back(name)

    def _granted(self, waiter: Waiter[_Call], result: Result) -> None:
        """An entry asked for the lock on behalf of the first in the queue."""
        name, call = waiter.key, waiter.call
        self._granting.discard(name)
        waiter.proposed = False
        if isinstance(result, RpcError):
            self.waiters.leave(waiter)
            if call is not None:
                call.fail(result)
        elif isinstance(result.record, Lock) and result.status is Status.OK:
            self.waiters.leave(waiter)
            self._hand_over(call, name, result.record)
        elif call is None or call.over:
            self.waiters.leave(waiter)
            if call is not None:
                call.succeed(self._not_acquired(name, result.record))
        self._give_back(name)
        self.changed(name)

    def _hand_over(self, call: _Call | None, name: str, lock: Lock) -> None:
        if call is None or call.gone:
            # Only what this very entry has granted: if he had the lock before, another call of his was told so.
            if lock.stamp == lock.version:
                self._orphans[name] = lock
            return
        self._orphans.pop(name, None)
        if self._keeping.serving():
            call.succeed(self._acquired(call, lock))
        else:
            # Another node may be master, and count this lease from an earlier moment than the one we see it at.
            call.fail(RpcError(Status.UNAVAILABLE, f"lock {name!r}: {_SINCE_WHEN}"))

    def _give_back(self, name: str) -> None:
        """Release what was granted to somebody who is gone, so that others need not wait for the end of his lease.

        Only when nothing is under way for the lock: he may have called again, under the same client_id, and then has
        the lock by the entry that comes. Whoever calls after the release has been proposed is behind it in the log.
        """
        lock = self._orphans.get(name)
        if lock is None or not self._keeping.settled((LOCKS, name)):
            return
        del self._orphans[name]
        release = release_of(name, lock.client_id, lock.version)
        self._keeping.change((LOCKS, name), release, _no_matter)
        self.about_to_be_free(name)

    # ---- waiting --------------------------------------------------------------------------------

    def _occupied(self, call: _Call, held: Record | None) -> None:
        """Another client holds the lock, or comes first: wait or go away. Raises RpcError when no more may wait."""
        operation, name = call.operation, call.operation.key
        if operation.HasField("expected_version") and held is not None and operation.expected_version != held.version:
            raise mismatch((LOCKS, name), held)
        waiter = self.waiters.find(name, operation.client_id)
        left = call.wait_s - (self._clock.seconds() - call.arrived)
        if left <= 0:
            call.succeed(self._not_acquired(name, held))
            return
        if waiter is not None:
            # The same acquisition has called again: the earlier call is lost, or superfluous.
            earlier, waiter.call = waiter.call, call
            waiter.lease_ms = operation.lease_ms
            if earlier is not None:
                earlier.succeed(self._not_acquired(name, held))
        else:
            self._may_wait()
            waiter = self.waiters.join(name, operation.client_id, operation.lease_ms, call.since, call)
        call.timer = self._clock.callLater(left, self._time_over, waiter, call)
        call.on_gone = partial(self._caller_gone, waiter, call)
        self.changed(name)

    def _time_over(self, waiter: Waiter[_Call], call: _Call) -> None:
        call.over = True
        if waiter.call is call and not waiter.proposed:
            self.waiters.leave(waiter)
            call.succeed(self._not_acquired(waiter.key, self._keeping.table.locks.get(waiter.key)))

    def _caller_gone(self, waiter: Waiter[_Call], call: _Call) -> None:
        if waiter.call is not call:
            return
        waiter.call = None
        if not waiter.proposed:
            self.waiters.leave(waiter)

    # ---- answers --------------------------------------------------------------------------------

    def _acquired(self, call: _Call, lock: Lock) -> AcquireLockResponse:
        keeping, name = self._keeping, call.operation.key
        # Rounded down, and never later than the lease really began: the caller counts on it.
        begun = keeping.leases.begun((LOCKS, name))
        waited = 0.0 if begun is None else max(0.0, begun - call.arrived)
        return AcquireLockResponse(
            acquired=True,
            lock_info=keeping.lock_info(name, lock, self.waiters.count(name)),
            waited_ms=int(waited * 1000),
        )

    def _not_acquired(self, name: str, held: Record | None) -> AcquireLockResponse:
        """Not acquired, and who holds it: unless our table may be out of date, because another node may be master."""
        response = AcquireLockResponse(acquired=False)
        if isinstance(held, Lock) and self._keeping.serving():
            response.lock_info.CopyFrom(self._keeping.lock_info(name, held, self.waiters.count(name)))
        return response


def _no_matter(result: Result) -> None:
    """Whether giving back succeeded: if not, the lease ends it."""
