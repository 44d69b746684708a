"""One fetched item on its way through a worker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from google.protobuf.message import DecodeError

from phxqueue.consumer.items import Place
from phxqueue.proto.digest import item_digest
from phxqueue.proto.item_pb2 import Meta, QItem, QItems
from phxqueue.proto.store_pb2 import GetBatch

#: What is kept of a batch that cannot be read, in bytes: for a person to look at, and small enough for any limit.
UNREADABLE_KEPT = 512


class Slot:
    """One item (or one unreadable batch).

    Attributes:
        count: items it stands for: 1, but for an unreadable batch.
        digest: what was really received; for an unreadable batch, what its header claims.
        size: its share of the bytes fetched.
        handle_id, expires_at_ms: as in `message.meta`, where reading them takes longer.
        unreadable: why it cannot be handled, or "".
        stale: it is no longer ours (the store reset the position): its result counts for nothing.
        tries: failed re-enqueues.
        tried_in_place: attempts in this very place that have failed (ordered groups).
        dropped: its time had passed, and its pub drops what is late.
        passed: as what it was stored again (see cursor_window.PASSED); 0: it was not.
    """

    __slots__ = (
        "count",
        "cursor",
        "digest",
        "dropped",
        "expires_at_ms",
        "finished",
        "handle_id",
        "message",
        "passed",
        "pub_id",
        "size",
        "stale",
        "tried_in_place",
        "tries",
        "uin",
        "unreadable",
    )

    def __init__(self, cursor: int, message: QItem, uin: int, digest: int, size: int, pub_id: int) -> None:
        self.cursor = cursor
        self.message = message
        meta = message.meta
        self.handle_id = meta.handle_id
        self.expires_at_ms = meta.expires_at_ms
        self.uin = uin
        self.digest = digest
        self.size = size
        self.pub_id = pub_id
        self.count = 1
        self.unreadable = ""
        self.finished = False
        self.stale = False
        self.dropped = False
        self.passed = 0
        self.tries = 0
        self.tried_in_place = 0

    @property
    def attempt(self) -> int:
        """The number of the attempt being made: 1 for the first."""
        return self.message.count + self.tried_in_place + 1

    def name(self, place: Place) -> str:
        """What to call it in a log."""
        meta = self.message.meta
        return (
            f"item {meta.producer_id:x}-{meta.number} ({place}, cursor {self.cursor}, handle_id "
            f"{meta.handle_id}, uin {meta.uin}, attempt {self.attempt})"
        )

    def strip(self) -> None:
        """Keep its name only: it is finished, and waits for items before it."""
        meta = self.message.meta
        self.message = QItem(
            count=self.message.count,
            meta=Meta(producer_id=meta.producer_id, number=meta.number, handle_id=meta.handle_id, uin=meta.uin),
        )


def read_batch(batch: GetBatch, start: int, group_bit: int, keyed: bool) -> Iterator[tuple[Slot, bool]]:
    """The items of a batch from cursor `start` on, each with whether it is for this group.

    Args:
        group_bit: of the consumer group; 0: everything is (dead letters).
        keyed: whether uins count in this queue.
    """
    header, first, raw = batch.header, batch.first_cursor, batch.items
    try:
        items: Sequence[QItem] = QItems.FromString(raw).items
        problem = "" if len(items) == header.count else f"it has {len(items)} items, its header says {header.count}"
    except DecodeError as error:
        items, problem = (), str(error)
    if problem:
        if first + header.count > start:  # else it is here already
            yield _unreadable(batch, problem), True
        return
    size = len(raw) // max(len(items), 1) + 1
    pub_id, everybody = header.pub_id, header.consumer_group_ids
    for cursor, message in enumerate(items, first):
        if cursor < start:
            continue
        meta = message.meta
        uin = meta.uin
        digest = item_digest(meta.producer_id, meta.number, message.buffer)
        mask = message.consumer_group_ids or everybody
        yield Slot(cursor, message, uin if keyed else 0, digest, size, pub_id), not group_bit or bool(mask & group_bit)


def _unreadable(batch: GetBatch, problem: str) -> Slot:
    """A batch that is no list of items: it goes to the dead letters as one item, with the beginning of its bytes."""
    header = batch.header
    meta = Meta(
        producer_id=header.producer_id, number=header.sequence, pub_id=header.pub_id, atime_ms=header.last_atime_ms
    )
    message = QItem(buffer=batch.items[:UNREADABLE_KEPT], meta=meta)
    slot = Slot(batch.first_cursor, message, 0, header.digest_sum, len(batch.items), header.pub_id)
    slot.count = header.count
    slot.unreadable = f"the batch of {len(batch.items)} bytes cannot be read: {problem}"
    return slot
