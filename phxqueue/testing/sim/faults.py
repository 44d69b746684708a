"""Which faults happen when: drawn from the seed, one profile per run, so that single causes stay visible."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from phxqueue.testing.sim.cluster import Cluster
from phxqueue.testing.sim.disk import DiskFaults
from phxqueue.testing.sim.network import NetworkFaults


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How likely each kind of fault is. `..._every` is the mean time between two in seconds; 0 = never."""

    name: str
    loss: float = 0.0
    duplicate: float = 0.0
    spike: float = 0.0
    stall: float = 0.0
    crash_every: float = 0.0
    crash_all: float = 0.0  # probability that a crash takes every node
    pause_every: float = 0.0
    cut_every: float = 0.0
    flip_every: float = 0.0


PROFILES = (
    Profile(name="calm"),
    Profile(name="lossy", loss=0.1, duplicate=0.1, spike=0.05),
    Profile(name="crashing", crash_every=0.7, crash_all=0.2),
    Profile(name="pausing", pause_every=0.5, spike=0.02),
    Profile(name="partitioned", cut_every=0.6),
    Profile(name="slow disks", stall=0.1, crash_every=2.0),
    Profile(name="bit rot", flip_every=0.3, crash_every=2.0),
    Profile(
        name="everything",
        loss=0.03,
        duplicate=0.03,
        spike=0.02,
        stall=0.03,
        crash_every=1.5,
        crash_all=0.1,
        pause_every=1.5,
        cut_every=1.5,
        flip_every=2.0,
    ),
)


class FaultInjector:
    """Lets faults happen to a cluster until it is told to heal everything."""

    def __init__(self, cluster: Cluster, profile: Profile) -> None:
        self.injected: dict[str, int] = {}
        self._cluster = cluster
        self._profile = profile
        self._healed = False

    def start(self) -> None:
        """Begin."""
        profile = self._profile
        self._cluster.network.faults = NetworkFaults(
            loss=profile.loss, duplicate=profile.duplicate, spike=profile.spike
        )
        for disk in self._cluster.disks.values():
            disk.faults = DiskFaults(stall=profile.stall)
        for mean, fault in (
            (profile.crash_every, self._crash),
            (profile.pause_every, self._pause),
            (profile.cut_every, self._cut),
            (profile.flip_every, self._flip),
        ):
            if mean > 0:
                self._repeat(mean, fault)

    def heal(self) -> None:
        """End all faults and start every node that is down."""
        self._healed = True
        self._cluster.network.faults = NetworkFaults()
        self._cluster.network.cut.clear()
        for node_id in self._cluster.node_ids:
            self._cluster.disks[node_id].faults = DiskFaults()
            self._restart(node_id)

    def _repeat(self, mean: float, fault: Callable[[], None]) -> None:
        random = self._cluster.world.random

        def happen() -> None:
            if not self._healed:
                fault()
                self._cluster.world.call_later(random.expovariate(1 / mean), happen)

        self._cluster.world.call_later(random.expovariate(1 / mean), happen)

    def _count(self, fault: str) -> None:
        self.injected[fault] = self.injected.get(fault, 0) + 1

    def _crash(self) -> None:
        random = self._cluster.world.random
        running = list(self._cluster.processes)
        everybody = random.random() < self._profile.crash_all
        for node_id in running if everybody else running and [random.choice(running)]:
            self._count("crash")
            self._cluster.crash(node_id)
            self._cluster.world.call_later(random.uniform(0.01, 1.5), self._restart, node_id)

    def _restart(self, node_id: int) -> None:
        if node_id not in self._cluster.processes:
            self._cluster.start(node_id)

    def _pause(self) -> None:
        random = self._cluster.world.random
        running = list(self._cluster.processes)
        if running:
            self._count("pause")
            self._cluster.pause(random.choice(running), random.choice((0.05, 0.2, 0.5, 1.5)))

    def _cut(self) -> None:
        """Cut one node off, in both directions or one, or cut a single link; heal it after a while."""
        random = self._cluster.world.random
        node_ids = self._cluster.node_ids
        victim = random.choice(node_ids)
        others = [node_id for node_id in node_ids if node_id != victim]
        if random.random() < 0.4:
            others = [random.choice(others)]
        pairs = {(victim, other) for other in others}
        direction = random.randrange(3)
        if direction == 1:
            pairs = {(other, node) for node, other in pairs}
        elif direction == 2:
            pairs |= {(other, node) for node, other in pairs}
        self._count("cut")
        network = self._cluster.network
        network.cut |= pairs
        self._cluster.world.call_later(random.uniform(0.1, 2.0), network.cut.difference_update, pairs)

    def _flip(self) -> None:
        """Alter a byte of an entry that at most one disk has damaged, as independent disks would."""
        random = self._cluster.world.random
        node_id = random.choice(self._cluster.node_ids)
        disk = self._cluster.disks[node_id]
        for group_id, group in disk.groups.items():
            applied = [instance for instance, entry in group.log.items() if instance <= group.chosen and entry.payload]
            if not applied:
                continue
            instance = random.choice(applied)
            others = [other for other in self._cluster.node_ids if other != node_id]
            intact = [
                other
                for other in others
                if (entry := self._cluster.disks[other].group(group_id).log.get(instance)) is not None
                and entry.checksum == group.log[instance].checksum
                and entry.payload == group.log[instance].payload
            ]
            if len(intact) == len(others):
                self._count("flip")
                disk.flip(group_id, instance, random.randrange(1 << 30))
