"""The bounds and times of one consumer process, by name. Its node file sets them."""

from __future__ import annotations

from dataclasses import dataclass

from phxqueue.config import ConsumerNode


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerSettings:
    """Sizes in bytes, times in seconds.

    Attributes:
        nhandler: handlers at work at the same time, over all queues (plain functions count for nothing: they
            are done when they return).
        handler_timeout_s: a handler that takes longer costs its item the attempt.
        fetch_items, fetch_size: most of one Get.
        window_items: items of one queue from the oldest unfinished to the newest fetched.
        prefetch_size: fetched and not finished, over all queues; nothing more is asked for above it.
        min_fetch_size: what a Get asks for at least, however many share prefetch_size.
        get_wait_s: longest a Get waits for an item.
        get_deadline_s: longest a Get tries besides waiting, the search for a master included.
        try_timeout_s: longest one node is waited for, besides get_wait_s.
        ack_interval_s: longest a finished item waits to be acknowledged.
        stop_timeout_s: longest a stopping consumer waits for handlers and re-enqueues.
        final_ack_s: longest it then tries to acknowledge.
        slice_s: handlers of one queue run this long before the reactor gets its turn.
        search_backoff_s: pause (half of it at least) before a Get is sent again when no master was found.
        backoff_first_s, backoff_max_s: the same after a refusal, and before a failed re-enqueue goes again; doubles.
    """

    nhandler: int = 100
    handler_timeout_s: float = 60.0
    fetch_items: int = 1000
    fetch_size: int = 1 << 20
    window_items: int = 100_000
    prefetch_size: int = 64 << 20
    min_fetch_size: int = 64 << 10
    get_wait_s: float = 10.0
    get_deadline_s: float = 30.0
    try_timeout_s: float = 1.0
    ack_interval_s: float = 0.1
    stop_timeout_s: float = 30.0
    final_ack_s: float = 5.0
    slice_s: float = 0.005
    search_backoff_s: float = 0.1
    backoff_first_s: float = 0.05
    backoff_max_s: float = 5.0

    @classmethod
    def from_node(cls, node: ConsumerNode) -> ConsumerSettings:
        """What the node's file says."""
        return cls(
            nhandler=node.nhandler,
            handler_timeout_s=node.handler_timeout_s,
            fetch_items=node.fetch_items,
            fetch_size=node.fetch_bytes,
            window_items=node.window_items,
            prefetch_size=node.prefetch_bytes,
            get_wait_s=node.get_wait_ms / 1000,
            get_deadline_s=node.retry.deadline_ms / 1000,
            try_timeout_s=node.net.try_timeout_s,
            ack_interval_s=node.ack_interval_ms / 1000,
            stop_timeout_s=node.stop_timeout_s,
            backoff_first_s=node.retry.backoff_min_ms / 1000,
            backoff_max_s=node.retry.backoff_max_ms / 1000,
        )
