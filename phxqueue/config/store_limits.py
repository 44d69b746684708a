"""The bounds of a store node: what it takes in and holds in memory."""

from __future__ import annotations

from phxqueue.config.fields import GIB, KIB, MIB, Decimal, Whole, setting
from phxqueue.config.schema import Block


class StoreLimits(Block):
    """`limits:` of a store's file: what a store takes in and holds in memory."""

    max_frame: Whole = setting(16 * MIB, "Largest frame accepted from a client.", unit="bytes", ge=64 * KIB, le=1 * GIB)
    max_connections: Whole = setting(
        4096, "Client connections; more are closed at once.", unit="connections", ge=1, le=1_000_000
    )
    max_in_flight_requests: Whole = setting(
        4096,
        "Requests of one connection that are being worked on; more are refused.",
        unit="requests",
        ge=1,
        le=1_000_000,
    )
    add_queue_bytes: Whole = setting(
        64 * MIB,
        "Item bytes waiting to be proposed, per Paxos group; more are refused with RESOURCE_EXHAUSTED.",
        unit="bytes",
        ge=64 * KIB,
        le=64 * GIB,
    )
    add_queue_requests: Whole = setting(
        20_000,
        "Add requests waiting to be proposed, per Paxos group; more are refused with RESOURCE_EXHAUSTED.",
        unit="requests",
        ge=1,
        le=10_000_000,
    )
    retry_after_ms: Whole = setting(50, "When such a refused client should come again.", unit="ms", ge=1, le=60_000)
    cache_bytes: Whole = setting(
        64 * MIB, "Recent entries kept in memory, per node.", unit="bytes", ge=0, le=1024 * GIB
    )
    get_wait_max_ms: Whole = setting(
        30_000, "Longest long poll; a longer wish is shortened.", unit="ms", ge=0, le=600_000
    )
    limit_items: Whole = setting(10_000, "Most items in the answer to one Get.", unit="items", ge=1, le=10_000_000)
    limit_bytes: Whole = setting(
        4 * MIB,
        "Most bytes in the answer to one Get; a larger batch travels alone.",
        unit="bytes",
        ge=1 * KIB,
        le=512 * MIB,
    )
    max_long_polls: Whole = setting(
        20_000, "Gets waiting for items; more are answered at once, empty.", unit="requests", ge=1, le=10_000_000
    )
    scan_rows: Whole = setting(
        10_000,
        "Index rows one Get skips over (other groups' items) before it yields to others.",
        unit="rows",
        ge=1,
        le=10_000_000,
    )
    retention_interval_s: Decimal = setting(
        1.0, "How often a master looks for items that retention lets go.", unit="s", ge=0.01, le=3600.0
    )
    index_segment_rows: Whole = setting(4096, "Index rows per sealed segment.", unit="rows", ge=16, le=10_000_000)
    max_delay_s: Decimal = setting(
        30 * 86_400.0,
        "Longest delay of a message (`delay=`, `deliver_at=`).",
        unit="s",
        ge=0.0,
        le=10 * 366 * 86_400.0,
    )
    max_delayed: Whole = setting(
        2_000_000,
        "Delayed batches waiting, per Paxos group, about 70 bytes of memory each; more are refused with "
        "RESOURCE_EXHAUSTED.",
        unit="batches",
        ge=0,
        le=100_000_000,
    )
    relocate_bytes: Whole = setting(
        1024 * MIB,
        "Log that is kept, per Paxos group, before it is looked at whether old items (delayed ones, dead letters, what "
        "a group never reads) keep it: when less than half of it is in use, the oldest of them are written again at "
        "its end, and what lies between goes.",
        unit="bytes",
        ge=1 * KIB,
        le=1 << 60,
    )
    replays_kept: Whole = setting(
        1000,
        "Replays remembered by their ids, per Paxos group: one that is sent again is answered with what became of it.",
        unit="replays",
        ge=1,
        le=10_000,
    )
    replays_kept_s: Decimal = setting(90 * 86_400.0, "How long.", unit="s", ge=60.0, le=10 * 366 * 86_400.0)
    max_prepared: Whole = setting(
        100_000,
        "Undecided half messages, per Paxos group, about 80 bytes of memory each; more are refused with "
        "RESOURCE_EXHAUSTED.",
        unit="half messages",
        ge=0,
        le=10_000_000,
    )
    group_grace_s: Decimal = setting(
        7 * 86_400.0,
        "How long a consumer group that was taken out of the files keeps its positions, and what is stored for it.",
        unit="s",
        ge=0.0,
        le=10 * 366 * 86_400.0,
    )
    delayed_pin_entries: Whole = setting(
        1_000_000,
        "Entries that the log keeps for nobody but delayed batches, or half messages, beyond which a master warns.",
        unit="entries",
        ge=1,
        le=1_000_000_000_000,
    )
