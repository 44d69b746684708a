"""The cluster's configuration: models, loading, validation, live reload.

Reading a configuration gives an immutable snapshot or a report of everything that is wrong with it; it never
writes, and it knows nothing of the other packages.

:mod:`~phxqueue.config.settings`, :mod:`~phxqueue.config.cluster` and :mod:`~phxqueue.config.nodes` are what
other packages use; docs/configuration.md is generated from the same models.
"""

from __future__ import annotations

from phxqueue.config.certificates import Leaf, TlsPaths, certificate_paths
from phxqueue.config.checking import check
from phxqueue.config.cluster import (
    DEAD_LETTER_BASE,
    MAX_CONSUMER_GROUP_ID,
    Cluster,
    Consumer,
    ConsumerGroup,
    FreqInfo,
    LockGroup,
    NodeAddress,
    Pub,
    QueueInfo,
    Reconcile,
    ReplayInfo,
    ReplicaSet,
    SkipInfo,
    Store,
    Topic,
    dead_letter_queue,
    group_bit,
    host_port,
)
from phxqueue.config.loading import (
    inspect_cluster,
    inspect_consumer_node,
    inspect_lock_node,
    inspect_scheduler_node,
    inspect_store_node,
    load_cluster,
    load_consumer_node,
    load_lock_node,
    load_scheduler_node,
    load_store_node,
)
from phxqueue.config.nodes import ConsumerNode, LockNode, SchedulerNode, StoreNode
from phxqueue.config.problems import ConfigError, Problem, Report, UnknownIdError
from phxqueue.config.reload import Change, Reloaded, differences
from phxqueue.config.reload import reload as reload_snapshot
from phxqueue.config.settings import (
    JournalSettings,
    LockLimits,
    LogSettings,
    NetSettings,
    PoolSettings,
    ReplicaSettings,
    RetrySettings,
    StoreLimits,
    TopicSettings,
)

__all__ = [
    "DEAD_LETTER_BASE",
    "MAX_CONSUMER_GROUP_ID",
    "Change",
    "Cluster",
    "ConfigError",
    "Consumer",
    "ConsumerGroup",
    "ConsumerNode",
    "FreqInfo",
    "JournalSettings",
    "Leaf",
    "LockGroup",
    "LockLimits",
    "LockNode",
    "LogSettings",
    "NetSettings",
    "NodeAddress",
    "PoolSettings",
    "Problem",
    "Pub",
    "QueueInfo",
    "Reconcile",
    "Reloaded",
    "ReplayInfo",
    "ReplicaSet",
    "ReplicaSettings",
    "Report",
    "RetrySettings",
    "SchedulerNode",
    "SkipInfo",
    "Store",
    "StoreLimits",
    "StoreNode",
    "TlsPaths",
    "Topic",
    "TopicSettings",
    "UnknownIdError",
    "certificate_paths",
    "check",
    "dead_letter_queue",
    "differences",
    "group_bit",
    "host_port",
    "inspect_cluster",
    "inspect_consumer_node",
    "inspect_lock_node",
    "inspect_scheduler_node",
    "inspect_store_node",
    "load_cluster",
    "load_consumer_node",
    "load_lock_node",
    "load_scheduler_node",
    "load_store_node",
    "reload_snapshot",
]
