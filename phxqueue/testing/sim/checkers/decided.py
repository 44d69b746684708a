"""What Paxos has decided, read off the platters: a value accepted by a majority at one ballot is chosen for ever.

Paxos Made Simple, section 2.2: P2, "if a proposal with value v is chosen, then every higher-numbered proposal that is
chosen has value v", and P1's premise that a ballot proposes one value. Nodes conclude the same from messages; this
checker looks past them, so it sees a second value even when no node has noticed, and knows what no node has learned.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from phxqueue.journal.records import PutEntry
from phxqueue.testing.sim.checkers import Violation

Value = tuple[int, int]  # (kind, checksum)


@dataclass(slots=True)
class _Group:
    values: dict[tuple[int, int], Value] = field(default_factory=dict)  # (instance, ballot) -> what it proposes
    holders: dict[tuple[int, int], int] = field(default_factory=dict)  # (instance, ballot) -> a bit per node
    chosen: dict[int, Value] = field(default_factory=dict)
    prefix: int = -1


class Decided:
    """Fed with every entry that becomes durable on any node."""

    def __init__(self, voters: int) -> None:
        self._majority = voters // 2 + 1
        self._groups: dict[int, _Group] = {}

    def prefix(self, group_id: int) -> int:
        """Every instance up to here is chosen; -1: none."""
        group = self._groups.get(group_id)
        return -1 if group is None else group.prefix

    def value(self, group_id: int, instance: int) -> Value | None:
        """What is chosen at an instance, as (kind, checksum), or None."""
        group = self._groups.get(group_id)
        return None if group is None else group.chosen.get(instance)

    def durable(self, node_id: int, write: PutEntry) -> None:
        """A node's disk holds an entry now."""
        group = self._groups.setdefault(write.group, _Group())
        place, value = (write.instance, write.ballot), (write.kind, write.checksum)
        if group.values.setdefault(place, value) != value:
            raise Violation(
                f"group {write.group} instance {write.instance}: node {node_id} holds a second value of ballot "
                f"{write.ballot}; one ballot proposes one value"
            )
        holders = group.holders[place] = group.holders.get(place, 0) | 1 << node_id
        if bin(holders).count("1") < self._majority:
            return
        if group.chosen.setdefault(write.instance, value) != value:
            raise Violation(
                f"group {write.group} instance {write.instance}: a second value was chosen, at ballot {write.ballot}"
            )
        while group.prefix + 1 in group.chosen:
            group.prefix += 1
