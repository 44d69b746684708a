"""Which of a queue's items are a consumer group's. Pure.

For a group of the files: the batches whose mask has its bit, and what its rows say. A group that was created at run
time reads besides, whatever their masks say, the new batches (no later attempts, no dead letters of others) of its
pubs: those stored since it began have its bit in the index, though not in their own headers, and those before have it
nowhere. Who is meant within a batch is for the consumer to see: an item that names no groups is for those of its batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from phxqueue.proto.origin import Origin
from phxqueue.store.group_table import GroupTable
from phxqueue.store.index import UNIFORM, QueueIndex

if TYPE_CHECKING:
    from phxqueue.store.entries import StoredBatch

_NEW = int(Origin.NEW)


@dataclass(frozen=True, slots=True)
class View:
    """What a reader sees of a queue.

    Attributes:
        mask: bit of its consumer group; 0: everything.
        pub_ids: of a group that was created at run time: what it reads.
        since: from here on the index knows its bit.
    """

    mask: int
    pub_ids: frozenset[int] = frozenset()
    since: int = 0

    def may_have(self, index: QueueIndex, row: int) -> bool:
        """Whether a row can hold something for this reader."""
        return not self.mask or bool(index.masks[row] & self.mask) or index.firsts[row] < self.since

    def has_all(self, index: QueueIndex, row: int) -> bool:
        """Whether a row that `may_have` something is known to be for this reader as a whole."""
        return bool(index.flags[row] & UNIFORM) and index.firsts[row] >= self.since

    def has(self, stored: StoredBatch) -> bool:
        """Whether a batch is for this reader."""
        if not self.mask or stored.mask & self.mask:
            return True
        return stored.pub_id in self.pub_ids and stored.batch.header.origin == _NEW


def view_of(table: GroupTable, queue_id: int, consumer_group_id: int, *, by_mask: bool) -> View:
    """What a consumer group sees of a queue; `by_mask` False: everything (dead letters)."""
    if not by_mask or not consumer_group_id:
        return EVERYTHING
    mask = 1 << (consumer_group_id - 1)
    group = table.created.get(consumer_group_id)
    if group is None:
        return View(mask)
    return View(mask, frozenset(group.pub_ids), table.since.get((queue_id, consumer_group_id), 0))


EVERYTHING = View(0)
