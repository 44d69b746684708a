"""What Paxos has decided, read off the platters: a value accepted by a majority at one ballot is chosen for ever.

Paxos Made Simple, section 2.2: P2, "if a proposal with value v is chosen, then every higher-numbered proposal that is
chosen has value v", and P1's premise that a ballot proposes one value. Nodes conclude the same from messages; this
checker looks past them, so it sees a second value even when no node has noticed, and knows what no node has learned.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from phxqueue.journal.records import PutEntry
from phxqueue.paxos.entry import EntryKind
from phxqueue.testing.sim.checkers import Violation
from phxqueue.testing.sim.checkers.electorate import Acceptor, Electorate

Value = tuple[int, int]  # (kind, checksum)


@dataclass(slots=True)
class _Group:
    values: dict[tuple[int, int], Value] = field(default_factory=dict)  # (instance, ballot) -> what it proposes
    holders: dict[tuple[int, int], set[Acceptor]] = field(default_factory=dict)  # of (instance, ballot)
    chosen: dict[int, Value] = field(default_factory=dict)
    changes: dict[int, bytes] = field(default_factory=dict)  # of the membership, chosen above the prefix
    prefix: int = -1


class Decided:
    """Fed with every entry that becomes durable on any node; tells the electorate of chosen changes."""

    def __init__(self, electorate: Electorate) -> None:
        self._electorate = electorate
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
        holders = group.holders.setdefault(place, set())
        holders.add(self._electorate.acceptor(node_id))
        voters, majority = self._electorate.at(write.group, write.instance)
        if len(holders) < majority or len(holders & voters) < majority:
            return
        if group.chosen.setdefault(write.instance, value) != value:
            raise Violation(
                f"group {write.group} instance {write.instance}: a second value was chosen, at ballot {write.ballot}"
            )
        if write.kind == EntryKind.MEMBERSHIP and write.instance > group.prefix:
            group.changes[write.instance] = write.payload
        while group.prefix + 1 in group.chosen:
            group.prefix += 1
            change = group.changes.pop(group.prefix, None)
            if change is not None:
                self._electorate.chosen(write.group, group.prefix, change)
