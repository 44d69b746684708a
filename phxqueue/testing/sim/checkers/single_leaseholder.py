"""At most one node per group serves reads at any moment of true time."""

from __future__ import annotations

from collections.abc import Mapping

from phxqueue.replica.node import ReplicaNode
from phxqueue.testing.sim.checkers import Violation


class SingleLeaseholder:
    """Asks every running node, after every step of the world, whether it would serve now."""

    def check(self, nodes: Mapping[int, ReplicaNode]) -> None:
        """Raise when two nodes would serve the same group."""
        serving: dict[int, int] = {}
        for node_id, node in nodes.items():
            for group_id, group in node.groups.items():
                if group.serving():
                    other = serving.setdefault(group_id, node_id)
                    if other != node_id:
                        raise Violation(f"nodes {other} and {node_id} both hold the lease of group {group_id}")
