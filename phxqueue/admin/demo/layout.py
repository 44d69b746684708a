"""What the demo consists of: read from the files of the cluster, nothing made up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from phxqueue.admin.context import ClusterContext
from phxqueue.admin.errors import AdminError
from phxqueue.config import (
    Cluster,
    ConsumerNode,
    LockNode,
    SchedulerNode,
    StoreNode,
    TlsPaths,
    Topic,
    load_consumer_node,
    load_lock_node,
    load_scheduler_node,
    load_store_node,
)

RUN = "run"
LOGS = "logs"

NodeT = TypeVar("NodeT", StoreNode, LockNode, SchedulerNode, ConsumerNode)


@dataclass(frozen=True, slots=True)
class DaemonPlan:
    """One daemon of the demo; paths as they are given to it."""

    name: str  # "store.0", from its file store.0.conf
    role: str  # "store", "lock", "scheduler" or "consumer"
    announced: str  # what it calls itself when it is ready: "store 1 node 0"
    address: str  # for a consumer its name: nothing listens there
    config: Path
    node_id: int = -1  # of a store

    @property
    def description(self) -> str:
        return self.announced if self.address in self.announced else f"{self.announced}, {self.address}"

    @property
    def pid_file(self) -> Path:
        return Path(RUN) / f"{self.name}.pid"

    @property
    def log_file(self) -> Path:
        return Path(LOGS) / f"{self.name}.log"

    @property
    def arguments(self) -> list[str]:
        """What twistd is called with."""
        return [
            "--pidfile",
            str(self.pid_file),
            "--logfile",
            str(self.log_file),
            f"phxqueue-{self.role}",
            "-c",
            str(self.config),
        ]


_Plans = tuple[DaemonPlan, ...]


@dataclass(frozen=True, slots=True)
class DemoLayout:
    """The cluster, and the daemons whose files lie beside its own."""

    directory: Path
    cluster: Cluster
    topic: Topic
    tls: TlsPaths | None
    stores: tuple[DaemonPlan, ...]
    locks: tuple[DaemonPlan, ...]
    schedulers: tuple[DaemonPlan, ...]
    consumers: tuple[DaemonPlan, ...]

    @classmethod
    def load(cls, settings: ClusterContext, directory: Path) -> DemoLayout:
        """Read everything.

        Raises:
            ConfigError: a file has problems.
            AdminError: there are no node files.
        """
        cluster = settings.load()
        topic = settings.topic_of(cluster)
        home = settings.config.parent

        def plans(role: str, load: Callable[[Path], NodeT], plan: Callable[[Path, NodeT], DaemonPlan]) -> _Plans:
            nodes = [(path, load(path)) for path in sorted(home.glob(f"{role}.*.conf"))]
            return tuple(plan(path, node) for path, node in nodes if node.topic.topic_id == topic.topic_id)

        stores = plans("store", load_store_node, _store)
        consumers = plans("consumer", load_consumer_node, _consumer)
        if not stores or not consumers:
            raise AdminError(
                f"the demo needs node files of topic {topic.topic_name} in {home}: store.0.conf, consumer.0.conf, ..."
            )
        locks = plans("lock", load_lock_node, _lock)
        schedulers = plans("scheduler", load_scheduler_node, _scheduler)
        return cls(directory, cluster, topic, settings.tls_of(cluster), stores, locks, schedulers, consumers)

    @property
    def daemons(self) -> tuple[DaemonPlan, ...]:
        return self.stores + self.locks + self.schedulers + self.consumers

    def store_of_node(self, store_id: int, node_id: int) -> DaemonPlan | None:
        """The daemon of a node, if it is one of ours."""
        name = f"store {store_id} node {node_id}"
        for plan in self.stores:
            if plan.announced == name:
                return plan
        return None


def _store(path: Path, node: StoreNode) -> DaemonPlan:
    announced = f"store {node.store.store_id} node {node.node.node_id}"
    return DaemonPlan(path.stem, "store", announced, node.node.address, path, node.node.node_id)


def _lock(path: Path, node: LockNode) -> DaemonPlan:
    announced = f"lock {node.lock.lock_id} node {node.node.node_id}"
    return DaemonPlan(path.stem, "lock", announced, node.node.address, path)


def _scheduler(path: Path, node: SchedulerNode) -> DaemonPlan:
    return DaemonPlan(path.stem, "scheduler", f"scheduler {node.node.address}", node.node.address, path)


def _consumer(path: Path, node: ConsumerNode) -> DaemonPlan:
    address = node.consumer.address
    return DaemonPlan(path.stem, "consumer", f"consumer {address}", address, path)
