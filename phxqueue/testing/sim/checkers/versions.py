"""A command of a newer version is chosen only when every member knows it, and no program applies what it does not know.

Rolling upgrades rest on that: while one node still runs the previous program, nothing is proposed that it would have to
stop at.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from phxqueue.testing.sim.checkers import Violation


class Versions:
    """Knows which program is installed on every node, by the version of its commands.

    Args:
        downgraded: nodes that went back to an older program, against the rules: the others need not wait for them.
    """

    def __init__(self, installed: Mapping[int, int], downgraded: Collection[int]) -> None:
        self._installed = installed
        self._downgraded = downgraded
        self._allowed: dict[int, int] = {}  # per Paxos group, the newest version chosen so far

    def chosen(self, group_id: int, instance: int, version: int) -> None:
        """A command was applied somewhere, for the first time."""
        if version <= self._allowed.get(group_id, 0):
            return
        old = [
            node for node, installed in self._installed.items() if installed < version and node not in self._downgraded
        ]
        if old:
            raise Violation(
                f"group {group_id} instance {instance} is a command of version {version}; nodes {old} run programs "
                "that do not know it"
            )
        self._allowed[group_id] = version

    def applied(self, node_id: int, group_id: int, instance: int, version: int) -> None:
        """A node has applied a command."""
        if version > self._installed[node_id]:
            raise Violation(
                f"group {group_id} instance {instance}: node {node_id} applied a command of version {version} with a "
                f"program that knows versions up to {self._installed[node_id]}"
            )
