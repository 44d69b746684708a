"""Blocks of settings, each a frozen model with a default for every field.

They are used as they are by the parts they configure (``topic.settings``, ``node.journal``, ...); a test may
build one with only the fields it cares about: ``JournalSettings(cache_bytes=1 << 20)``. Names end in their
unit where it is not bytes or a count. Every queue, buffer, cache, retry and loop of PhxQueue is bounded by
one of these fields or by one of the files' models.
"""

from __future__ import annotations

from typing import Literal

from phxqueue.config.consumer_settings import PoolSettings, RetrySettings
from phxqueue.config.fields import GIB, KIB, MIB, Decimal, Flag, Restart, Whole, setting
from phxqueue.config.replica_settings import ReplicaSettings
from phxqueue.config.schema import Block
from phxqueue.config.store_limits import StoreLimits
from phxqueue.config.topic_settings import TopicSettings

__all__ = [
    "JournalSettings",
    "LockLimits",
    "LogSettings",
    "NetSettings",
    "PoolSettings",
    "ReplicaSettings",
    "RetrySettings",
    "StoreLimits",
    "TopicSettings",
]


class NetSettings(Block):
    """`net:` of globalconfig.conf, for everybody, or of a node's file, which overrides it field by field.

    The names are those of :class:`phxqueue.net.settings.RpcSettings` and of the master-routing client.
    """

    max_frame_bytes: Whole = setting(
        16 * MIB, "Largest frame accepted in an answer.", unit="bytes", ge=64 * KIB, le=1 * GIB
    )
    max_in_flight_calls: Whole = setting(
        8192, "Calls outstanding on one connection, as the calling side.", unit="calls", ge=1, le=1_000_000
    )
    write_high_water_bytes: Whole = setting(
        4 * MIB,
        "With more unsent bytes than this nothing more is read from the peer.",
        unit="bytes",
        ge=64 * KIB,
        le=4 * GIB,
    )
    max_unsent_bytes: Whole = setting(
        128 * MIB,
        "With more unsent bytes than this calls are refused, and replies end the connection.",
        unit="bytes",
        ge=64 * KIB,
        le=16 * GIB,
    )
    write_stall_timeout_s: Decimal = setting(
        10.0, "A peer that takes nothing this long, while bytes are waiting, is dropped.", unit="s", ge=0.01, le=3600.0
    )
    write_chunk_bytes: Whole = setting(
        96 * KIB, "Bytes handed to the transport (and encrypted) at one go.", unit="bytes", ge=1 * KIB, le=64 * MIB
    )
    keepalive_interval_s: Decimal = setting(
        1.0, "Silence after which a peer is asked for a sign of life.", unit="s", ge=0.01, le=3600.0
    )
    keepalive_timeout_s: Decimal = setting(
        2.0, "Silence after that question which proves the peer gone.", unit="s", ge=0.01, le=3600.0
    )
    connect_timeout_s: Decimal = setting(
        2.0, "Longest a connection takes to be made, TLS and first answer included.", unit="s", ge=0.01, le=600.0
    )
    handshake_timeout_s: Decimal = setting(
        5.0, "Longest an accepted connection takes for its TLS handshake.", unit="s", ge=0.01, le=600.0
    )
    goodbye_linger_s: Decimal = setting(
        1.0,
        "How long a connection closed for a stated reason waits for the peer to read it.",
        unit="s",
        ge=0.01,
        le=60.0,
    )
    try_timeout_s: Decimal = setting(
        1.0,
        "Longest one node is waited for before the next candidate is asked; a long poll adds its own wait.",
        unit="s",
        ge=0.01,
        le=600.0,
    )
    silent_try_timeout_s: Decimal = setting(
        0.2, "The same for a node that was silent in the last try of this search.", unit="s", ge=0.01, le=600.0
    )
    backoff_first_s: Decimal = setting(
        0.01,
        "First pause after all candidates failed; later ones are a tenth of the time searched, with jitter.",
        unit="s",
        ge=0.001,
        le=60.0,
    )
    backoff_max_s: Decimal = setting(0.2, "Longest such pause.", unit="s", ge=0.001, le=600.0)
    max_redirects: Whole = setting(4, "Redirects to a master followed in one round.", unit="redirects", ge=0, le=100)
    max_cached_routes: Whole = setting(
        4096, "Paxos groups whose master is remembered.", unit="groups", ge=1, le=10_000_000
    )
    handover_s: Decimal = setting(
        0.05,
        "How long the call that looks for a new master may hold up the others to the same Paxos group.",
        unit="s",
        ge=0.0,
        le=10.0,
    )
    max_retry_after_s: Decimal = setting(
        5.0, "Longest wait that an overloaded node can impose.", unit="s", ge=0.0, le=600.0
    )
    deadline_granularity_s: Decimal = setting(
        0.002, "Deadlines of calls are looked at no more often than this.", unit="s", ge=0.0001, le=1.0
    )


