"""From a configuration to a connected lock client: the one place that knows how the parts below are put together."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phxqueue.config import Cluster, NetSettings, Topic, UnknownIdError, load_cluster
from phxqueue.lock.client.errors import UnknownTopic
from phxqueue.lock.client.settings import LockClientSettings
from phxqueue.net.address import Address
from phxqueue.net.cluster_pool import cluster_pool
from phxqueue.net.identity import Identity, Role
from phxqueue.net.pool import ConnectionPool
from phxqueue.net.routing import MasterClient, RoutingSettings
from phxqueue.net.settings import configured

if TYPE_CHECKING:
    from phxqueue.lock.client.client import LockClient


def connect(
    kind: type[LockClient],
    cluster: str | Path | Cluster,
    topic_name: str | int,
    tls: Any,
    settings: LockClientSettings | None,
    name: str | None,
    reactor: Any,
) -> LockClient:
    """See LockClient.connect."""
    if not isinstance(cluster, Cluster):
        cluster = load_cluster(cluster)
    try:
        topic = cluster.topic(topic_name)
    except UnknownIdError as error:
        raise UnknownTopic(str(error)) from None
    if reactor is None:
        from twisted.internet import reactor
    pool = lock_pool(reactor, cluster, topic, tls)
    caller = MasterClient(pool, reactor, random.Random(), settings=configured(RoutingSettings, cluster.net))
    return kind(topic, caller, reactor, settings=settings, name=name, on_close=pool.close)


def lock_pool(
    reactor: Any, cluster: Cluster, topic: Topic, tls: Any = None, net: NetSettings | None = None
) -> ConnectionPool:
    """A pool that accepts at the address of each lock node only that node's certificate.

    Args:
        tls: TlsPaths or a ClientTls; None: what the cluster's configuration says.
        net: bounds and times; None: what the cluster's configuration says.

    Raises:
        TlsError: a certificate or key cannot be used.
    """
    expected = {
        Address(node.ip, node.port): Identity.make(Role.LOCK, str(lock.lock_id), node.node_id)
        for lock in topic.locks
        for node in lock.nodes
    }
    return cluster_pool(reactor, cluster, expected, tls, net)
