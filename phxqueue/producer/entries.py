"""What waits in a lane: one item of an enqueue, or a piece of an enqueue_many, with whom to tell its fate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred

from phxqueue.producer.delayed import DelayedId
from phxqueue.producer.errors import EnqueueError, OutcomeUnknown, Refused
from phxqueue.producer.receipts import NO_CURSOR_YET, Receipt, Receipts, Segment
from phxqueue.proto.origin import Origin
from phxqueue.proto.store_pb2 import AddResult


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


def receipt_of(target: Target, result: AddResult, offset: int) -> Receipt:
    """Where the store says that an item is which lies behind `offset` others of its batch."""
    # Of an item with an idempotency key the result may be that of an earlier batch: so that is where it is.
    queue_id = result.queue_id if result.by_key else target.queue_id
    if not result.delayed:
        return Receipt(target.store_id, queue_id, result.first_cursor + offset)
    due_ms = result.deliver_at_ms if result.by_key else target.deliver_at_ms
    delayed_id = DelayedId(target.store_id, queue_id, due_ms, result.timer_number)
    return Receipt(target.store_id, queue_id, NO_CURSOR_YET, str(delayed_id))


class LaneEntry(ABC):
    """What lines up in a lane, and leaves it as a whole. See `Waiting` in batching.py for what a lane reads.

    `left` and `answered` only ever go from False to True; a fate told after the first is ignored.

    Attributes:
        lane: (store_id, Paxos group).
    """

    void = False
    left = False
    answered = False

    def __init__(self, lane: tuple[int, int], uin: int, count: int, size: int, arrived: float) -> None:
        self.lane = lane
        self.uin = uin
        self.count = count
        self.size = size
        self.arrived = arrived

    @abstractmethod
    def fail(self, error: EnqueueError) -> None:
        """Its items are not, or perhaps, in the queue."""


class Entry(LaneEntry):
    """One or more serialized items for one target: they are of one batch."""

    together = 1  # of batches that belong together, the first: how many there are

    def __init__(
        self, target: Target, uin: int, count: int, payload: bytes, digest: int, arrived: float, atime_ms: int
    ) -> None:
        super().__init__(target.lane, uin, count, len(payload), arrived)
        self.target = target
        self.payload = payload
        self.digest = digest
        self.atime_ms = atime_ms

    @abstractmethod
    def stored(self, result: AddResult, offset: int) -> None:
        """The store has its items, where the result of their batch says, behind `offset` others of it."""


class SingleEntry(Entry):
    """The item of one enqueue()."""

    deferred: Deferred[Receipt]

    def stored(self, result: AddResult, offset: int) -> None:
        if not self.answered:
            self.answered = True
            self.deferred.callback(receipt_of(self.target, result, offset))

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

    def stored(self, result: AddResult, offset: int) -> None:
        if not self.answered:
            self.answered = True
            store_id, queue_id, cursor, delayed_id = receipt_of(self.target, result, offset)
            self.call.settle(Segment(self.positions, store_id, queue_id, cursor, None, delayed_id))

    def fail(self, error: EnqueueError) -> None:
        if not self.answered:
            self.answered = True
            self.call.settle(Segment(self.positions, self.target.store_id, self.target.queue_id, 0, error))


class TogetherEntry(LaneEntry):
    """Pieces of one lane that belong together: each becomes a batch of its own, and all travel in one request."""

    def __init__(self, pieces: Sequence[PieceEntry]) -> None:
        first = pieces[0]
        count, size = sum(piece.count for piece in pieces), sum(piece.size for piece in pieces)
        super().__init__(first.lane, first.uin, count, size, first.arrived)
        self.pieces = pieces


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
