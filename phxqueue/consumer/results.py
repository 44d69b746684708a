"""What follows from what a handler returned, raised, or did not do in time: an item is finished, or an attempt over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from phxqueue.consumer.handlers import Handler, PoolFailure, Result
from phxqueue.consumer.items import Place
from phxqueue.consumer.next_attempts import NextAttempts
from phxqueue.consumer.slots import Slot
from phxqueue.consumer.workshop import Workshop


class Results:
    """Of the items of one queue.

    Args:
        next_attempts: told of attempts that are over.
        finish: told of items that need no other.
    """

    log = Logger()

    def __init__(
        self, place: Place, workshop: Workshop, next_attempts: NextAttempts, finish: Callable[[Slot], None]
    ) -> None:
        self._place = place
        self._workshop = workshop
        self._next_attempts = next_attempts
        self._finish = finish

    def returned(self, handler: Handler, slots: list[Slot], outcome: Any) -> None:
        """A handler has returned that, for one item or for a batch."""
        if not handler.batch_items or outcome.__class__ is Result:
            for slot in slots:
                self.one(slot, outcome)
        elif not isinstance(outcome, list | tuple) or len(outcome) != len(slots):
            why = (
                f"its handle_batch returned {outcome!r:.200} for {len(slots)} items: return one Result for each, in "
                "their order, or one for all"
            )
            for slot in slots:
                self._wrong(slot, why)
        else:
            for slot, result in zip(slots, outcome, strict=True):
                self.one(slot, result)

    def one(self, slot: Slot, result: Any) -> None:
        """A handler has said that of one item. Most items end here, so it is the shortest way."""
        stats = self._workshop.stats
        if result is Result.OK:
            stats.handled += 1
            stats.ok += 1
            self._finish(slot)
        elif result is Result.IGNORE:
            stats.handled += 1
            stats.ignored += 1
            self._finish(slot)
        elif result is Result.RETRY:
            stats.handled += 1
            self._next_attempts.end_attempt(slot, "its handler said RETRY")
        elif result is Result.DEAD:
            stats.handled += 1
            self._next_attempts.end_attempt(slot, "its handler said DEAD", dead=True)
        else:
            why = f"its handler returned {result!r:.200}, which is no Result: return Result.OK, RETRY, IGNORE or DEAD"
            self._wrong(slot, why)

    def raised(self, slots: list[Slot], failure: Failure) -> None:
        """A handler has raised."""
        name = slots[0].name(self._place) + (f" (and {len(slots) - 1} more of its batch)" if len(slots) > 1 else "")
        if isinstance(failure.value, PoolFailure):
            why, trace = str(failure.value), failure.value.traceback
            trace = f"\n{trace}" if trace else ""
            self.log.error("{item}: {why}; this attempt is over{trace}", item=name, why=why, trace=trace)
        else:
            kind = failure.type.__name__ if failure.type is not None else "an error"
            why = f"{kind}: {failure.getErrorMessage()}"
            text = "{item}: its handler raised; this attempt is over"
            self.log.failure(text, failure, LogLevel.error, item=name)
        for slot in slots:
            self._workshop.stats.handled += 1
            self._workshop.stats.raised += 1
            self._next_attempts.end_attempt(slot, why)

    def late(self, slots: list[Slot], why: str) -> None:
        """A handler has taken too long."""
        for slot in slots:
            self._workshop.stats.timed_out += 1
            self.log.warn("{item}: {why}", item=slot.name(self._place), why=why)
            self._next_attempts.end_attempt(slot, why)

    def unknown(self, slot: Slot) -> None:
        """There is no handler for an item."""
        workshop, handle_id = self._workshop, slot.message.meta.handle_id
        workshop.stats.unknown_handle += 1
        why = f"no handler for handle_id {handle_id}"
        if handle_id not in workshop.unknown_logged and len(workshop.unknown_logged) < 1000:
            workshop.unknown_logged.add(handle_id)
            self.log.error(
                "{item}: {why}: register one under `handlers` of the consumer's file and restart it; until then such "
                "items use up their attempts and become dead letters (said once)",
                item=slot.name(self._place), why=why,
            )  # fmt: skip
        self._next_attempts.end_attempt(slot, why)

    def unreadable(self, slot: Slot) -> None:
        """An item (or a whole batch) cannot be read: no handler can get it."""
        self._workshop.stats.unreadable += 1
        name = slot.name(self._place)
        self.log.error("{item}: {why}; it becomes a dead letter", item=name, why=slot.unreadable)
        self._next_attempts.end_attempt(slot, slot.unreadable, dead=True)

    def _wrong(self, slot: Slot, why: str) -> None:
        self._workshop.stats.handled += 1
        self._workshop.stats.raised += 1
        self.log.error("{item}: {why}", item=slot.name(self._place), why=why)
        self._next_attempts.end_attempt(slot, why)
