"""What is done to the members of a replica set: nodes come, go and change their kind, disks are lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from twisted.python.failure import Failure

from phxqueue.paxos.config import Member, MemberKind
from phxqueue.paxos.entry import EntryKind
from phxqueue.replica.errors import ReplicaError
from phxqueue.replica.group_runtime import GroupRuntime
from phxqueue.testing.sim.checkers.electorate import Acceptor
from phxqueue.testing.sim.scene import Scene

REPLACE_AGAIN = 0.1
"""Seconds between two attempts of the operator to have an emptied node admitted again."""


class Members:
    """Changes memberships, empties disks, restarts all nodes one by one.

    Args:
        bring_up: starts a node unless it runs.
    """

    def __init__(self, scene: Scene, bring_up: Callable[[int], None]) -> None:
        self._scene = scene
        self._bring_up = bring_up
        self._cluster = scene.cluster
        self._world = scene.cluster.world
        self._random = scene.cluster.world.random
        self._electorate = scene.cluster.watch.electorate
        self._rolling = False

    def start(self) -> None:
        """Begin."""
        scene, profile = self._scene, self._scene.profile
        scene.repeat(profile.roll_every, self._roll)
        if self._cluster.shape.incarnations:
            scene.repeat(profile.member_every, self._change)
            scene.repeat(profile.empty_every, self._empty)
            self._readmit()

    # ---- changes -----------------------------------------------------------------------------------------

    def _change(self) -> None:
        """An operator asks a master for some change; many are refused, rightly."""
        random = self._random
        group = self._master(random.randrange(self._cluster.shape.paxos_groups))
        if group is None or self._strangers(group.group_id):
            return
        node_id = random.choice(self._cluster.node_ids)
        present = next((member for member in group.members if member.node_id == node_id), None)
        others = [member for member in group.members if member.node_id != node_id]
        if present is None:
            self._ask(group, [*others, self._now(Member(node_id, MemberKind.LEARNER))], "member added")
        elif random.random() < 0.4 and len(others) > 1:
            self._ask(group, others, "member removed")
        else:
            kind = random.choice((MemberKind.VOTER, MemberKind.VOTER, MemberKind.WITNESS, MemberKind.LEARNER))
            if kind is not present.kind:
                self._ask(group, [*others, replace(self._now(present), kind=kind)], "member of another kind")

    def _ask(self, group: GroupRuntime, members: list[Member], what: str) -> None:
        wanted = tuple(sorted(members, key=lambda member: member.node_id))

        def in_force(_: object) -> None:
            self._world.count(what)

        def refused(failure: Failure) -> None:
            failure.trap(ReplicaError)

        def ask() -> None:
            group.change_members(wanted).addCallbacks(in_force, refused).addErrback(self._cluster.report)

        self._cluster.processes[group.core.config.node_id].clock.receive(ask)

    def _now(self, member: Member) -> Member:
        """The member on the directory that it has now."""
        return replace(member, incarnation=self._electorate.present[member.node_id])

    def _master(self, group_id: int) -> GroupRuntime | None:
        node_id = self._cluster.master(group_id)
        group = None if node_id is None else self._cluster.group(node_id, group_id)
        return group if group is not None and group.proposing() else None

    def _strangers(self, group_id: int) -> list[Member]:
        """Members that have another directory than the one recorded."""
        present = self._electorate.present
        return [
            member
            for member in self._electorate.last(group_id).members
            if member.incarnation and member.incarnation != present[member.node_id]
        ]

    # ---- lost disks --------------------------------------------------------------------------------------

    def _empty(self) -> None:
        """A node loses its disk, if the majorities that matter survive that: nobody promises more."""
        node_id = self._random.choice(self._cluster.node_ids)
        if all(self._may_be_lost(node_id, group_id) for group_id in range(self._cluster.shape.paxos_groups)):
            self._world.count("emptied disk")
            if node_id in self._cluster.processes:
                self._cluster.crash(node_id)
            self._cluster.empty(node_id)
            self._world.call_later(self._random.uniform(0.0, 0.5), self._bring_up, node_id)

    def _may_be_lost(self, node_id: int, group_id: int) -> bool:
        electorate, disks = self._electorate, self._cluster.disks
        if self._change_under_way(group_id) or self._strangers(group_id):
            return False  # a change could come to count on just this disk
        intact = {electorate.acceptor(other) for other in disks if other != node_id}
        members = {member.node_id for member in electorate.last(group_id).members}
        known = max((disks[other].group(group_id).chosen for other in members if other != node_id), default=-1)
        if known < 0:
            return False  # the first start is not over
        prefix = self._cluster.watch.decided.prefix(group_id)
        for step in electorate.steps_from(group_id, known + 1):
            voters, majority = electorate.voters(step), len(electorate.voters(step)) // 2 + 1
            left = voters & intact
            if len(left) < majority or not any(
                member.kind is MemberKind.VOTER and (member.node_id, member.incarnation) in left
                for member in step.members
            ):
                return False
            # What is chosen has to be left on a majority of those that count from now on.
            if sum(self._holds(acceptor, group_id, prefix) for acceptor in left) < majority:
                return False
        return True

    def _holds(self, acceptor: Acceptor, group_id: int, prefix: int) -> bool:
        group = self._cluster.disks[acceptor[0]].group(group_id)
        return all(instance in group.log for instance in range(max(group.first, group.chosen + 1), prefix + 1))

    def _change_under_way(self, group_id: int) -> bool:
        """Whether somebody holds, or is about to write, a change that is not decided."""
        prefix = self._cluster.watch.decided.prefix(group_id)
        for node_id, disk in self._cluster.disks.items():
            if any(
                entry.kind == EntryKind.MEMBERSHIP and instance > prefix
                for instance, entry in disk.group(group_id).log.items()
            ):
                return True
            group = self._cluster.group(node_id, group_id)
            if group is None:
                continue
            held = group.core._acceptor.entries.values()
            if group.pending_members is not None or any(entry.kind == EntryKind.MEMBERSHIP for entry in held):
                return True
        return False

    def _readmit(self) -> None:
        """The operator has every member recorded on the directory it has (`phxqueue members replace`), for ever."""
        for group_id in range(self._cluster.shape.paxos_groups):
            strangers = self._strangers(group_id)
            group = self._master(group_id) if strangers else None
            if group is not None:
                others = [member for member in group.members if member.node_id != strangers[0].node_id]
                self._ask(group, [*others, self._now(strangers[0])], "member replaced")
        self._world.call_later(REPLACE_AGAIN, self._readmit)

    # ---- restarts ----------------------------------------------------------------------------------------

    def _roll(self) -> None:
        """All nodes are restarted in good order, one after the other."""
        if not self._rolling:
            self._rolling = True
            self._world.count("rolling restart")
            self._roll_on(list(self._cluster.node_ids))

    def _roll_on(self, left: list[int]) -> None:
        if not left or self._scene.healed:
            self._rolling = False
            return
        node_id = left[0]
        process = self._cluster.processes.get(node_id)
        if process is not None and process.recovered:
            self._cluster.stop(node_id)
            self._world.call_later(self._random.uniform(0.05, 0.4), self._bring_up, node_id)
        self._world.call_later(self._random.uniform(0.2, 0.6), self._roll_on, left[1:])
