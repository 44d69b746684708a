"""Blocks of settings, each a frozen model with a default for every field.

They are used as they are by the parts they configure (``topic.settings``, ``node.journal``, ...); a test may
build one with only the fields it cares about: ``JournalSettings(cache_bytes=1 << 20)``. Names end in their
unit where it is not bytes or a count. Every queue, buffer, cache, retry and loop of PhxQueue is bounded by
one of these fields or by a field of :mod:`phxqueue.config.files`.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from phxqueue.config.fields import Decimal, Flag, Id, Restart, Text, Whole, setting
from phxqueue.config.schema import Block

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
LIVE = Restart.LIVE

_NO_SCHEDULER = "the scheduler, which this version does not have yet"
_NO_LOCK = "the lock service, which this version does not have yet"


class TopicSettings(Block):
    """`topic:` of topicconfig.conf: what all processes of a topic have to agree on, and the producers' knobs."""

    items_byte_size_limit: Whole = setting(
        2 * MIB, "Largest batch of items a store accepts, and so the largest single item.", unit="bytes",
        ge=1 * KIB, le=64 * MIB)
    batch_limit: Whole = setting(
        1000, "Most items in one batch (the original's default is 100).", unit="items", ge=1, le=1_000_000)
    store_paxos_batch_count: Whole = setting(
        500, "Most producers' batches that a store merges into one Paxos entry.", unit="batches", ge=1, le=100_000)
    store_paxos_batch_bytes: Whole = setting(
        1 * MIB, "A store closes an entry before it grows beyond this; one larger batch travels alone.", unit="bytes",
        ge=1 * KIB, le=64 * MIB)
    store_paxos_batch_delay_time_ms: Whole = setting(
        2, "Longest a batch waits in the store for company while earlier entries are in flight; with nothing in "
        "flight it leaves at once.", unit="ms", ge=0, le=10_000)
    store_paxos_propose_timeout_ms: Whole = setting(
        1500, "After this long without a decision a store answers that the outcome is unknown; the producer then asks "
        "again with the same sequence number.", unit="ms", ge=10, le=600_000)
    store_sync_interval_ms: Whole = setting(
        200, "Longest an acknowledged cursor stays on the master alone; it rides on the next entry when that comes "
        "first. At most this much is redelivered after a failover.", unit="ms", ge=1, le=60_000)

    producer_batch_bytes: Whole = setting(
        256 * KIB, "A producer sends its open batch when it has this many bytes (or batch_limit items).",
        unit="bytes", ge=1, le=64 * MIB)
    producer_batch_delay_time_ms: Whole = setting(
        2, "Longest an item waits in the producer for company while earlier batches to its store are in flight; with "
        "nothing in flight it leaves at once (the original waits 20 ms).", unit="ms", ge=0, le=60_000)
    producer_buffer_bytes: Whole = setting(
        64 * MIB, "Bytes a producer holds that are not confirmed yet; enqueue() waits while it is full.",
        unit="bytes", ge=64 * KIB, le=16 * GIB)
    producer_buffer_items: Whole = setting(
        100_000, "Items a producer holds that are not confirmed yet; enqueue() waits while it is full.",
        unit="items", ge=1, le=100_000_000)
    producer_max_in_flight: Whole = setting(
        16, "Requests a producer has outstanding to one store.", unit="requests", ge=1, le=10_000)
    producer_deadline_ms: Whole = setting(
        30_000, "Longest enqueue() tries, all retries included.", unit="ms", ge=100, le=3_600_000)
    producer_no_master_patience_s: Decimal = setting(
        2.0, "How long stores may say that no majority is reachable before enqueue() gives up, ahead of its deadline. "
        "Longer than an election takes.", unit="s", ge=0.0, le=3600.0)
    producer_eager_in_flight: Whole = setting(
        1, "With fewer requests than this outstanding to a store a batch leaves without waiting for company.",
        unit="requests", ge=1, le=10_000)
    producer_max_waiting: Whole = setting(
        10_000, "Calls of enqueue() that may wait for room in the buffer; more are refused.", unit="calls", ge=1,
        le=10_000_000)
    producer_backoff_max_ms: Whole = setting(
        1000, "Longest pause before a request that a store refused for overload goes again.", unit="ms", ge=1,
        le=60_000)
    producer_avoid_store_s: Decimal = setting(
        1.0, "How long items without uin avoid a store that could not be reached.", unit="s", ge=0.0, le=3600.0)
    producer_settle_s: Decimal = setting(
        60.0, "How much longer a producer goes on asking, after an enqueue was told that its outcome is unknown, "
        "before later items of the same key may leave.", unit="s", ge=0.0, le=3600.0)
    producer_close_timeout_s: Decimal = setting(
        10.0, "Longest close() waits for what is still to be confirmed.", unit="s", ge=0.0, le=3600.0)

    consumer_ignore_consumer_group_ids: tuple[Id, ...] = setting(
        (), "Consumer groups that nobody consumes for now.", restart=LIVE)
    consumer_lock_lease_time_s: Whole = setting(
        30, "Lease of the lock a consumer holds on a queue.", unit="s", ge=1, le=86_400, pending=_NO_LOCK)
    consumer_lock_interval_s: Whole = setting(
        20, "How often that lock is renewed; shorter than the lease.", unit="s", ge=1, le=86_400, pending=_NO_LOCK)

    scheduler_get_scale_interval_s: Whole = setting(
        10, "How often consumers report their load and ask for weights.", unit="s", ge=1, le=3600,
        pending=_NO_SCHEDULER)
    scheduler_load_balance_interval_s: Whole = setting(
        60, "How often the scheduler looks at all loads.", unit="s", ge=1, le=3600, pending=_NO_SCHEDULER)
    scheduler_hash_keep_time_s: Whole = setting(
        20, "Silence after which a consumer counts as dead.", unit="s", ge=1, le=3600, pending=_NO_SCHEDULER)
    scheduler_lock_lease_time_s: Whole = setting(
        20, "Lease of the scheduler's mastership.", unit="s", ge=1, le=3600, pending=_NO_SCHEDULER)
    scheduler_lock_key: Text = setting(
        "__scheduler__.__master__", "Lock that makes a scheduler the master.", pending=_NO_SCHEDULER)
    scheduler_max_load: Whole = setting(
        80, "Load above which a consumer may count as overloaded.", unit="%", ge=1, le=10_000, pending=_NO_SCHEDULER)
    scheduler_max_mean_load_percent: Whole = setting(
        150, "... when it is also above this share of the mean load.", unit="%", ge=100, le=10_000,
        pending=_NO_SCHEDULER)
    scheduler_max_init_weight_percent: Whole = setting(
        200, "Highest weight, as a share of the consumer's `scale`.", unit="%", ge=100, le=100_000,
        pending=_NO_SCHEDULER)
    scheduler_load_sticky: Whole = setting(
        5, "Changes of load smaller than this are ignored.", unit="%", ge=0, le=10_000, pending=_NO_SCHEDULER)
    scheduler_weight_sticky: Whole = setting(
        500, "Mean change of weight below which weights stay.", ge=0, le=1_000_000, pending=_NO_SCHEDULER)
    scheduler_load_use_proc_used_ratio: Flag = setting(
        False, "Let the share of used slots add to the load.", pending=_NO_SCHEDULER)
    scheduler_use_init_weight: Flag = setting(
        True, "Weights follow `scale` alone; the scheduler only detects failures.", pending=_NO_SCHEDULER)

    obsolete: ClassVar[dict[str, str]] = {
        "store_make_cp_interval_s": "checkpoints are set per node: journal.checkpoint_interval_s of the node's file",
        "store_sync_interval_s": "use store_sync_interval_ms",
        "store_get_loop_max_time_ms": "a Get reads through an index and needs no time limit of its own",
        "store_adjust_master_rate_time_interval_s": "mastership is placed by election_priority in storeconfig",
        "store_adjust_master_rate_time_interval_10s": "never had an effect",
        "store_adjust_min_master_rate": "mastership is placed by election_priority in storeconfig",
        "store_adjust_max_master_rate": "mastership is placed by election_priority in storeconfig",
        "store_paxos_max_hold_threads": "overload is bounded per node: limits.add_queue_requests of the node's file",
        "store_paxos_master_lease": "use master_lease_ms of the store in storeconfig",
        "store_paxos_propose_wait_time_threshold_ms": "overload is bounded per node: limits.add_queue_bytes",
        "store_paxos_log_sync": "every acknowledged item is fsynced; see journal.sync of the node's file",
        "store_paxos_fsync_interval": "every acknowledged item is fsynced; see journal.sync of the node's file",
        "store_paxos_hold_log_count": "entries are kept until every consumer group has acknowledged them",
        "store_paxos_oss_attr_id": "never had an effect",
        "store_paxos_oss_attr_id_usetime": "never had an effect",
        "consumer_max_mem_size_mb_per_proc": "memory is bounded by prefetch_bytes of the consumer's file",
        "consumer_max_loop_per_proc": "a consumer process serves many queues and does not restart by count",
        "producer_retry_switch_store": "a retry stays on its store, so that it can neither duplicate nor overtake",
        "producer_retry_switch_queue": "a retry stays on its queue, so that it can neither duplicate nor overtake",
        "producer_nretry_raw_add": "retries are bounded by producer_deadline_ms",
        "scheduler_master_ip": "the scheduler's master is elected",
        "scheduler_master_port": "the scheduler's master is elected",
        "scheduler_renew_lock_interval_s": "never had an effect",
        "scheduler_strict": "never had an effect",
        "lock_adjust_master_rate_time_interval_s": "mastership is placed by election_priority in lockconfig",
        "lock_adjust_master_rate_time_interval_10s": "never had an effect",
        "lock_adjust_min_master_rate": "never had an effect",
        "lock_adjust_max_master_rate": "mastership is placed by election_priority in lockconfig",
        "lock_paxos_propose_timeout_ms": "use store_paxos_propose_timeout_ms, which covers locks",
        "lock_paxos_max_hold_threads": "overload is bounded per node",
        "lock_paxos_master_lease": "use master_lease_ms of the lock group in lockconfig",
        "lock_paxos_propose_wait_time_threshold_ms": "overload is bounded per node",
        "lock_paxos_log_sync": "every acknowledged change is fsynced",
        "lock_paxos_batch_delay_time_ms": "lock changes leave at once",
        "lock_paxos_batch_count": "never had an effect",
        "lock_paxos_fsync_interval": "every acknowledged change is fsynced",
        "lock_paxos_nr_hold_log": "the lock's log is trimmed by its checkpoints",
        "lock_paxos_oss_attr_id": "never had an effect",
        "lock_paxos_oss_attr_id_usetime": "never had an effect",
        "use_new_hash": "never had an effect",
    }


