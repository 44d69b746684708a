"""What happens to processes: they die, end, stand still, or are believed to."""

from __future__ import annotations

from collections.abc import Callable

from phxqueue.replica.errors import ReplicaError
from phxqueue.replica.group_runtime import GroupRuntime
from phxqueue.testing.sim.network_faults import Cuts
from phxqueue.testing.sim.scene import Scene


class ProcessFaults:
    """Kills, stops and pauses the processes of a cluster and brings them up again.

    Args:
        after_crash: does to a disk what a crash does to it.
    """

    def __init__(self, scene: Scene, cuts: Cuts, after_crash: Callable[[int], None]) -> None:
        self._scene = scene
        self._cuts = cuts
        self._after_crash = after_crash
        self._cluster = scene.cluster
        self._world = scene.cluster.world
        self._random = scene.cluster.world.random

    def start(self) -> None:
        """Begin."""
        scene, profile = self._scene, self._scene.profile
        if profile.crash_at_commit:
            for node_id, disk in self._cluster.disks.items():
                disk.after_commit = self._crasher(node_id)
        if profile.strike:
            self._cluster.watch.on_mastership.append(self._mastership)
        self._cluster.on_journal_failure = self._journal_failed
        scene.repeat(profile.crash_every, self._crash)
        scene.repeat(profile.stop_every, self._stop)
        scene.repeat(profile.transfer_every, self._transfer)
        scene.repeat(profile.pause_every, self._pause)
        scene.repeat(profile.refuse_every, self._refuse)
        scene.repeat(profile.rack_every, self._lose_rack)
        scene.repeat(profile.gap_every, self._leave_gap)

    def bring_up(self, node_id: int) -> None:
        """Start a node, unless it runs; wait for it to end first, when it is about to."""
        process = self._cluster.processes.get(node_id)
        if process is None:
            self._cluster.start(node_id)
        elif process.stopping or process.journal.failed:
            self._world.call_later(0.1, self.bring_up, node_id)

    def crash_one(self, node_id: int, kind: str = "crash") -> None:
        """Kill a process; it comes back after a while."""
        self._world.count(kind)
        self._cluster.crash(node_id)
        self._after_crash(node_id)
        self._come_back(node_id)

    def _come_back(self, node_id: int) -> None:
        self._world.call_later(self._random.choice((0.02, 0.3, 1.0)) * self._random.random(), self.bring_up, node_id)

    def _crash(self) -> None:
        victim = self._scene.victim()
        if victim is None:
            return
        if self._random.random() < self._scene.profile.crash_all:
            self._world.count("crash of all")
            for node_id in self._scene.running:
                self.crash_one(node_id)
        else:
            self.crash_one(victim)

    def _crasher(self, node_id: int) -> Callable[[], None]:
        def committed() -> None:
            if self._random.random() < self._scene.profile.crash_at_commit:
                # Now, before anybody hears of the commit, or within what follows from it.
                self._world.call_later(self._random.choice((0.0, 0.0, 0.001, 0.003)), crash)

        def crash() -> None:
            if node_id in self._cluster.processes and not self._scene.healed:
                self.crash_one(node_id, "crash at a commit")

        return committed

    def _journal_failed(self, node_id: int) -> None:
        """A disk has failed its process, which is about to end; it comes back, and the disk is sound again."""
        self._world.call_later(0.05, self._come_back, node_id)

    def _mastership(self, node_id: int, group_id: int, is_master: bool) -> None:
        """A new master is about to propose what it found, and its first entries: the worst moment to lose it."""

        def strike(fault: Callable[[int], None]) -> None:
            if node_id in self._cluster.processes and not self._scene.healed:
                fault(node_id)

        if is_master and self._random.random() < self._scene.profile.strike:
            fault = self._random.choice((self._kill_master, self._kill_master, self._pause_one, self._cuts.cut_one))
            self._world.call_later(self._random.choice((0.004, 0.02, 0.1)) * self._random.random(), strike, fault)

    def _kill_master(self, node_id: int) -> None:
        self.crash_one(node_id, "crash of a new master")

    def _leave_gap(self) -> None:
        """A master dies that leaves a gap behind: what it proposed first nobody has, what it proposed next they do."""
        master = self._cluster.master(self._random.randrange(self._cluster.shape.paxos_groups))
        if master is None:
            return

        def kill() -> None:
            if master in self._cluster.processes and not self._scene.healed:
                self.crash_one(master)

        interrupted = self._random.uniform(0.001, 0.03)
        self._cuts.interrupt(master, interrupted)
        self._world.call_later(interrupted + self._random.uniform(0.001, 0.03), kill)

    def _stop(self) -> None:
        victim = self._scene.victim()
        if victim is not None:
            self._world.count("stop")
            self._cluster.stop(victim)
            self._world.call_later(self._random.uniform(0.01, 1.0), self.bring_up, victim)

    def _transfer(self) -> None:
        """Have a mastership handed over to some node, whether that can take it or not."""
        group_id = self._random.randrange(self._cluster.shape.paxos_groups)
        to = self._random.choice(self._cluster.node_ids)
        master = self._cluster.master(group_id)
        if master is not None:
            process = self._cluster.processes[master]
            process.clock.receive(self._hand_over, process.node.groups[group_id], to)

    def _hand_over(self, group: GroupRuntime, to: int) -> None:
        moved = group.transfer(to)
        moved.addCallbacks(lambda _: self._world.count("transfer"), lambda failure: failure.trap(ReplicaError))
        moved.addErrback(self._cluster.report)

    def _pause(self) -> None:
        victim = self._scene.victim()
        if victim is not None:
            self._pause_one(victim)

    def _pause_one(self, node_id: int) -> None:
        lease = self._cluster.group_config(node_id, 0).lease
        duration = min(self._random.choice((0.05, 0.2, 0.5, 1.5)), self._scene.ends_at - self._world.now)
        self._world.count("short pause" if duration < lease else "long pause")
        self._cluster.pause(node_id, duration)

    def _refuse(self) -> None:
        victim = self._scene.victim()
        if victim is not None:
            self._world.count("refusal")
            if self._random.random() < 0.5:
                self._cuts.isolate(victim, self._random.uniform(0.0, 0.8))
            self._cluster.refuse(victim)

    def _lose_rack(self) -> None:
        """The followers restart at once, when the master has just been cut off, or one follower long before."""
        master = self._cluster.master(self._random.randrange(self._cluster.shape.paxos_groups))
        if master is None:
            return
        self._world.count("rack")
        if self._random.random() < 0.5:
            self._cuts.isolate(master, self._random.uniform(0.0, 1.0))
            self._restart_all_but({master})
            return
        deaf = self._random.choice([node_id for node_id in self._cluster.node_ids if node_id != master])
        self._cuts.separate(master, deaf, 1.5)
        self._world.call_later(self._random.uniform(0.6, 1.2), self._restart_all_but, {master, deaf})

    def _restart_all_but(self, spared: set[int]) -> None:
        for node_id in self._scene.running:
            if node_id not in spared and not self._scene.healed:
                self._cluster.crash(node_id)
                self._world.call_later(self._random.uniform(0.0, 0.1), self.bring_up, node_id)
