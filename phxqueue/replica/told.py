"""What nodes have told each other to be on their disks, for when one comes back and has less. Pure.

An Accepted says that an entry is durable. A disk that lies about fsync makes it untrue: after a power failure the
directory is the same, its log ends earlier, and nothing in it shows that anything is missing. But those who were told
remember. When two nodes connect, each says up to where the other has told it that entries are durable there; who finds
less on its own disk has forgotten votes, and must not vote again.

Kept in memory only: it finds a disk that lies while those who were told are up. See docs/guarantees.md for what it
does not find.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from phxqueue.proto.paxos_pb2 import PeerToldMark


class ToldMark(NamedTuple):
    """A node has told, running on the directory with this incarnation, that it holds the group up to `instance`."""

    node_id: int
    incarnation: int
    group_id: int
    instance: int


class ToldMarks:
    """What this node has been told. As many marks as there are other members times groups."""

    def __init__(self) -> None:
        self._incarnations: dict[int, int] = {}
        self._instances: dict[tuple[int, int], int] = {}

    def greeted(self, node_id: int, incarnation: int) -> None:
        """A node has said on which directory it runs; what was told on another one is void."""
        if self._incarnations.get(node_id) != incarnation:
            self._incarnations[node_id] = incarnation
            for key in [key for key in self._instances if key[0] == node_id]:
                del self._instances[key]

    def told(self, node_id: int, group_id: int, instance: int) -> None:
        """A node has told that everything it accepted up to this instance is durable."""
        key = node_id, group_id
        if instance > self._instances.get(key, -1):
            self._instances[key] = instance

    def marks(self) -> tuple[ToldMark, ...]:
        """All of it."""
        known = self._incarnations
        return tuple(
            ToldMark(node_id, known[node_id], group_id, instance)
            for (node_id, group_id), instance in self._instances.items()
            if node_id in known
        )


def forgotten(marks: Iterable[ToldMark], node_id: int, incarnation: int, held: Mapping[int, int]) -> ToldMark | None:
    """What a node has told on its present directory, and does not hold there (any more); None: nothing.

    Args:
        marks: what another node remembers.
        held: the highest instance that is held, by group.
    """
    for mark in marks:
        if (mark.node_id, mark.incarnation) == (node_id, incarnation) and mark.instance > held.get(
            mark.group_id, mark.instance
        ):
            return mark
    return None


def written_marks(marks: Iterable[ToldMark]) -> list[PeerToldMark]:
    """Marks as they stand in a greeting."""
    return [PeerToldMark(**mark._asdict()) for mark in marks]


def read_marks(marks: Iterable[PeerToldMark]) -> tuple[ToldMark, ...]:
    """The same, read."""
    return tuple(ToldMark(mark.node_id, mark.incarnation, mark.group_id, mark.instance) for mark in marks)