class NetSettings(Block):
    """`net:` of globalconfig.conf, for everybody, or of a node's file, which overrides it field by field.

    The names are those of :class:`phxqueue.net.settings.RpcSettings` and of the master-routing client.
    """

    max_frame_bytes: Whole = setting(
        16 * MIB, "Largest frame accepted in an answer.", unit="bytes", ge=64 * KIB, le=1 * GIB)
    max_in_flight_calls: Whole = setting(
        8192, "Calls outstanding on one connection, as the calling side.", unit="calls", ge=1, le=1_000_000)
    write_high_water_bytes: Whole = setting(
        4 * MIB, "With more unsent bytes than this nothing more is read from the peer.", unit="bytes", ge=64 * KIB,
        le=4 * GIB)
    max_unsent_bytes: Whole = setting(
        128 * MIB, "With more unsent bytes than this calls are refused, and replies end the connection.", unit="bytes",
        ge=64 * KIB, le=16 * GIB)
    write_stall_timeout_s: Decimal = setting(
        10.0, "A peer that takes nothing this long, while bytes are waiting, is dropped.", unit="s", ge=0.01, le=3600.0)
    write_chunk_bytes: Whole = setting(
        256 * KIB, "Bytes handed to the transport (and encrypted) at one go.", unit="bytes", ge=1 * KIB, le=64 * MIB)
    keepalive_interval_s: Decimal = setting(
        5.0, "Silence after which a peer is asked for a sign of life.", unit="s", ge=0.01, le=3600.0)
    keepalive_timeout_s: Decimal = setting(
        5.0, "Silence after that question which proves the peer gone.", unit="s", ge=0.01, le=3600.0)
    connect_timeout_s: Decimal = setting(
        2.0, "Longest a connection takes to be made, TLS and first answer included.", unit="s", ge=0.01, le=600.0)
    handshake_timeout_s: Decimal = setting(
        5.0, "Longest an accepted connection takes for its TLS handshake.", unit="s", ge=0.01, le=600.0)
    goodbye_linger_s: Decimal = setting(
        1.0, "How long a connection closed for a stated reason waits for the peer to read it.", unit="s", ge=0.0,
        le=60.0)
    try_timeout_s: Decimal = setting(
        1.0, "Longest one node is waited for before the next candidate is asked; a long poll adds its own wait.",
        unit="s", ge=0.01, le=600.0)
    backoff_first_s: Decimal = setting(
        0.01, "First pause after all candidates failed; doubles, with jitter.", unit="s", ge=0.001, le=60.0)
    backoff_max_s: Decimal = setting(0.2, "Longest such pause.", unit="s", ge=0.001, le=600.0)
    max_redirects: Whole = setting(
        4, "Redirects to a master followed in one round.", unit="redirects", ge=0, le=100)
    max_cached_routes: Whole = setting(
        4096, "Paxos groups whose master is remembered.", unit="groups", ge=1, le=10_000_000)


