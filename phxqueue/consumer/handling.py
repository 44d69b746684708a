"""Handles the fetched items of one queue: lined up, within the slots of the process, each to a definite end.

An item is *finished* when its handler said OK or IGNORE, or when its next attempt (or its dead letter) is durable.
Until then nothing at or above its cursor is acknowledged, so whatever happens to this process, it comes again. What a
handler does wrong (raise, take too long, return nonsense) costs its item one attempt and is logged; it touches
nothing else. What follows from what handlers say and do: results.py; what follows a failed attempt: next_attempts.py.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from phxqueue.consumer.handlers import Handler, HandlerTimeout, Result
from phxqueue.consumer.items import BatchContext, Context, Item, Place
from phxqueue.consumer.lineup import Gate, Lineup
from phxqueue.consumer.next_attempts import NextAttempts, Ordering
from phxqueue.consumer.results import Results
from phxqueue.consumer.slots import Slot
from phxqueue.consumer.timeouts import Timeouts
from phxqueue.consumer.turns import ORDINARY
from phxqueue.consumer.workshop import Workshop


class Job:
    """A handler at work, on one item or a batch."""

    __slots__ = ("handler", "slots", "waiting")

    def __init__(self, handler: Handler, slots: list[Slot], waiting: Deferred[Any]) -> None:
        self.handler = handler
        self.slots = slots
        self.waiting = waiting


class Handling:
    """The items of one queue that are fetched and not finished.

    Args:
        finished: told of every item when it is finished.
        ordering: how attempts are made in place; None: the group is not ordered.
        gate: what holds back an item (see lineup.Gate); None: nothing.
        kind: of its turns: the queue_info.
    """

    log = Logger()

    def __init__(
        self,
        place: Place,
        workshop: Workshop,
        finished: Callable[[Slot], None],
        *,
        ordering: Ordering | None = None,
        gate: Callable[[Slot], Gate | None] | None = None,
        kind: int = ORDINARY,
    ) -> None:
        self._place = place
        self._kind = kind
        self._workshop = workshop
        self._finished = finished
        self._lineup = Lineup(workshop.batch_items, gate)
        self._next_attempts = NextAttempts(
            place, workshop, ordering, self._attempt_over, self._again, self._check_stopped
        )
        self._results = Results(place, workshop, self._next_attempts, self._finish)
        self._running: dict[Job, None] = {}
        self._timeouts: Timeouts[Job] = Timeouts(workshop.clock, self._timed_out)
        self._pump_call: IDelayedCall | None = None
        self._stopping: Deferred[None] | None = None
        self._stopped = False
        self.furthest = -1
        """The highest cursor of an item that was started."""
        self.store_ahead_ms = workshop.wall() * 1000 - workshop.clock.seconds() * 1000
        """The store's time, Unix milliseconds, less that of our clock."""

    # -- in ------------------------------------------------------------------------------------------

    def add(self, slot: Slot) -> None:
        """Line up; pump() starts what may start."""
        self._lineup.add(slot)

    def end_attempt(self, slot: Slot, why: str) -> None:
        """The attempt of an item that was not added is over, without its handler (unless its group never gives up)."""
        name = slot.name(self._place)
        if self._next_attempts.end_by_crashes(slot, why):
            self.log.error("{item}: {why}; this attempt is over", item=name, why=why)
        else:
            self.log.error("{item}: {why}; it is handled again, for its group never gives up", item=name, why=why)
            self._lineup.add(slot)

    def drop(self, unwanted: Callable[[Slot], bool]) -> list[Slot]:
        """Forget items that have not started; returns them."""
        return self._lineup.drop(unwanted)

    @property
    def holding(self) -> bool:
        """Whether items wait for nothing but a limit on their speed."""
        return self._lineup.holding

    def held_by_gate(self) -> Iterator[tuple[Gate, int]]:
        """How many items each limit holds back; see speed.Waiter."""
        return self._lineup.held_by_gate()

    def pump(self) -> None:
        """Start what may start, for a slice of time."""
        workshop, lineup = self._workshop, self._lineup
        seconds = workshop.clock.seconds
        end = seconds() + workshop.settings.slice_s
        started = 0
        while not self._stopped and lineup.ready() and workshop.slots.take(self, self._kind):
            self._start(lineup.take())
            started += 1
            if not started & 15 and seconds() >= end:
                self._pump_soon()
                return
        if lineup.holding and not self._stopped:
            workshop.speed.wait(self)

    def _pump_soon(self) -> None:
        if self._pump_call is None and not self._stopped:
            self._pump_call = self._workshop.clock.callLater(0, self._pump_now)

    def _pump_now(self) -> None:
        self._pump_call = None
        self.pump()

    # -- at work -------------------------------------------------------------------------------------

    def handle_one(self) -> bool:
        """Handle what comes next, in a slot that was taken for it; see sharing.Handler."""
        if self._stopped or not self._lineup.ready():
            self._workshop.slots.give()
            if self._lineup.holding and not self._stopped:
                self._workshop.speed.wait(self)
            return False
        self._start(self._lineup.take())
        return self._lineup.ready()

    def _start(self, slots: list[Slot]) -> None:
        workshop, first = self._workshop, slots[0]
        furthest = first.cursor
        if len(slots) > 1 or first.expires_at_ms:
            if not (slots := self._sort_out_expired(slots)):
                return
            first = slots[0]
            furthest = max(slot.cursor for slot in slots)
        if furthest > self.furthest:
            self.furthest = furthest
        handler = None if first.unreadable else workshop.handler(first.handle_id)
        if handler is None:
            workshop.slots.give()
            if first.unreadable:
                self._results.unreadable(first)
            else:
                self._results.unknown(first)
            return
        timeout_s = handler.timeout_s or workshop.settings.handler_timeout_s
        try:
            outcome = self._call(handler, first, slots, workshop.clock.seconds() + timeout_s)
        except (Exception, SystemExit):
            self._leave_work(handler, slots)
            self._results.raised(slots, Failure())
            return
        if outcome.__class__ is Result and not handler.batch_items:  # most of them, so the shortest way
            workshop.slots.give()
            self._results.one(first, outcome)
        elif not inspect.isawaitable(outcome):
            self._leave_work(handler, slots)
            self._results.returned(handler, slots, outcome)
        else:
            self._wait(handler, slots, outcome, timeout_s)

    def _sort_out_expired(self, slots: list[Slot]) -> list[Slot]:
        """Return what of a batch (or a single item) may still be handled; the rest has its end."""
        now_ms = self._workshop.clock.seconds() * 1000 + self.store_ahead_ms
        late = [slot for slot in slots if 0 < slot.expires_at_ms <= now_ms]
        left = [slot for slot in slots if slot not in late]
        if not left:
            self._leave_work(self._workshop.handler(slots[0].message.meta.handle_id), slots)
        for slot in late:
            self.furthest = max(self.furthest, slot.cursor)
            self._next_attempts.expire(slot, f"it expired at {_utc(slot.message.meta.expires_at_ms)}")
        return left

    def _call(self, handler: Handler, first: Slot, slots: list[Slot], deadline: float) -> Any:
        workshop, place = self._workshop, self._place
        now, wall_s = workshop.clock.seconds, workshop.wall()
        if not handler.batch_items:
            item = Item(first.message, first.cursor)
            return handler.call(Context(place, item, first.attempt, deadline, now, wall_s), item)
        items = [Item(slot.message, slot.cursor) for slot in slots]
        contexts = [
            Context(place, item, slot.attempt, deadline, now, wall_s) for item, slot in zip(items, slots, strict=True)
        ]
        return handler.call(BatchContext(contexts), items)

    def _wait(self, handler: Handler, slots: list[Slot], outcome: Any, timeout_s: float) -> None:
        if isinstance(outcome, Deferred):
            waiting: Deferred[Any] = outcome
        else:
            waiting = Deferred.fromCoroutine(outcome if inspect.iscoroutine(outcome) else _await(outcome))
        job = Job(handler, slots, waiting)
        self._running[job] = None
        waiting.addCallbacks(self._answered, self._failed, callbackArgs=(job,), errbackArgs=(job,))
        waiting.addErrback(self._bug, job)
        if job in self._running and not handler.pooled:
            self._timeouts.add(job, timeout_s)

    def _leave_work(self, handler: Handler | None, slots: list[Slot]) -> None:
        self._workshop.slots.give()
        if handler is not None and handler.batch_items:
            self._lineup.batch_done(slots[0].message.meta.handle_id)

    def _ended(self, job: Job) -> bool:
        """Whether a job that has ended was still waited for; else its time was over before."""
        if job not in self._running:
            return False
        del self._running[job]
        self._timeouts.remove(job)
        self._leave_work(job.handler, job.slots)
        self._pump_soon()
        return True

    def _answered(self, result: Any, job: Job) -> None:
        if self._ended(job):
            self._results.returned(job.handler, job.slots, result)

    def _failed(self, failure: Failure, job: Job) -> None:
        if self._ended(job):
            if failure.check(HandlerTimeout):
                self._results.late(job.slots, failure.getErrorMessage())
            else:
                self._results.raised(job.slots, failure)
        elif not failure.check(CancelledError):
            name = job.slots[0].name(self._place)
            text = "{item}: its handler failed after its time was over"
            self.log.failure(text, failure, LogLevel.error, item=name)

    def _bug(self, failure: Failure, job: Job) -> None:
        name = job.slots[0].name(self._place)
        self.log.failure("{item}: a defect of the consumer itself", failure, item=name)

    def _timed_out(self, job: Job, timeout_s: float) -> None:
        self._ended(job)
        self._cancel(job)
        self._results.late(job.slots, f"its handler did not finish within {timeout_s:g} s (handler_timeout_s)")

    def _cancel(self, job: Job) -> None:
        """Have a handler stop. What its Deferred's canceller does wrong is its own business."""
        try:
            job.waiting.cancel()
        except Exception:
            self.log.failure("{item}: cancelling its handler raised", item=job.slots[0].name(self._place))

    # -- what has ended ------------------------------------------------------------------------------

    def _finish(self, slot: Slot) -> None:
        self._lineup.done(slot)
        self._finished(slot)
        if self._stopping is not None:
            self._check_stopped()

    def _attempt_over(self, slot: Slot) -> None:
        self._finish(slot)
        self._pump_soon()

    def _again(self, slot: Slot) -> None:
        self._lineup.again(slot)
        self._pump_soon()

    # -- stopping ------------------------------------------------------------------------------------

    @property
    def at_work(self) -> int:
        """Items whose handler runs or whose next attempt is being enqueued."""
        return sum(len(job.slots) for job in self._running) + len(self._next_attempts)

    def stop(self) -> Deferred[None]:
        """Finish what is at work and what has been added; fires when that is done. `abort` ends it early.

        The caller drops what it does not want begun any more, but for what lies below `furthest`: lanes take turns, so
        something above it may be finished already, and could not be acknowledged over the gap. What waits for its
        speed limit or for its next attempt in place is not waited for: it stays unfinished, and comes again.
        """
        self._next_attempts.stop()
        self._stopping = Deferred()
        stopping = self._stopping
        self._pump_soon()
        self._check_stopped()
        return stopping

    def abort(self) -> None:
        """Cancel what is still at work: its items stay unfinished, and come again."""
        self._stopped = True
        running, self._running = self._running, {}
        for job in running:
            self._workshop.slots.give()
            self._cancel(job)
        self._next_attempts.abort()
        self._check_stopped()

    def _check_stopped(self) -> None:
        if self._stopping is None or self.at_work or (not self._stopped and self._lineup.ready()):
            return
        self._stopped = True
        self._workshop.slots.leave(self)
        self._workshop.speed.leave(self)
        self._timeouts.clear()
        if self._pump_call is not None and self._pump_call.active():
            self._pump_call.cancel()
        self._pump_call = None
        stopping, self._stopping = self._stopping, None
        stopping.callback(None)


def _utc(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1000, timezone.utc).isoformat(timespec="milliseconds")


async def _await(awaitable: Any) -> Any:
    return await awaitable
