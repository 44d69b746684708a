"""Blocks of settings of a consumer's file; see settings.py."""

from __future__ import annotations

from phxqueue.config.fields import GIB, Decimal, Id, Whole, setting
from phxqueue.config.schema import Block


class PoolSettings(Block):
    """`pool:` of a consumer's file: processes for handlers that compute."""

    handle_ids: tuple[Id, ...] = setting((), "handle_ids whose handlers run in these processes; empty: no pool.")
    nproc: Whole = setting(
        0, "Processes.", unit="processes", ge=0, le=4096, default_text="0: one for each CPU the daemon may use"
    )
    max_items_per_process: Whole = setting(
        10_000,
        "A process that has handled so many items is replaced by a fresh one; 0: never.",
        unit="items",
        ge=0,
        le=1_000_000_000,
    )
    max_process_bytes: Whole = setting(
        1 * GIB,
        "Resident memory above which a process is replaced, after its item; one that grows so far during an item is "
        "killed and costs it an attempt. 0: no limit.",
        unit="bytes",
        ge=0,
        le=1 << 50,
    )
    memory_check_s: Decimal = setting(
        0.5, "How often the memory of processes at work is looked at.", unit="s", ge=0.01, le=3600.0
    )
    start_timeout_s: Decimal = setting(
        60.0, "Longest a process takes to import its handlers.", unit="s", ge=0.1, le=3600.0
    )
    restart_max_s: Decimal = setting(
        5.0,
        "Longest pause before a process that ended before it was ready is started again; the first is a fiftieth.",
        unit="s",
        ge=0.01,
        le=3600.0,
    )


class RetrySettings(Block):
    """`retry:` of a consumer's file: how a failed call or re-enqueue is tried again."""

    backoff_min_ms: Whole = setting(
        50, "First pause; doubles, with jitter, up to backoff_max_ms.", unit="ms", ge=1, le=60_000
    )
    backoff_max_ms: Whole = setting(5000, "Longest pause.", unit="ms", ge=1, le=3_600_000)
    deadline_ms: Whole = setting(
        30_000,
        "Longest one call or re-enqueue tries; after it the item stays unacknowledged and is tried again with "
        "its queue.",
        unit="ms",
        ge=100,
        le=3_600_000,
    )
