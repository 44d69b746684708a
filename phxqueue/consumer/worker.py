"""Fetches the items of one queue, ahead of their handling, and acknowledges what is finished.

One Get waits at the store as long as there is nothing (a long poll); the next leaves as soon as its answer is here and
there is room for more, and carries the acknowledgement of everything finished until then. What is finished while a
Get waits is acknowledged by a Get of its own, at most `ack_interval_s` later.

The store tells with `reset` that the group stands elsewhere than this reader thought:

- not below what was acknowledged (an answer got lost, or somebody else read): the store delivers again from its
  `acked`. Cursors never change their items, so what is here already, handled or not, is recognised by its cursor and
  left out; what others have acknowledged meanwhile is dropped as far as it has not started;
- below what was acknowledged, in another `generation` (a replay), or in another `history` (the store was built from a
  backup, and its cursors are those of other items): everything here is forgotten, and what comes is new. What is being
  handled ends, and its result counts for nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from phxqueue.config import DEAD_LETTER_BASE, group_bit
from phxqueue.consumer.apart import Apart
from phxqueue.consumer.claims import Ack
from phxqueue.consumer.cursor_window import CursorWindow
from phxqueue.consumer.handling import Handling
from phxqueue.consumer.pauses import Pauses
from phxqueue.consumer.reader import Reader
from phxqueue.consumer.slots import Slot, read_batch
from phxqueue.consumer.source import QueueLag, Source
from phxqueue.consumer.suspects import Suspects, begin, put_on_record
from phxqueue.consumer.workshop import Workshop
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.store_pb2 import GetBatch, GetResponse


class Worker:
    """One queue of one consumer group: fetches, hands to its Handling, acknowledges."""

    log = Logger()

    def __init__(self, source: Source, workshop: Workshop) -> None:
        self.place = source.place
        self._source = source
        self._workshop = workshop
        self._settings = workshop.settings
        self._handling = Handling(
            source.place, workshop, self._finished, ordering=source.ordering, gate=source.gate, kind=source.kind
        )
        source.budget.queues += 1
        self._group_bit = 0 if self.place.queue_id >= DEAD_LETTER_BASE else group_bit(self.place.consumer_group_id)
        self._window: CursorWindow[Slot] | None = None  # None: not a word from the store yet
        self._reader = Reader(source, workshop.settings, workshop.clock, workshop.jitter)
        self._apart = Apart()
        self._suspects: Suspects | None = None  # what is handled alone; see suspects.py
        self._end = 0  # of the queue, when we last heard of it
        self._held = 0  # bytes fetched and not finished
        self._poll: Deferred[Any] | None = None
        self._ack_call: Deferred[Any] | None = None
        self._ack_timer: IDelayedCall | None = None
        self._pause: IDelayedCall | None = None
        self._pauses = Pauses(source.place, workshop.settings, source.health)
        self._taking_in = False
        self._stopped = False

    # -- fetching ------------------------------------------------------------------------------------

    def fetch(self) -> None:
        """Ask for more, if there is room for it and nothing is being asked already."""
        if self._poll is not None or self._pause is not None or self._stopped or self._taking_in:
            return
        if self._suspects is not None and (self._suspects.waiting or self._ack_call is not None):
            return
        if self._held >= self._settings.fetch_size or self._window_room <= 0 or self._source.paused():
            return
        if self._handling.holding and self._held >= self._source.budget.held_share:
            return
        size = self._source.budget.begin(self, self._settings.fetch_size)
        if not size:
            return
        ack = self._window.take_ack() if self._window is not None else None
        # What was refused is fetched batch by batch: what is wrong then stands alone.
        most = min(self._settings.fetch_items, self._window_room)
        items = 1 if self._pauses.refusals else self._apart.limit(self._reader.position or 0, most)
        self._workshop.stats.gets += 1
        self._poll = self._reader.fetch(ack, items, size)
        self._poll.addCallbacks(self._answered, self._failed, callbackArgs=(ack,), errbackArgs=(ack,))
        self._poll.addErrback(self._bug)

    @property
    def _window_room(self) -> int:
        """Items that may be fetched before the oldest unfinished one is finished."""
        return self._settings.window_items - (0 if self._window is None else len(self._window))

    def _answered(self, response: GetResponse, ack: Ack | None) -> None:
        self._poll = None
        self._source.budget.end()
        self._pauses.answered()
        if self._stopped:
            return
        window = self._window
        if window is None:
            window = self._window = CursorWindow(response.prev_cursor)
        if ack is not None and self._is_refusal(response, ack):
            self._begin_anew(window, response.prev_cursor, ack)
            return
        if ack is not None and not response.reset:
            self._confirm(window, ack)
        if response.reset:
            window = self._reset(window, response.prev_cursor, anew=not self._reader.lives_in(response))
        else:
            window.told(response.prev_cursor, response.durable_cursor)
        self._reader.follow(response)
        if response.now_ms:
            self._handling.store_ahead_ms = response.now_ms - self._workshop.clock.seconds() * 1000
        self._take_in(window, response)
        self._end = response.end_cursor
        # What is handled right away is acknowledged by the next Get already.
        self._taking_in = True
        try:
            self._handle_suspects()
            self._handling.pump()
        finally:
            self._taking_in = False
        self._go_on_fetching()

    def _go_on_fetching(self) -> None:
        """Ask for more, and have what is finished acknowledged even if nothing more may be asked for now."""
        self.fetch()
        self._acknowledge_soon()

    def _take_in(self, window: CursorWindow[Slot], response: GetResponse) -> None:
        skip = self._source.skip
        size = 0
        end: int = response.next_cursor
        for batch in response.batches:
            slots: list[Slot] = []
            wanted: list[Slot] = []
            read = list(read_batch(batch, window.end, self._group_bit, self._source.keyed))
            if read and read[0][0].unreadable and self._takes_apart(batch):
                end = self._reader.position = max(batch.first_cursor, window.end)
                break
            for slot, ours in read:
                slots.append(slot)
                if ours and not (skip is not None and skip(slot)):
                    wanted.append(slot)
                    size += slot.size
                elif ours:
                    self._workshop.stats.skipped += 1
            window.extend(slots, batch.first_cursor + batch.header.count)
            if slots and slots[0].unreadable:
                window.note_unreadable(slots[0].cursor, slots[0].count)
            passed = set(slots).difference(wanted) if len(wanted) < len(slots) else ()
            for slot in passed:
                slot.size = 0
                window.finish(slot)
            if response.begins and wanted:
                self._suspects = begin(response.begins, response.suspects_end, wanted[0])
                response.begins = 0  # the first item there is decides
            for slot in wanted:
                if self._suspects is None:
                    self._handling.add(slot)
                else:
                    self._suspects.add(slot)
            self._workshop.stats.fetched += len(wanted)
        window.extend((), end)
        self._held += size
        self._source.budget.add(size)

    def _takes_apart(self, batch: GetBatch) -> bool:
        """Whether an unreadable batch is one that the store has merged, and that is fetched again in pieces."""
        taken = self._apart.takes(batch)
        if taken:
            self._workshop.stats.taken_apart += 1
            self.log.warn(
                "{place}: {items} items from cursor {first} on came as one batch that cannot be read: fetching its "
                "batches one by one",
                place=self.place, items=batch.header.count, first=batch.first_cursor,
            )  # fmt: skip
        return taken

    def _is_refusal(self, response: GetResponse, ack: Ack) -> bool:
        """Whether the store stands where it did, and takes nothing of what was claimed (`reconcile = strict`)."""
        return response.reset and response.prev_cursor < ack.stop and self._reader.lives_in(response)

    def _confirm(self, window: CursorWindow[Slot], ack: Ack) -> None:
        self._pauses.refusals = 0
        window.confirm(ack)

    def _begin_anew(self, window: CursorWindow[Slot], position: int, ack: Ack) -> None:
        """What was received is not what is stored: forget it, fetch it again and handle it again, after a pause."""
        pause = self._pauses.after_refusal(position, ack.stop)
        self._workshop.stats.refused_acks += 1
        self._forget(window, position)
        self._reader.position = None
        self._pause = self._workshop.clock.callLater(pause, self._go_on)
        if self._poll is not None:
            self._poll.cancel()

    def _reset(self, window: CursorWindow[Slot], position: int, *, anew: bool) -> CursorWindow[Slot]:
        """Follow the store to where it says the group stands; see the head of this module."""
        self._workshop.stats.resets += 1
        if anew or position < window.confirmed:
            self.log.warn(
                "{place}: the store starts again at cursor {position}, though {confirmed} was acknowledged (a replay, "
                "or a store built from a backup): following",
                place=self.place, position=position, confirmed=window.confirmed,
            )  # fmt: skip
            return self._forget(window, position)
        self._give_up(window.advance(position))
        return window

    def _forget(self, window: CursorWindow[Slot], position: int) -> CursorWindow[Slot]:
        """Nothing here counts any more; returns a new window."""
        self._give_up(window.advance(1 << 64))
        self._window, self._apart = CursorWindow(position), Apart()
        return self._window

    def _give_up(self, forgotten: list[Slot]) -> None:
        for slot in forgotten:
            slot.stale = True
        for slot in self._drop(lambda slot: slot.stale):
            self._let_go(slot)

    def _drop(self, unwanted: Callable[[Slot], bool]) -> list[Slot]:
        """Forget items that have not started; returns them."""
        dropped = [] if self._suspects is None else self._suspects.drop(unwanted)
        return dropped + self._handling.drop(unwanted)

    # -- suspects --------------------------------------------------------------------------------------

    def _handle_suspects(self) -> None:
        """Start the next item that is to be handled alone, when everything before it is acknowledged."""
        suspects, window = self._suspects, self._window
        if suspects is None or window is None or suspects.current is not None or self._stopped:
            return
        if self._ack_call is not None or window.to_acknowledge:
            if self._ack_timer is not None and self._ack_timer.active():
                self._ack_timer.cancel()
            self._acknowledge_now()
            return
        found = suspects.next()
        if found is not None:
            slot, why = found
            if why:
                put_on_record(slot)
                self._handling.end_attempt(slot, why)
            else:
                name = slot.name(self.place)
                self.log.warn("{item}: handled alone, for consumers before this one ended here", item=name)
                self._handling.add(slot)
            return
        if window.end >= suspects.end:
            self._suspects = None
        for slot in suspects.drop(lambda slot: True):
            self._handling.add(slot)
        self._handling.pump()
        self.fetch()

    def _failed(self, failure: Failure, ack: Ack | None) -> None:
        self._poll = None
        self._source.budget.end()
        if ack is not None and self._window is not None:
            self._window.give_back(ack)
        if self._stopped or self._is_fenced(failure) or self._pause is not None:
            return
        pause = self._pauses.after_failure(failure) * (0.5 + 0.5 * self._workshop.jitter())
        self._pause = self._workshop.clock.callLater(pause, self._go_on)

    def _is_fenced(self, failure: Failure) -> bool:
        """Whether the lock of this queue has passed to somebody else; it is said to whoever holds the lock here."""
        fenced = isinstance(failure.value, RpcError) and failure.value.status is Status.FENCED
        if fenced:
            self._source.fenced()
        return fenced

    def _go_on(self) -> None:
        self._pause = None
        self._handle_suspects()
        self.fetch()

    def _bug(self, failure: Failure) -> None:
        self.log.failure("{place}: a defect of the consumer itself", failure, place=self.place)
        if self._pause is None and not self._stopped:
            self._pause = self._workshop.clock.callLater(self._settings.backoff_max_s, self._go_on)

    # -- acknowledging -------------------------------------------------------------------------------

    def _finished(self, slot: Slot) -> None:
        self._let_go(slot)
        if self._window is None:
            return
        if self._window.drop(slot) if slot.dropped else self._window.finish(slot):
            slot.strip()
        if self._suspects is not None and self._suspects.current is slot:
            self._suspects.current = None
            self._handle_suspects()
            self._handling.pump()
        if not self._taking_in:
            if self._poll is None:
                self.fetch()
            if self._ack_timer is None:
                self._acknowledge_soon()

    def _let_go(self, slot: Slot) -> None:
        self._held -= slot.size
        self._source.budget.release(slot.size)

    def _acknowledge_now(self) -> None:
        self._ack_timer = None
        if self._ack_call is None and self._pause is None:
            self._acknowledge()

    def _acknowledge(self) -> None:
        ack = self._window.take_ack() if self._window is not None else None
        if ack is None:
            return
        self._workshop.stats.acks += 1
        self._ack_call = self._reader.acknowledge(ack)
        self._ack_call.addCallbacks(
            self._acknowledged,
            self._not_acknowledged,
            callbackArgs=(self._window, ack),
            errbackArgs=(self._window, ack),
        )

    def _acknowledged(self, response: GetResponse, window: CursorWindow[Slot], ack: Ack) -> None:
        self._ack_call = None
        if self._is_refusal(response, ack) and window is self._window and not self._stopped:
            self._begin_anew(window, response.prev_cursor, ack)
        elif not response.reset:  # else the next Get finds out where the group stands
            self._confirm(window, ack)
            window.told(response.prev_cursor, response.durable_cursor)
        self._source.health.worked()
        self._acknowledge_soon()
        if self._suspects is not None:
            self._handle_suspects()
            self._handling.pump()

    def _acknowledge_soon(self) -> None:
        window = self._window
        if window is not None and window.to_acknowledge and self._ack_timer is None and not self._stopped:
            self._ack_timer = self._workshop.clock.callLater(self._settings.ack_interval_s, self._acknowledge_now)

    def _not_acknowledged(self, failure: Failure, window: CursorWindow[Slot], ack: Ack) -> None:
        self._ack_call = None
        window.give_back(ack)
        if failure.check(RpcError, CancelledError) is None:
            self.log.failure("{place}: acknowledging failed unexpectedly", failure, place=self.place)
        elif not self._stopped and not self._is_fenced(failure):
            self._source.health.failed(failure.value)
        self._acknowledge_soon()

    # -- end -----------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Fetch no more, finish what cannot be left out (`abort` ends that early), acknowledge what is finished.

        Left out is what lies above everything begun: an item below could otherwise stay a gap under finished ones, and
        those would be delivered again.
        """
        self._stopped = True
        self._source.budget.queues -= 1
        for timer in (self._pause, self._ack_timer):
            if timer is not None and timer.active():
                timer.cancel()
        self._pause = self._ack_timer = None
        if self._poll is not None:
            self._poll.cancel()
        handling = self._handling
        handling.drop(lambda slot: slot.cursor > handling.furthest)
        await handling.stop()
        handling.drop(lambda slot: True)
        self._source.budget.release(self._held)
        self._held = 0
        if self._ack_call is not None:
            self._ack_call.cancel()
        await self._leave()

    async def _leave(self) -> None:
        """Acknowledge what is finished, and tell the store that this reader has not crashed."""
        ack = self._window.take_ack() if self._window is not None else None
        self._workshop.stats.acks += ack is not None
        leaving = self._reader.leave(ack)
        if leaving is None:
            return
        try:
            await leaving
        except RpcError as error:
            self.log.info(
                "{place}: the store has not heard that we leave; what is not acknowledged comes again: {error}",
                place=self.place, error=error,
            )  # fmt: skip

    def abort(self) -> None:
        """Wait no longer for what is at work: it stays unfinished, and comes again."""
        self._handling.abort()

    @property
    def lag(self) -> QueueLag:
        """How far this queue is behind, as far as this process knows."""
        window, resting, unreachable = self._window, self._source.paused(), self._source.health.failing
        if window is None:
            return QueueLag(0, 0.0, resting=resting, unreachable=unreachable)
        oldest = window.oldest
        age_s = 0.0
        if oldest is not None:
            taken_ms = oldest.message.atime_ms or oldest.message.meta.atime_ms
            age_s = max(0.0, self._workshop.wall() - taken_ms / 1000)
            resting = resting or self._is_held_back(oldest)
        items = max(0, max(self._end, window.end) - window.position)
        return QueueLag(items, age_s, None if oldest is None else window.position, resting, unreachable)

    def _is_held_back(self, slot: Slot) -> bool:
        """Whether a limit, or a pause of its pub, may be all that the slot waits for."""
        gate = self._source.gate
        return gate is not None and not self.at_work and gate(slot) is not None

    @property
    def at_work(self) -> int:
        """Items whose handler runs or whose next attempt is being enqueued."""
        return self._handling.at_work
