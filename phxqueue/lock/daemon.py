"""The lock role: one node of a lock group, put together from its configuration. ``twistd phxqueue-lock -c FILE``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from twisted.application.service import MultiService

from phxqueue.config import LockGroup, LockNode, load_lock_node
from phxqueue.console.desk import AlarmSink
from phxqueue.daemon.options import NodeOptions
from phxqueue.daemon.replica_role import ReplicaKind, ReplicaRole
from phxqueue.daemon.role_service import process_of
from phxqueue.lock.client.connecting import lock_pool
from phxqueue.lock.service import LockService
from phxqueue.lock.table import COMMAND_VERSION, LockTable
from phxqueue.net.identity import Role
from phxqueue.net.routing import MasterClient, RoutingSettings
from phxqueue.net.settings import configured
from phxqueue.proto.status_pb2 import NodeStatusResponse
from phxqueue.replica.host import ReplicaHost


class LockKind(ReplicaKind[LockNode, LockService]):
    """A replica whose state machines are lock tables.

    Where keys belong does not follow the files at a reload: see docs/lock.md.
    """

    role = Role.LOCK
    command_version = COMMAND_VERSION

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def load(self, path: Path) -> LockNode:
        """Read a lock node's file; raises ConfigError."""
        return load_lock_node(path)

    def replica_set(self, node: LockNode) -> LockGroup:
        """The lock group."""
        return node.lock

    def set_id(self, node: LockNode) -> int:
        """The lock group's number."""
        return node.lock.lock_id

    def state_machine(self, node: LockNode) -> LockTable:
        """The locks and strings of one Paxos group."""
        return LockTable()

    def service(self, node: LockNode, host: ReplicaHost, clock: Any, alarms: AlarmSink) -> LockService:
        """What answers lock clients; it asks the topic's other lock groups, if there are any."""
        caller: MasterClient | None = None
        close: Callable[[], object] | None = None
        if len(node.topic.locks) > 1:
            pool = lock_pool(self._reactor, node.cluster, node.topic, host.client_tls, node.net)
            caller = MasterClient(pool, self._reactor, Random(), settings=configured(RoutingSettings, node.net))
            close = pool.close
        return LockService(node, host.groups, clock, accepting=lambda: host.accepting, caller=caller, on_close=close)

    def glance(self, service: LockService, node: LockNode, status: NodeStatusResponse) -> None:
        """What is in its tables."""
        status.lock_id = node.lock.lock_id
        status.lock_tables.extend(service.table_statuses())

    def describe(self, service: LockService, node: LockNode, status: NodeStatusResponse) -> None:
        """The same: there is no more."""
        self.glance(service, node, status)


def lock_role(node: LockNode, reactor: Any) -> ReplicaRole[LockNode, LockService]:
    """One lock node, ready to start."""
    return ReplicaRole(LockKind(reactor), node, reactor)


class Options(NodeOptions):
    """``twistd phxqueue-lock``: its options."""

    role = "lock"

    def load(self, path: Path) -> LockNode:
        """Return the node's configuration; raises ConfigError."""
        return load_lock_node(path)


def makeService(options: Options) -> MultiService:
    """Build the Twisted service of one lock node."""
    from twisted.internet import reactor

    return process_of(lock_role(options.node, reactor), reactor)
