"""The settings of a topic: `topic:` of topicconfig.conf."""

from __future__ import annotations

from typing import ClassVar

from phxqueue.config.fields import GIB, KIB, MIB, Decimal, Flag, Id, Restart, Text, Whole, setting
from phxqueue.config.schema import Block


class TopicSettings(Block):
    """`topic:` of topicconfig.conf: what all processes of a topic have to agree on, and the producers' knobs."""

    items_byte_size_limit: Whole = setting(
        2 * MIB,
        "Largest batch of items a store accepts, and so the largest single item.",
        unit="bytes",
        ge=1 * KIB,
        le=64 * MIB,
    )
    batch_limit: Whole = setting(
        1000, "Most items in one batch (the original's default is 100).", unit="items", ge=1, le=1_000_000
    )
    store_paxos_batch_count: Whole = setting(
        500, "Most producers' batches that a store merges into one Paxos entry.", unit="batches", ge=1, le=100_000
    )
    store_paxos_batch_bytes: Whole = setting(
        1 * MIB,
        "A store closes an entry before it grows beyond this; one larger batch travels alone.",
        unit="bytes",
        ge=1 * KIB,
        le=64 * MIB,
    )
    store_paxos_open_entries: Whole = setting(
        2,
        "Entries of a Paxos group in flight up to which batches leave at once; beyond it they wait for company.",
        unit="entries",
        ge=1,
        le=10_000,
    )
    store_paxos_batch_delay_time_ms: Whole = setting(
        2,
        "Longest a batch waits in the store for company while earlier entries are in flight; with nothing in "
        "flight it leaves at once.",
        unit="ms",
        ge=0,
        le=10_000,
    )
    store_paxos_propose_timeout_ms: Whole = setting(
        1500,
        "After this long without a decision a store answers that the outcome is unknown; the producer then asks "
        "again with the same sequence number.",
        unit="ms",
        ge=10,
        le=600_000,
    )
    store_sync_interval_ms: Whole = setting(
        200,
        "Longest an acknowledged cursor stays on the master alone; it rides on the next entry when that comes "
        "first. At most this much is redelivered after a failover.",
        unit="ms",
        ge=1,
        le=60_000,
    )

    producer_batch_bytes: Whole = setting(
        256 * KIB,
        "A producer sends its open batch when it has this many bytes (or batch_limit items).",
        unit="bytes",
        ge=1,
        le=64 * MIB,
    )
    producer_batch_delay_time_ms: Whole = setting(
        2,
        "Longest an item waits in the producer for company while earlier batches to its store are in flight; with "
        "nothing in flight it leaves at once (the original waits 20 ms).",
        unit="ms",
        ge=0,
        le=60_000,
    )
    producer_buffer_bytes: Whole = setting(
        64 * MIB,
        "Bytes a producer holds that are not confirmed yet; enqueue() waits while it is full.",
        unit="bytes",
        ge=64 * KIB,
        le=16 * GIB,
    )
    producer_buffer_items: Whole = setting(
        100_000,
        "Items a producer holds that are not confirmed yet; enqueue() waits while it is full.",
        unit="items",
        ge=1,
        le=100_000_000,
    )
    producer_max_in_flight: Whole = setting(
        16, "Requests a producer has outstanding to one store.", unit="requests", ge=1, le=10_000
    )
    producer_deadline_ms: Whole = setting(
        30_000, "Longest enqueue() tries, all retries included.", unit="ms", ge=100, le=3_600_000
    )
    producer_no_master_patience_s: Decimal = setting(
        2.0,
        "How long stores may say that no majority is reachable before enqueue() gives up, ahead of its deadline. "
        "Longer than an election takes.",
        unit="s",
        ge=0.0,
        le=3600.0,
    )
    producer_eager_in_flight: Whole = setting(
        1,
        "With fewer requests than this outstanding to a store a batch leaves without waiting for company.",
        unit="requests",
        ge=1,
        le=10_000,
    )
    producer_max_waiting: Whole = setting(
        10_000,
        "Calls of enqueue() that may wait for room in the buffer; more are refused.",
        unit="calls",
        ge=1,
        le=10_000_000,
    )
    producer_backoff_max_ms: Whole = setting(
        1000, "Longest pause before a request that a store refused for overload goes again.", unit="ms", ge=1, le=60_000
    )
    producer_avoid_store_s: Decimal = setting(
        1.0, "How long items without uin avoid a store that could not be reached.", unit="s", ge=0.0, le=3600.0
    )
    producer_settle_s: Decimal = setting(
        60.0,
        "How much longer a producer goes on asking, after an enqueue was told that its outcome is unknown, "
        "before later items of the same key may leave.",
        unit="s",
        ge=0.0,
        le=3600.0,
    )
    producer_close_timeout_s: Decimal = setting(
        10.0, "Longest close() waits for what is still to be confirmed.", unit="s", ge=0.0, le=3600.0
    )
    producer_report_interval_s: Decimal = setting(
        15.0,
        "How often a producer reports to the stores' ledgers what they confirmed to it (reconciliation); it reports "
        "when it is closed, too. 0: never.",
        unit="s",
        ge=0.0,
        le=3600.0,
    )
    producer_report_rows: Whole = setting(
        4096,
        "Rows (minute, pub, consumer groups, kind) that a producer holds until they are reported; of more the oldest "
        "are given up, and stay unreported.",
        unit="rows",
        ge=16,
        le=1_000_000,
    )
    ledger_retention_h: Decimal = setting(
        24.0,
        "How long a store's ledger (reconciliation) keeps its rows apart; older ones are added up in one row per pub "
        "and consumer group.",
        unit="h",
        ge=0.05,
        le=8784.0,
        restart=Restart.LIVE,
    )
    ledger_max_rows: Whole = setting(
        20_000,
        "Rows (minute, pub, consumer group) that the ledger of a Paxos group keeps apart; of more the oldest are added "
        "up earlier.",
        unit="rows",
        ge=16,
        le=1_000_000,
        restart=Restart.LIVE,
    )
    ledger_settle_s: Decimal = setting(
        60.0,
        "How long after a minute is over the reports of producers about it are waited for, before what is stored and "
        "not reported counts.",
        unit="s",
        ge=0.0,
        le=86_400.0,
        restart=Restart.LIVE,
    )
    ledger_answer_rows: Whole = setting(
        5000, "Rows of a ledger in one answer; the rest comes with the next.", unit="rows", ge=16, le=100_000
    )

    consumer_ignore_consumer_group_ids: tuple[Id, ...] = setting(
        (), "Consumer groups that nobody consumes for now.", restart=Restart.LIVE
    )
    consumer_lock_lease_time_s: Whole = setting(
        5, "Lease of the lock a consumer holds on a queue.", unit="s", ge=1, le=86_400
    )
    consumer_lock_interval_s: Whole = setting(
        2, "How often that lock is renewed; shorter than the lease.", unit="s", ge=1, le=86_400
    )

    lock_call_timeout_ms: Whole = setting(
        10_000,
        "Longest a lock client tries a call that does not wait for a lock or a change, all retries included.",
        unit="ms",
        ge=100,
        le=3_600_000,
    )
    lock_wait_call_ms: Whole = setting(
        25_000,
        "Longest a lock client lets one call wait at the server; a longer wait is made of several calls.",
        unit="ms",
        ge=100,
        le=3_600_000,
    )
    lock_patience_s: Decimal = setting(
        30.0,
        "How long a wait for a lock or a change, if it has no end of its own, bears that no master can be reached.",
        unit="s",
        ge=0.1,
        le=86_400.0,
    )
    lock_clock_drift: Decimal = setting(
        0.01,
        "By how much, as a fraction, a lock client's clock may run slower than the server's: it takes its leases to "
        "be shorter by as much.",
        ge=0.0,
        le=0.5,
    )
    lock_renewals_per_lease: Whole = setting(
        3,
        "How often a lock client renews a lock within one lease; with 2, each renewal may come when the lock has been "
        "noted as silent, and costs an entry of the log then.",
        unit="renewals",
        ge=2,
        le=100,
    )
    lock_renewal_tick_ms: Whole = setting(
        100,
        "Renewals of one lock client that are due within this time go together, in one call per Paxos group.",
        unit="ms",
        ge=1,
        le=60_000,
    )
    lock_client_renew_locks: Whole = setting(
        500,
        "Locks that one such call renews at most; no more than limits.renew_keys of the lock nodes.",
        unit="locks",
        ge=1,
        le=10_000,
    )
    lock_check_s: Decimal = setting(
        10.0, "How often a lock client looks after a lock whose lease has no end.", unit="s", ge=0.1, le=3600.0
    )
    lock_client_max_locks: Whole = setting(
        10_000, "Locks that one client holds or waits for; more are refused.", unit="locks", ge=1, le=10_000_000
    )
    lock_client_max_waiting: Whole = setting(
        4000,
        "Of these, and of calls that wait for a change, how many wait at the same time; more are refused. Fewer than "
        "max_in_flight_calls of net, so that there is always room for renewals.",
        unit="calls",
        ge=1,
        le=10_000_000,
    )
    lock_close_timeout_s: Decimal = setting(
        5.0,
        "Longest a lock client tries to give a lock back, or all of them when it is closed.",
        unit="s",
        ge=0.1,
        le=3600.0,
    )

    scheduler_get_scale_interval_s: Whole = setting(
        1, "How often consumers report that they live, and their load, to the scheduler.", unit="s", ge=1, le=3600
    )
    scheduler_load_balance_interval_s: Whole = setting(
        10, "How often the scheduler looks at all loads.", unit="s", ge=1, le=3600
    )
    scheduler_hash_keep_time_s: Whole = setting(
        4, "Silence after which a consumer counts as dead.", unit="s", ge=1, le=3600
    )
    scheduler_restart_grace_s: Whole = setting(
        3, "How long a consumer that stops keeps its queues, so that a restart moves nothing.", unit="s", ge=0, le=3600
    )
    scheduler_warm_up_s: Whole = setting(
        3, "How long a new master of the schedulers listens before it gives out weights.", unit="s", ge=1, le=3600
    )
    scheduler_lock_lease_time_s: Whole = setting(4, "Lease of the scheduler's mastership.", unit="s", ge=1, le=3600)
    scheduler_lock_key: Text = setting("__scheduler__.__master__", "Lock that makes a scheduler the master.")
    scheduler_max_load: Whole = setting(
        80, "Load above which a consumer may count as overloaded.", unit="%", ge=1, le=10_000
    )
    scheduler_max_mean_load_percent: Whole = setting(
        150,
        "... when it is also above this share of the mean load.",
        unit="%",
        ge=100,
        le=10_000,
    )
    scheduler_max_init_weight_percent: Whole = setting(
        200,
        "Highest weight that the scheduler gives, as a share of the consumer's `scale`.",
        unit="%",
        ge=100,
        le=100_000,
    )
    scheduler_min_init_weight_percent: Whole = setting(
        10,
        "Lowest weight that it gives to one that lives, as a share of the consumer's `scale`.",
        unit="%",
        ge=1,
        le=100,
    )
    scheduler_load_sticky: Whole = setting(
        5, "Changes of load smaller than this are ignored.", unit="%", ge=0, le=10_000
    )
    scheduler_weight_sticky: Whole = setting(
        100,
        "Thousandths of a consumer's `scale`: smaller changes of its weight are not made.",
        ge=0,
        le=1_000_000,
    )
    scheduler_load_use_proc_used_ratio: Flag = setting(False, "Let the share of used slots add to the load.")
    scheduler_use_init_weight: Flag = setting(
        False,
        "Weights follow `scale` alone: the scheduler gives the queues of the dead to the living and does nothing else.",
    )

    scheduler_share_lease_ms: Whole = setting(
        3000,
        "How long a consumer keeps to the part of a speed limit that the scheduler gave it. When it hears nothing for "
        "twice as long, it goes by its queues.",
        unit="ms",
        ge=300,
        le=60_000,
    )
    scheduler_share_limits: Whole = setting(
        1000,
        "Speed limits that a scheduler shares out by demand; with more of them, consumers go by their queues.",
        unit="limits",
        ge=0,
        le=100_000,
    )

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
