"""Connections to the cluster for commands that speak the wire protocol themselves."""

from __future__ import annotations

import random
from typing import Any

from phxqueue.config import Cluster, TlsPaths, Topic
from phxqueue.net.pool import ConnectionPool
from phxqueue.net.routing import MasterClient
from phxqueue.producer.connecting import connection_pool, routing_settings


def open_pool(reactor: Any, cluster: Cluster, topic: Topic, tls: TlsPaths | None) -> ConnectionPool:
    """Return a pool that accepts at each store's address only the node that belongs there. Close it when done.

    Raises:
        TlsError: naming the certificate file that cannot be used.
    """
    return connection_pool(reactor, cluster, topic, tls)


def open_master_client(reactor: Any, cluster: Cluster, topic: Topic, pool: ConnectionPool) -> MasterClient:
    """Return a client that finds the master of a store by itself."""
    return MasterClient(pool, reactor, random.Random(), settings=routing_settings(cluster.net, topic))
