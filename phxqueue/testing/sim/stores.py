"""The store role in the simulated world: the real state machine and the real service, with a small configuration."""

from __future__ import annotations

from pathlib import Path

from phxqueue.config.cluster import Cluster as ClusterConfig
from phxqueue.config.cluster import ConsumerGroup, NodeAddress, Pub, QueueInfo, Store, Topic
from phxqueue.config.nodes import StoreNode
from phxqueue.net.service import RpcService
from phxqueue.replica.node import ReplicaNode
from phxqueue.store.queues import StoreQueues
from phxqueue.store.service import StoreService
from phxqueue.testing.sim.clients import PUB_ID, STORE_ID, TOPIC_ID
from phxqueue.testing.sim.cluster import ClusterShape
from phxqueue.testing.sim.world import ProcessClock, World

QUEUE_IDS = (0, 1, 2)
SEGMENT_ROWS = 8  # small, so that segments are sealed all the time


class StoreFactory:
    """Builds what runs on a simulated node. The wall clocks of the nodes disagree by up to some seconds."""

    def __init__(self, world: World, shape: ClusterShape) -> None:
        self._world = world
        self._nodes = _nodes(shape)
        self._wall_offsets = [world.random.uniform(-5.0, 5.0) for _ in range(shape.nodes)]

    def state_machine(self, group_id: int) -> StoreQueues:
        """Build the state machine of one group."""
        return StoreQueues(SEGMENT_ROWS)

    def service(self, node_id: int, node: ReplicaNode, clock: ProcessClock) -> RpcService:
        """Build what answers clients on a node that has recovered."""
        offset = 1_700_000_000 + self._wall_offsets[node_id]
        service = StoreService(
            self._nodes[node_id],
            node.groups,
            clock,
            accepting=lambda: True,
            wall=lambda: offset + self._world.now,
        )
        rpc = RpcService(f"simulated store node {node_id}")
        service.register(rpc)
        return rpc


def _nodes(shape: ClusterShape) -> list[StoreNode]:
    addresses = tuple(NodeAddress(node_id, "10.0.0.1", node_id, 1000 + node_id) for node_id in range(shape.nodes))
    store = Store(store_id=STORE_ID, nodes=addresses, paxos_groups=shape.paxos_groups)
    topic = Topic(
        topic_id=TOPIC_ID,
        topic_name="simulated",
        handle_ids=(1,),
        queue_infos=(QueueInfo(queue_info_id=1, ranges=((min(QUEUE_IDS), max(QUEUE_IDS)),)),),
        pubs=(Pub(pub_id=PUB_ID, queue_info_ids=(1,), consumer_group_ids=(1,)),),
        consumer_groups=(ConsumerGroup(consumer_group_id=1),),
        stores=(store,),
    )
    cluster = ClusterConfig(path=Path("simulated"), topics=(topic,))
    return [
        StoreNode(cluster=cluster, topic=topic, store=store, node=address, data_dir=Path("simulated"))
        for address in addresses
    ]
