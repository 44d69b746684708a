"""What one entry has stored, gathered for the ledger: a few additions for each batch. Pure."""

from __future__ import annotations

from phxqueue.proto.item_pb2 import BatchHeader
from phxqueue.reconcile.ledger import Ledger
from phxqueue.reconcile.tally import Tally


class EntryBooks:
    """Of one entry while it is being applied."""

    __slots__ = ("_last", "_ledger", "_tallies")

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._tallies: dict[tuple[int, ...], list[int]] = {}
        self._last: tuple[int, int, int] | None = None  # queue, pub and mask of the last batch

    def store(self, header: BatchHeader, queue_id: int, cursor: int, count: int, mask: int) -> None:
        """A batch that got its cursors. `mask`: of all it is for, also groups that its header does not name."""
        pub_id, named = header.pub_id, header.consumer_group_ids
        if not self._ledger.whole:
            mask = named
        if (queue_id, pub_id, mask) != self._last:
            self._last = queue_id, pub_id, mask
            self._ledger.place(queue_id, cursor, pub_id, mask)
        self._count(header, queue_id, pub_id, count, mask & ~named)

    def set_aside(self, header: BatchHeader, number: int) -> None:
        """A delayed batch."""
        pub_id, mask = header.pub_id, header.consumer_group_ids
        self._ledger.set_aside(number, pub_id, mask, header.count)
        self._count(header, header.queue_id, pub_id, header.count, 0)  # those not named: when it comes due

    def _count(self, header: BatchHeader, queue_id: int, pub_id: int, count: int, added: int) -> None:
        producer_id = header.producer_id if header.sequence else 0
        key = (producer_id, queue_id, pub_id, header.consumer_group_ids, header.origin, added)
        tally = self._tallies.get(key)
        if tally is None:
            self._tallies[key] = [count, header.digest_sum, header.sequence, header.sequence]
        else:
            tally[0] += count
            tally[1] += header.digest_sum
            if header.sequence > tally[3]:
                tally[3] = header.sequence
            elif header.sequence < tally[2]:
                tally[2] = header.sequence

    def close(self) -> None:
        """The entry has no more of them."""
        if self._tallies:
            self._ledger.store({Tally(*key): sums for key, sums in self._tallies.items()})
