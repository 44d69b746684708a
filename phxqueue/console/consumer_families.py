"""The metrics of a consumer process. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.metrics_core import Metric

from phxqueue.console.families import Families

#: Counters of calls and of single things; all others count items.
_CALLS = {"gets": "Get", "acks": "Acknowledge"}
_OTHERS = {
    "resets": "Positions that a store has reset.",
    "unreadable": "Batches that could not be read.",
    "taken_apart": "Batches merged by a store that could not be read, and were fetched one by one.",
    "refused_acks": "Acknowledgements that a store refused, for it stores something else.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueProgress:
    """One queue that is consumed: items not finished, and the age of the oldest that was fetched."""

    consumer_group_id: int
    store_id: int
    queue_id: int
    items: int
    oldest_s: float


def consumer_families(
    counts: Mapping[str, int], queues: Iterable[QueueProgress], *, slots: int, slots_used: int, held_bytes: int
) -> Iterable[Metric]:
    """What Prometheus is told.

    Args:
        counts: what the process has done so far, by name (consumer.workshop.Stats).
        queues: those it owns.
        slots, slots_used: of its handlers.
        held_bytes: of items fetched and not finished.
    """
    out = Families()
    for name, value in counts.items():
        if name in _CALLS:
            out.count("consumer_calls", "Calls to the stores.", value, call=_CALLS[name])
        elif name in _OTHERS:
            out.count(f"consumer_{name}", _OTHERS[name], value)
        else:
            out.count(
                "consumer_items", "Items, by what was done; one that is tried again counts again.", value, did=name
            )
    owned = 0
    for queue in queues:
        owned += 1
        place = {"group": queue.consumer_group_id, "store": queue.store_id, "queue": queue.queue_id}
        out.gauge("consumer_lag_items", "Items of an owned queue that are not finished.", queue.items, **place)
        out.gauge("consumer_oldest_age_seconds", "Of the oldest that was fetched.", queue.oldest_s, **place)
    out.gauge("consumer_queues", "Queues that are consumed here.", owned)
    out.gauge("consumer_handler_slots", "Handlers that may run at the same time (nhandler).", slots)
    out.gauge("consumer_handler_slots_used", "Handlers that run.", slots_used)
    out.gauge("consumer_held_bytes", "Bytes fetched and not finished (of prefetch_bytes).", held_bytes)
    return out.all()