class JournalSettings(Block):
    """`journal:` of a store's file: the node's disk."""

    sync: Literal["always", "interval"] = setting(
        "always", "`always`: everything is fsynced before it counts. `interval`: fsync every sync_interval_ms, which "
        "LOSES ACKNOWLEDGED ITEMS when a majority of machines fails at once; needs i_accept_loss.")
    sync_interval_ms: Whole = setting(100, "With sync `interval`: time between fsyncs.", unit="ms", ge=1, le=60_000)
    i_accept_loss: Flag = setting(False, "Has to be true for sync `interval`.")
    cache_bytes: Whole = setting(
        64 * MIB, "Berkeley DB's page cache.", unit="bytes", ge=1 * MIB, le=64 * GIB)
    page_bytes: Whole = setting(
        16 * KIB, "Page size of tables when they are made; a power of two. Existing tables keep theirs.", unit="bytes",
        ge=512, le=64 * KIB)
    log_file_bytes: Whole = setting(
        64 * MIB, "Size of one write-ahead log file.", unit="bytes", ge=1 * MIB, le=1 * GIB)
    log_buffer_bytes: Whole = setting(
        8 * MIB, "Write-ahead log held in memory; at most a quarter of log_file_bytes.", unit="bytes", ge=64 * KIB,
        le=256 * MIB)
    min_free_bytes: Whole = setting(
        256 * MIB, "With less free disk than this, enqueues are refused; reads and acknowledgements go on.",
        unit="bytes", ge=0, le=1024 * GIB, restart=Restart.RESTART)
    free_check_interval_s: Decimal = setting(1.0, "How often free disk is looked at.", unit="s", ge=0.05, le=3600.0)
    checkpoint_interval_s: Decimal = setting(
        30.0, "Longest time between database checkpoints.", unit="s", ge=0.1, le=86_400.0)
    checkpoint_bytes: Whole = setting(
        256 * MIB, "Bytes logged after which a database checkpoint is made earlier.", unit="bytes", ge=1 * MIB,
        le=64 * GIB)
    commit_bytes: Whole = setting(
        16 * MIB, "Most bytes put into one transaction; one larger record travels alone.", unit="bytes", ge=64 * KIB,
        le=1 * GIB)
    commit_writes: Whole = setting(
        4096, "Most records put into one transaction.", unit="records", ge=1, le=100_000)
    max_pending_bytes: Whole = setting(
        256 * MIB, "Bytes waiting to be committed beyond which the disk counts as failed. The Paxos window and the "
        "queues of `limits` keep the node far below it.", unit="bytes", ge=1 * MIB, le=64 * GIB)
    lazy_commit_delay_ms: Whole = setting(
        200, "Longest a mark that may ride on the next commit waits for one.", unit="ms", ge=1, le=60_000)
    read_threads: Whole = setting(2, "Threads that read cold entries.", unit="threads", ge=1, le=64)
    max_pending_reads: Whole = setting(
        1024, "Cold reads waiting for a thread; more are refused.", unit="reads", ge=1, le=1_000_000)
    trim_entries: Whole = setting(
        500, "Entries deleted in one transaction when the log is trimmed.", unit="entries", ge=1, le=100_000)
    max_locks: Whole = setting(
        20_000, "Size of Berkeley DB's lock table; has to cover commit_writes.", unit="locks", ge=1000, le=10_000_000)
    switch_interval_us: Whole = setting(
        100, "Interpreter thread switch interval of the process: short, so that a busy reactor does not hold up "
        "commits.", unit="µs", ge=10, le=100_000)
    close_timeout_s: Decimal = setting(
        30.0, "Longest a stopping node waits for what is still to be committed.", unit="s", ge=0.1, le=3600.0)


