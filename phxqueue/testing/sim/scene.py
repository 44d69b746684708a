"""What all kinds of faults share: the cluster they happen to, the dice, and who counts them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from phxqueue.testing.sim.cluster import Cluster
from phxqueue.testing.sim.profiles import Profile
from phxqueue.testing.sim.world import WallClocks


@dataclass(slots=True)
class Scene:
    """Where faults happen.

    ends_at: when everything heals, true time: no fault lasts longer.
    healed: nothing goes wrong any more.
    """

    cluster: Cluster
    profile: Profile
    walls: WallClocks
    ends_at: float
    healed: bool = False

    @property
    def running(self) -> list[int]:
        """The nodes that are up."""
        return list(self.cluster.processes)

    def victim(self) -> int | None:
        """A running node; every other time the master of some group."""
        cluster, random = self.cluster, self.cluster.world.random
        if not cluster.processes:
            return None
        if random.random() < 0.5:
            master = cluster.master(random.randrange(cluster.shape.paxos_groups))
            if master is not None:
                return master
        return random.choice(self.running)

    def repeat(self, mean: float, fault: Callable[[], None]) -> None:
        """Let a fault happen again and again, `mean` seconds apart on average; 0: never."""
        if mean <= 0:
            return
        world = self.cluster.world

        def happen() -> None:
            if not self.healed:
                fault()
                world.call_later(world.random.expovariate(1 / mean), happen)

        world.call_later(world.random.expovariate(1 / mean), happen)
