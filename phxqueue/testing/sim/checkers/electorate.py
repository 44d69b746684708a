"""Whose votes count at which instance: the memberships of every Paxos group, read off the log.

"Paxos Made Simple", section 3: the members that govern an instance are decided by earlier instances. An acceptor is a
node with one data directory: what another directory of the same node holds counts for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from phxqueue.paxos.config import Member, MemberKind
from phxqueue.paxos.members_codec import Step, decode_change

Acceptor = tuple[int, int]  # (node id, incarnation of its data directory)


class Electorate:
    """Told of every chosen change, in order.

    Args:
        voters: the first members are the nodes below.

    Attributes:
        present: the incarnation of the directory that each node has now.
    """

    def __init__(self, voters: int) -> None:
        self.present: dict[int, int] = {}
        self._first = Step(-1, 0, tuple(Member(node_id) for node_id in range(voters)))
        self._founding: Mapping[int, int] = {}
        self._steps: dict[int, list[Step]] = {}
        self._known: dict[Step, tuple[frozenset[Acceptor], int]] = {}

    def founded(self, incarnations: Mapping[int, int]) -> None:
        """Every node has its first directory."""
        self._founding = dict(incarnations)
        self.present = dict(incarnations)
        self._known.clear()

    def acceptor(self, node_id: int) -> Acceptor:
        """What a node is now."""
        return node_id, self.present.get(node_id, 0)

    def chosen(self, group_id: int, instance: int, payload: bytes) -> None:
        """A change is chosen; it is void if it was not made from the last membership."""
        change, last = decode_change(payload), self.last(group_id)
        if change.base == last.instance and instance >= last.effective:
            step = Step(instance, instance + change.delay, change.members)
            self._steps.setdefault(group_id, [self._first]).append(step)

    def last(self, group_id: int) -> Step:
        """The membership that was chosen last."""
        return self._steps[group_id][-1] if group_id in self._steps else self._first

    def steps_from(self, group_id: int, instance: int) -> list[Step]:
        """The membership that governs an instance, and those after it."""
        steps = self._steps.get(group_id)
        if steps is None:
            return [self._first]
        at = max(place for place, step in enumerate(steps) if step.effective <= instance)
        return steps[at:]

    def voters(self, step: Step) -> frozenset[Acceptor]:
        """The acceptors whose votes count."""
        return frozenset(
            (member.node_id, member.incarnation or self._founding.get(member.node_id, 0))
            for member in step.members
            if member.kind is not MemberKind.LEARNER
        )

    def at(self, group_id: int, instance: int) -> tuple[frozenset[Acceptor], int]:
        """The acceptors whose votes count at an instance, and how many make a majority."""
        steps = self._steps.get(group_id)
        step = self._first if steps is None else self.steps_from(group_id, instance)[0]
        return self._counted(step)

    def _counted(self, step: Step) -> tuple[frozenset[Acceptor], int]:
        found = self._known.get(step)
        if found is None:
            voters = self.voters(step)
            found = self._known[step] = voters, len(voters) // 2 + 1
        return found
