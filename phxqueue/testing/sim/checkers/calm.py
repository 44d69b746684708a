"""Without faults nothing happens to a mastership: who has it keeps it."""

from __future__ import annotations

from phxqueue.testing.sim.checkers import Violation


class Calm:
    """Told of every change of mastership; in a run without faults there is one per group."""

    def __init__(self) -> None:
        self._masters: dict[int, int] = {}

    def mastership(self, group_id: int, node_id: int, is_master: bool) -> None:
        """A node became master of a group, or stopped being it."""
        if not is_master:
            raise Violation(f"node {node_id} lost the mastership of group {group_id}, and nothing had gone wrong")
        first = self._masters.setdefault(group_id, node_id)
        if first != node_id:
            raise Violation(f"node {node_id} took group {group_id} over from node {first}, and nothing had gone wrong")
