"""``twistd -n phxqueue-dev``: the cluster of some files in one process, for development.

The same roles as in production, at the same addresses, over the same mutual TLS: ``phxqueue echo`` and applications
notice no difference. Certificates that are missing are made; data lies in data/dev/, apart from that of daemons.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

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
    LogSettings,
    StoreNode,
    certificate_paths,
    load_cluster,
    load_consumer_node,
    load_store_node,
)
from phxqueue.daemon.options import NodeOptions
from phxqueue.net.certs import CertificateFilesError

DATA = Path("data/dev")

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
    consumers: tuple[ConsumerNode, ...]

    @classmethod
    def load(cls, config: Path, data: Path = DATA) -> DevCluster:
        """Read the cluster's file and the node files beside it.

        A store node without a file of its own gets the defaults; a consumer without one is left out, because nothing
        says which handlers it has.

        Raises:
            ConfigError: with every problem found.
        """
        cluster = load_cluster(config)
        files = {_key(node): node for path in sorted(config.parent.glob("store.*.conf")) for node in _stores_of(path)}
        stores = [
            replace(files.get(_key(node), node), data_dir=data / f"store.{node.store.store_id}.{node.node.node_id}")
            for node in _nodes(cluster)
        ]
        consumers = [load_consumer_node(path) for path in sorted(config.parent.glob("consumer.*.conf"))]
        return cls(config, cluster, tuple(stores), tuple(consumers))


def _nodes(cluster: Cluster) -> Iterator[StoreNode]:
    for topic in cluster.topics:
        for store in topic.stores:
            for node in store.nodes:
                tls = None
                if cluster.certificates is not None:
                    tls = certificate_paths(cluster.certificates, "store", f"{store.store_id}/{node.node_id}")
                yield StoreNode(
                    cluster=cluster, topic=topic, store=store, node=node, data_dir=DATA, tls=tls, net=cluster.net
                )


def _stores_of(path: Path) -> Sequence[StoreNode]:
    return [load_store_node(path)]


def _key(node: StoreNode) -> tuple[int, int]:
    return node.store.store_id, node.node.node_id


class Options(NodeOptions):
    """``twistd phxqueue-dev``: its options."""

    role = "dev"
    optParameters: ClassVar = [["config", "c", str(DEFAULT_CONFIG), "The cluster's file"]]

    def load(self, path: Path) -> DevCluster:
        """Return the nodes; makes certificates that are missing."""
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
    from phxqueue.store.daemon import store_role

    cluster: DevCluster = options.node
    stores = [RoleService(store_role(node, reactor), reactor) for node in cluster.stores]
    consumers = [RoleService(ConsumerRole(node, reactor), reactor) for node in cluster.consumers]
    everything = StoppedInTurn()  # type: ignore[no-untyped-call]
    for services in (stores, consumers):
        together = MultiService()
        for service in services:
            service.setServiceParent(together)  # type: ignore[no-untyped-call]
        together.setServiceParent(everything)
    prepare_process(reactor, [*stores, *consumers])
    DeferredList([service.started for service in (*stores, *consumers)]).addCallback(_welcome, cluster)
    return everything


class StoppedInTurn(MultiService):
    """Stops what was added last first, and waits for it: consumers acknowledge while the stores still listen."""

    def stopService(self) -> Deferred[None]:
        """Fires when all have stopped."""
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop_in_turn())

    async def _stop_in_turn(self) -> None:
        for service in reversed(list(self)):
            await maybeDeferred(service.stopService)


def _welcome(_: object, cluster: DevCluster) -> None:
    count = len(cluster.stores) + len(cluster.consumers)
    phxqueue = "phxqueue" if cluster.config == DEFAULT_CONFIG else f"phxqueue -c {cluster.config}"
    Logger(namespace="phxqueue.dev").info(WELCOME, count=count, phxqueue=phxqueue, data=str(DATA))
