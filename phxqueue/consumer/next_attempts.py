"""What follows a failed attempt: another one in the same place, one further along the chain, or a dead letter.

In an ordered group an item with a key stays where it is, and its uin waits with it, until it is handled or has used up
the attempts that it has there. Otherwise its next attempt is enqueued, and it is finished here as soon as that is
durable: nothing is acknowledged before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from phxqueue.config import ConsumerGroup, UnknownIdError
from phxqueue.consumer.cursor_window import DEAD, EXPIRED, RETRIED
from phxqueue.consumer.items import Place
from phxqueue.consumer.slots import Slot
from phxqueue.consumer.workshop import Workshop
from phxqueue.producer.attempts import NextAttempt, Reason
from phxqueue.producer.errors import EnqueueError
from phxqueue.producer.receipts import Receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordering:
    """How an ordered group tries again in place.

    Attributes:
        retries: attempts in place after the first; -1: no end.
        first_s, max_s: pause before them: the first, doubling up to the longest.
        bury: whether an item goes to the dead letters when they are used up; else it walks the attempt chain.
    """

    retries: int = 10
    first_s: float = 1.0
    max_s: float = 30.0
    bury: bool = True

    @classmethod
    def of_group(cls, group: ConsumerGroup) -> Ordering | None:
        """What the configuration of a group says; None: it is not ordered."""
        if not group.ordered:
            return None
        return cls(
            retries=group.ordered_retries,
            first_s=group.ordered_retry_ms / 1000,
            max_s=group.ordered_retry_max_ms / 1000,
            bury=group.ordered_then == "dead",
        )


class NextAttempts:
    """The items of one queue whose attempt has failed.

    Args:
        finished: told when an item is finished here.
        again: told when an item is to be handled again in its place.
        given_up: told, while stopping, when an item stays unfinished.
    """

    log = Logger()

    def __init__(
        self,
        place: Place,
        workshop: Workshop,
        ordering: Ordering | None,
        finished: Callable[[Slot], None],
        again: Callable[[Slot], None],
        given_up: Callable[[], None],
    ) -> None:
        self._place = place
        self._workshop = workshop
        self._ordering = ordering
        self._finished = finished
        self._again = again
        self._given_up = given_up
        self._storing: dict[Slot, IDelayedCall | None] = {}  # under way (None) or to be tried again
        self._resting: dict[Slot, IDelayedCall] = {}  # until their next attempt in place
        self._stopping = False
        self._trouble = False

    def __len__(self) -> int:
        """Items whose next attempt is being enqueued."""
        return len(self._storing)

    def end_attempt(self, slot: Slot, why: str, *, dead: bool = False) -> None:
        """An attempt has failed."""
        if slot.stale:
            self._finished(slot)  # it comes again, or somebody else has seen to it
            return
        order, end = self._ordering, Reason.DEAD if dead else None
        if order is None or dead or not slot.uin or slot.unreadable:
            self._enqueue(slot, why, end)
        elif 0 <= order.retries <= slot.tried_in_place:
            self._enqueue(slot, f"{why} (attempt {slot.tried_in_place + 1} in its place)", end)
        elif not self._stopping:  # else it stays unfinished, and comes again
            pause = min(order.max_s, order.first_s * 2.0 ** min(slot.tried_in_place, 20))
            slot.tried_in_place += 1
            self._workshop.stats.retried_in_place += 1
            self._resting[slot] = self._workshop.clock.callLater(pause, self._rested, slot)

    def end_by_crashes(self, slot: Slot, why: str) -> bool:
        """An item that is in no lane has ended too many consumers: its attempt is over.

        False: it is to be handled all the same, for its group tries for ever. In an ordered group it does not walk the
        chain, where it would lose its place: it is a dead letter (unless attempts are what follows there anyway).
        """
        order = self._ordering
        if order is not None and slot.uin and order.retries < 0:
            return False
        if order is not None and slot.uin and order.bury:
            slot.tried_in_place = max(1, slot.tried_in_place)
        slot.uin = 0  # nobody waits for it in its lane
        self._enqueue(slot, why, None)
        return True

    def expire(self, slot: Slot, why: str) -> None:
        """Its time to live has passed before it was handled."""
        if slot.stale:
            self._finished(slot)
        else:
            self._enqueue(slot, why, Reason.EXPIRED)

    def _rested(self, slot: Slot) -> None:
        del self._resting[slot]
        if slot.stale:
            self._finished(slot)
        else:
            self._again(slot)

    def _enqueue(self, slot: Slot, why: str, end: Reason | None) -> None:
        """The item's next attempt must be durable before it is finished here; its uin waits for that."""
        message = slot.message
        if not message.pub_id and not message.meta.pub_id:
            message.pub_id = slot.pub_id
        self._storing[slot] = None
        order = self._ordering
        tried = slot.tried_in_place if order is not None and order.bury else 0
        try:
            attempt, stored = self._workshop.retrier.enqueue_attempt(
                message,
                self._place.consumer_group_id,
                why,
                dead=end is Reason.DEAD,
                expired=end is Reason.EXPIRED,
                tried_in_place=tried,
            )
        except UnknownIdError as error:
            self._not_stored(Failure(error), slot, why, end)
            return
        stored.addCallbacks(
            self._stored,
            self._not_stored,
            callbackArgs=(slot, attempt, why),
            errbackArgs=(slot, why, end),
        )
        stored.addErrback(self._bug, slot)

    def _stored(self, receipt: Receipt, slot: Slot, attempt: NextAttempt, why: str) -> None:
        if self._storing.pop(slot, self) is self:
            return  # given up meanwhile: it is durable, and the item comes again all the same
        stats = self._workshop.stats
        if self._trouble:
            self._trouble = False
            self.log.info("{place}: later attempts can be enqueued again", place=self._place)
        if attempt.reason is None:
            stats.retried += slot.count
            slot.passed = RETRIED
        elif attempt.dropped:
            stats.expired += slot.count
            slot.dropped = True
        else:
            if attempt.reason is Reason.EXPIRED:
                stats.expired += slot.count
                slot.passed = EXPIRED
            else:
                stats.dead += slot.count
                slot.passed = DEAD
            self.log.warn(
                "{item} is a dead letter now (store {store_id}, queue {queue_id}, cursor {cursor}): {reason}; {why}",
                item=slot.name(self._place), store_id=receipt.store_id, queue_id=receipt.queue_id,
                cursor=receipt.cursor, reason=attempt.reason.value, why=why,
            )  # fmt: skip
        self._finished(slot)

    def _not_stored(self, failure: Failure, slot: Slot, why: str, end: Reason | None) -> None:
        name = slot.name(self._place)
        if not failure.check(EnqueueError, UnknownIdError):
            self.log.failure("{item}: enqueueing its next attempt failed unexpectedly", failure, item=name)
        elif not self._trouble:
            self.log.error(
                "{item}: its next attempt cannot be enqueued: {error}; it stays unacknowledged and is tried again",
                item=name, error=failure.getErrorMessage(),
            )  # fmt: skip
        self._trouble = True
        if self._stopping:
            self._storing.pop(slot, None)
            self._given_up()
            return
        settings = self._workshop.settings
        pause = min(settings.backoff_max_s, settings.backoff_first_s * 2.0 ** min(slot.tries, 20))
        slot.tries += 1
        pause *= 0.5 + 0.5 * self._workshop.jitter()
        self._storing[slot] = self._workshop.clock.callLater(pause, self._try_again, slot, why, end)

    def _try_again(self, slot: Slot, why: str, end: Reason | None) -> None:
        del self._storing[slot]
        if slot.stale:
            self._finished(slot)
        else:
            self._enqueue(slot, why, end)

    def _bug(self, failure: Failure, slot: Slot) -> None:
        self.log.failure("{item}: a defect of the consumer itself", failure, item=slot.name(self._place))

    # -- end -----------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Try nothing again that waits for its time: it stays unfinished, and comes again."""
        self._stopping = True
        for slot, call in list(self._storing.items()):
            if call is not None:
                call.cancel()
                del self._storing[slot]
        for call in self._resting.values():
            call.cancel()
        self._resting.clear()

    def abort(self) -> None:
        """Wait for nothing that is under way."""
        self._storing.clear()