class JournalSettings(Block):
    """`journal:` of a store's file: the node's disk."""

    sync: Literal["always", "interval"] = setting(
        "always",
        "`always`: everything is fsynced before it counts. `interval`: fsync every sync_interval_ms, which "
        "LOSES ACKNOWLEDGED ITEMS when a majority of machines fails at once; needs i_accept_loss.",
    )
    sync_interval_ms: Whole = setting(100, "With sync `interval`: time between fsyncs.", unit="ms", ge=1, le=60_000)
    i_accept_loss: Flag = setting(False, "Has to be true for sync `interval`.")
    cache_bytes: Whole = setting(64 * MIB, "Berkeley DB's page cache.", unit="bytes", ge=1 * MIB, le=64 * GIB)
    page_bytes: Whole = setting(
        4 * KIB,
        "Page size of tables when they are made; a power of two, not above what the disk writes in one piece (a torn "
        "page needs the node to be built anew). Existing tables keep theirs.",
        unit="bytes",
        ge=512,
        le=64 * KIB,
    )
    log_file_bytes: Whole = setting(32 * MIB, "Size of one write-ahead log file.", unit="bytes", ge=1 * MIB, le=1 * GIB)
    log_buffer_bytes: Whole = setting(
        8 * MIB,
        "Write-ahead log held in memory; at most a quarter of log_file_bytes.",
        unit="bytes",
        ge=64 * KIB,
        le=256 * MIB,
    )
    min_free_bytes: Whole = setting(
        256 * MIB,
        "With less free disk than this, enqueues are refused; reads and acknowledgements go on.",
        unit="bytes",
        ge=0,
        le=1024 * GIB,
    )
    free_check_interval_s: Decimal = setting(1.0, "How often free disk is looked at.", unit="s", ge=0.05, le=3600.0)
    checkpoint_interval_s: Decimal = setting(
        30.0, "Longest time between database checkpoints.", unit="s", ge=0.1, le=86_400.0
    )
    checkpoint_bytes: Whole = setting(
        256 * MIB,
        "Bytes logged after which a database checkpoint is made earlier.",
        unit="bytes",
        ge=1 * MIB,
        le=64 * GIB,
    )
    commit_bytes: Whole = setting(
        16 * MIB,
        "Most bytes put into one transaction; one larger record travels alone.",
        unit="bytes",
        ge=64 * KIB,
        le=1 * GIB,
    )
    commit_writes: Whole = setting(4096, "Most records put into one transaction.", unit="records", ge=1, le=100_000)
    max_pending_bytes: Whole = setting(
        256 * MIB,
        "Bytes waiting to be committed beyond which the disk counts as failed. The Paxos window and the "
        "queues of `limits` keep the node far below it.",
        unit="bytes",
        ge=1 * MIB,
        le=64 * GIB,
    )
    lazy_commit_delay_ms: Whole = setting(
        200, "Longest a mark that may ride on the next commit waits for one.", unit="ms", ge=1, le=60_000
    )
    read_threads: Whole = setting(2, "Threads that read cold entries.", unit="threads", ge=1, le=64)
    max_pending_reads: Whole = setting(
        1024, "Cold reads waiting for a thread; more are refused.", unit="reads", ge=1, le=1_000_000
    )
    trim_entries: Whole = setting(
        16,
        "Entries deleted in one transaction when the log is trimmed; a commit may have to wait for one.",
        unit="entries",
        ge=1,
        le=10_000,
    )
    trim_share_percent: Whole = setting(
        40,
        "Most of the writer's time that trimming takes while commits keep coming; the less, the more disk it needs.",
        unit="%",
        ge=1,
        le=90,
    )
    trickle_interval_s: Decimal = setting(
        0.25,
        "How often changed pages are written ahead of the database checkpoint while commits keep coming.",
        unit="s",
        ge=0.01,
        le=60.0,
    )
    trickle_clean_percent: Whole = setting(
        60,
        "Share of cache_bytes kept free of changed pages by that, so that no commit has to write one out.",
        unit="%",
        ge=1,
        le=99,
    )
    prepare_max_rate: Whole = setting(
        8 * MIB,
        "The next write-ahead log file is filled with zeros ahead, which makes small commits faster, unless the log "
        "grows faster than this; 0: never.",
        unit="bytes/s",
        ge=0,
        le=64 * GIB,
    )
    max_damaged_entries: Whole = setting(
        10_000,
        "Entries on damaged pages, which are mended from other nodes; with more the disk counts as failed and the node "
        "stops.",
        unit="entries",
        ge=0,
        le=1_000_000,
    )
    max_locks: Whole = setting(
        20_000, "Size of Berkeley DB's lock table; has to cover commit_writes.", unit="locks", ge=1000, le=10_000_000
    )
    switch_interval_us: Whole = setting(
        100,
        "Interpreter thread switch interval of the process: short, so that a busy reactor does not hold up commits.",
        unit="µs",
        ge=10,
        le=100_000,
    )
    close_timeout_s: Decimal = setting(
        30.0, "Longest a stopping node waits for what is still to be committed.", unit="s", ge=0.1, le=3600.0
    )


