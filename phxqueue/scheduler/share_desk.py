"""Answers who asks for parts of speed limits: each call waits until there is something to tell.

What a consumer is told holds for a lease. One that is not heard for that long does by itself what it may without us,
so its part is handed on; one whose connection breaks has `GONE_S` to ask again.

A new master does not know what its predecessor has handed out. For one lease it hands out nothing (unless every
consumer has asked before): by then everybody has said what it keeps to, or keeps to it no more.
"""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from phxqueue.net.status import RpcError, Status
from phxqueue.proto.scheduler_pb2 import LimitDemand, ShareRequest, ShareResponse
from phxqueue.scheduler.shares import Demand, ShareBook

#: How long somebody whose call broke off is waited for.
GONE_S = 0.5
#: Askers are to leave at least so much time between two calls: altogether, and each.
PACE_PER_ASKER_S, LEAST_PACE_S = 0.001, 0.05
#: What is asked within this part of the pace is decided together.
SETTLE_PART = 0.1

LimitKey = tuple[int, int, int, int]
"""(pub_id, consumer_group_id, handle_id, queue_info_id)"""


class _Asker:
    """One consumer: until when it is remembered, and its call that waits."""

    def __init__(self) -> None:
        self.until = 0.0
        self.limits: tuple[LimitKey, ...] = ()
        self.waiting: Deferred[ShareResponse] | None = None
        self.give_up_at = 0.0  # when what waits is answered in any case


class ShareDesk:
    """The speed limits of one topic, during one mastership.

    Args:
        clock: the reactor.
        lease_s: how long an answer holds.
        most_limits: in one call; more are refused.
        consumers: how many there are at most.
    """

    def __init__(self, clock: IReactorTime, lease_s: float, most_limits: int, consumers: int) -> None:
        self.consumers = consumers
        self._clock = clock
        self._lease_s = lease_s
        self._most_limits = most_limits
        self._books: dict[LimitKey, ShareBook] = {}
        self._askers: dict[str, _Asker] = {}
        self._hold_until = clock.seconds() + lease_s
        self._timer: IDelayedCall | None = None
        self._timer_at = 0.0

    def ask(self, request: ShareRequest) -> Deferred[ShareResponse]:
        """A consumer asks. Raises RpcError (INVALID_ARGUMENT): too many limits."""
        if len(request.demands) > self._most_limits:
            raise RpcError(
                Status.INVALID_ARGUMENT,
                f"demands: {len(request.demands)} speed limits; allowed: {self._most_limits} "
                "(scheduler_share_limits in topicconfig.conf)",
            )
        now, name = self._clock.seconds(), request.consumer
        asker = self._askers.setdefault(name, _Asker())
        self._answer(name, asker)  # a newer call takes the place of one that waits
        limits = {_key(demand): demand for demand in request.demands}
        for key in set(asker.limits) - limits.keys():
            self._forget(key, name)
        for key, demand in limits.items():
            book = self._books.setdefault(key, ShareBook())
            book.ask(name, Demand(demand.wanted, demand.weight), demand.keeps)
        asker.limits = tuple(limits)
        asker.until = now + self._lease_s
        decided_at = now + SETTLE_PART * self.pace_s
        asker.give_up_at = max(now + min(request.wait_ms / 1000, self._lease_s / 2), decided_at)
        waiting = asker.waiting = Deferred(lambda _: self._broke_off(name, asker))
        self._look_at(decided_at)
        return waiting

    def close(self) -> None:
        """Mastership is over: who waits asks elsewhere."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        for asker in self._askers.values():
            waiting, asker.waiting = asker.waiting, None
            if waiting is not None:
                waiting.errback(RpcError(Status.NOT_MASTER, "this scheduler is the master no more"))
        self._askers.clear()
        self._books.clear()

    @property
    def pace_s(self) -> float:
        """How often everybody may ask."""
        return max(LEAST_PACE_S, PACE_PER_ASKER_S * len(self._askers))

    def shares(self) -> Mapping[LimitKey, Mapping[str, float]]:
        """What everybody may be keeping to."""
        return {key: book.kept for key, book in self._books.items()}

    # ---- time --------------------------------------------------------------------------

    def _settle(self) -> None:
        """Decide, tell who has to know, and come back when the next one has waited long enough."""
        self._timer = None
        now = self._clock.seconds()
        for name in [name for name, asker in self._askers.items() if asker.until <= now]:
            self._drop(name)
        hand_out = now >= self._hold_until or len(self._askers) >= self.consumers
        for book in self._books.values():
            book.settle(hand_out=hand_out)
        for name, asker in list(self._askers.items()):
            due = asker.give_up_at <= now + 1e-6
            if asker.waiting is not None and (due or any(self._books[key].news(name) for key in asker.limits)):
                self._answer(name, asker)
        if self._askers:
            soonest = min(
                asker.give_up_at if asker.waiting is not None else asker.until for asker in self._askers.values()
            )
            self._look_at(min(soonest, self._hold_until) if now < self._hold_until else soonest)

    def _answer(self, name: str, asker: _Asker) -> None:
        waiting, asker.waiting = asker.waiting, None
        if waiting is None:
            return
        asker.until = self._clock.seconds() + self._lease_s
        response = ShareResponse(lease_ms=int(self._lease_s * 1000), pace_ms=int(self.pace_s * 1000))
        for key in asker.limits:
            pub_id, group_id, handle_id, info_id = key
            response.shares.add(
                pub_id=pub_id, consumer_group_id=group_id, handle_id=handle_id, queue_info_id=info_id,
                share=self._books[key].answer(name),
            )  # fmt: skip
        waiting.callback(response)

    def _broke_off(self, name: str, asker: _Asker) -> None:
        """The call of a consumer is gone: it asks again at once, or has died."""
        asker.waiting = None
        asker.until = min(asker.until, self._clock.seconds() + GONE_S)
        self._look_at(asker.until)

    def _drop(self, name: str) -> None:
        asker = self._askers.pop(name)
        for key in asker.limits:
            self._forget(key, name)
        if asker.waiting is not None:  # its lease is over, so it waits no more either
            waiting, asker.waiting = asker.waiting, None
            waiting.errback(RpcError(Status.UNAVAILABLE, "this call has waited too long; ask again"))

    def _forget(self, key: LimitKey, name: str) -> None:
        book = self._books[key]
        book.forget(name)
        if not len(book):
            del self._books[key]

    def _look_at(self, when: float) -> None:
        if self._timer is not None and self._timer.active():
            if self._timer_at <= when:
                return
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._clock.callLater(max(when - self._clock.seconds(), 0.0), self._settle)


def _key(demand: LimitDemand) -> LimitKey:
    return demand.pub_id, demand.consumer_group_id, demand.handle_id, demand.queue_info_id
