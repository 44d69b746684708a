"""What an operator, and misfortune, do to the membership of a group in a storm."""

from __future__ import annotations

import random
from collections.abc import Callable

from phxqueue.paxos.config import MemberKind
from phxqueue.paxos.entry import EntryKind
from phxqueue.paxos.errors import ChangeRefused, NotMaster, WindowFull
from phxqueue.paxos.members_codec import Step
from tests.paxos.cluster import Cluster, Node


class Surgery:
    """Acts on a cluster; nodes beyond the first members are spare ones with empty disks."""

    def __init__(self, cluster: Cluster, rng: random.Random) -> None:
        self.cluster = cluster
        self.rng = rng
        initial = {member.node_id for member in cluster.oracle.steps[0].members}
        for node_id, node in cluster.nodes.items():
            node.disk.may_vote = node_id in initial

    def members(self) -> list[int]:
        """The last membership that was chosen."""
        return [member.node_id for member in self.cluster.oracle.steps[-1].members]

    def change(self, master: int) -> None:
        """Some change of the membership; often one that must be refused."""
        rng, node_id = self.rng, self.rng.choice(list(self.cluster.nodes))
        nodes = self.cluster.nodes
        if any(nodes[other].incarnation != told for other, told in nodes[master].incarnations.items()):
            return  # nobody has noticed yet that a disk is lost: a change could lose the majority
        kind = rng.choice([None, MemberKind.VOTER, MemberKind.VOTER, MemberKind.WITNESS, MemberKind.LEARNER])
        if kind is None and len(self.members()) <= 2 and rng.random() < 0.8:
            kind = MemberKind.VOTER
        self.cluster.change_one(master, node_id, kind)

    def may_empty(self, node_id: int) -> bool:
        """Whether the disk of ``node_id`` may be lost without losing what is chosen, or the group.

        Whatever membership still matters must keep a majority of its disks; and where an old one has lost its majority,
        some member must have on record that all it ever chose is chosen.
        """
        oracle, nodes = self.cluster.oracle, self.cluster.nodes
        if any(map(self._change_under_way, nodes.values())):
            return False  # it could come to count on just this disk
        intact = {(other, node.incarnation) for other, node in nodes.items() if other != node_id}
        present = set(self.members())
        top = max((nodes[other].disk.chosen for other in present if other != node_id), default=-1)
        lowest = oracle.step_at(top + 1)
        matter = oracle.steps[oracle.steps.index(lowest) :]
        return all(
            len(oracle.electors(step) & intact) >= oracle.quorum(step) and self._can_be_led(step, intact)
            for step in matter
        )

    def _can_be_led(self, step: Step, intact: set[tuple[int, int]]) -> bool:
        leaders = {member.node_id for member in step.members if member.kind is MemberKind.VOTER}
        return any(node_id in leaders for node_id, _ in self.cluster.oracle.electors(step) & intact)

    def _change_under_way(self, node: Node) -> bool:
        held = {} if node.group is None else node.group._acceptor.entries
        return any(
            entry.kind == EntryKind.MEMBERSHIP and instance > self.cluster.oracle.prefix
            for log in (node.disk.log, held)
            for instance, entry in log.items()
        )

    def readmit_all(self, wait: Callable[[], None]) -> bool:
        """Have every member recorded on the disk it has. Returns whether there was anything to do."""
        cluster = self.cluster
        done = False
        for node_id in self.members():
            for _ in range(3):
                member = next(one for one in cluster.oracle.steps[-1].members if one.node_id == node_id)
                master = cluster.master
                if member.incarnation == cluster.nodes[node_id].incarnation or master is None:
                    break
                try:
                    cluster.change_one(master, node_id, member.kind)
                except (NotMaster, WindowFull, ChangeRefused) as refused:
                    self.last = refused
                done = True
                wait()
        for member in cluster.oracle.steps[-1].members:
            assert member.incarnation == cluster.nodes[member.node_id].incarnation, f"{member}: {self.last}"
        return done

    last: Exception | None = None
