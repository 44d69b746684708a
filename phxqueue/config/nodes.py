"""The immutable snapshot of one process: its node file together with the cluster it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from phxqueue.config.admin_settings import AdminSettings
from phxqueue.config.certificates import TlsPaths
from phxqueue.config.cluster import Cluster, Consumer, LockGroup, NodeAddress, Store, Topic, host_port
from phxqueue.config.fields import MIB
from phxqueue.config.problems import Problem
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaProcess:
    """What the process of a store's node and that of a lock group's node have in common."""

    cluster: Cluster
    topic: Topic
    node: NodeAddress
    data_dir: Path
    path: Path = Path("node.conf")
    bind_ip: str = ""  # where it listens, when that is not node.ip
    tls: TlsPaths | None = None  # None: off, loopback only
    journal: JournalSettings = field(default_factory=JournalSettings)
    replica: ReplicaSettings = field(default_factory=ReplicaSettings)
    net: NetSettings = field(default_factory=NetSettings)
    log: LogSettings = field(default_factory=LogSettings)
    admin: AdminSettings = field(default_factory=AdminSettings)
    warnings: tuple[Problem, ...] = field(default=(), compare=False)  # about all files read; for the log

    @property
    def cluster_config(self) -> Path:
        """The path of globalconfig.conf."""
        return self.cluster.path

    @property
    def listen_address(self) -> str:
        return host_port(self.bind_ip or self.node.ip, self.node.port)

    @property
    def listen_paxos_address(self) -> str:
        return host_port(self.bind_ip or self.node.ip, self.node.paxos_port)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreNode(ReplicaProcess):
    """One store process: `node` of `store` of `topic`."""

    store: Store
    limits: StoreLimits = field(default_factory=StoreLimits)

    @property
    def identity_name(self) -> str:
        """The name in its certificate: phxqueue://store/<identity_name>."""
        return f"{self.store.store_id}/{self.node.node_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LockNode(ReplicaProcess):
    """One lock process: `node` of `lock` of `topic`."""

    lock: LockGroup
    limits: LockLimits = field(default_factory=LockLimits)

    @property
    def identity_name(self) -> str:
        """The name in its certificate: phxqueue://lock/<identity_name>."""
        return f"{self.lock.lock_id}/{self.node.node_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerNode:
    """One scheduler process: `node` is its entry of schedulerconfig.conf."""

    cluster: Cluster
    topic: Topic
    node: NodeAddress
    path: Path = Path("scheduler.conf")
    bind_ip: str = ""  # where it listens, when that is not node.ip
    max_connections: int = 4096
    tls: TlsPaths | None = None
    net: NetSettings = field(default_factory=NetSettings)
    log: LogSettings = field(default_factory=LogSettings)
    admin: AdminSettings = field(default_factory=AdminSettings)
    warnings: tuple[Problem, ...] = field(default=(), compare=False)  # about all files read; for the log

    @property
    def cluster_config(self) -> Path:
        """The path of globalconfig.conf."""
        return self.cluster.path

    @property
    def listen_address(self) -> str:
        return host_port(self.bind_ip or self.node.ip, self.node.port)

    @property
    def identity_name(self) -> str:
        """The name in its certificate: phxqueue://scheduler/<identity_name>."""
        return self.node.name


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerNode:
    """One consumer process: `consumer` is its entry of consumerconfig.conf."""

    cluster: Cluster
    topic: Topic
    consumer: Consumer
    consumer_group_ids: tuple[int, ...]  # the groups it takes part in, resolved
    handlers: Mapping[int, str]  # handle_id -> "module:object"
    path: Path = Path("consumer.conf")
    middleware: tuple[str, ...] = ()  # "module:object"
    nhandler: int = 100
    handler_timeout_s: float = 60.0
    fetch_items: int = 2000
    fetch_bytes: int = 1 * MIB
    window_items: int = 100_000
    prefetch_bytes: int = 64 * MIB
    get_wait_ms: int = 25_000
    settings_interval_s: float = 2.0
    ack_interval_ms: int = 100
    stop_timeout_s: float = 30.0
    pool: PoolSettings = field(default_factory=PoolSettings)
    retry: RetrySettings = field(default_factory=RetrySettings)
    tls: TlsPaths | None = None
    net: NetSettings = field(default_factory=NetSettings)
    log: LogSettings = field(default_factory=LogSettings)
    admin: AdminSettings = field(default_factory=AdminSettings)
    warnings: tuple[Problem, ...] = field(default=(), compare=False)  # about all files read; for the log

    @property
    def cluster_config(self) -> Path:
        """The path of globalconfig.conf."""
        return self.cluster.path

    @property
    def identity_name(self) -> str:
        """The name in its certificate: phxqueue://consumer/<identity_name>."""
        return self.consumer.name
