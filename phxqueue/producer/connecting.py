"""From a configuration to a connected producer: the one place that knows how the parts below are put together."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phxqueue.config import Cluster, NetSettings, Topic, UnknownIdError, load_cluster
from phxqueue.net.address import Address
from phxqueue.net.cluster_pool import cluster_pool
from phxqueue.net.identity import Identity
from phxqueue.net.pool import ConnectionPool
from phxqueue.net.routing import MasterClient, RoutingSettings
from phxqueue.net.settings import configured
from phxqueue.producer.check_backs import CheckBack
from phxqueue.producer.errors import UnknownTopic
from phxqueue.producer.settings import ProducerSettings

if TYPE_CHECKING:
    from phxqueue.producer.client import Producer


def connect(
    kind: type[Producer],
    cluster: str | Path | Cluster,
    topic_name: str | int,
    tls: Any,
    settings: ProducerSettings | None,
    reactor: Any,
    name: str = "",
    check_back: CheckBack | None = None,
) -> Producer:
    """See Producer.connect."""
    if not isinstance(cluster, Cluster):
        cluster = load_cluster(cluster)
    try:
        topic = cluster.topic(topic_name)
    except UnknownIdError as error:
        raise UnknownTopic(str(error)) from None
    if reactor is None:
        from twisted.internet import reactor
    pool = connection_pool(reactor, cluster, topic, tls)
    caller = MasterClient(pool, reactor, random.Random(), settings=routing_settings(cluster.net, topic))
    return kind(topic, caller, reactor, settings=settings, on_close=pool.close, name=name, check_back=check_back)


def connection_pool(
    reactor: Any, cluster: Cluster, topic: Topic, tls: Any = None, net: NetSettings | None = None
) -> ConnectionPool:
    """A pool that accepts at the address of each store node only that node's certificate.

    Args:
        tls: TlsPaths or a ClientTls; None: what the cluster's configuration says.
        net: bounds and times; None: what the cluster's configuration says.

    Raises:
        TlsError: a certificate or key cannot be used.
    """
    expected = {
        Address(node.ip, node.port): Identity.store(store.store_id, node.node_id)
        for store in topic.stores
        for node in store.nodes
    }
    return cluster_pool(reactor, cluster, expected, tls, net)


def routing_settings(net: NetSettings, topic: Topic) -> RoutingSettings:
    """What the configuration says about looking for a master."""
    patience_s = topic.settings.producer_no_master_patience_s
    return configured(RoutingSettings, net, no_master_patience_s=patience_s)
