"""The lock role in the simulated world: the real state machine and the real service, with a small configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from phxqueue.config.cluster import Cluster as ClusterConfig
from phxqueue.config.cluster import LockGroup, NodeAddress, Topic
from phxqueue.config.nodes import LockNode
from phxqueue.config.settings import LockLimits
from phxqueue.lock.service import LockService
from phxqueue.lock.table import LockTable
from phxqueue.net.service import Registered, RpcService
from phxqueue.proto.lock_pb2 import LockRestored
from phxqueue.replica.node import ReplicaNode
from phxqueue.testing.sim.cluster import Applied, ClusterShape
from phxqueue.testing.sim.journal import SimJournal
from phxqueue.testing.sim.world import ProcessClock, World

TOPIC_ID = 1
LOCK_ID = 1
DRAIN_SECONDS = 0.5
LIMITS = LockLimits(
    lease_min_ms=50,
    silence_lease_min_ms=50,
    wait_max_ms=2000,
    entry_operations=3,
    open_entries=2,
    expire_operations=2,
    retry_after_ms=5,
)
"""Small, so that the bounds are met."""


class ReportingTable(LockTable):
    """The real state machine; it only tells what it has applied."""

    def __init__(self, report: Applied, restored: LockRestored | None) -> None:
        super().__init__()
        self._report = report
        if restored is not None:
            self._begin_again(restored, 0)

    def apply(self, instance: int, kind: int, payload: bytes) -> Any:
        """Apply one chosen entry."""
        before = self.applied
        result = super().apply(instance, kind, payload)
        self._report(self, before, instance, kind, payload)
        return result


class SimLockNode:
    """What answers clients on one node, and its end."""

    def __init__(self, service: LockService, clock: ProcessClock, name: str) -> None:
        self._service = service
        self._clock: Any = clock
        self._rpc = RpcService(name)
        service.register(self._rpc)

    @property
    def table(self) -> Mapping[int, Registered]:
        """The handlers by number of method."""
        return self._rpc.table

    def stop(self) -> Deferred[Any]:
        """Drain and close, as the role does on SIGTERM."""
        drained = self._service.drain()
        drained.addTimeout(DRAIN_SECONDS, self._clock, onTimeoutCancel=lambda result, timeout: None)
        return drained.addCallback(lambda _: self._service.close())


class LockFactory:
    """Builds what runs on a simulated node.

    Args:
        restored: the lock group begins as one that was restored from a backup in which nothing was held.
    """

    def __init__(self, world: World, shape: ClusterShape, restored: LockRestored | None = None) -> None:
        self._world = world
        self._restored = restored
        addresses = tuple(NodeAddress(node_id, "10.0.0.1", node_id, 1000 + node_id) for node_id in range(shape.nodes))
        lock = LockGroup(lock_id=LOCK_ID, nodes=addresses, paxos_groups=shape.paxos_groups)
        topic = Topic(topic_id=TOPIC_ID, topic_name="simulated", locks=(lock,))
        cluster = ClusterConfig(path=Path("simulated"), topics=(topic,))
        self._nodes = [
            LockNode(cluster=cluster, topic=topic, lock=lock, node=address, data_dir=Path("simulated"), limits=LIMITS)
            for address in addresses
        ]

    def state_machine(self, node_id: int, group_id: int, report: Applied) -> LockTable:
        """Build the state machine of one group."""
        return ReportingTable(report, self._restored)

    def service(self, node_id: int, node: ReplicaNode, journal: SimJournal, clock: ProcessClock) -> SimLockNode:
        """Build what answers clients on a node that has recovered."""
        service = LockService(
            self._nodes[node_id],
            node.groups,
            clock,
            accepting=lambda: journal.accepting,
            number=lambda: self._world.random.getrandbits(64),
        )
        return SimLockNode(service, clock, f"simulated lock node {node_id}")
