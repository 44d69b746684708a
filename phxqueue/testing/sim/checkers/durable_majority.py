"""Acknowledged means durable on a majority: when a value is applied, a majority of disks holds it, synced.

The node's own disk is one of them: every applied entry can be read from the own journal.
"""

from __future__ import annotations

from collections.abc import Mapping

from phxqueue.paxos.entry import EntryKind, entry_checksum
from phxqueue.testing.sim.checkers import Violation
from phxqueue.testing.sim.checkers.electorate import Acceptor, Electorate
from phxqueue.testing.sim.disk import Disk


class DurableMajority:
    """Looks at the platters, past everything the nodes believe. A disk that spoilt an entry afterwards did hold it.

    Attributes:
        lost: disks that are no more, as they were.
    """

    def __init__(self, disks: Mapping[int, Disk], electorate: Electorate) -> None:
        self.lost: dict[Acceptor, Disk] = {}
        self._disks = disks
        self._electorate = electorate

    def applied(self, node_id: int, group_id: int, instance: int, kind: int, payload: bytes) -> None:
        """A node applied a value, so somebody may have been told that it is safe, or may ask this node for it."""
        own = self._disks[node_id].group(group_id)
        if instance >= own.first and instance not in own.log:
            raise Violation(f"group {group_id} instance {instance}: node {node_id} applied what its disk does not hold")
        if kind == EntryKind.MEMBERSHIP and instance in own.log:
            checksum = own.log[instance].checksum  # the state machine is not shown what such an entry says
        else:
            checksum = entry_checksum(kind, payload)
        voters, majority = self._electorate.at(group_id, instance)
        holders = 0
        for acceptor in voters:
            disk = self._disks[acceptor[0]]
            if self._electorate.acceptor(acceptor[0]) != acceptor:
                disk = self.lost[acceptor]
            group = disk.group(group_id)
            entry = group.log.get(instance)
            if (entry is not None and entry.checksum == checksum) or instance < group.first:
                holders += 1
        if holders < majority:
            raise Violation(
                f"group {group_id} instance {instance} was applied while only {holders} of the {len(voters)} "
                f"disks hold it; a majority is {majority}"
            )