class LockLimits(Block):
    """`limits:` of a lock node's file: what it takes in and holds in memory."""

    max_frame: Whole = setting(4 * MIB, "Largest frame accepted from a client.", unit="bytes", ge=64 * KIB, le=1 * GIB)
    max_connections: Whole = setting(
        16_384, "Client connections; more are closed at once.", unit="connections", ge=1, le=1_000_000
    )
    max_in_flight_requests: Whole = setting(
        16_384,
        "Requests of one connection that are being worked on, waiting ones included; more are refused.",
        unit="requests",
        ge=1,
        le=1_000_000,
    )
    key_bytes: Whole = setting(1024, "Longest name of a lock or string.", unit="bytes", ge=16, le=32 * KIB)
    client_id_bytes: Whole = setting(1024, "Longest client_id.", unit="bytes", ge=16, le=32 * KIB)
    value_bytes: Whole = setting(256 * KIB, "Longest value of a string.", unit="bytes", ge=0, le=64 * MIB)
    lease_min_ms: Whole = setting(100, "Shortest lease.", unit="ms", ge=1, le=3_600_000)
    lease_max_ms: Whole = setting(
        86_400_000, "Longest lease; one without end has to be asked for as such.", unit="ms", ge=1000, le=2**40
    )
    silence_lease_min_ms: Whole = setting(
        1000,
        "Of a lock with at least this lease it is noted in the log when half of it has passed without a renewal, so "
        "that a new master need not let all of it run again.",
        unit="ms",
        ge=1,
        le=2**40,
    )
    table_keys: Whole = setting(
        200_000,
        "Locks and strings of one Paxos group; more are refused with RESOURCE_EXHAUSTED.",
        unit="keys",
        ge=1,
        le=100_000_000,
    )
    table_bytes: Whole = setting(
        64 * MIB,
        "Bytes of the keys and values of one Paxos group; more are refused with RESOURCE_EXHAUSTED.",
        unit="bytes",
        ge=64 * KIB,
        le=16 * GIB,
    )
    queue_operations: Whole = setting(
        50_000,
        "Changes waiting to be proposed, per Paxos group; more are refused with RESOURCE_EXHAUSTED.",
        unit="operations",
        ge=1,
        le=10_000_000,
    )
    queue_bytes: Whole = setting(
        32 * MIB,
        "Their bytes, per Paxos group; more are refused with RESOURCE_EXHAUSTED.",
        unit="bytes",
        ge=64 * KIB,
        le=16 * GIB,
    )
    retry_after_ms: Whole = setting(50, "When such a refused client should come again.", unit="ms", ge=1, le=60_000)
    entry_operations: Whole = setting(
        1000, "Changes that share one entry of the log at most.", unit="operations", ge=1, le=65_535
    )
    entry_bytes: Whole = setting(
        1 * MIB, "Their bytes; a larger one travels alone.", unit="bytes", ge=1 * KIB, le=64 * MIB
    )
    open_entries: Whole = setting(
        4,
        "Entries in flight per Paxos group; what comes meanwhile shares the next one.",
        unit="entries",
        ge=1,
        le=4096,
    )
    expire_operations: Whole = setting(
        1000, "Leases that ran out which are cleaned up in one turn.", unit="leases", ge=1, le=65_535
    )
    wait_max_ms: Whole = setting(
        60_000,
        "Longest a call waits for a lock or a change; a longer wish is shortened, and the caller keeps its place.",
        unit="ms",
        ge=0,
        le=86_400_000,
    )
    max_waiters: Whole = setting(
        100_000, "Calls waiting for locks; more are refused.", unit="requests", ge=1, le=10_000_000
    )
    max_watches: Whole = setting(
        100_000, "Calls waiting for changes; more are answered at once.", unit="requests", ge=1, le=10_000_000
    )
    list_keys: Whole = setting(1000, "Most keys in one page of a list.", unit="keys", ge=1, le=10_000)
    renew_keys: Whole = setting(
        1000, "Most locks that one call renews; more are refused.", unit="locks", ge=1, le=10_000
    )
    cache_bytes: Whole = setting(
        16 * MIB,
        "Recent entries kept in memory, per node, for nodes that catch up.",
        unit="bytes",
        ge=0,
        le=16 * GIB,
    )


class LogSettings(Block):
    """`log:` of a node's file. Where it goes is twistd's business (--logfile, --syslog)."""

    level: Literal["debug", "info", "warn", "error", "critical"] = setting(
        "info", "Least important level that is logged.", restart=Restart.LIVE
    )
    format: Literal["human", "json"] = setting("human", "One line for people, or one JSON object per event.")
