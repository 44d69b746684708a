"""Handles the fetched items of one queue: in lanes, within the slots of the process, each to a definite end.

An item is *finished* when its handler said OK or IGNORE, or when its next attempt (or its dead letter) is durable.
Until then nothing at or above its cursor is acknowledged, so whatever happens to this process, it comes again. What a
handler does wrong (raise, take too long, return nonsense) costs its item one attempt and is logged; it touches
nothing else.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from phxqueue.config import UnknownIdError
from phxqueue.consumer.handlers import Handle, Result
from phxqueue.consumer.items import Context, Item, Place
from phxqueue.consumer.lanes import Lanes
from phxqueue.consumer.settings import ConsumerSettings
from phxqueue.consumer.sharing import HandlerSlots
from phxqueue.consumer.slots import Slot
from phxqueue.producer.attempts import NextAttempt
from phxqueue.producer.errors import EnqueueError
from phxqueue.producer.receipts import Receipt
from phxqueue.proto.item_pb2 import QItem


class Retrier(Protocol):
    """What is needed of a Producer."""

    def enqueue_attempt(
        self, item: QItem, consumer_group_id: int, last_error: str, *, dead: bool = False
    ) -> tuple[NextAttempt, Deferred[Receipt]]:
        """The item's next attempt."""


@dataclass(slots=True)
class Stats:
    """What a consumer process has done so far, in items unless said otherwise. It only ever counts up."""

    fetched: int = 0
    handled: int = 0  # handlers that came to an end
    ok: int = 0
    ignored: int = 0
    retried: int = 0  # next attempts that are durable
    dead: int = 0  # dead letters that are durable
    raised: int = 0
    timed_out: int = 0
    unknown_handle: int = 0
    unreadable: int = 0  # batches
    skipped: int = 0  # by skip_infos or drop_all
    resets: int = 0  # of a queue's position, by a store
    gets: int = 0  # calls
    acks: int = 0  # calls that only acknowledged


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What all handling in a process shares."""

    clock: IReactorTime
    settings: ConsumerSettings
    stats: Stats
    slots: HandlerSlots
    handlers: Mapping[int, Handle]
    retrier: Retrier
    jitter: Callable[[], float]  # from 0 to 1
    unknown_logged: set[int] = field(default_factory=set)  # handle_ids


class Handling:
    """The items of one queue that are fetched and not finished."""

    log = Logger()

    def __init__(self, place: Place, workshop: Workshop, finished: Callable[[Slot], None]) -> None:
        self._place = place
        self._workshop = workshop
        self._finished = finished
        self._lanes: Lanes[Slot] = Lanes()
        self._running: dict[Slot, tuple[Deferred[Any], float]] = {}  # in the order of their deadlines
        self._retrying: dict[Slot, IDelayedCall | None] = {}  # re-enqueue under way (None) or to be tried again
        self._pump_call: IDelayedCall | None = None
        self._timeout_call: IDelayedCall | None = None
        self._stopping: Deferred[None] | None = None
        self._stopped = False
        self._trouble = False
        self.furthest = -1
        """The highest cursor of an item that was started."""

    # -- in ------------------------------------------------------------------------------------------

    def add(self, slot: Slot) -> None:
        """Line up; pump() starts what may start."""
        self._lanes.add(slot.uin, slot)

    def drop(self, unwanted: Callable[[Slot], bool]) -> list[Slot]:
        """Forget items that have not started; returns them."""
        return self._lanes.drop(unwanted)

    def pump(self) -> None:
        """Start what may start, for a slice of time."""
        workshop = self._workshop
        seconds = workshop.clock.seconds
        end = seconds() + workshop.settings.slice_s
        started = 0
        while self._lanes.ready and not self._stopped and workshop.slots.take(self):
            self.handle_one()
            started += 1
            if not started & 15 and seconds() >= end:
                self._pump_soon()
                return

    def _pump_soon(self) -> None:
        if self._pump_call is None and not self._stopped:
            self._pump_call = self._workshop.clock.callLater(0, self._pump_now)

    def _pump_now(self) -> None:
        self._pump_call = None
        self.pump()

    # -- one item ------------------------------------------------------------------------------------

    def handle_one(self) -> bool:
        """Handle the next item, in a slot that was taken for it; see sharing.Handler."""
        if not self._lanes.ready or self._stopped:
            self._workshop.slots.give()
            return False
        self._handle(self._lanes.take())
        return self._lanes.ready

    def _handle(self, slot: Slot) -> None:
        workshop, message = self._workshop, slot.message
        if slot.cursor > self.furthest:
            self.furthest = slot.cursor
        if slot.unreadable:
            workshop.slots.give()
            self._bury_unreadable(slot)
            return
        handle_id = message.meta.handle_id
        handle = workshop.handlers.get(handle_id)
        if handle is None:
            workshop.slots.give()
            self._unknown(slot, handle_id)
            return
        deadline = workshop.clock.seconds() + workshop.settings.handler_timeout_s
        context = Context(self._place, slot.cursor, message.count + 1, deadline, workshop.clock.seconds)
        try:
            outcome = handle(context, Item(message, slot.cursor))
        except (Exception, SystemExit):
            workshop.slots.give()
            self._raised(slot, Failure())
            return
        if outcome.__class__ is Result:
            workshop.slots.give()
            self._conclude(slot, outcome)
        else:
            self._wait(slot, outcome, deadline)

    def _wait(self, slot: Slot, outcome: Any, deadline: float) -> None:
        if isinstance(outcome, Deferred):
            waiting: Deferred[Any] = outcome
        elif inspect.iscoroutine(outcome):
            waiting = Deferred.fromCoroutine(outcome)
        elif inspect.isawaitable(outcome):
            waiting = Deferred.fromCoroutine(_await(outcome))
        else:
            self._workshop.slots.give()
            self._conclude(slot, outcome)
            return
        self._running[slot] = (waiting, deadline)
        waiting.addCallbacks(self._answered, self._failed, callbackArgs=(slot,), errbackArgs=(slot,))
        waiting.addErrback(self._bug, slot)
        if slot in self._running and self._timeout_call is None:
            clock = self._workshop.clock
            self._timeout_call = clock.callLater(max(0.0, deadline - clock.seconds()), self._check_timeouts)

    def _answered(self, result: Any, slot: Slot) -> None:
        if self._running.pop(slot, None) is not None:  # else its time was over before
            self._workshop.slots.give()
            self._conclude(slot, result)
            self._pump_soon()

    def _failed(self, failure: Failure, slot: Slot) -> None:
        if self._running.pop(slot, None) is not None:
            self._workshop.slots.give()
            self._raised(slot, failure)
            self._pump_soon()
        elif not failure.check(CancelledError):
            self.log.failure("{item}: its handler failed after its time was over", failure, item=self._name(slot))

    def _bug(self, failure: Failure, slot: Slot) -> None:
        self.log.failure("{item}: a defect of the consumer itself", failure, item=self._name(slot))

    def _check_timeouts(self) -> None:
        self._timeout_call = None
        clock, limit = self._workshop.clock, self._workshop.settings.handler_timeout_s
        while self._running:
            slot, (waiting, deadline) = next(iter(self._running.items()))
            left = deadline - clock.seconds()
            if left > 1e-6:
                self._timeout_call = clock.callLater(left, self._check_timeouts)
                return
            del self._running[slot]
            self._workshop.slots.give()
            self._workshop.stats.timed_out += 1
            waiting.cancel()
            why = f"its handler did not finish within {limit:g} s (handler_timeout_s)"
            self.log.warn("{item}: {why}", item=self._name(slot), why=why)
            self._end_attempt(slot, why)
        self._pump_soon()

    # -- results -------------------------------------------------------------------------------------

    def _conclude(self, slot: Slot, result: Any) -> None:
        stats = self._workshop.stats
        stats.handled += 1
        if result is Result.OK:
            stats.ok += 1
            self._finish(slot)
        elif result is Result.IGNORE:
            stats.ignored += 1
            self._finish(slot)
        elif result is Result.RETRY:
            self._end_attempt(slot, "its handler said RETRY")
        elif result is Result.DEAD:
            self._end_attempt(slot, "its handler said DEAD", dead=True)
        else:
            stats.raised += 1
            why = f"its handler returned {result!r:.200}, which is no Result: return Result.OK, RETRY, IGNORE or DEAD"
            self.log.error("{item}: {why}", item=self._name(slot), why=why)
            self._end_attempt(slot, why)

    def _raised(self, slot: Slot, failure: Failure) -> None:
        self._workshop.stats.handled += 1
        self._workshop.stats.raised += 1
        self.log.failure("{item}: its handler raised; this attempt is over", failure, item=self._name(slot))
        kind = failure.type.__name__ if failure.type is not None else "an error"
        self._end_attempt(slot, f"{kind}: {failure.getErrorMessage()}")

    def _unknown(self, slot: Slot, handle_id: int) -> None:
        workshop = self._workshop
        workshop.stats.unknown_handle += 1
        why = f"no handler for handle_id {handle_id}"
        if handle_id not in workshop.unknown_logged and len(workshop.unknown_logged) < 1000:
            workshop.unknown_logged.add(handle_id)
            self.log.error(
                "{item}: {why}: register one under `handlers` of the consumer's file and restart it; until then such "
                "items use up their attempts and become dead letters (said once)",
                item=self._name(slot), why=why,
            )  # fmt: skip
        self._end_attempt(slot, why)

    def _bury_unreadable(self, slot: Slot) -> None:
        self._workshop.stats.unreadable += 1
        self.log.error("{item}: {why}; it becomes a dead letter", item=self._name(slot), why=slot.unreadable)
        self._end_attempt(slot, slot.unreadable, dead=True)

    def _finish(self, slot: Slot) -> None:
        self._lanes.done(slot.uin)
        self._finished(slot)
        self._check_stopped()

    # -- next attempts -------------------------------------------------------------------------------

    def _end_attempt(self, slot: Slot, why: str, *, dead: bool = False) -> None:
        """The item's next attempt must be durable before it is finished here; its uin waits for that."""
        if slot.stale:
            self._finish(slot)  # it comes again, or somebody else has seen to it
            return
        message = slot.message
        if not message.pub_id and not message.meta.pub_id:
            message.pub_id = slot.pub_id
        self._retrying[slot] = None
        try:
            attempt, stored = self._workshop.retrier.enqueue_attempt(
                message, self._place.consumer_group_id, why, dead=dead
            )
        except UnknownIdError as error:
            self._not_stored(Failure(error), slot, why, dead)
            return
        stored.addCallbacks(
            self._stored,
            self._not_stored,
            callbackArgs=(slot, attempt, why),
            errbackArgs=(slot, why, dead),
        )
        stored.addErrback(self._bug, slot)

    def _stored(self, receipt: Receipt, slot: Slot, attempt: NextAttempt, why: str) -> None:
        del self._retrying[slot]
        stats = self._workshop.stats
        if self._trouble:
            self._trouble = False
            self.log.info("{place}: later attempts can be enqueued again", place=self._place)
        if attempt.reason is None:
            stats.retried += slot.count
        else:
            stats.dead += slot.count
            self.log.warn(
                "{item} is a dead letter now (store {store_id}, queue {queue_id}, cursor {cursor}): {reason}; {why}",
                item=self._name(slot), store_id=receipt.store_id, queue_id=receipt.queue_id, cursor=receipt.cursor,
                reason=attempt.reason.value, why=why,
            )  # fmt: skip
        self._finish(slot)
        self._pump_soon()

    def _not_stored(self, failure: Failure, slot: Slot, why: str, dead: bool) -> None:
        if not failure.check(EnqueueError, UnknownIdError):
            self.log.failure("{item}: enqueueing its next attempt failed unexpectedly", failure, item=self._name(slot))
        elif not self._trouble:
            self.log.error(
                "{item}: its next attempt cannot be enqueued: {error}; it stays unacknowledged and is tried again",
                item=self._name(slot), error=failure.getErrorMessage(),
            )  # fmt: skip
        self._trouble = True
        if self._stopped or self._stopping is not None:
            del self._retrying[slot]
            self._check_stopped()
            return
        settings = self._workshop.settings
        pause = min(settings.backoff_max_s, settings.backoff_first_s * 2.0 ** min(slot.tries, 20))
        slot.tries += 1
        pause *= 0.5 + 0.5 * self._workshop.jitter()
        self._retrying[slot] = self._workshop.clock.callLater(pause, self._try_again, slot, why, dead)

    def _try_again(self, slot: Slot, why: str, dead: bool) -> None:
        del self._retrying[slot]
        self._end_attempt(slot, why, dead=dead)

    def _name(self, slot: Slot) -> str:
        meta = slot.message.meta
        return (
            f"item {meta.producer_id:x}-{meta.number} ({self._place}, cursor {slot.cursor}, handle_id "
            f"{meta.handle_id}, uin {meta.uin}, attempt {slot.message.count + 1})"
        )

    # -- end -----------------------------------------------------------------------------------------

    @property
    def at_work(self) -> int:
        """Items whose handler runs or whose next attempt is being enqueued."""
        return len(self._running) + len(self._retrying)

    def stop(self) -> Deferred[None]:
        """Finish what is at work and what has been added; fires when that is done. `abort` ends it early.

        The caller drops what it does not want begun any more, but for what lies below `furthest`: lanes take turns, so
        something above it may be finished already, and could not be acknowledged over the gap.
        """
        for slot, call in list(self._retrying.items()):
            if call is not None:  # to be tried again later: it stays unfinished, and comes again
                call.cancel()
                del self._retrying[slot]
        self._stopping = Deferred()
        stopping = self._stopping
        self._pump_soon()
        self._check_stopped()
        return stopping

    def abort(self) -> None:
        """Cancel what is still at work: its items stay unfinished, and come again."""
        self._stopped = True
        running, self._running = self._running, {}
        for waiting, _ in running.values():
            self._workshop.slots.give()
            waiting.cancel()
        self._retrying.clear()
        self._check_stopped()

    def _check_stopped(self) -> None:
        if self._stopping is None or self.at_work or (self._lanes.ready and not self._stopped):
            return
        self._stopped = True
        self._workshop.slots.leave(self)
        for call in (self._pump_call, self._timeout_call):
            if call is not None and call.active():
                call.cancel()
        self._pump_call = self._timeout_call = None
        stopping, self._stopping = self._stopping, None
        stopping.callback(None)


async def _await(awaitable: Any) -> Any:
    return await awaitable
