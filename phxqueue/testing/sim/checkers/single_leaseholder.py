"""At most one node per group serves reads at any moment of true time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from phxqueue.testing.sim.checkers import Violation


class Leased(Protocol):
    """What is asked of one Paxos group on one node."""

    def serving(self) -> bool:
        """Whether it would answer a read now."""


class SingleLeaseholder:
    """Asked after everything that happens in a node; a lease begins with an event and ends with time.

    The former holder is asked again when another one shows up, also if it is paused or cut off: its clock goes on, and
    what it says is what it will do the moment it wakes up, before it hears of anything that happened meanwhile.
    """

    def __init__(self) -> None:
        self._holders: dict[int, tuple[int, Leased]] = {}

    def check(self, node_id: int, groups: Mapping[int, Leased]) -> None:
        """Something has happened in a node; `groups` are its groups by id. Raise when another serves one of them."""
        for group_id, group in groups.items():
            held = self._holders.get(group_id)
            if (held is not None and held[1] is group) or not group.serving():
                continue
            if held is not None and held[1].serving():
                raise Violation(f"nodes {held[0]} and {node_id} both hold the lease of group {group_id}")
            self._holders[group_id] = (node_id, group)

    def gone(self, node_id: int) -> None:
        """A node's process has ended; whatever it held it serves no more."""
        self._holders = {group: held for group, held in self._holders.items() if held[0] != node_id}
