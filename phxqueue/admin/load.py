"""Generates load and measures it: used by ``phxqueue bench producer`` and by ``make bench``."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from phxqueue.admin.histogram import Histogram
from phxqueue.producer.errors import EnqueueError

if TYPE_CHECKING:
    from phxqueue.producer import NewItem, Receipt, Receipts

#: A slot whose enqueue failed waits so long before its next one, or refusals would be all that is measured.
PAUSE_AFTER_FAILURE_S = 0.05
#: A slot whose enqueue was answered within the call (nothing was sent) goes on after so long.
IMMEDIATE_S = 0.001


class Target(Protocol):
    """The part of a Producer that is used here."""

    def enqueue(self, pub_id: int, handle_id: int, buffer: bytes, uin: int = 0) -> Deferred[Receipt]: ...

    def enqueue_many(self, items: list[NewItem]) -> Deferred[Receipts]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """What to send.

    Attributes:
        in_flight: enqueues each connection keeps on their way.
        qps: items a second in all, with Poisson arrivals; 0: as fast as the slots allow.
        batch: items of one enqueue_many; 1: plain enqueue.
        make_buffer: makes the message that is sent now.
        make_uin: makes its ordering key.
    """

    in_flight: int
    make_buffer: Callable[[], bytes]
    make_uin: Callable[[], int] = lambda: 0
    qps: float = 0.0
    batch: int = 1
    pub_id: int = 1
    handle_id: int = 1


@dataclass
class LoadResult:
    """What came of it; counts are items, latencies those of single enqueues (or whole batches)."""

    started: float = 0.0
    ended: float = 0.0
    statuses: Counter[str] = field(default_factory=Counter)
    latencies: Histogram = field(default_factory=Histogram)
    first_error: str = ""

    @property
    def seconds(self) -> float:
        return self.ended - self.started

    @property
    def confirmed(self) -> int:
        return self.statuses["OK"]

    @property
    def rate(self) -> float:
        """Confirmed items a second."""
        return self.confirmed / self.seconds if self.seconds > 0 else 0.0


class Load:
    """Drives producers for a while. `on_confirmed(count)` is told of every success."""

    def __init__(
        self,
        reactor: Any,
        producers: Sequence[Target],
        plan: LoadPlan,
        *,
        rng: random.Random | None = None,
        on_confirmed: Callable[[int], None] | None = None,
    ) -> None:
        self.result = LoadResult()
        self.in_flight = 0
        self._reactor = reactor
        self._plan = plan
        self._random = rng or random.Random()
        self._on_confirmed = on_confirmed
        self._free: list[Target] = [producer for producer in producers for _ in range(plan.in_flight)]
        self._paused = 0
        self._due = 0.0  # when the next arrival is, with a qps
        self._timer: Any = None
        self._stopping = False
        self._sending = False
        self._drained: Deferred[None] = Deferred()

    def start(self) -> None:
        """Begin to send."""
        self.result.started = self.result.ended = self._due = self._reactor.seconds()
        self._fill()

    def stop(self) -> Deferred[None]:
        """Send nothing more; fires when everything on its way has an outcome."""
        if not self._stopping:
            self._stopping = True
            self.result.ended = self._reactor.seconds()
            if self._timer is not None and self._timer.active():
                self._timer.cancel()
            self._check_drained()
        return self._drained

    async def run(self, duration_s: float) -> LoadResult:
        """Send for so long and return what came of it; when cancelled, what there is is in `result`."""
        self.start()
        pause: Deferred[None] = Deferred()
        timer = self._reactor.callLater(duration_s, pause.callback, None)
        try:
            await pause
        finally:
            if timer.active():
                timer.cancel()
            await self.stop()
        return self.result

    def _fill(self) -> None:
        """Use the free slots, as far as something is due."""
        if self._stopping:
            return
        if not self._plan.qps:
            for _ in range(len(self._free)):
                self._send(self._free.pop(), self._reactor.seconds())
            return
        now = self._reactor.seconds()
        while self._free and self._due <= now:
            # An arrival that found no free slot was due earlier: its wait is part of its latency.
            self._send(self._free.pop(), self._due)
            self._due += self._random.expovariate(self._plan.qps / self._plan.batch)
        if self._free:
            self._fill_later(max(self._due - now, 0.0))

    def _fill_later(self, delay: float) -> None:
        if self._timer is None or not self._timer.active():
            self._timer = self._reactor.callLater(delay, self._fill)

    def _send(self, producer: Target, due: float) -> None:
        plan = self._plan
        self.in_flight += plan.batch
        self._sending = True
        if plan.batch == 1:
            sent: Deferred[Any] = producer.enqueue(plan.pub_id, plan.handle_id, plan.make_buffer(), plan.make_uin())
            sent.addCallbacks(self._stored, self._failed, callbackArgs=(producer, due), errbackArgs=(producer,))
        else:
            sent = producer.enqueue_many(self._batch())
            sent.addCallbacks(self._stored_many, self._failed, callbackArgs=(producer, due), errbackArgs=(producer,))
        self._sending = False

    def _batch(self) -> list[NewItem]:
        from phxqueue.producer import NewItem

        plan = self._plan
        return [NewItem(plan.pub_id, plan.handle_id, plan.make_buffer(), plan.make_uin()) for _ in range(plan.batch)]

    def _stored(self, _: Receipt, producer: Target, due: float) -> None:
        self.result.latencies.record(self._reactor.seconds() - due)
        self._count_confirmed(1)
        self._released(producer)

    def _stored_many(self, receipts: Receipts, producer: Target, due: float) -> None:
        self.result.latencies.record(self._reactor.seconds() - due)
        if receipts.all_stored:
            self._count_confirmed(self._plan.batch)
            self._released(producer)
            return
        errors = receipts.errors
        self._count_confirmed(self._plan.batch - len(errors))
        for _, error in errors:
            self._count_error(error, 1)
        self._pause(producer)

    def _failed(self, failure: Failure, producer: Target) -> None:
        self._count_error(failure.value or RuntimeError("unknown"), self._plan.batch)
        self._pause(producer)

    def _count_confirmed(self, count: int) -> None:
        if not self._stopping:  # the rate is over the time of sending
            self.result.statuses["OK"] += count
        if self._on_confirmed is not None:
            self._on_confirmed(count)

    def _count_error(self, error: BaseException, count: int) -> None:
        name = error.status.name if isinstance(error, EnqueueError) else type(error).__name__
        self.result.statuses[name] += count
        self.result.first_error = self.result.first_error or str(error)

    def _pause(self, producer: Target) -> None:
        self.in_flight -= self._plan.batch
        if self._stopping:
            self._check_drained()
            return
        self._paused += 1
        self._reactor.callLater(PAUSE_AFTER_FAILURE_S, self._resume, producer)

    def _resume(self, producer: Target) -> None:
        self._paused -= 1
        self._free.append(producer)
        if self._stopping:
            self._check_drained()
        else:
            self._fill()

    def _released(self, producer: Target) -> None:
        self.in_flight -= self._plan.batch
        self._free.append(producer)
        if self._stopping:
            self._check_drained()
        elif self._sending:
            # Answered within the call itself (a queue_info with drop_all): sending on from here would never return.
            self._fill_later(IMMEDIATE_S)
        elif self._plan.qps:
            self._fill()
        else:
            self._send(self._free.pop(), self._reactor.seconds())

    def _check_drained(self) -> None:
        if not self.in_flight and not self._paused and not self._drained.called:
            self._drained.callback(None)
