"""Turning entries back into the batches of one queue, for Get.

The store does not look at items here either: it cuts an entry into its batches and concatenates the ones that a reader
wants. Batches of one row with the same pub and mask come out as one: two serialized QItems concatenate to one, so a
reader gets five hundred small batches at the price of one.

Entries stay parsed for a while, because several consumer groups, and several queues, read the same ones.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from phxqueue.proto.item_pb2 import BatchHeader, ItemBatch
from phxqueue.proto.store_pb2 import GetBatch, GetResponse, StoreCommand
from phxqueue.store.index import REFERENCE, SOLE, UNIFORM, QueueIndex
from phxqueue.store.merged import merged_batches
from phxqueue.store.relocation import RELOCATED_BIT
from phxqueue.store.rows import Wanted
from phxqueue.store.state import KEYS_VERSION, TIMER_VERSION

_U64_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """A batch of an entry; `offset` counts the items of its row before it."""

    offset: int
    count: int
    mask: int
    pub_id: int
    batch: ItemBatch
    items: bytes


class ParsedEntry:
    """One entry, taken apart as far as somebody asked."""

    def __init__(self, payload: bytes, refused: Iterable[int]) -> None:
        self.size = len(payload)
        self._payload = payload
        self._refused = frozenset(refused)
        self._queues: dict[int, list[StoredBatch]] | None = None
        self._delayed: dict[int, ItemBatch] = {}  # half messages, relocated ones; by their positions in the entry
        self._whole: dict[int, GetBatch] = {}

    def of_row(self, index: QueueIndex, row: int) -> list[StoredBatch]:
        """The batches of a row, in order."""
        if index.flags[row] & REFERENCE:
            return self.referenced(*index.reference(row))
        return self.batches(index.queue_id)

    def referenced(self, first: int, count: int) -> list[StoredBatch]:
        """Delayed batches, or such as were written again, that stand side by side."""
        if self._queues is None:
            self._queues = self._split()
        found: list[StoredBatch] = []
        offset = 0
        for position in range(first, first + count):
            batch = self._delayed[position]
            header = batch.header
            found.append(
                StoredBatch(offset, header.count, header.consumer_group_ids, header.pub_id, batch, batch.items)
            )
            offset += header.count
        return found

    def kept_aside(self, position: int) -> ItemBatch:
        """A delayed batch or half message, by its position in the entry."""
        if self._queues is None:
            self._queues = self._split()
        return self._delayed[position]

    def batches(self, queue_id: int) -> list[StoredBatch]:
        """The stored batches of a queue, in order, without delayed ones."""
        if self._queues is None:
            self._queues = self._split()
        return self._queues.get(queue_id, [])

    def whole(self, index: QueueIndex, row: int) -> GetBatch:
        """A whole row as one batch; its batches must be UNIFORM."""
        found = self._whole.get(index.queue_id)
        if found is None:
            found = self._merge_sole() if index.flags[row] & SOLE else _merged(self.batches(index.queue_id))
            found.first_cursor = index.firsts[row]
            found.timestamp_ms = index.timestamps[row]
            found.header.count = index.row_end(row) - index.firsts[row]
            found.header.digest_sum = index.row_digest(row)
            self._whole[index.queue_id] = found
        return found

    def _merge_sole(self) -> GetBatch:
        """All batches of the entry as one: they are all of one queue and were all stored."""
        count, first, last, items = merged_batches(self._payload)
        merged = GetBatch(items=items)
        merged.header.MergeFromString(first)
        if count > 1:
            _become_many(merged.header, BatchHeader.FromString(last))
        return merged

    def _split(self) -> dict[int, list[StoredBatch]]:
        queues: dict[int, list[StoredBatch]] = {}
        ends: dict[int, int] = {}
        command = StoreCommand.FromString(self._payload)
        may_delay, extended = command.version >= TIMER_VERSION, command.version >= KEYS_VERSION
        for position, batch in enumerate(command.batches):
            if position in self._refused:
                continue
            header = batch.header
            if (may_delay and header.deliver_at_ms) or (extended and header.prepared_by):
                self._delayed[position] = batch
                continue
            queue_id, count = header.queue_id, header.count
            offset = ends.get(queue_id, 0)
            ends[queue_id] = offset + count
            queues.setdefault(queue_id, []).append(
                StoredBatch(offset, count, header.consumer_group_ids, header.pub_id, batch, batch.items)
            )
        for position, batch in enumerate(command.relocated):
            self._delayed[RELOCATED_BIT | position] = batch
        return queues


class ParsedEntries:
    """The entries parsed last, of all groups of a node, bounded in number and bytes."""

    def __init__(self, max_entries: int = 256, max_bytes: int = 32 << 20) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._entries: OrderedDict[tuple[int, int], ParsedEntry] = OrderedDict()
        self._bytes = 0

    def get(self, key: tuple[int, int]) -> ParsedEntry | None:
        """Return the entry of a (Paxos group, instance), if it is still parsed."""
        return self._entries.get(key)

    def put(self, key: tuple[int, int], entry: ParsedEntry) -> None:
        """Keep an entry; the ones kept longest leave."""
        if key in self._entries:
            return
        self._entries[key] = entry
        self._bytes += entry.size
        while len(self._entries) > self._max_entries or (self._bytes > self._max_bytes and len(self._entries) > 1):
            _, evicted = self._entries.popitem(last=False)
            self._bytes -= evicted.size


class Answer:
    """Fills a GetResponse with batches until a limit is reached.

    Attributes:
        response: the answer.
        position: one past the last item looked at: where the reader continues.
        items: items in it.
        full: a limit stopped it.
    """

    def __init__(self, wanted: Wanted, position: int) -> None:
        self.response = GetResponse()
        self.position = position
        self.items = 0
        self.full = False
        self._wanted = wanted
        self._size = 0
        self._run: list[StoredBatch] = []

    def add_row(self, index: QueueIndex, row: int, entry: ParsedEntry) -> None:
        """Take what is wanted of one row. Rows must come in order."""
        first, end = index.firsts[row], index.row_end(row)
        count = end - first
        if (
            index.flags[row] & (UNIFORM | REFERENCE) == UNIFORM
            and first >= self._wanted.view.since
            and first >= self.position
            and (self.items + count <= self._wanted.items)
            and (self._size + index.sizes[row] <= self._wanted.size)
        ):
            self.response.batches.append(entry.whole(index, row))
            self._name_reader()
            self.items += count
            self._size += index.sizes[row]
            self.position = end
            return
        self._add_batches(first, index.timestamps[row], entry.of_row(index, row))

    def _add_batches(self, first: int, timestamp_ms: int, batches: list[StoredBatch]) -> None:
        wanted, run = self._wanted, self._run
        for stored in batches:
            end = first + stored.offset + stored.count
            if end <= self.position:
                continue
            if not wanted.view.has(stored):
                self.position = end
                continue
            if self.items and (
                self.items + stored.count > wanted.items or self._size + len(stored.items) > wanted.size
            ):
                self.full = True
                break
            if run and not _same_kind(run[-1], stored):
                self._end_run(first, timestamp_ms)
            run.append(stored)
            self.items += stored.count
            self._size += len(stored.items)
            self.position = end
        self._end_run(first, timestamp_ms)

    def _end_run(self, first: int, timestamp_ms: int) -> None:
        run = self._run
        if not run:
            return
        merged = _merged(run)
        merged.first_cursor = first + run[0].offset
        merged.timestamp_ms = timestamp_ms
        self.response.batches.append(merged)
        self._name_reader()
        run.clear()

    def _name_reader(self) -> None:
        """A group that was created at run time is not named by what others have enqueued for everybody."""
        view = self._wanted.view
        if view.pub_ids:
            self.response.batches[-1].header.consumer_group_ids |= view.mask


def _same_kind(one: StoredBatch, other: StoredBatch) -> bool:
    return one.mask == other.mask and one.pub_id == other.pub_id and one.offset + one.count == other.offset


def _merged(run: list[StoredBatch]) -> GetBatch:
    """Batches of one pub and mask that follow each other as one, cursor and time still to be set."""
    merged = GetBatch(header=run[0].batch.header, items=b"".join([stored.items for stored in run]))
    if len(run) > 1:
        _become_many(merged.header, run[-1].batch.header)
        merged.header.count = sum(stored.count for stored in run)
        merged.header.digest_sum = sum(stored.batch.header.digest_sum for stored in run) & _U64_MASK
    return merged


def _become_many(header: BatchHeader, last: BatchHeader) -> None:
    """Turn the header of a first batch into that of all up to `last`; count and digest are the caller's.

    Times are those of the first and the last batch. The identity for idempotence belongs to single batches.
    """
    header.last_atime_ms = last.last_atime_ms
    header.ClearField("producer_id")
    header.ClearField("sequence")
