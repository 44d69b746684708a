"""Which faults happen when: drawn from the seed, by the run's profile, until everything heals."""

from __future__ import annotations

from phxqueue.testing.sim.cluster import Cluster
from phxqueue.testing.sim.disk_faults import DiskTroubles
from phxqueue.testing.sim.member_faults import Members
from phxqueue.testing.sim.network_faults import Cuts
from phxqueue.testing.sim.process_faults import ProcessFaults
from phxqueue.testing.sim.profiles import Profile
from phxqueue.testing.sim.program_faults import Operators
from phxqueue.testing.sim.scene import Scene
from phxqueue.testing.sim.world import WallClocks


class FaultInjector:
    """Lets faults happen to a cluster until it is told to heal everything.

    Args:
        ends_at: when that will be, true time: no pause lasts longer.
    """

    def __init__(self, cluster: Cluster, profile: Profile, walls: WallClocks, ends_at: float) -> None:
        self._scene = Scene(cluster, profile, walls, ends_at)
        self._cuts = Cuts(self._scene)
        self._disks = DiskTroubles(self._scene)
        self._processes = ProcessFaults(self._scene, self._cuts, self._disks.after_crash)
        self._operators = Operators(self._scene, self._processes.bring_up)
        self._members = Members(self._scene, self._processes.bring_up)

    def start(self) -> None:
        """Begin."""
        self._cuts.start()
        self._disks.start()
        self._processes.start()
        self._operators.start()
        self._members.start()
        self._scene.repeat(self._scene.profile.jump_every, self._jump)

    def heal(self) -> None:
        """End all faults and start every node that is down."""
        self._scene.healed = True
        self._cuts.heal()
        self._disks.heal()
        self._operators.heal()
        for node_id in self._scene.cluster.node_ids:
            self._processes.bring_up(node_id)

    def _jump(self) -> None:
        cluster = self._scene.cluster
        cluster.world.count("wall clock")
        self._scene.walls.jump(cluster.world.random.choice(cluster.node_ids))
