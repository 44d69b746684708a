"""How often a reader had to begin where one before it had begun already: what a crash cannot reset.

An item that kills its consumer's process is never finished, so its group's acknowledged position comes to stand at it,
and every new reader begins there. The store counts that, per queue and consumer group, by the readers' ids, as
replicated state; the consumer draws the conclusions (:mod:`phxqueue.consumer.suspects`). A reader that goes on, or the
same one that was reset, is not counted, and a group that has read past everything handed out begins at 1 again. A
reader that says that it leaves is taken off the count: it has ended of its own will, not by what it had in hand.
"""

from __future__ import annotations

from dataclasses import dataclass

from phxqueue.proto.store_pb2 import ReaderBegin

Key = tuple[int, int]
"""(queue id, consumer group id)"""


#: Most readers that are counted at an item which none of them but the last is known to have had in hand.
MOVED_ON = 3


@dataclass(frozen=True, slots=True)
class Begin:
    """Where the last reader began.

    Attributes:
        acked: the acknowledged position it found.
        end: one past what was handed out, as far as is known: what lies between was handed out and not finished.
        reader_id: whose.
        count: readers that found something unfinished there, this one included; without it, when it has left.
    """

    acked: int
    end: int
    reader_id: int
    count: int


def next_begin(last: Begin | None, reader_id: int, acked: int, delivered: int, end: int) -> Begin | None:
    """What a reader that begins at `acked` makes of it; None: nothing, for it is the one that began last.

    Args:
        delivered: one past what was handed out before, as far as this master knows; 0: it does not.
        end: one past what is handed out now.
    """
    if last is not None and last.reader_id == reader_id:
        return None
    before = max(last.end if last is not None else 0, delivered)
    if acked >= before:
        count = 1
    elif last is not None and last.acked == acked:
        count = last.count + 1
    elif last is not None and last.count == 0:
        count = 1
    else:
        # Somebody got on and ended at the item that stands there now: its first time, as far as anybody knows.
        count = min(max(last.count if last is not None else 0, 2), MOVED_ON)
    return Begin(acked, max(end, before), reader_id, count)


def after_leaving(last: Begin | None, reader_id: int, acked: int, delivered: int) -> Begin | None:
    """What remains of the last begin when that reader leaves, at `acked`; None: nothing has to be noted."""
    if last is None or last.reader_id != reader_id:
        return None  # nobody would count it
    end = max(last.end, delivered)
    if acked >= end:
        return None  # it has finished everything
    left = Begin(acked, end, reader_id, max(last.count - 1, 0) if acked < last.end else 0)
    return None if left == last else left


class Begins:
    """The last begin of each queue and group; no more of them than there are queues in use times groups."""

    def __init__(self) -> None:
        self.known: dict[Key, Begin] = {}

    def note(self, begin: ReaderBegin) -> None:
        """A reader began (a replicated command)."""
        key = begin.queue_id, begin.consumer_group_id
        self.known[key] = Begin(begin.acked, begin.end, begin.reader_id, begin.count)
