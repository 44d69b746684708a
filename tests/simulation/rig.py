"""A cluster that lives in peace until the test says otherwise, under clients that never stop."""

from __future__ import annotations

from itertools import pairwise

from phxqueue.testing.sim.cluster import ClusterShape
from phxqueue.testing.sim.profiles import Profile
from phxqueue.testing.sim.run import Simulation
from phxqueue.testing.sim.workload import Workload

STEADY = Workload(
    producers=2, lanes=2, batches=1_000_000, think=0.06, wall_skew=0.0, batch_items=(1,), item_bytes=(20,)
)


class PeacefulCluster(Simulation):
    """Three nodes with default times and bounds. All checkers watch, as in any other run.

    Args:
        time_scale: multiplies the times of the protocol.
        delay: how long a message travels at least and at most, seconds.
        incarnations: see ClusterShape.
    """

    def __init__(
        self,
        seed: int,
        workload: Workload = STEADY,
        nodes: int = 3,
        *,
        time_scale: float = 1.0,
        delay: tuple[float, float] = (0.0001, 0.001),
        incarnations: bool = False,
    ) -> None:
        shape = ClusterShape(
            nodes=nodes,
            time_scale=time_scale,
            incarnations=incarnations,
            window=64,
            window_bytes=16 << 20,
            max_message_bytes=4 << 20,
            max_pending_bytes=256 << 20,
            cache_bytes=64 << 20,
            checkpoint_interval=10.0,
            checkpoint_entries=20_000,
        )
        super().__init__(seed, Profile(name="the test's own"), shape, workload)
        self.watch.hash_every = 1000  # these runs are long, and the state grows with them
        self.cluster.network.faults.delay_min, self.cluster.network.faults.delay_max = delay
        self.start_nodes()
        self.start_clients()
        self.run_for(2.0 * max(time_scale, 1.0))
        assert self.master is not None
        assert self.books.acknowledgements

    @property
    def master(self) -> int:
        master = self.cluster.master(0)
        assert master is not None, "there is no master"
        return master

    @property
    def followers(self) -> list[int]:
        return [node_id for node_id in self.cluster.node_ids if node_id != self.master]

    @property
    def now(self) -> float:
        return self.world.now

    def run_for(self, seconds: float) -> None:
        self.world.run_until(self.world.now + seconds)

    def run_a_moment(self) -> None:
        """Get to some other point between two heartbeats."""
        self.run_for(self.world.random.uniform(0.0, 0.3))

    def cut_off(self, node_id: int) -> set[tuple[int, int]]:
        """Nothing gets from this node to another or back."""
        others = [other for other in self.cluster.node_ids if other != node_id]
        pairs = {(node_id, other) for other in others} | {(other, node_id) for other in others}
        self.cluster.network.cut |= pairs
        return pairs

    def longest_gap(self, since: float) -> float:
        """The longest time since then in which no Add was acknowledged, up to now."""
        times = [since, *(moment for moment in self.books.acknowledgements if moment > since), self.now]
        return max(after - before for before, after in pairwise(times))

    @property
    def lag(self) -> int:
        """By how many entries the slowest node is behind the first."""
        applied = [process.node.groups[0].state_machine.applied for process in self.cluster.processes.values()]
        return max(applied) - min(applied)
