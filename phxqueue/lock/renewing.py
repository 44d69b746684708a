"""RenewLock and RenewLocks: leases that run their full length again.

As long as nothing about a lock is under way its renewal needs no entry, and is answered at once. Else, and when the
lock is noted as silent, it goes through the log, behind what is under way (keeping.py says why); all of one call that
have to are offered together, and share an entry. Who renews many locks at once is not kept waiting for these: what is
not known in time is told as unknown, and the next renewal asks again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred

from phxqueue.config.settings import LockLimits
from phxqueue.lock.keeping import Keeping, failure_of, mismatch, not_found
from phxqueue.lock.operations import check_key, invalid, renew_operation
from phxqueue.lock.placement import paxos_group
from phxqueue.lock.proposals import Result
from phxqueue.lock.records import LOCKS, Lock, Record, TableKey
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.lock_pb2 import (
    LockOperation,
    LockRenewal,
    RenewLockRequest,
    RenewLockResponse,
    RenewLocksRequest,
    RenewLocksResponse,
)
from phxqueue.replica.interfaces import Clock

#: The answer to many renewals waits for the log for this part of the shortest lease among those that need it ...
_WAIT_PART = 0.05
#: ... and for this many seconds at most.
_WAIT_MOST_S = 1.0


class _Batch:
    """The renewals of one call that have not been answered yet because the log decides them."""

    def __init__(self, response: RenewLocksResponse, clock: Clock) -> None:
        self._response = response
        self._clock = clock
        self._unknown: set[int] = set()
        self._answer: Deferred[RenewLocksResponse] | None = None
        self._timer: Any = None
        self._wait_s = _WAIT_MOST_S

    def expect(self, number: int, operation: LockOperation) -> Callable[[Result], None]:
        """One more that the log decides; returns what is to be told of it."""
        self._unknown.add(number)
        if operation.lease_ms:
            self._wait_s = min(self._wait_s, operation.lease_ms / 1000 * _WAIT_PART)
        return partial(self._decided, number, operation.key)

    def answer(self) -> RenewLocksResponse | Deferred[RenewLocksResponse]:
        """The answer: now, when all is known or the time is over."""
        if not self._unknown:
            return self._response
        self._answer = Deferred(lambda _: self._end())
        self._timer = self._clock.callLater(self._wait_s, self._give_up)
        return self._answer

    def _decided(self, number: int, name: str, result: Result) -> None:
        if number not in self._unknown:
            return
        self._unknown.discard(number)
        renewal = self._response.renewals[number]
        if isinstance(result, RpcError):
            tell(renewal, result)
        elif result.status is not Status.OK:
            tell(renewal, failure_of((LOCKS, name), result.status, result.record))
        if not self._unknown:
            self._finish()

    def _give_up(self) -> None:
        late = RpcError(Status.DEADLINE_EXCEEDED, "an operation on this lock is under way, and not decided yet")
        for number in self._unknown:
            tell(self._response.renewals[number], late)
        self._unknown.clear()
        self._finish()

    def _finish(self) -> None:
        answer = self._answer
        if answer is not None:
            self._end()
            answer.callback(self._response)

    def _end(self) -> None:
        """Answered, or nobody wants the answer any more."""
        self._answer = None
        self._unknown.clear()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None


def tell(renewal: LockRenewal, error: RpcError) -> None:
    """Say why a lease does not begin again."""
    renewal.status = error.status
    renewal.message = error.message
    renewal.retry_after_ms = error.retry_after_ms


class Renewing:
    """The renewals of one Paxos group.

    Args:
        group_id: its number, of `paxos_groups`.
        check_place: refuses a key that this lock group does not serve now; raises RpcError.
        check_proposing: refuses when this node is not master; raises RpcError.
        waiters: how many wait for a lock.
    """

    def __init__(
        self,
        keeping: Keeping,
        clock: Clock,
        limits: LockLimits,
        group_id: int,
        paxos_groups: int,
        *,
        check_place: Callable[[TableKey], None],
        check_proposing: Callable[[], None],
        waiters: Callable[[str], int],
    ) -> None:
        self._keeping = keeping
        self._clock = clock
        self._limits = limits
        self._group_id = group_id
        self._paxos_groups = paxos_groups
        self._check_place = check_place
        self._check_proposing = check_proposing
        self._waiters = waiters

    def one(self, request: RenewLockRequest) -> RenewLockResponse | Deferred[RenewLockResponse]:
        """Renew one lock. Raises RpcError; or the Deferred fails with it."""
        operation = renew_operation(request, self._limits)
        self._check_proposing()
        held = self._at_once(operation)
        if held is not None:
            return self._renewed(operation.key, held)
        answer: Deferred[RenewLockResponse] = Deferred()
        self._offer(operation, partial(self._answer, operation.key, answer))
        return answer

    def many(self, request: RenewLocksRequest) -> RenewLocksResponse | Deferred[RenewLocksResponse]:
        """Renew many locks; each has its own outcome. Raises RpcError when none of them can be looked at."""
        wanted = request.renewals
        if len(wanted) > self._limits.renew_keys:
            raise invalid(f"renewals: {len(wanted)}, more than limits.renew_keys {self._limits.renew_keys}")
        self._check_proposing()
        response = RenewLocksResponse()
        batch = _Batch(response, self._clock)
        for number, renewal in enumerate(wanted):
            outcome = response.renewals.add()
            try:
                self._check_key(renewal.lock_key)
                operation = renew_operation(renewal, self._limits)
                if self._at_once(operation) is None:
                    self._offer(operation, batch.expect(number, operation))
            except RpcError as error:
                tell(outcome, error)
        return batch.answer()

    def _check_key(self, name: str) -> None:
        check_key("lock_key", name, self._limits)
        group_id = paxos_group(name, self._paxos_groups)
        if group_id != self._group_id:
            raise invalid(f"lock_key: {name!r} belongs to Paxos group {group_id}, not to {self._group_id}")
        self._check_place((LOCKS, name))

    def _at_once(self, operation: LockOperation) -> Lock | None:
        """Renew without an entry; None: that is not possible. Raises RpcError when it is not the caller's lock."""
        key = (LOCKS, operation.key)
        if not self._keeping.settled(key):
            return None
        held = own(self._keeping.table.record(key), key, operation)
        if held.lease_ms != operation.lease_ms or not self._keeping.renewable(operation.key):
            return None
        self._keeping.renewed(key)
        return held

    def _offer(self, operation: LockOperation, done: Callable[[Result], None]) -> None:
        self._keeping.check_room(operation)
        self._keeping.change((LOCKS, operation.key), operation, done)

    def _renewed(self, name: str, held: Record | None) -> RenewLockResponse:
        assert isinstance(held, Lock)
        return RenewLockResponse(lock_info=self._keeping.lock_info(name, held, self._waiters(name)))

    def _answer(self, name: str, answer: Deferred[RenewLockResponse], result: Result) -> None:
        if isinstance(result, RpcError):
            answer.errback(result)
        elif result.status is Status.OK:
            answer.callback(self._renewed(name, result.record))
        else:
            answer.errback(failure_of((LOCKS, name), result.status, result.record))


def own(held: Record | None, key: TableKey, operation: LockOperation) -> Lock:
    """The lock as its holder has it. Raises RpcError when the caller is not he."""
    if held is None:
        raise not_found(key)
    assert isinstance(held, Lock)
    if held.version != operation.expected_version or held.client_id != operation.client_id:
        raise mismatch(key, held)
    return held
