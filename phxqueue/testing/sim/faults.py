"""Which faults happen when: drawn from the seed, one profile per run, so that single causes stay visible."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from phxqueue.paxos.entry import entry_checksum
from phxqueue.testing.sim.cluster import Cluster
from phxqueue.testing.sim.disk import DiskFaults
from phxqueue.testing.sim.network import NetworkFaults
from phxqueue.testing.sim.world import WallClocks


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How likely each kind of fault is. `..._every` is the mean time between two in seconds; 0 = never.

    loss, duplicate, spike, spike_max: see NetworkFaults.
    stall, busy_read, slow_node: see DiskFaults; one node is so much slower than the others.
    crash_every, crash_all: a process dies; with that probability all of them.
    crash_at_commit: probability, per sync, that the process dies just then.
    strike: probability that a new master dies, stands still or is cut off within its first milliseconds.
    time_scale: see ClusterShape.
    stop_every: a process ends in good order and comes back.
    pause_every: a process stands still, for less than a lease or for much longer.
    cut_every: a link or a node is cut off, in one direction or both; frames are lost or held up.
    refuse_every: peers believe that a running process has gone.
    flip_every: a byte of a stored entry changes.
    full_every: a disk is full for a while.
    jump_every: a wall clock is set.
    """

    name: str
    loss: float = 0.0
    duplicate: float = 0.0
    spike: float = 0.0
    spike_max: float = 0.5
    stall: float = 0.0
    busy_read: float = 0.0
    slow_node: float = 1.0
    crash_every: float = 0.0
    crash_all: float = 0.0
    crash_at_commit: float = 0.0
    strike: float = 0.0
    time_scale: float = 1.0
    stop_every: float = 0.0
    pause_every: float = 0.0
    cut_every: float = 0.0
    refuse_every: float = 0.0
    flip_every: float = 0.0
    full_every: float = 0.0
    jump_every: float = 0.0


CALM = Profile(name="calm")
PROFILES = (
    CALM,
    Profile(name="lossy", loss=0.1, duplicate=0.1, spike=0.05),
    Profile(name="late", spike=0.03, spike_max=3.0, crash_every=2.0, pause_every=2.0),
    Profile(name="crashing", crash_every=0.7, crash_all=0.2),
    Profile(name="crashing at commits", crash_at_commit=0.004, crash_every=4.0, crash_all=0.3),
    Profile(name="pausing", pause_every=0.5, spike=0.02),
    Profile(name="partitioned", cut_every=0.6),
    Profile(name="partitioned and crashing", cut_every=0.7, crash_every=1.0, crash_at_commit=0.001),
    Profile(name="short masterships", time_scale=0.2, cut_every=0.3, strike=0.7),
    Profile(
        name="short masterships, late",
        time_scale=0.2,
        cut_every=0.5,
        strike=0.5,
        loss=0.02,
        duplicate=0.02,
        spike=0.05,
        spike_max=0.6,
    ),
    Profile(name="slow disks", stall=0.05, busy_read=0.02, slow_node=30.0, crash_every=2.0),
    Profile(name="bit rot", flip_every=0.3, crash_every=2.0),
    Profile(name="operated", stop_every=0.8, refuse_every=0.7, full_every=1.0, jump_every=0.5),
    Profile(
        name="everything",
        loss=0.03,
        duplicate=0.03,
        spike=0.02,
        stall=0.03,
        busy_read=0.01,
        slow_node=5.0,
        crash_every=1.5,
        crash_all=0.1,
        crash_at_commit=0.001,
        strike=0.1,
        stop_every=4.0,
        pause_every=1.5,
        cut_every=1.5,
        refuse_every=3.0,
        flip_every=2.0,
        full_every=4.0,
        jump_every=2.0,
    ),
)


