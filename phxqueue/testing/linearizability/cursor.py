"""The acknowledged cursor of a consumer group in a queue: it rises with acknowledgements, and falls back in failovers.

============ ==================== =======================================================================
operation    arguments            result
============ ==================== =======================================================================
``ack``      ``position``         (none): everything below is done
``read``                          ``position``: everything below it was acknowledged
``failover`` ``floor``            (none): what was not replicated is gone, or not yet there; the position is
                                  between the floor and where it stood
``replay``   ``position``         (none): the group is sent back (or forward) to a position
============ ==================== =======================================================================

Key: ``store_id/queue_id/consumer_group_id``.

A Get is two operations with the same call and return: the ``ack`` of its ``prev_cursor``, which takes effect when the
request arrives, and a ``read`` of the ``prev_cursor`` it answers, which is read when the answer leaves. In between,
while the Get waits for items, others may acknowledge more.

An acknowledgement is replicated within ``store_sync_interval_ms``; until then a change of master takes it back
(docs/architecture.md), and what it covered is delivered again. Whoever records a history knows when masters changed and
adds a ``failover``, called when the old master may have served for the last time, returned when the new one had
begun to serve. Its `floor` is a position known to have been replicated by then; 0 when nothing is known.

What a failover took back may return: the old master had proposed it, and the new one, which began with the promises of
a majority, hears of it in the promise of somebody else, and has it chosen. So a position may rise by itself, but not
above what had been acknowledged (found by the chaos run, seed 402).
"""

from __future__ import annotations

from phxqueue.testing.linearizability.history import HistoryError, Operation

State = tuple[int, int, int]
"""The position is from the first to the second, both included: a failover took back nobody knows yet how much.

The third is the highest ever acknowledged: what may return.
"""


class Cursor:
    """The model."""

    def initial(self) -> State:
        """Nothing is acknowledged."""
        return 0, 0, 0

    def step(self, state: State, operation: Operation) -> State | None:
        """See the table above."""
        low, high, highest = state
        arguments, result = operation.arguments, operation.result
        if operation.name == "ack":
            position: int = arguments["position"]
            return max(low, position), max(high, position), max(highest, position)
        if operation.name == "read":
            if result is None:
                return state
            seen: int = result["position"]
            return (seen, seen, highest) if low <= seen <= highest else None
        if operation.name == "failover":
            floor: int = arguments["floor"]
            return (floor, high, highest) if floor <= high else None
        if operation.name == "replay":
            return arguments["position"], arguments["position"], arguments["position"]
        raise HistoryError(f"a cursor has no operation {operation.name!r}")