class ReplicaSettings(Block):
    """`replica:` of a store's file: how one node follows its Paxos groups."""

    max_peer_frame: Whole = setting(
        64 * MIB, "Largest frame accepted from another node of the store.", unit="bytes", ge=1 * MIB, le=1 * GIB)
    peer_buffer_bytes: Whole = setting(
        64 * MIB, "Bytes waiting to be sent to one other node; what exceeds it is dropped and learned later.",
        unit="bytes", ge=1 * MIB, le=4 * GIB)
    peer_reconnect_min_ms: Whole = setting(
        20, "First pause before a lost node is dialled again; doubles, with jitter.", unit="ms", ge=1, le=60_000)
    peer_reconnect_max_ms: Whole = setting(500, "Longest such pause.", unit="ms", ge=1, le=60_000)
    peer_ping_timeout_ms: Whole = setting(
        2000, "Silence which makes the connection to another node count as dead.", unit="ms", ge=100, le=60_000)
    apply_entries: Whole = setting(
        256, "Chosen entries applied before the reactor gets its turn.", unit="entries", ge=1, le=100_000)
    catch_up_streams: Whole = setting(
        4, "Lagging nodes and groups served from the log at the same time.", unit="streams", ge=1, le=1000)
    checkpoint_interval_s: Decimal = setting(
        10.0, "Longest time between checkpoints of the queue state while entries are applied.", unit="s", ge=0.1,
        le=86_400.0)
    checkpoint_entries: Whole = setting(
        20_000, "Entries after which the queue state is checkpointed earlier; bounds what a restart replays.",
        unit="entries", ge=1, le=100_000_000)
    drain_timeout_s: Decimal = setting(
        5.0, "Longest a stopping node waits for its proposals in flight.", unit="s", ge=0.0, le=3600.0)


