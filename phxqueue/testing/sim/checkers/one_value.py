"""One value per instance, for ever: no two nodes apply different values, and no node applies out of order.

Paxos Made Simple, section 2.1: "only a single value is chosen".
"""

from __future__ import annotations

from phxqueue.testing.sim.checkers import Violation


class OneValue:
    """Fed with every application of an entry on every node, restarts included (a replay must repeat history)."""

    def __init__(self) -> None:
        self.chosen: dict[tuple[int, int], bytes] = {}
        self._applied: dict[tuple[int, int], int] = {}

    def started(self, node_id: int, group_id: int, applied: int) -> None:
        """A node came up with its state machine at `applied`."""
        self._applied[node_id, group_id] = applied

    def applied(self, node_id: int, group_id: int, instance: int, value: bytes) -> None:
        """A node applied a value."""
        before = self._applied.get((node_id, group_id), -1)
        if instance <= before:
            raise Violation(f"node {node_id} group {group_id} applied instance {instance} after {before}")
        self._applied[node_id, group_id] = instance
        known = self.chosen.setdefault((group_id, instance), value)
        if known != value:
            raise Violation(
                f"group {group_id} instance {instance}: node {node_id} applied {value[:40]!r}..., "
                f"another applied {known[:40]!r}..."
            )
