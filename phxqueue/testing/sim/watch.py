"""All checkers of the nodes in one place: what each of them is shown, and when."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

from phxqueue.paxos.entry import EntryKind
from phxqueue.proto.store_pb2 import StoreCommand
from phxqueue.replica.interfaces import IStateMachine
from phxqueue.testing.sim.checkers.calm import Calm
from phxqueue.testing.sim.checkers.chosen_marks import ChosenMarks
from phxqueue.testing.sim.checkers.decided import Decided
from phxqueue.testing.sim.checkers.durable_answers import DurableAnswers
from phxqueue.testing.sim.checkers.durable_majority import DurableMajority
from phxqueue.testing.sim.checkers.electorate import Electorate
from phxqueue.testing.sim.checkers.one_value import OneValue
from phxqueue.testing.sim.checkers.promises import PromisesOnlyRise
from phxqueue.testing.sim.checkers.single_leaseholder import SingleLeaseholder
from phxqueue.testing.sim.checkers.state_hash import StateHash
from phxqueue.testing.sim.checkers.versions import Versions
from phxqueue.testing.sim.disk import Disk
from phxqueue.testing.sim.network import Network


class NodeBooks(Protocol):
    """What is written down about nodes."""

    def note(self, *event: Any) -> None:
        """Add an event to the history."""

    def chosen(self, group_id: int, instance: int, payload: bytes, first: Callable[[int], int]) -> None:
        """The next entry of a Paxos group was applied somewhere, for the first time."""

    def applied_by_master(self, group_id: int, instance: int) -> None:
        """A master applied an entry."""


def _nowhere(queue_id: int) -> int:
    """Where a queue begins, for what has none."""
    return 0


def store_version(payload: bytes) -> int:
    """The version of a store's command."""
    return StoreCommand.FromString(payload).version


class Watch:
    """Sees what the nodes of a cluster do.

    Args:
        books: is told what was chosen.
        version_of: the version of a command, of a store's by default.
        calm: nothing is going to go wrong, so masterships must stay where they are.

    Attributes:
        hash_every: instances between two comparisons of whole states.
        masterships: how often a node became master.
        on_mastership: told of changes: (node id, group id, whether it is master).
    """

    def __init__(
        self, books: NodeBooks, voters: int, calm: bool, version_of: Callable[[bytes], int] = store_version
    ) -> None:
        self.leases = SingleLeaseholder()
        self.electorate = Electorate(voters)
        self.decided = Decided(self.electorate)
        self.hash_every = 16
        self.masterships = 0
        self.on_mastership: list[Callable[[int, int, bool], None]] = []
        self._books = books
        self._version_of = version_of
        self._one_value = OneValue()
        self._state_hash = StateHash()
        self._promises = PromisesOnlyRise()
        self._calm = Calm() if calm else None
        self._disks: Mapping[int, Disk] = {}
        self._versions = Versions({}, ())
        self._durable_majority = DurableMajority({}, self.electorate)

    def attach(
        self, disks: Mapping[int, Disk], network: Network, versions: Mapping[int, int], downgraded: Collection[int]
    ) -> None:
        """Look at these disks, these programs, and everything that is sent here."""
        self._versions = Versions(versions, downgraded)
        self._disks = disks
        self._durable_majority = DurableMajority(disks, self.electorate)
        self.electorate.founded({node_id: disk.identity.incarnation for node_id, disk in disks.items()})
        for disk in disks.values():
            disk.observers.append(self.decided.durable)
        network.observers.append(DurableAnswers(disks).sent)
        network.observers.append(ChosenMarks(self.decided).sent)

    def emptied(self, lost: Disk, disk: Disk) -> None:
        """A node has another disk instead of the one that is lost."""
        node_id = disk.identity.node_id
        self._durable_majority.lost[self.electorate.acceptor(node_id)] = lost
        self.electorate.present[node_id] = disk.identity.incarnation
        disk.observers.append(self.decided.durable)

    def applied(
        self,
        node_id: int,
        group_id: int,
        machine: IStateMachine,
        before: int,
        instance: int,
        kind: int,
        payload: bytes,
        is_master: bool,
    ) -> None:
        """A node applied an entry; `before` is what it had applied until then."""
        first = self._one_value.applied(node_id, group_id, before, instance, (kind, payload))
        self._durable_majority.applied(node_id, group_id, instance, kind, payload)
        if kind == EntryKind.VALUE:
            version = self._version_of(payload)
            self._versions.applied(node_id, group_id, instance, version)
            if first:
                self._versions.chosen(group_id, instance, version)
                self._books.chosen(group_id, instance, payload, getattr(machine, "first_cursor", _nowhere))
            if is_master:
                self._books.applied_by_master(group_id, instance)
        if instance % self.hash_every == 0:
            self.compare(node_id, group_id, machine)

    def compare(self, node_id: int, group_id: int, machine: IStateMachine) -> None:
        """Hold a node's whole state against what others had at the same entry."""
        if machine.applied >= 0:
            self._state_hash.seen(node_id, group_id, machine.applied, machine.state_hash())
        self._promises.check(self._disks)

    def mastership(self, node_id: int, group_id: int, is_master: bool) -> None:
        """A node became master of a group or stopped being it."""
        self._books.note("master", group_id, node_id, is_master)
        self.masterships += is_master
        if self._calm is not None:
            self._calm.mastership(group_id, node_id, is_master)
        for observer in self.on_mastership:
            observer(node_id, group_id, is_master)
