"""Knows from the disks alone what is chosen, and by whose votes it could be, and holds the cores to it."""

from __future__ import annotations

from collections import defaultdict

from phxqueue.paxos.config import Member, MemberKind
from phxqueue.paxos.entry import Entry, EntryKind
from phxqueue.paxos.members_codec import Step, decode_change

Disk = tuple[int, int]
"""A node and its incarnation: one acceptor."""


class Oracle:
    """The memberships it works out for itself, from what is chosen; a vote is a durable accept of one acceptor."""

    def __init__(self, members: tuple[Member, ...], window: int, incarnations: dict[int, int]) -> None:
        self.first_incarnations = dict(incarnations)
        self.delay = window
        self.steps = [Step(-1, 0, members)]
        self.chosen: dict[int, Entry] = {}
        self.prefix = -1
        """Everything up to here is chosen."""
        self.acknowledged = -1
        self._accepted: dict[tuple[int, int], set[Disk]] = defaultdict(set)
        self._proposed: dict[tuple[int, int], Entry] = {}

    def step_at(self, instance: int) -> Step:
        """The membership that governs ``instance``."""
        return [step for step in self.steps if step.effective <= instance][-1]

    def electors(self, step: Step) -> set[Disk]:
        """The acceptors of a membership. Where no incarnation is recorded, it is the one that was there first."""
        return {
            (member.node_id, member.incarnation or self.first_incarnations[member.node_id])
            for member in step.members
            if member.kind is not MemberKind.LEARNER
        }

    def quorum(self, step: Step) -> int:
        return len(self.electors(step)) // 2 + 1

    def durable(self, node: int, incarnation: int, instance: int, entry: Entry) -> None:
        """``node`` holds ``entry`` durably."""
        key = (instance, entry.ballot)
        proposed = self._proposed.setdefault(key, entry)
        assert proposed.same_value(entry), f"two values proposed at {key}"
        self._accepted[key].add((node, incarnation))
        self._count(instance, entry)

    def _count(self, instance: int, entry: Entry) -> None:
        if instance > self.prefix + self.delay:
            return  # nobody can know yet who votes; it is looked at again when all is known
        step = self.step_at(instance)
        votes = self._accepted[instance, entry.ballot] & self.electors(step)
        if len(votes) < self.quorum(step):
            return
        former = self.chosen.setdefault(instance, entry)
        assert former.same_value(entry), f"two values chosen at instance {instance}: {former}, {entry}"
        if instance == self.prefix + 1:
            self._advance()

    def _advance(self) -> None:
        while self.prefix + 1 in self.chosen:
            self.prefix += 1
            entry = self.chosen[self.prefix]
            if entry.kind == EntryKind.MEMBERSHIP:
                change = decode_change(entry.payload)
                last = self.steps[-1]
                if change.base == last.instance and self.prefix >= last.effective:
                    assert change.delay == self.delay
                    self.steps.append(Step(self.prefix, self.prefix + change.delay, change.members))
        for (instance, _), proposed in list(self._proposed.items()):
            if instance > self.prefix:
                self._count(instance, proposed)

    def delivered(self, node: int, instance: int, entry: Entry, acknowledges: bool) -> None:
        """``node`` applies ``entry``."""
        assert instance in self.chosen, f"node {node} applies instance {instance}, which is not chosen"
        chosen = self.chosen[instance]
        assert chosen.same_value(entry), f"node {node} applies {entry}, chosen is {chosen}"
        assert entry.valid(), f"node {node} applies a corrupt entry"
        if acknowledges:
            self.acknowledged = max(self.acknowledged, instance)
