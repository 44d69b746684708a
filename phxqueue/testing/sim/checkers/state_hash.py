"""Replicas at the same instance have the same state, however they got there (live, replay, checkpoint)."""

from __future__ import annotations

from phxqueue.testing.sim.checkers import Violation


class StateHash:
    """Remembers the first hash seen at an instance and holds the others against it."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[int, int]] = {}

    def seen(self, node_id: int, group_id: int, applied: int, state_hash: int) -> None:
        """A node has this state after applying that instance."""
        first_node, known = self._known.setdefault((group_id, applied), (node_id, state_hash))
        if known != state_hash:
            raise Violation(
                f"group {group_id} after instance {applied}: nodes {first_node} and {node_id} have diverged "
                f"({known:x} and {state_hash:x})"
            )
