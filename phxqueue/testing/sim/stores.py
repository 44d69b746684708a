"""The store role in the simulated world: the real state machine and the real service, with a small configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from phxqueue.config.cluster import Cluster as ClusterConfig
from phxqueue.config.cluster import ConsumerGroup, NodeAddress, Pub, QueueInfo, Store, Topic
from phxqueue.config.nodes import StoreNode
from phxqueue.config.settings import StoreLimits, TopicSettings
from phxqueue.net.service import Registered, RpcService
from phxqueue.proto.status_pb2 import NodeStatusResponse
from phxqueue.proto.store_pb2 import StoreCommand
from phxqueue.replica.errors import Halted
from phxqueue.replica.node import ReplicaNode
from phxqueue.store.queues import COMMAND_VERSION, TRIM_VERSION, VALUE_KIND, StoreQueues
from phxqueue.store.service import StoreService
from phxqueue.testing.sim.chains import fates
from phxqueue.testing.sim.cluster import Applied, ClusterShape
from phxqueue.testing.sim.journal import SimJournal
from phxqueue.testing.sim.workload import (
    DELAY,
    DELAYED_QUEUE,
    GRACE,
    PLAIN_QUEUES,
    PUB_ID,
    STORE_ID,
    TOPIC_ID,
    Workload,
)
from phxqueue.testing.sim.world import ProcessClock, WallClocks

SEGMENT_ROWS = 8  # small, so that segments are sealed all the time
DRAIN_SECONDS = 0.5
RETENTION_SECONDS = 0.1
NEVER = 3600.0


class ReportingQueues(StoreQueues):
    """The real state machine; it only tells what it has applied."""

    def __init__(self, report: Applied, program_version: int) -> None:
        super().__init__(SEGMENT_ROWS)
        self._report = report
        self._program_version = program_version

    def apply(self, instance: int, kind: int, payload: bytes) -> Any:
        """Apply one chosen entry."""
        before = self.applied
        if self._program_version < COMMAND_VERSION and kind == VALUE_KIND:
            self._stop_at_newer(instance, StoreCommand.FromString(payload).version)
        result = super().apply(instance, kind, payload)
        self._report(self, before, instance, kind, payload)
        return result

    def _stop_at_newer(self, instance: int, version: int) -> None:
        """What a program of the previous version does when it meets a command of this one."""
        if version > self._program_version:
            raise Halted(f"entry {instance} is of version {version}, this program knows {self._program_version}")


class SimStore:
    """What answers clients on one node, and its end."""

    def __init__(self, service: StoreService, clock: ProcessClock, name: str) -> None:
        self._service = service
        self._clock: Any = clock
        self._rpc = RpcService(name)
        service.register(self._rpc)

    @property
    def table(self) -> Mapping[int, Registered]:
        """The handlers by number of method."""
        return self._rpc.table

    def status(self) -> NodeStatusResponse:
        """What the node tells of its queues, as the store's role does."""
        return NodeStatusResponse(
            queues=self._service.queue_statuses(),
            passed_on=self._service.passed_on(),
            run_time_groups=self._service.run_time_groups(),
        )

    def reconfigure(self, node: StoreNode) -> None:
        """The files have changed."""
        self._service.reconfigure(node)

    def stop(self) -> Deferred[Any]:
        """Drain and close, as the store's role does on SIGTERM."""
        drained = self._service.drain()
        drained.addTimeout(DRAIN_SECONDS, self._clock, onTimeoutCancel=lambda result, timeout: None)
        return drained.addCallback(lambda _: self._service.close())


class StoreFactory:
    """Builds what runs on a simulated node.

    Attributes:
        versions: which program is installed on each node, by the version of its commands.
        topic: the configuration of all nodes.
    """

    def __init__(self, shape: ClusterShape, workload: Workload, walls: WallClocks) -> None:
        self.versions: Mapping[int, int] = {}
        self._workload = workload
        self._nodes = _nodes(shape, workload)
        self.topic = self._nodes[0].topic
        self._walls = walls

    def install(self, node_id: int, groups: tuple[int, ...], running: Any) -> None:
        """Give a node files with only these consumer groups; `running`: what answers clients there, or None."""
        node = self._nodes[node_id]
        topic = _topic(node.store, self._workload, groups)
        self._nodes[node_id] = replace(node, topic=topic, cluster=replace(node.cluster, topics=(topic,)))
        if isinstance(running, SimStore):
            running.reconfigure(self._nodes[node_id])

    def state_machine(self, node_id: int, group_id: int, report: Applied) -> StoreQueues:
        """Build the state machine of one group."""
        return ReportingQueues(report, self.versions[node_id])

    def service(self, node_id: int, node: ReplicaNode, journal: SimJournal, clock: ProcessClock) -> SimStore:
        """Build what answers clients on a node that has recovered."""
        store_node = self._nodes[node_id]
        if self.versions[node_id] < TRIM_VERSION:  # the previous program knows nothing of retention
            store_node = replace(store_node, limits=StoreLimits(retention_interval_s=NEVER))
        service = StoreService(
            store_node,
            node.groups,
            clock,
            accepting=lambda: journal.accepting,
            wall=lambda: self._walls.seconds(node_id),
        )
        return SimStore(service, clock, f"simulated store node {node_id}")


def _nodes(shape: ClusterShape, workload: Workload) -> list[StoreNode]:
    addresses = tuple(
        NodeAddress(node_id, "10.0.0.1", node_id, 1000 + node_id) for node_id in range(shape.nodes + shape.spares)
    )
    store = Store(store_id=STORE_ID, nodes=addresses, paxos_groups=shape.paxos_groups)
    topic = _topic(store, workload, workload.groups)
    cluster = ClusterConfig(path=Path("simulated"), topics=(topic,))
    return [
        StoreNode(
            cluster=cluster,
            topic=topic,
            store=store,
            node=address,
            data_dir=Path("simulated"),
            limits=StoreLimits(
                retention_interval_s=RETENTION_SECONDS, relocate_bytes=workload.relocate_bytes, group_grace_s=GRACE
            ),
        )
        for address in addresses
    ]


def _topic(store: Store, workload: Workload, groups: tuple[int, ...]) -> Topic:
    return Topic(
        topic_id=TOPIC_ID,
        topic_name="simulated",
        handle_ids=(1,),
        settings=TopicSettings(
            store_paxos_batch_count=workload.entry_batches, store_sync_interval_ms=workload.sync_interval_ms
        ),
        queue_infos=(
            QueueInfo(queue_info_id=1, ranges=((min(PLAIN_QUEUES), max(PLAIN_QUEUES)),)),
            QueueInfo(queue_info_id=2, ranges=((DELAYED_QUEUE, DELAYED_QUEUE),), delay=DELAY),
            *(fates.QUEUE_INFOS if workload.chains else ()),
        ),
        pubs=(
            Pub(
                pub_id=PUB_ID,
                queue_info_ids=(1, 2),
                consumer_group_ids=groups,
                retention_bytes=workload.retention_bytes,
                check_back_after_s=1.0,
                check_back_every_s=1.0,
                half_deadline_s=4.0,
            ),
            *((fates.PUB,) if workload.chains else ()),
        ),
        consumer_groups=(
            *(ConsumerGroup(consumer_group_id=group) for group in groups),
            *(fates.CONSUMER_GROUPS if workload.chains else ()),
        ),
        stores=(store,),
    )
