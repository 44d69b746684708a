"""``twistd -n phxqueue-dev``: the cluster of some files in one process, for development.

The same roles as in production, at the same addresses, over the same mutual TLS: ``phxqueue echo`` and applications
notice no difference. Certificates that are missing are made; data lies in data/dev/, apart from that of daemons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, TypeVar

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.logger import Logger

from phxqueue.admin.certificates import leaves, make_missing
from phxqueue.admin.context import DEFAULT_CONFIG
from phxqueue.admin.errors import AdminError, sentence
from phxqueue.config import (
    Cluster,
    ConfigError,
    ConsumerNode,
    LockNode,
    LogSettings,
    SchedulerNode,
    StoreNode,
    TlsPaths,
    certificate_paths,
    load_cluster,
    load_consumer_node,
    load_lock_node,
    load_scheduler_node,
    load_store_node,
)
from phxqueue.daemon.options import NodeOptions
from phxqueue.net.certs import CertificateFilesError

DATA = Path("data/dev")

NodeT = TypeVar("NodeT")

WELCOME = """{count} nodes serve in this one process. In another terminal:
    {phxqueue} echo hello
    {phxqueue} status
    {phxqueue} bench producer 1000 1 16 100 --duration 5
Ctrl-C ends it; {data} keeps what was stored (remove it to begin anew)."""


@dataclass(frozen=True, slots=True)
class DevCluster:
    """Every node of a cluster's files."""

    config: Path
    cluster: Cluster
    stores: tuple[StoreNode, ...]
    locks: tuple[LockNode, ...]
    schedulers: tuple[SchedulerNode, ...]
    consumers: tuple[ConsumerNode, ...]

    @property
    def count(self) -> int:
        return len(self.stores) + len(self.locks) + len(self.schedulers) + len(self.consumers)

    @classmethod
    def load(cls, config: Path, data: Path = DATA) -> DevCluster:
        """Read the cluster's file and the node files beside it.

        A node without a file of its own gets the defaults; but a consumer without one is left out, because nothing says
        which handlers it has.

        Raises:
            ConfigError: with every problem found.
        """
        cluster, home = load_cluster(config), config.parent
        stores = {node.node.address: node for node in _loaded(home, "store", load_store_node)}
        locks = {node.node.address: node for node in _loaded(home, "lock", load_lock_node)}
        schedulers = {node.node.address: node for node in _loaded(home, "scheduler", load_scheduler_node)}
        return cls(
            config,
            cluster,
            tuple(
                replace(stores.get(node.node.address, node), data_dir=_data(data, node)) for node in _stores(cluster)
            ),
            tuple(replace(locks.get(node.node.address, node), data_dir=_data(data, node)) for node in _locks(cluster)),
            tuple(schedulers.get(node.node.address, node) for node in _schedulers(cluster)),
            tuple(_loaded(home, "consumer", load_consumer_node)),
        )


def _loaded(home: Path, role: str, load: Callable[[Path], NodeT]) -> list[NodeT]:
    return [load(path) for path in sorted(home.glob(f"{role}.*.conf"))]


def _data(data: Path, node: StoreNode | LockNode) -> Path:
    role = "store" if isinstance(node, StoreNode) else "lock"
    return data / f"{role}.{node.identity_name.replace('/', '.')}"


def _tls(cluster: Cluster, role: str, name: str) -> TlsPaths | None:
    return None if cluster.certificates is None else certificate_paths(cluster.certificates, role, name)


def _stores(cluster: Cluster) -> Iterator[StoreNode]:
    for topic in cluster.topics:
        for store in topic.stores:
            for node in store.nodes:
                tls = _tls(cluster, "store", f"{store.store_id}/{node.node_id}")
                yield StoreNode(
                    cluster=cluster, topic=topic, store=store, node=node, data_dir=DATA, tls=tls, net=cluster.net
                )


def _locks(cluster: Cluster) -> Iterator[LockNode]:
    for topic in cluster.topics:
        for lock in topic.locks:
            for node in lock.nodes:
                tls = _tls(cluster, "lock", f"{lock.lock_id}/{node.node_id}")
                yield LockNode(
                    cluster=cluster, topic=topic, lock=lock, node=node, data_dir=DATA, tls=tls, net=cluster.net
                )


def _schedulers(cluster: Cluster) -> Iterator[SchedulerNode]:
    for topic in cluster.topics:
        for node in topic.scheduler:
            tls = _tls(cluster, "scheduler", node.name)
            yield SchedulerNode(cluster=cluster, topic=topic, node=node, tls=tls, net=cluster.net)


class Options(NodeOptions):
    """``twistd phxqueue-dev``: its options."""

    role = "dev"
    optParameters: ClassVar = [["config", "c", str(DEFAULT_CONFIG), "The cluster's file"]]

    def load(self, path: Path) -> DevCluster:
        """Return the nodes; makes certificates that are missing."""
        if not path.exists():
            raise ConfigError(
                f"{path} does not exist: go to the directory that has it (a checkout has {DEFAULT_CONFIG}), or name "
                "the cluster's file with -c"
            )
        try:
            found = DevCluster.load(path)
            if found.cluster.certificates is not None:
                make_missing(found.cluster.certificates, leaves(found.cluster), name=found.cluster.name)
        except (AdminError, CertificateFilesError, OSError) as error:
            raise ConfigError(sentence(error)) from error
        return found

    def log_settings(self, node: DevCluster) -> LogSettings:
        """One log for all: as people like to read it."""
        return LogSettings()


def makeService(options: Options) -> MultiService:
    """Build the services of all nodes."""
    from twisted.internet import reactor

    from phxqueue.consumer.daemon import ConsumerRole
    from phxqueue.daemon.role_service import RoleService, prepare_process
    from phxqueue.lock.daemon import lock_role
    from phxqueue.scheduler.daemon import SchedulerRole
    from phxqueue.store.daemon import store_role

    cluster: DevCluster = options.node
    in_turn = (
        [RoleService(lock_role(node, reactor), reactor) for node in cluster.locks],
        [RoleService(store_role(node, reactor), reactor) for node in cluster.stores],
        [RoleService(SchedulerRole(node, reactor), reactor) for node in cluster.schedulers],
        [RoleService(ConsumerRole(node, reactor), reactor) for node in cluster.consumers],
    )
    everything = StoppedInTurn()  # type: ignore[no-untyped-call]
    for services in in_turn:
        together = MultiService()
        for service in services:
            service.setServiceParent(together)  # type: ignore[no-untyped-call]
        together.setServiceParent(everything)
    roles = [service for services in in_turn for service in services]
    prepare_process(reactor, roles)
    DeferredList([service.started for service in roles]).addCallback(_welcome, cluster)
    return everything


class StoppedInTurn(MultiService):
    """Stops what was added last first, and waits for it: consumers acknowledge while stores and locks still listen."""

    def stopService(self) -> Deferred[None]:
        """Fires when all have stopped."""
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop_in_turn())

    async def _stop_in_turn(self) -> None:
        for service in reversed(list(self)):
            await maybeDeferred(service.stopService)


def _welcome(_: object, cluster: DevCluster) -> None:
    phxqueue = "phxqueue" if cluster.config == DEFAULT_CONFIG else f"phxqueue -c {cluster.config}"
    Logger(namespace="phxqueue.dev").info(WELCOME, count=cluster.count, phxqueue=phxqueue, data=str(DATA))
