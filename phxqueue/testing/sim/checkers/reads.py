"""Nothing stale: whoever asks after something was acknowledged sees it, and whoever adds comes behind it.

That is linearizability of the queue's end: an operation that began after another had ended is ordered after it. It is
what a deposed master that still answers would break.
"""

from __future__ import annotations

from phxqueue.testing.sim.checkers import Violation


class Reads:
    """Knows up to where each queue was acknowledged; clients ask before they send and check what they get."""

    def __init__(self) -> None:
        self._ends: dict[int, int] = {}

    def acknowledged_end(self, queue_id: int) -> int:
        """One past the last item of a queue that a producer was told of; to be remembered when a request is sent."""
        return self._ends.get(queue_id, 0)

    def added(self, queue_id: int, floor: int, cursor: int, count: int) -> None:
        """A batch first sent when the acknowledged end was `floor` stands at `cursor`."""
        if cursor < floor:
            raise Violation(
                f"queue {queue_id}: a batch was stored at {cursor}; when it was first sent, everything below {floor} "
                "had been acknowledged to others already"
            )
        self._ends[queue_id] = max(self._ends.get(queue_id, 0), cursor + count)

    def read(self, queue_id: int, floor: int, end_cursor: int) -> None:
        """A Get sent when the acknowledged end was `floor` says that the queue ends at `end_cursor`."""
        if end_cursor < floor:
            raise Violation(
                f"queue {queue_id}: a Get says it ends at {end_cursor}; when it was sent, items up to {floor} had been "
                "acknowledged: an old state was served"
            )
