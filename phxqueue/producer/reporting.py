"""Reports to the stores' ledgers what they confirmed: every now and then, and at the end.

One report per Paxos group is under way at a time. One that has no answer is sent again with the next turn, under its
number: it counts once. Nothing waits for reports but close(). Batches that were sent are vouched for as soon as all of
them have an outcome, so a report may have no rows: what it says then is that nothing was confirmed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred, DeferredList, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from phxqueue.net.routing import Route
from phxqueue.net.status import Retry, RpcError
from phxqueue.producer.confirmed import Confirmed, Known
from phxqueue.proto.item_pb2 import BatchHeader
from phxqueue.proto.ledger_pb2 import ReportProducedRequest
from phxqueue.proto.methods import REPORT_PRODUCED
from phxqueue.proto.store_pb2 import AddResult

Lane = tuple[int, int]
"""(store id, Paxos group)"""

#: Longest a report is tried before the next turn, in seconds.
DEADLINE_S = 10.0
#: The same at the end.
CLOSING_S = 2.0


class Caller(Protocol):
    """What is needed of net.routing.MasterClient."""

    def call(
        self, route: Route, method: Any, request: Any, deadline_s: float, *, try_timeout_s: float | None = None
    ) -> Deferred[Any]:
        """Call the master of the route."""


class Reporter:
    """Of one producer.

    Args:
        route: whom to ask about a lane; raises UnknownIdError when the configuration no longer has it.
        interval_s: time between reports; 0: never.
        most_rows: see Confirmed.
        known: what a lane knows of the batches it has sent; None: nothing is vouched for.
    """

    log = Logger()

    def __init__(
        self,
        caller: Caller,
        clock: IReactorTime,
        route: Callable[[int, int], Route],
        *,
        topic_id: int,
        producer_id: int,
        interval_s: float,
        most_rows: int,
        known: Callable[[Lane], Known] | None = None,
    ) -> None:
        self._caller = caller
        self._clock = clock
        self._route = route
        self._topic_id = topic_id
        self._producer_id = producer_id
        self._interval_s = interval_s
        self._most_rows = most_rows
        self._known = known or (lambda lane: Known())
        self._lanes: dict[Lane, Confirmed] = {}
        self._calls: dict[Lane, Deferred[Any]] = {}
        self._timer: IDelayedCall | None = None
        self._closed = False

    def confirmed(self, lane: Lane, header: BatchHeader, result: AddResult) -> None:
        """A batch is stored, as its store has just said; one without a time is in no ledger."""
        if not result.timestamp_ms or not self._interval_s or self._closed:
            return
        sums = self._lanes.get(lane)
        if sums is None:
            sums = self._lanes[lane] = Confirmed(self._producer_id, self._most_rows)
        sums.add(header, result.timestamp_ms, duplicate=result.duplicate)
        self.sent(lane)

    def sent(self, lane: Lane) -> None:
        """Batches have left, which are to be vouched for once this lane is known to have a ledger."""
        if self._timer is None and lane in self._lanes and not self._closed:
            self._timer = self._clock.callLater(self._interval_s, self._turn)

    @property
    def given_up(self) -> int:
        """Items that were confirmed and will never be reported."""
        return sum(sums.given_up for sums in self._lanes.values())

    def close(self, timeout_s: float = CLOSING_S) -> Deferred[None]:
        """Report what is left; fires when that is done, or the time is over. It does not fail."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._closed = True
        for call in list(self._calls.values()):
            call.cancel()
        calls = [self._send(lane, sums, timeout_s) for lane, sums in self._lanes.items()]
        done = DeferredList(calls) if calls else succeed(None)
        return done.addCallback(lambda _: None)

    def _turn(self) -> None:
        self._timer = None
        for lane, sums in self._lanes.items():
            if lane not in self._calls:
                self._send(lane, sums, DEADLINE_S)
        if any(not sums.is_empty(self._known(lane)) for lane, sums in self._lanes.items()):
            self._timer = self._clock.callLater(self._interval_s, self._turn)

    def _send(self, lane: Lane, sums: Confirmed, deadline_s: float) -> Deferred[None]:
        report = sums.report(self._known(lane))
        if report is None:
            return succeed(None)
        store_id, group = lane
        request = ReportProducedRequest(topic_id=self._topic_id, store_id=store_id, group_id=group, report=report)
        try:
            route = self._route(store_id, group)
        except LookupError:  # the store has left the configuration
            sums.give_up()
            return succeed(None)
        call = self._calls[lane] = self._caller.call(route, REPORT_PRODUCED, request, deadline_s)
        return call.addBoth(self._answered, lane, sums)

    def _answered(self, result: Any, lane: Lane, sums: Confirmed) -> None:
        self._calls.pop(lane, None)
        if not isinstance(result, Failure):
            sums.settled()
            return
        error = result.value
        if isinstance(error, RpcError) and error.status.retry is Retry.NEVER:
            sums.give_up()
            self.log.error("store {store} refuses what was confirmed by it: {error}", store=lane[0], error=error)
        elif not isinstance(error, RpcError | CancelledError):
            sums.give_up()
            self.log.failure("reporting to store {store} failed in an unexpected way", result, store=lane[0])
