"""Where rows lie whose items were written again, in checkpoints: sealed segments do not know of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from phxqueue.replica.portions import Portions
from phxqueue.store.columns import ColumnReader, ColumnWriter
from phxqueue.store.index import QueueIndex

#: Rows that are put back in one step.
_STEP_ROWS = 256


class RelocatedRows:
    """The relocated rows of a Paxos group's queues; the indexes have the rows themselves.

    Attributes:
        queue_ids: queues that have any, or had.
    """

    def __init__(self) -> None:
        self.queue_ids: set[int] = set()
        self._read: list[tuple[int, ...]] = []

    def write(self, out: ColumnWriter, queues: Mapping[int, QueueIndex]) -> None:
        """Write what all queues have."""
        rows = [
            (queue_id, first, *now)
            for queue_id in sorted(self.queue_ids)
            for first, now in queues[queue_id].relocated.items()
        ]
        out.u32(len(rows))
        for column in zip(*rows, strict=True):
            out.numbers(column)

    def read(self, source: ColumnReader) -> None:
        """Read what `write` wrote."""
        count = source.u32()
        columns = [source.numbers(count) for _ in range(5)] if count else []
        self._read = list(zip(*columns, strict=True))

    def putting_back(self, queues: Mapping[int, QueueIndex]) -> Portions[None]:
        """Change the rows that were read from segments. Raises CorruptCheckpoint."""
        for number, (queue_id, first, instance, position, batches) in enumerate(self._read):
            if not number % _STEP_ROWS:
                yield
            self.queue_ids.add(queue_id)
            queues[queue_id].relocate_again(first, (instance, position, batches))
        self._read = []
