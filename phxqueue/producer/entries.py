"""What waits in a lane: one item of an enqueue, or a piece of an enqueue_many, with whom to tell its fate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred

from phxqueue.producer.delayed import DelayedId
from phxqueue.producer.errors import EnqueueError, OutcomeUnknown, Refused
from phxqueue.producer.receipts import NO_CURSOR_YET, Receipt, Receipts, Segment
from phxqueue.proto.origin import Origin


class Cancelled(Refused, CancelledError):
    """The Deferred was cancelled before its item had left: surely not written."""


class CancelledUnderWay(OutcomeUnknown, CancelledError):
    """The Deferred was cancelled when its item had left already: perhaps written."""


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """Where entries go, and what the header of their batch says. Compared by identity."""

    store_id: int
    queue_id: int
    pub_id: int
    mask: int  # consumer groups
    lane: tuple[int, int]  # (store_id, Paxos group of the queue): entries that share a line
    batch: tuple[int, ...]  # (queue_id, pub_id, ...): entries of a lane that may share a batch
    origin: Origin = Origin.NEW
    deliver_at_ms: int = 0  # 0: now; else a target of one entry alone, for it is cancelled by itself
    idempotency_key: bytes = b""  # else a target of one entry alone, too, ...
    body_digest: int = 0  # ... with the digest of what a second item with the key has to share
    prepared_by: str = ""  # else a half message, alone as well, of producers of that name ...
    check_after_ms: int = 0  # ... which are asked about it so long after; 0: as configured


def delayed_receipt(target: Target, timer_number: int) -> Receipt:
    """What is told of an item that the store keeps aside."""
    delayed_id = DelayedId(target.store_id, target.queue_id, target.deliver_at_ms, timer_number)
    return Receipt(target.store_id, target.queue_id, NO_CURSOR_YET, str(delayed_id))


class Entry:
    """One or more serialized items for one target. See `Waiting` in batching.py for what a lane reads.

    Each kind of entry knows the fates that a store can answer it with; another one is a defect, and raises.

    `left` and `answered` only ever go from False to True; a fate told after the first is ignored.
    """

    void = False
    left = False
    answered = False
    pieces: Sequence[Entry] = ()  # of an entry that takes several batches, which belong together
    together = 1  # the first of those: how many there are

    def __init__(
        self, target: Target, uin: int, count: int, payload: bytes, digest: int, arrived: float, atime_ms: int
    ) -> None:
        self.target = target
        self.uin = uin
        self.count = count
        self.payload = payload
        self.size = len(payload)
        self.digest = digest
        self.arrived = arrived
        self.atime_ms = atime_ms

    def was_stored(self, queue_id: int, deliver_at_ms: int) -> None:
        """What is told next is the outcome of an earlier batch with its key: so that is where it is."""
        self.target = replace(self.target, queue_id=queue_id, deliver_at_ms=deliver_at_ms)

    def succeed(self, first_cursor: int) -> None:
        """Its items are in the queue, from this cursor on."""
        raise NotImplementedError

    def keep(self, timer_number: int) -> None:
        """Its items are with the store, which puts them into the queue when they are due."""
        raise NotImplementedError

    def prepared(self, half_number: int) -> None:
        """Its item is with the store, which keeps it until it is decided."""
        raise NotImplementedError

    def fail(self, error: EnqueueError) -> None:
        """Its items are not, or perhaps, in the queue."""
        raise NotImplementedError


class SingleEntry(Entry):
    """The item of one enqueue()."""

    deferred: Deferred[Receipt]

    def succeed(self, first_cursor: int) -> None:
        if not self.answered:
            self.answered = True
            target = self.target
            self.deferred.callback(Receipt(target.store_id, target.queue_id, first_cursor))

    def keep(self, timer_number: int) -> None:
        if not self.answered:
            self.answered = True
            self.deferred.callback(delayed_receipt(self.target, timer_number))

    def fail(self, error: EnqueueError) -> None:
        if not self.answered:
            self.answered = True
            self.deferred.errback(error)

    def cancel(self, _deferred: Deferred[Receipt]) -> None:
        """The caller has lost interest. An item that has not left never will."""
        if self.left:
            self.fail(CancelledUnderWay("cancelled while its batch was under way: the item may or may not be written"))
        else:
            self.void = True
            self.fail(Cancelled("cancelled before it was sent: the item is not written"))


class PieceEntry(Entry):
    """Some items of one enqueue_many()."""

    call: Settles
    positions: Sequence[int]

    def succeed(self, first_cursor: int) -> None:
        if not self.answered:
            self.answered = True
            target = self.target
            self.call.settle(Segment(self.positions, target.store_id, target.queue_id, first_cursor, None))

    def keep(self, timer_number: int) -> None:
        if not self.answered:
            self.answered = True
            store_id, queue_id, cursor, delayed_id = delayed_receipt(self.target, timer_number)
            self.call.settle(Segment(self.positions, store_id, queue_id, cursor, None, delayed_id))

    def fail(self, error: EnqueueError) -> None:
        if not self.answered:
            self.answered = True
            self.call.settle(Segment(self.positions, self.target.store_id, self.target.queue_id, 0, error))


class Settles(Protocol):
    """A call that has pieces."""

    def settle(self, segment: Segment) -> None:
        """The outcome of one of them."""


class ManyCall:
    """One enqueue_many(): done when all its pieces are."""

    def __init__(self) -> None:
        self.deferred: Deferred[Receipts] = Deferred(self._cancel)
        self.pieces: list[PieceEntry] = []
        self._count = 0
        self._segments: list[Segment] = []
        self._open = 1  # pieces without outcome, and one for the call itself until all are made

    def piece(self, entry: PieceEntry, positions: Sequence[int]) -> None:
        """Another piece; it will call settle."""
        entry.call = self
        entry.positions = positions
        self.pieces.append(entry)
        self._open += 1

    def refuse(self, position: int, error: EnqueueError) -> None:
        """An item that never gets as far as a piece."""
        self._segments.append(Segment((position,), 0, 0, 0, error))

    def dropped(self, position: int, receipt: Receipt) -> None:
        """An item of a queue_info with drop_all."""
        self._segments.append(Segment((position,), receipt.store_id, receipt.queue_id, receipt.cursor, None))

    def made(self, count: int) -> None:
        """All pieces are made, of so many items."""
        self._count = count
        self._done()

    def settle(self, segment: Segment) -> None:
        """The outcome of one piece."""
        self._segments.append(segment)
        self._done()

    def _done(self) -> None:
        self._open -= 1
        if self._open == 0:
            self.pieces = []
            self.deferred.callback(Receipts(self._count, self._segments))

    def _cancel(self, deferred: Deferred[Receipts]) -> None:
        pieces, self.pieces = self.pieces, []
        under_way = False
        for piece in pieces:
            under_way = under_way or (piece.left and not piece.answered)
            piece.void = not piece.left
            piece.answered = True
        text = "enqueue_many was cancelled; items that had left may or may not be written, the others are not"
        deferred.errback(CancelledUnderWay(text) if under_way else Cancelled(text))