class StoreLimits(Block):
    """`limits:` of a store's file: what a store takes in and holds in memory."""

    max_frame: Whole = setting(
        16 * MIB, "Largest frame accepted from a client.", unit="bytes", ge=64 * KIB, le=1 * GIB)
    max_connections: Whole = setting(
        4096, "Client connections; more are closed at once.", unit="connections", ge=1, le=1_000_000)
    max_in_flight_requests: Whole = setting(
        4096, "Requests of one connection that are being worked on; more are refused.", unit="requests", ge=1,
        le=1_000_000)
    add_queue_bytes: Whole = setting(
        64 * MIB, "Item bytes waiting to be proposed, per Paxos group; more are refused with RESOURCE_EXHAUSTED.",
        unit="bytes", ge=64 * KIB, le=64 * GIB)
    add_queue_requests: Whole = setting(
        20_000, "Add requests waiting to be proposed, per Paxos group; more are refused with RESOURCE_EXHAUSTED.",
        unit="requests", ge=1, le=10_000_000)
    retry_after_ms: Whole = setting(
        50, "When such a refused client should come again.", unit="ms", ge=1, le=60_000)
    cache_bytes: Whole = setting(
        128 * MIB, "Recent entries kept in memory, per node.", unit="bytes", ge=0, le=1024 * GIB)
    get_wait_max_ms: Whole = setting(
        30_000, "Longest long poll; a longer wish is shortened.", unit="ms", ge=0, le=600_000)
    limit_items: Whole = setting(
        10_000, "Most items in the answer to one Get.", unit="items", ge=1, le=10_000_000)
    limit_bytes: Whole = setting(
        4 * MIB, "Most bytes in the answer to one Get; a larger batch travels alone.", unit="bytes", ge=1 * KIB,
        le=512 * MIB)
    max_long_polls: Whole = setting(
        20_000, "Gets waiting for items; more are answered at once, empty.", unit="requests", ge=1, le=10_000_000)
    scan_rows: Whole = setting(
        10_000, "Index rows one Get skips over (other groups' items) before it yields to others.", unit="rows", ge=1,
        le=10_000_000)
    index_segment_rows: Whole = setting(
        4096, "Index rows per sealed segment.", unit="rows", ge=16, le=10_000_000)


class RetrySettings(Block):
    """`retry:` of a consumer's file: how a failed call or re-enqueue is tried again."""

    backoff_min_ms: Whole = setting(
        50, "First pause; doubles, with jitter, up to backoff_max_ms.", unit="ms", ge=1, le=60_000)
    backoff_max_ms: Whole = setting(5000, "Longest pause.", unit="ms", ge=1, le=3_600_000)
    deadline_ms: Whole = setting(
        30_000, "Longest one call or re-enqueue tries; after it the item stays unacknowledged and is tried again with "
        "its queue.", unit="ms", ge=100, le=3_600_000)


class LogSettings(Block):
    """`log:` of a node's file. Where it goes is twistd's business (--logfile, --syslog)."""

    level: Literal["debug", "info", "warn", "error", "critical"] = setting(
        "info", "Least important level that is logged.", restart=LIVE)
    format: Literal["human", "json"] = setting("human", "One line for people, or one JSON object per event.")
