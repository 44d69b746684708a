"""The bounds of a store's parts, as its configuration says them."""

from __future__ import annotations

from phxqueue.config import StoreNode
from phxqueue.store.batcher import BatcherLimits
from phxqueue.store.delays import DelayLimits
from phxqueue.store.group_service import GroupLimits
from phxqueue.store.half_service import HalfLimits
from phxqueue.store.reading import GetLimits
from phxqueue.store.relocation import RelocationBounds
from phxqueue.store.replay_service import ReplayLimits


def batcher_limits(node: StoreNode) -> BatcherLimits:
    """The batcher's bounds, as configured."""
    settings, limits = node.topic.settings, node.limits
    return BatcherLimits(
        entry_batches=settings.store_paxos_batch_count,
        entry_bytes=settings.store_paxos_batch_bytes,
        open_entries=settings.store_paxos_open_entries,
        delay_s=settings.store_paxos_batch_delay_time_ms / 1000,
        sync_s=settings.store_sync_interval_ms / 1000,
        queue_requests=limits.add_queue_requests,
        queue_bytes=limits.add_queue_bytes,
    )


def delay_limits(node: StoreNode) -> DelayLimits:
    """The bounds of delayed batches, as configured."""
    limits = node.limits
    return DelayLimits(
        longest_ms=round(limits.max_delay_s * 1000),
        waiting=limits.max_delayed,
        pin_entries=limits.delayed_pin_entries,
        retry_after_ms=limits.retry_after_ms,
    )


def replay_limits(node: StoreNode) -> ReplayLimits:
    """How long replays are remembered, as configured."""
    limits = node.limits
    return ReplayLimits(
        kept=limits.replays_kept,
        kept_ms=round(limits.replays_kept_s * 1000),
        retry_after_ms=limits.retry_after_ms,
    )


def half_limits(node: StoreNode) -> HalfLimits:
    """The bounds of half messages, as configured."""
    limits = node.limits
    return HalfLimits(
        waiting=limits.max_prepared, pin_entries=limits.delayed_pin_entries, retry_after_ms=limits.retry_after_ms
    )


def relocation_bounds(node: StoreNode) -> RelocationBounds:
    """When old items are written again: a command takes no more than half of what an entry may."""
    largest = node.store.max_message_bytes
    return RelocationBounds(
        log_bytes=node.limits.relocate_bytes,
        command_bytes=min(node.topic.settings.store_paxos_batch_bytes, largest // 2),
        item_bytes=largest * 3 // 4,
    )


def group_limits(node: StoreNode) -> GroupLimits:
    """How long groups that leave are kept, as configured."""
    limits = node.limits
    return GroupLimits(grace_ms=round(limits.group_grace_s * 1000), retry_after_ms=limits.retry_after_ms)


def get_limits(node: StoreNode) -> GetLimits:
    """The reading side's bounds, as configured."""
    limits = node.limits
    return GetLimits(
        wait_max_ms=limits.get_wait_max_ms,
        items=limits.limit_items,
        size=limits.limit_bytes,
        scan_rows=limits.scan_rows,
    )
