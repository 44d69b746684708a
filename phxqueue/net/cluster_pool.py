"""A client's connections to nodes of a cluster: its certificate, its bounds, and who is expected where."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phxqueue.config import Cluster, NetSettings
from phxqueue.net.address import Address
from phxqueue.net.identity import Identity
from phxqueue.net.pool import ConnectionPool
from phxqueue.net.settings import RpcSettings, configured
from phxqueue.net.tls import ClientTls, TlsPaths, client_tls


def cluster_pool(
    reactor: Any,
    cluster: Cluster,
    expected: Mapping[Address, Identity],
    tls: Any = None,
    net: NetSettings | None = None,
) -> ConnectionPool:
    """A pool that accepts at each address only the certificate of the node that is expected there.

    Args:
        tls: TlsPaths or a ClientTls; None: what the cluster's configuration says.
        net: bounds and times; None: what the cluster's configuration says.

    Raises:
        TlsError: a certificate or key cannot be used.
    """
    return ConnectionPool(
        reactor, _tls(cluster, tls), settings=configured(RpcSettings, net or cluster.net), expected=dict(expected)
    )


def _tls(cluster: Cluster, tls: Any) -> ClientTls | None:
    if isinstance(tls, ClientTls):
        return tls
    paths = tls or cluster.tls
    if paths is None:
        return None
    return client_tls(TlsPaths(Path(paths.ca), Path(paths.certificate), Path(paths.key)))
