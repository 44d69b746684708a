"""What tests ask of a lock group of real processes."""

from __future__ import annotations

from twisted.internet import reactor

from phxqueue.admin.lock_status import ask_lock_nodes
from phxqueue.admin.processes.child import Child
from phxqueue.lock.client.connecting import lock_pool
from tests.integration.cluster import TestedCluster


async def lock_master(cluster: TestedCluster, group_id: int = 0) -> Child:
    """The node that is master of a Paxos group now; waits for an election to end."""
    return cluster.locks[(await _led(cluster, group_id))[0]]


async def lock_ballot(cluster: TestedCluster, group_id: int = 0) -> int:
    """The ballot of that master: it rises with every election."""
    return (await _led(cluster, group_id))[1]


async def _led(cluster: TestedCluster, group_id: int, timeout_s: float = 2.0) -> tuple[int, int]:
    """Which node is master, and its ballot."""
    pool = lock_pool(reactor, cluster.cluster, cluster.topic)
    try:
        while True:
            for report in await ask_lock_nodes(pool, cluster.topic, timeout_s):
                group = report.group(group_id)
                if group is not None and group.is_master and group.lease_remaining_s > 0:
                    return report.node.node_id, group.ballot
            await cluster.pause()
    finally:
        await pool.close()
