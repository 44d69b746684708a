"""What stands in the file of one process."""

from __future__ import annotations

from phxqueue.config.admin_settings import AdminSettings
from phxqueue.config.fields import GIB, KIB, MIB, Decimal, HandlerPath, Host, Id, PathText, Port, Text, Whole, setting
from phxqueue.config.files import TlsBlock
from phxqueue.config.schema import Block
from phxqueue.config.settings import (
    JournalSettings,
    LockLimits,
    LogSettings,
    NetSettings,
    PoolSettings,
    ReplicaSettings,
    RetrySettings,
    StoreLimits,
)


class NodeFile(Block):
    """What every node file has."""

    cluster_config: PathText = setting("globalconfig.conf", "The cluster's globalconfig.conf.")
    topic: Text = setting("", "Name of the topic.", default_text="the topic that has the address")
    ip: Host = setting(meaning="The address of this node, as in the cluster's files.")
    port: Port = setting(meaning="The port of this node, as in the cluster's files.")
    tls: TlsBlock = setting(TlsBlock(), "The certificates of this node.", default_text="as in globalconfig.conf")
    net: NetSettings = setting(
        NetSettings(), "How this process talks to others.", default_text="field by field as in globalconfig.conf"
    )
    log: LogSettings = setting(LogSettings(), "What is logged.")
    admin: AdminSettings = setting(AdminSettings(), "Where the process is observed, and how alarms are told.")


class ReplicaNodeFile(NodeFile):
    """What the file of every node that takes part in Paxos has."""

    paxos_port: Whole = setting(
        0, "Checked against the cluster's file when given.", ge=0, le=65535, default_text="as in the cluster's file"
    )
    bind_ip: Host = setting(
        "", "Address to listen on when it is not `ip` (containers, several networks).", default_text="`ip`"
    )
    data_dir: PathText = setting(
        meaning="Directory of its data, made when missing. A relative path starts at the working directory."
    )
    journal: JournalSettings = setting(JournalSettings(), "The disk.")
    replica: ReplicaSettings = setting(ReplicaSettings(), "How it follows its Paxos groups.")


class StoreNodeFile(ReplicaNodeFile):
    """etc/store.N.conf: one store process."""

    limits: StoreLimits = setting(StoreLimits(), "What it takes in and holds in memory.")


class LockNodeFile(ReplicaNodeFile):
    """etc/lock.N.conf: one lock process. It is known by its name: `lock.conf`, or `lock.` and anything."""

    limits: LockLimits = setting(LockLimits(), "What it takes in and holds in memory.")


class SchedulerNodeFile(NodeFile):
    """etc/scheduler.N.conf: one scheduler. It is known by its name: `scheduler.conf`, or `scheduler.` and anything."""

    bind_ip: Host = setting(
        "", "Address to listen on when it is not `ip` (containers, several networks).", default_text="`ip`"
    )
    max_connections: Whole = setting(4096, "Connections at the same time: consumers, and people.", ge=1, le=1_000_000)


class ConsumerNodeFile(NodeFile):
    """etc/consumer.N.conf: one consumer process."""

    handlers: dict[Id, HandlerPath] = setting(
        {}, 'Who handles what: handle_id → "module:object". Handlers may also come as Twisted plugins.'
    )
    middleware: tuple[HandlerPath, ...] = setting(
        (), 'What runs around every handler, outermost first: each a "module:object" with `before`, `after` or both.'
    )
    nhandler: Whole = setting(100, "Items being handled at the same time.", unit="items", ge=1, le=1_000_000)
    handler_timeout_s: Decimal = setting(
        60.0, "Longest one item is handled; then it costs an attempt.", unit="s", ge=0.001, le=86_400.0
    )
    fetch_items: Whole = setting(2000, "Most items asked for in one Get.", unit="items", ge=1, le=1_000_000)
    fetch_bytes: Whole = setting(1 * MIB, "Most bytes asked for in one Get.", unit="bytes", ge=1 * KIB, le=512 * MIB)
    window_items: Whole = setting(
        100_000,
        "Items of one queue from the oldest that is not finished to the newest fetched; nothing more is fetched above "
        "it. After a crash at most these come again.",
        unit="items",
        ge=1,
        le=100_000_000,
    )
    prefetch_bytes: Whole = setting(
        64 * MIB,
        "Bytes fetched but not handled, over all queues; nothing more is fetched above it.",
        unit="bytes",
        ge=64 * KIB,
        le=64 * GIB,
    )
    get_wait_ms: Whole = setting(25_000, "How long one Get waits for an item.", unit="ms", ge=0, le=600_000)
    settings_interval_s: Decimal = setting(
        2.0,
        "How often limits and pauses that were set at run time (`phxqueue limits`, `phxqueue pause`) are asked for.",
        unit="s",
        ge=0.05,
        le=3600.0,
    )
    ack_interval_ms: Whole = setting(
        100,
        "Longest a finished item waits to be acknowledged; it rides on the next Get when that comes first.",
        unit="ms",
        ge=0,
        le=60_000,
    )
    stop_timeout_s: Decimal = setting(
        30.0, "Longest a stopping consumer waits for items being handled.", unit="s", ge=0.0, le=86_400.0
    )
    pool: PoolSettings = setting(PoolSettings(), "Processes for handlers that compute.")
    retry: RetrySettings = setting(RetrySettings(), "How failed calls are tried again.")
