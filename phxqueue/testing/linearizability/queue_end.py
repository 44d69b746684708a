"""The end of a queue: every batch stands behind all that were there before, and nobody sees an old end.

============ =================== =========================================================
operation    arguments           result
============ =================== =========================================================
``append``   ``count``           ``first``: the cursor of the batch's first item
``end``                          ``end``: one past the last item
============ =================== =========================================================

Key: ``store_id/queue_id``. The first cursor of a queue is 0.
"""

from __future__ import annotations

from phxqueue.testing.linearizability.history import HistoryError, Operation


class QueueEnd:
    """The model; its state is the end."""

    def initial(self) -> int:
        """Return the end of an empty queue."""
        return 0

    def step(self, state: int, operation: Operation) -> int | None:
        """See the table above."""
        result = operation.result
        if operation.name == "append":
            count: int = operation.arguments["count"]
            return state + count if result is None or result["first"] == state else None
        if operation.name == "end":
            return state if result is None or result["end"] == state else None
        raise HistoryError(f"the end of a queue has no operation {operation.name!r}")
