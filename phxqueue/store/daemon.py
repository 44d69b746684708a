"""The store role: one node of a store, put together from its configuration. ``twistd phxqueue-store -c FILE``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.application.service import MultiService

from phxqueue.config import Store, StoreNode, load_store_node
from phxqueue.console.desk import AlarmSink
from phxqueue.daemon.options import NodeOptions
from phxqueue.daemon.replica_role import ReplicaKind, ReplicaRole
from phxqueue.daemon.role_service import process_of
from phxqueue.net.identity import Role
from phxqueue.proto.status_pb2 import NodeStatusResponse
from phxqueue.replica.host import ReplicaHost
from phxqueue.store.queues import COMMAND_VERSION, StoreQueues
from phxqueue.store.served import pubs_of_queues
from phxqueue.store.service import StoreService


class StoreKind(ReplicaKind[StoreNode, StoreService]):
    """A replica whose state machines are queues."""

    role = Role.STORE
    command_version = COMMAND_VERSION

    def load(self, path: Path) -> StoreNode:
        """Read a store's node file; raises ConfigError."""
        return load_store_node(path)

    def replica_set(self, node: StoreNode) -> Store:
        """The store."""
        return node.store

    def set_id(self, node: StoreNode) -> int:
        """The store's number."""
        return node.store.store_id

    def state_machine(self, node: StoreNode) -> StoreQueues:
        """The queues of one Paxos group."""
        return StoreQueues(node.limits.index_segment_rows)

    def service(self, node: StoreNode, host: ReplicaHost, clock: Any, alarms: AlarmSink) -> StoreService:
        """What answers producers and consumers."""
        return StoreService(node, host.groups, clock, accepting=lambda: host.accepting, alarms=alarms)

    def reconfigure(self, service: StoreService, node: StoreNode) -> None:
        """Pubs, groups and limits follow the files."""
        service.reconfigure(node)

    def pubs_of_queues(self, node: StoreNode) -> Mapping[int, tuple[int, ...]]:
        """Of all queues that the store serves."""
        return pubs_of_queues(node.topic, node.store)

    def glance(self, service: StoreService, node: StoreNode, status: NodeStatusResponse) -> None:
        """Which store it is."""
        status.store_id = node.store.store_id

    def describe(self, service: StoreService, node: StoreNode, status: NodeStatusResponse) -> None:
        """Its queues, and what an operator should know of them."""
        status.store_id = node.store.store_id
        status.notices.extend(service.notices())
        status.passed_on.extend(service.passed_on())
        status.run_time_groups.extend(service.run_time_groups())
        status.queues.extend(service.queue_statuses())
        status.told_groups.extend(service.told_groups())  # last: a lease may end meanwhile
        status.audits.extend(service.audits())
        status.ledgers.extend(service.ledgers())


def store_role(node: StoreNode, reactor: Any) -> ReplicaRole[StoreNode, StoreService]:
    """One store node, ready to start."""
    return ReplicaRole(StoreKind(), node, reactor)


class Options(NodeOptions):
    """``twistd phxqueue-store``: its options."""

    role = "store"

    def load(self, path: Path) -> StoreNode:
        """Return the node's configuration; raises ConfigError."""
        return load_store_node(path)


def makeService(options: Options) -> MultiService:
    """Build the Twisted service of one store node."""
    from twisted.internet import reactor

    return process_of(store_role(options.node, reactor), reactor)
