"""Renewals of many locks in one call.

What is asked for in one turn of the reactor, of one Paxos group and with one length of the lease, travels together.
Each renewal has an outcome of its own. A node that does not know such calls yet (a rolling upgrade) is asked for one
lock at a time, and tried again later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from phxqueue.lock.client.calls import Calls
from phxqueue.lock.client.routes import Place
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.lock_pb2 import LockRenewal, RenewLockRequest, RenewLocksRequest, RenewLocksResponse
from phxqueue.proto.methods import RENEW_LOCK, RENEW_LOCKS

#: A lock group that knows no common renewals is tried again after so many seconds.
_TRY_AGAIN_S = 60.0


@dataclass(frozen=True, slots=True)
class _Wish:
    """One renewal that is asked for. Times in seconds, as those of `Calls.repeat`."""

    request: RenewLockRequest
    deadline_s: float
    try_s: float | None
    outcome: Deferred[None]


class Renewals:
    """The renewals of one client."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._wishes: dict[tuple[Place, int], list[_Wish]] = {}
        self._one_by_one: dict[Place, float] = {}  # until when

    def renew(self, place: Place, request: RenewLockRequest, deadline_s: float, try_s: float | None) -> Deferred[None]:
        """Let a lease begin again. Fails with RpcError.

        Args:
            deadline_s: longest it may take; that of others in the same call may be longer.
            try_s: longest that one node may take.
        """
        outcome: Deferred[None] = Deferred()
        if not self._wishes:
            self._calls.clock.callLater(0, self._send_all)
        wish = _Wish(request, deadline_s, try_s, outcome)
        self._wishes.setdefault((place, request.lease_time_ms), []).append(wish)
        return outcome

    def _send_all(self) -> None:
        """The turn is over."""
        most = self._calls.settings.renew_locks
        wishes, self._wishes = self._wishes, {}
        for (place, _), alike in wishes.items():
            for begin in range(0, len(alike), most):
                self._send(place, alike[begin : begin + most])

    def _send(self, place: Place, wishes: list[_Wish]) -> None:
        if len(wishes) == 1 or self._one_by_one.get(place, 0.0) > self._calls.clock.seconds():
            self._send_singly(place, wishes)
            return
        request = RenewLocksRequest(
            topic_id=place.topic_id,
            lock_id=place.lock_id,
            paxos_group=place.group,
            renewals=[wish.request for wish in wishes],
        )
        deadline_s = max(wish.deadline_s for wish in wishes)
        answer = self._calls.repeat(place, RENEW_LOCKS, request, deadline_s, try_timeout_s=wishes[0].try_s)
        answer.addCallbacks(self._answered, self._failed, callbackArgs=(wishes,), errbackArgs=(place, wishes))

    def _send_singly(self, place: Place, wishes: list[_Wish]) -> None:
        for wish in wishes:
            answer = self._calls.repeat(place, RENEW_LOCK, wish.request, wish.deadline_s, try_timeout_s=wish.try_s)
            answer.addCallback(_nothing)
            answer.addBoth(wish.outcome.callback)

    def _answered(self, response: RenewLocksResponse, wishes: list[_Wish]) -> None:
        for number, wish in enumerate(wishes):
            if number >= len(response.renewals):
                text = f"of {len(wishes)} renewals only {len(response.renewals)} were answered"
                wish.outcome.errback(RpcError(Status.INTERNAL, text))
                continue
            error = _error(response.renewals[number])
            if error is None:
                wish.outcome.callback(None)
            else:
                wish.outcome.errback(error)

    def _failed(self, failure: Failure, place: Place, wishes: list[_Wish]) -> None:
        error = failure.value
        if isinstance(error, RpcError) and error.status is Status.INVALID_ARGUMENT and not error.maybe_executed:
            # It knows no such call, or takes fewer at once; whatever else it may mean, each of them will be told.
            self._one_by_one[place] = self._calls.clock.seconds() + _TRY_AGAIN_S
            self._send_singly(place, wishes)
            return
        for wish in wishes:
            wish.outcome.errback(failure)


def _nothing(answer: Any) -> None:
    """What is in the answer does not matter."""


def _error(renewal: LockRenewal) -> RpcError | None:
    if not renewal.status:
        return None
    status = Status.from_wire(renewal.status)
    return RpcError(status, renewal.message, retry_after_ms=renewal.retry_after_ms)
