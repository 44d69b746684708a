"""One value per instance, for ever: no two nodes apply different values, and no node applies out of order.

Paxos Made Simple, section 2.1: "only a single value is chosen".
"""

from __future__ import annotations

from phxqueue.testing.sim.checkers import Violation

Value = tuple[int, bytes]  # (kind, payload)


class OneValue:
    """Fed with every application of an entry on every node, restarts included (a replay must repeat history)."""

    def __init__(self) -> None:
        self._chosen: dict[tuple[int, int], Value] = {}

    def applied(self, node_id: int, group_id: int, before: int, instance: int, value: Value) -> bool:
        """A node whose state was at `before` has applied a value; tell whether it was the first to do so."""
        if instance != before + 1:
            raise Violation(f"node {node_id} group {group_id} applied instance {instance} after {before}")
        known = self._chosen.get((group_id, instance))
        if known is None:
            self._chosen[group_id, instance] = value
            return True
        if known != value:
            raise Violation(
                f"group {group_id} instance {instance}: node {node_id} applied {_shown(value)}, "
                f"another applied {_shown(known)}"
            )
        return False


def _shown(value: Value) -> str:
    return f"kind {value[0]} {value[1][:40]!r}..."
