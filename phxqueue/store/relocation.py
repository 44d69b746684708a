"""Old items that keep the log are written again at its end, so that what lies between may go. Pure.

The log goes from its front only. One delayed message that is due in a month, or one dead letter, keeps everything that
was stored after it, however long ago that was finished. When most of the log is kept for a few such items, a master
writes them again: the command carries their batches once more, unchanged, and says which index rows, delayed batches
and half messages refer to them from now on. Cursors, order, digests, times and outcomes stay as they are; only where
the bytes lie is another instance. What has moved or gone meanwhile is left alone, so a command may come twice.

This is what a log-structured file system does with its oldest segment. Log is cleaned when less than half of it is in
use, so what is written again is no more than what was written in the first place.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from phxqueue.proto.store_pb2 import StoreCommand
from phxqueue.store.index import QueueIndex
from phxqueue.store.state import QueueState

#: Commands with relocations.
RELOCATION_VERSION = 11
#: Set in the position of a batch that was written again: among `relocated` of its command, not among `batches`.
RELOCATED_BIT = 1 << 31
#: Log is cleaned when no more than one byte in so many is in use ...
LIVE_SHARE = 2
#: ... and of it the oldest part: one entry in so many.
OLDEST_PART = 4


class Pin(NamedTuple):
    """What keeps an entry: an index row of a queue, or (it has such a number) a delayed batch or a half message.

    `first_cursor` is that of the row, `ordinal` the position of the others in their entry. In the order of the log.
    """

    instance: int
    queue_id: int
    first_cursor: int
    deliver_at_ms: int
    timer_number: int
    half_number: int
    ordinal: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RelocationBounds:
    """When to write items again, and how much at a time.

    Attributes:
        log_bytes: log that is kept beyond this is worth looking at.
        command_bytes: in one command.
        item_bytes: rows and batches that are larger stay where they are.
    """

    log_bytes: int
    command_bytes: int
    item_bytes: int


#: Most rows and batches in one command.
COMMAND_PINS = 500


def plan(state: QueueState, entry_bytes: float, bounds: RelocationBounds) -> list[Pin]:
    """Choose what to write again, the oldest first; nothing, as long as the log is mostly in use, or small.

    Args:
        entry_bytes: the mean size of an entry of this log.
    """
    first = state.first_needed()
    span = state.applied + 1 - first
    kept = span * entry_bytes
    if kept <= bounds.log_bytes or LIVE_SHARE * live_bytes(state) > kept:
        return []
    below = first + max(1, span // OLDEST_PART)
    chosen: list[Pin] = []
    size = 0
    for pin in sorted(_pins(state, below)):
        if pin.size > bounds.item_bytes:
            continue
        size += pin.size
        if chosen and (size > bounds.command_bytes or len(chosen) == COMMAND_PINS):
            break
        chosen.append(pin)
    return chosen


def live_bytes(state: QueueState) -> int:
    """Bytes of items that queues refer to, or that are kept aside."""
    return sum(sum(index.sizes) for index in state.queues.values()) + state.timers.live_bytes + state.halves.live_bytes


def _pins(state: QueueState, below: int) -> Iterator[Pin]:
    """Everything that lies in an instance below that one."""
    for index in state.queues.values():
        if len(index) and index.lowest_instance < below:
            for row in _rows(index, below):
                yield Pin(index.instances[row], index.queue_id, index.firsts[row], 0, 0, 0, 0, index.sizes[row])
    for timer in state.timers.before(below):
        due = timer.deliver_at_ms
        yield Pin(timer.instance, timer.queue_id, 0, due, timer.number, 0, timer.ordinal, timer.size)
    for half in state.halves.before(below):
        yield Pin(half.instance, half.queue_id, 0, 0, 0, half.number, half.ordinal, half.size)


def _rows(index: QueueIndex, below: int) -> Iterable[int]:
    if not index.has_references:
        return range(bisect_left(index.instances, below))
    return [row for row, instance in enumerate(index.instances) if instance < below]


def relocate(state: QueueState, instance: int, command: StoreCommand) -> None:
    """Carry out the relocations of a command that stands at `instance`."""
    for one in command.relocations if command.version >= RELOCATION_VERSION else ():
        position = RELOCATED_BIT | one.first_batch
        if one.half_number:
            state.halves.relocate(one.half_number, one.instance, (instance, position))
            continue
        if one.timer_number:
            state.timers.relocate(one.deliver_at_ms, one.timer_number, one.instance, (instance, position))
            continue
        index = state.queues.get(one.queue_id)
        if index is not None:
            state.relocated.queue_ids.add(one.queue_id)
            index.relocate(one.first_cursor, one.instance, (instance, position, one.batches))