class FaultInjector:
    """Lets faults happen to a cluster until it is told to heal everything.

    Args:
        ends_at: when that will be, true time: no pause lasts longer.
    """

    def __init__(self, cluster: Cluster, profile: Profile, walls: WallClocks, ends_at: float) -> None:
        self.injected: dict[str, int] = {}
        self._cluster = cluster
        self._world = cluster.world
        self._random = cluster.world.random
        self._profile = profile
        self._walls = walls
        self._ends_at = ends_at
        self._healed = False
        self._bad_disk = self._random.choice(cluster.node_ids)

    def start(self) -> None:
        """Begin."""
        profile = self._profile
        self._cluster.network.faults = NetworkFaults(
            loss=profile.loss, duplicate=profile.duplicate, spike=profile.spike, spike_max=profile.spike_max
        )
        slow = self._random.choice(self._cluster.node_ids)
        for node_id, disk in self._cluster.disks.items():
            disk.faults = DiskFaults(
                stall=profile.stall, busy_read=profile.busy_read, slowness=profile.slow_node if node_id == slow else 1.0
            )
            if profile.crash_at_commit:
                disk.after_commit = self._crasher(node_id)
        if profile.strike:
            self._cluster.watch.on_mastership.append(self._mastership)
        for mean, fault in (
            (profile.crash_every, self._crash),
            (profile.stop_every, self._stop),
            (profile.pause_every, self._pause),
            (profile.cut_every, self._cut),
            (profile.refuse_every, self._refuse),
            (profile.flip_every, self._flip),
            (profile.full_every, self._fill),
            (profile.jump_every, self._jump),
        ):
            if mean > 0:
                self._repeat(mean, fault)

    def heal(self) -> None:
        """End all faults and start every node that is down."""
        self._healed = True
        network = self._cluster.network
        network.faults = NetworkFaults()
        network.cut.clear()
        network.release(set(network.held))
        for node_id in self._cluster.node_ids:
            disk = self._cluster.disks[node_id]
            disk.faults = DiskFaults()
            disk.after_commit = None
            disk.full = False
            self._bring_up(node_id)

    def _repeat(self, mean: float, fault: Callable[[], None]) -> None:
        random = self._random

        def happen() -> None:
            if not self._healed:
                fault()
                self._world.call_later(random.expovariate(1 / mean), happen)

        self._world.call_later(random.expovariate(1 / mean), happen)

    def _count(self, fault: str) -> None:
        self.injected[fault] = self.injected.get(fault, 0) + 1

    def _victim(self) -> int | None:
        """A running node; every other time the master of some group."""
        running = list(self._cluster.processes)
        if not running:
            return None
        if self._random.random() < 0.5:
            master = self._cluster.master(self._random.randrange(self._cluster.shape.paxos_groups))
            if master is not None:
                return master
        return self._random.choice(running)

    # ---- processes --------------------------------------------------------------------------------

    def _crash(self) -> None:
        victim = self._victim()
        if victim is None:
            return
        everybody = self._random.random() < self._profile.crash_all
        for node_id in list(self._cluster.processes) if everybody else [victim]:
            self._crash_one(node_id)

    def _crash_one(self, node_id: int) -> None:
        self._count("crash")
        self._cluster.crash(node_id)
        if self._profile.flip_every and node_id == self._bad_disk and self._random.random() < 0.5:
            self._tear(node_id)
        self._world.call_later(self._random.choice((0.02, 0.3, 1.0)) * self._random.random(), self._bring_up, node_id)

    def _crasher(self, node_id: int) -> Callable[[], None]:
        def committed() -> None:
            if self._random.random() < self._profile.crash_at_commit:
                # Now, before anybody hears of the commit, or within what follows from it.
                self._world.call_later(self._random.choice((0.0, 0.0, 0.001, 0.003)), crash)

        def crash() -> None:
            if node_id in self._cluster.processes and not self._healed:
                self._crash_one(node_id)

        return committed

    def _mastership(self, node_id: int, group_id: int, is_master: bool) -> None:
        """A new master is about to propose what it found, and its first entries: the worst moment to lose it."""

        def strike(fault: Callable[[int], None]) -> None:
            if node_id in self._cluster.processes and not self._healed:
                fault(node_id)

        if is_master and self._random.random() < self._profile.strike:
            fault = self._random.choice((self._crash_one, self._crash_one, self._pause_one, self._cut_one))
            self._world.call_later(self._random.choice((0.004, 0.02, 0.1)) * self._random.random(), strike, fault)

    def _bring_up(self, node_id: int) -> None:
        process = self._cluster.processes.get(node_id)
        if process is None:
            self._cluster.start(node_id)
        elif process.stopping:
            self._world.call_later(0.1, self._bring_up, node_id)

    def _stop(self) -> None:
        victim = self._victim()
        if victim is not None:
            self._count("stop")
            self._cluster.stop(victim)
            self._world.call_later(self._random.uniform(0.01, 1.0), self._bring_up, victim)

    def _pause(self) -> None:
        victim = self._victim()
        if victim is not None:
            self._pause_one(victim)

    def _pause_one(self, node_id: int) -> None:
        self._count("pause")
        duration = self._random.choice((0.05, 0.2, 0.5, 1.5))
        self._cluster.pause(node_id, min(duration, self._ends_at - self._world.now))

    def _refuse(self) -> None:
        victim = self._victim()
        if victim is not None:
            self._count("refusal")
            self._cluster.refuse(victim)

    # ---- network ------------------------------------------------------------------------------------

    def _cut(self) -> None:
        victim = self._victim()
        if victim is not None:
            self._cut_one(victim)

    def _cut_one(self, victim: int) -> None:
        """Cut a node, or a minority with it, off the others, or one link; both directions or one; for a while."""
        random, network = self._random, self._cluster.network
        others = [node_id for node_id in self._cluster.node_ids if node_id != victim]
        side = [victim]
        if random.random() < 0.4:
            others = [random.choice(others)]
        elif len(others) > 2 and random.random() < 0.5:
            side.append(others.pop(random.randrange(len(others))))
        pairs = {(node, other) for node in side for other in others}
        direction = random.randrange(3)
        if direction == 1:
            pairs = {(other, node) for node, other in pairs}
        elif direction == 2:
            pairs |= {(other, node) for node, other in pairs}
        duration = random.choice((0.1, 0.5, 2.0)) * random.random()
        if random.random() < 0.3:
            self._count("hold-up")
            pairs -= network.held.keys()
            network.held.update((pair, []) for pair in sorted(pairs))
            self._world.call_later(duration, network.release, pairs)
        else:
            self._count("cut")
            network.cut |= pairs
            self._world.call_later(duration, network.cut.difference_update, pairs)

    # ---- disks and clocks ---------------------------------------------------------------------------

    def _fill(self) -> None:
        disk = self._cluster.disks[self._random.choice(self._cluster.node_ids)]
        self._count("full disk")
        disk.full = True
        self._world.call_later(self._random.uniform(0.1, 1.0), setattr, disk, "full", False)

    def _jump(self) -> None:
        self._count("wall clock")
        self._walls.jump(self._random.choice(self._cluster.node_ids))

    def _flip(self) -> None:
        """Alter a byte of an entry that every node holds and no disk has damaged yet, as independent disks would."""
        node_id = self._random.choice(self._cluster.node_ids)
        disk = self._cluster.disks[node_id]
        for group_id, group in disk.groups.items():
            written = [instance for instance, entry in group.log.items() if instance <= group.chosen and entry.payload]
            if not written:
                continue
            instance = self._random.choice(written)
            if self._intact(group_id, instance) == self._cluster.shape.nodes:
                self._count("flip")
                disk.flip(group_id, instance, self._random.randrange(1 << 30))

    def _tear(self, node_id: int) -> None:
        """Alter the entry that was written last: what the crash of a bad disk leaves behind.

        The node may not know yet that it is chosen. It rightly refuses to vote then, until it has been taught: that
        happens to one disk only, because two nodes in that state could wait for each other for ever.
        """
        for group_id, group in self._cluster.disks[node_id].groups.items():
            last = max(group.log, default=-1)
            if last >= 0 and group.log[last].payload and self._intact(group_id, last) == self._held(group_id, last):
                self._count("torn record")
                self._cluster.disks[node_id].flip(group_id, last, self._random.randrange(1 << 30))

    def _held(self, group_id: int, instance: int) -> int:
        return sum(instance in disk.group(group_id).log for disk in self._cluster.disks.values())

    def _intact(self, group_id: int, instance: int) -> int:
        logs = [disk.group(group_id).log for disk in self._cluster.disks.values()]
        entries = [log[instance] for log in logs if instance in log]
        return sum(entry_checksum(entry.kind, entry.payload) == entry.checksum for entry in entries)
