"""From entries to one AddRequest, and what its parts are waiting for. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from operator import or_

from phxqueue.producer.entries import Entry, LaneEntry, TogetherEntry
from phxqueue.proto.digest import MASK64
from phxqueue.proto.store_pb2 import AddRequest


class Part:
    """The entries of one batch of a request.

    `maybe_written`: some try of it ended without an answer, so that a later refusal proves nothing.
    """

    __slots__ = ("entries", "maybe_written")

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries
        self.maybe_written = False

    @property
    def keyed(self) -> bool:
        """Whether any of its items has to be followed by others."""
        return any(entry.uin for entry in self.entries)


class Request:
    """Entries under way together. Every try sends the same batches with the same sequence numbers."""

    __slots__ = (
        "entries",
        "first_arrived",
        "items",
        "last_arrived",
        "message",
        "parts",
        "pauses",
        "settle_until",
        "size",
        "tries",
    )

    def __init__(
        self, topic_id: int, store_id: int, producer_id: int, entries: Sequence[LaneEntry], numbers: Iterator[int]
    ) -> None:
        self.entries = entries
        self.items = 0
        self.size = 0
        self.first_arrived = min([entry.arrived for entry in entries])
        self.last_arrived = max([entry.arrived for entry in entries])
        self.tries = 0
        self.pauses = 0  # between tries, since the last change of purpose
        self.settle_until: float | None = None  # set when its callers have been told all there is to tell
        self.message = AddRequest(topic_id=topic_id, store_id=store_id)
        self.parts = [Part(part) for part in _by_batch(entries)]
        for part in self.parts:
            self._add_batch(part.entries, producer_id, next(numbers))

    def _add_batch(self, entries: list[Entry], producer_id: int, number: int) -> None:
        batch = self.message.batches.add()
        payload = b"".join([entry.payload for entry in entries])
        batch.items = payload
        header = batch.header
        target = entries[0].target
        header.queue_id = target.queue_id
        header.pub_id = target.pub_id
        header.consumer_group_ids = reduce(or_, {entry.target.mask for entry in entries})
        header.count = sum([entry.count for entry in entries])
        header.first_atime_ms = entries[0].atime_ms
        header.last_atime_ms = entries[-1].atime_ms
        header.digest_sum = sum([entry.digest for entry in entries]) & MASK64
        header.producer_id = producer_id
        header.sequence = number
        if entries[0].together > 1:
            header.atomic_batches = entries[0].together
        if target.origin:
            header.origin = target.origin
        if target.deliver_at_ms:
            header.deliver_at_ms = target.deliver_at_ms
        if target.prepared_by:
            header.prepared_by = target.prepared_by
            header.check_after_ms = target.check_after_ms
        if target.idempotency_key:
            header.idempotency_key = target.idempotency_key
            header.body_digest = target.body_digest
        self.items += header.count
        self.size += len(payload)
        for entry in entries:
            entry.payload = b""  # the batch has it now
            entry.left = True

    def keep(self, indexes: list[int]) -> None:
        """Go on with these parts only."""
        if len(indexes) == len(self.parts):
            return
        message = AddRequest(topic_id=self.message.topic_id, store_id=self.message.store_id)
        message.batches.extend(self.message.batches[index] for index in indexes)
        self.message = message
        self.parts = [self.parts[index] for index in indexes]

    @property
    def answered(self) -> bool:
        """Whether every caller has been told something."""
        return all(entry.answered for part in self.parts for entry in part.entries)


def _by_batch(entries: Sequence[LaneEntry]) -> list[list[Entry]]:
    """Entries by queue and pub, each list in order. What came behind one with a batch for itself stays behind it."""
    single = [entry for entry in entries if isinstance(entry, Entry)]
    if len(single) == len(entries) and len({id(entry.target) for entry in single}) == 1:
        return [single]
    batches: list[list[Entry]] = []
    growing: dict[tuple[int, ...], list[Entry]] = {}
    for entry in entries:
        if isinstance(entry, TogetherEntry):
            growing.clear()
            batches += [[piece] for piece in entry.pieces]
            entry.left = True
        elif isinstance(entry, Entry):
            target = entry.target
            if target.idempotency_key:
                growing.pop(target.batch[:-1], None)
            batch = growing.get(target.batch)
            if batch is None:
                batch = growing[target.batch] = []
                batches.append(batch)
            batch.append(entry)
    return batches
