"""What a consumer must have finished, to acknowledge a stretch of a queue: the store's side of reconciliation. Pure.

Every acknowledgement claims how many items were finished from one cursor to another, and the sum of their digests
(section 8 of the design). The index knows the same of all items, as prefix sums over cursors; here the two meet. What
counts for a consumer group is every batch whose mask has its bit, whole: which of its items are for the group alone
is the consumer's to see.

The sums of rows whose batches are all alike are in the index. Items are looked at in two cases: in a row of several
masks the headers of its batches, and in a row that the claim begins or ends in the midst of, the items themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from phxqueue.proto.digest import MASK64, Claim, item_digest
from phxqueue.proto.item_pb2 import QItem, QItems
from phxqueue.store.entries import ParsedEntry, StoredBatch
from phxqueue.store.index import QueueIndex
from phxqueue.store.views import View

FindEntry = Callable[[int], ParsedEntry | None]
"""find(instance): an entry that is in memory, or None."""


class Audit:
    """Adds up what is stored in the range of a claim, in steps.

    Attributes:
        count, digest_sum: of the items found so far.
        unreadable: of these, items of batches that cannot be read; only with `verify`.
        missing: instances whose entries have to be read before it can go on.
    """

    def __init__(self, index: QueueIndex, start: int, stop: int, view: View, *, verify: bool = False) -> None:
        """`view`: which batches count. `verify`: see for every batch whether it can be read, which takes looking at all
        items.
        """
        self.count = 0
        self.unreadable = 0
        self._verify = verify
        self.digest_sum = 0
        self.missing: list[int] = []
        self._index = index
        self._position = start
        self._stop = stop
        self._view = view

    def step(self, entry: FindEntry, rows: int, reads: int) -> bool:
        """Go on for at most so many rows. True: done. False: come again, with the entries in `missing`, if any.

        Args:
            reads: most entries named in `missing` at once.
        """
        index, view, stop = self._index, self._view, self._stop
        self.missing = []
        # Rows below the first are trimmed: acknowledged by everybody long ago.
        self._position = max(self._position, index.first_cursor)
        row = index.find(self._position)
        last = min(len(index), row + rows)
        while row < last and self._position < stop:
            first, end = index.firsts[row], index.row_end(row)
            if not view.may_have(index, row):
                pass
            elif first >= self._position and end <= stop and view.has_all(index, row) and not self._verify:
                self.count += end - first
                self.digest_sum += index.row_digest(row)
            else:
                parsed = entry(index.instances[row])
                if parsed is None:
                    self.missing = self._unread(row, last, entry, reads)
                    return False
                for batch in parsed.of_row(index, row):
                    self._add(batch, first + batch.offset)
            self._position = end
            row += 1
        return self._position >= stop or row >= len(index)

    def agrees(self, claim: Claim) -> bool:
        """Whether a consumer that claims this has finished what is stored; when the last step said "done"."""
        return (claim.count, claim.digest_sum, claim.unreadable) == (
            self.count,
            self.digest_sum & MASK64,
            self.unreadable,
        )

    def _add(self, batch: StoredBatch, first: int) -> None:
        """Add what of a batch lies in the range and is not added yet."""
        low, high = max(first, self._position), min(first + batch.count, self._stop)
        if low >= high or not self._view.has(batch):
            return
        if high - low == batch.count:
            if self._verify and len(_readable(batch)) != batch.count:
                self.unreadable += batch.count
            self.count += batch.count
            self.digest_sum += batch.batch.header.digest_sum
            return
        items = _readable(batch)
        if len(items) != batch.count:
            # Nobody can read it: a consumer finishes it as one, and its header stands for it.
            if low == first:
                self.unreadable += batch.count if self._verify else 0
                self.count += batch.count
                self.digest_sum += batch.batch.header.digest_sum
            return
        self.count += high - low
        self.digest_sum += sum(
            item_digest(item.meta.producer_id, item.meta.number, item.buffer)
            for item in items[low - first : high - first]
        )

    def _unread(self, row: int, last: int, entry: FindEntry, most: int) -> list[int]:
        """The instances that this and the next steps need and do not have."""
        index, view = self._index, self._view
        found: list[int] = []
        while row < last and len(found) < most and index.firsts[row] < self._stop:
            inside = index.firsts[row] >= self._position and index.row_end(row) <= self._stop
            whole = inside and view.has_all(index, row) and not self._verify
            needed = not whole and view.may_have(index, row)
            if needed and entry(index.instances[row]) is None:
                found.append(index.instances[row])
            row += 1
        return found


def _readable(batch: StoredBatch) -> Sequence[QItem]:
    try:
        return QItems.FromString(batch.items).items
    except DecodeError:
        return ()


@dataclass(slots=True)
class AuditCounts:
    """What became of the acknowledgements of one queue and consumer group on this node.

    Attributes:
        agreed: claims that the stored items confirm.
        disputed: claims that they do not: something was lost, invented or altered on the way.
        refused: of those, the ones that moved nothing.
        unclaimed: acknowledgements that claim nothing (of clients that do not count).
        unchecked: claims of which the stored side is trimmed already.
        open_until: end of a refused claim that no true one has covered yet; 0: there is none.
    """

    agreed: int = 0
    disputed: int = 0
    refused: int = 0
    unclaimed: int = 0
    unchecked: int = 0
    open_until: int = 0


class Audits:
    """The same by (queue id, consumer group id), since the process began."""

    def __init__(self) -> None:
        self.counts: dict[tuple[int, int], AuditCounts] = {}

    def of(self, key: tuple[int, int]) -> AuditCounts:
        """Of one queue and consumer group."""
        found = self.counts.get(key)
        if found is None:
            found = self.counts[key] = AuditCounts()
        return found

    def total(self) -> AuditCounts:
        """Of all of them."""
        total = AuditCounts()
        for counts in self.counts.values():
            total.agreed += counts.agreed
            total.disputed += counts.disputed
            total.refused += counts.refused
            total.unclaimed += counts.unclaimed
            total.unchecked += counts.unchecked
        return total


def dispute(claim: Claim, audit: Audit) -> str:
    """Say what is wrong with a claim, and what it can come from."""
    stored, finished = audit.count, claim.count
    where = f"cursors {claim.start} to {claim.stop - 1}"
    if finished < stored:
        return f"{where}: {stored} items are stored and only {finished} were finished: {stored - finished} were lost"
    if finished > stored:
        return f"{where}: {stored} items are stored but {finished} were finished: {finished - stored} were invented"
    if claim.unreadable != audit.unreadable:
        return (
            f"{where}: {claim.unreadable} items came in batches that could not be read, and {audit.unreadable} of what "
            "is stored cannot be: one or more batches were altered on the way"
        )
    return (
        f"{where}: {stored} items were finished, but their digests add up to {claim.digest_sum:016x} instead of "
        f"{audit.digest_sum & MASK64:016x}: one or more were altered, or handled in the place of others"
    )
