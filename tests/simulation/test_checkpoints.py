"""A node that was away comes back behind everybody's log, and gets a checkpoint and what belongs to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from phxqueue.testing.sim.cluster import ClusterShape
from phxqueue.testing.sim.consumers import Auditor
from phxqueue.testing.sim.profiles import Profile
from phxqueue.testing.sim.run import Simulation
from phxqueue.testing.sim.workload import Workload

BUSY = Workload(producers=2, lanes=2, batches=1_000_000, think=0.02, wall_skew=0.0, retention_bytes=0)


class TrimmingCluster(Simulation):
    """Three nodes that checkpoint often and keep next to nothing of what is consumed. All checkers watch.

    Args:
        keep: bytes of acknowledged items that queues keep: what belongs to a checkpoint.
    """

    def __init__(self, seed: int, keep: int = 0, **shape: int) -> None:
        super().__init__(
            seed,
            Profile(name="the test's own"),
            ClusterShape(checkpoint_interval=0.2, checkpoint_entries=20, **shape),
            replace(BUSY, retention_bytes=keep),
        )
        self.start_nodes()
        self.start_clients()
        self.run_for(1.0)

    def run_for(self, seconds: float) -> None:
        self.world.run_until(self.world.now + seconds)

    def run_until(self, happened: Callable[[], bool], seconds: float = 20.0) -> None:
        assert self.world.run_until(self.world.now + seconds, happened), "it does not happen"

    def follower(self) -> int:
        master = self.cluster.master(0)
        return next(node_id for node_id in self.cluster.node_ids if node_id != master)

    def leave_behind(self, node_id: int) -> None:
        """Have this node down until the others have trimmed what it lacks."""
        group = self.cluster.group(node_id, 0)
        assert group is not None
        chosen = group.core.chosen
        self.cluster.crash(node_id, noticed=True)
        self.run_until(lambda: self.first_log() > chosen + 50)

    def first_log(self) -> int:
        """Where the longest log begins."""
        return min(process.node.groups[0].first for process in self.cluster.processes.values())

    def caught_up(self, node_id: int) -> bool:
        group, other = self.cluster.group(node_id, 0), self.cluster.group(self.cluster.master(0) or 0, 0)
        return (
            group is not None
            and other is not None
            and group.core.complete
            and group.state_machine.applied >= other.state_machine.applied - 20
        )


@pytest.mark.parametrize("keep", [0, 15_000])
def test_a_node_behind_all_logs_catches_up_without_a_restart(keep: int) -> None:
    sim = TrimmingCluster(1, keep)
    node_id = sim.follower()
    sim.leave_behind(node_id)
    sim.cluster.start(node_id)
    sim.run_until(lambda: sim.caught_up(node_id))
    group = sim.cluster.group(node_id, 0)
    assert group is not None
    needed = group.state_machine.first_needed()
    log = sim.cluster.disks[node_id].group(0).log
    assert all(instance in log for instance in range(needed, group.core.chosen + 1))
    assert group.first <= needed
    sim.cluster.compare_states()


def test_it_serves_as_master_with_everything_that_is_retained() -> None:
    sim = TrimmingCluster(7, keep=15_000)
    node_id = sim.follower()
    sim.leave_behind(node_id)
    sim.cluster.start(node_id)
    sim.run_until(lambda: sim.caught_up(node_id))
    for _ in range(10):
        master = sim.cluster.master(0)
        if master == node_id:
            break
        if master is not None:
            sim.cluster.crash(master, noticed=True)
            sim.run_for(1.0)
            sim.cluster.start(master)
        sim.run_for(1.0)
    assert sim.cluster.master(0) == node_id
    auditors = [Auditor(sim.cluster, sim.books, queue_id) for queue_id in BUSY.queues]
    for auditor in auditors:
        auditor.start()
    sim.run_until(lambda: all(auditor.done for auditor in auditors))
    assert all(auditor.items for auditor in auditors)  # each answer was held against what was chosen
    assert sim.cluster.master(0) == node_id


@pytest.mark.parametrize("seed", range(2))
def test_crashes_of_either_side_at_any_moment_of_it(seed: int) -> None:
    sim = TrimmingCluster(100 + seed, keep=15_000)
    node_id = sim.follower()
    sim.leave_behind(node_id)
    sim.cluster.start(node_id)
    random = sim.world.random
    for _ in range(12):
        sim.run_for(random.choice((0.01, 0.05, 0.1, 0.3)) * random.random())
        victim = node_id if random.random() < 0.7 else random.choice(sim.cluster.node_ids)
        if victim in sim.cluster.processes:
            sim.cluster.crash(victim)
            sim.run_for(0.2 * random.random())
        if victim not in sim.cluster.processes:
            sim.cluster.start(victim)
    sim.run_until(lambda: sim.caught_up(node_id))
    sim.cluster.compare_states()
