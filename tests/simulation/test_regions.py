"""Members in regions 100 ms apart, with times to match: they elect, and fail over within a lease and two seconds."""

from __future__ import annotations

import pytest

from tests.simulation.rig import PeacefulCluster

ONE_WAY = 0.1
SCALE = 6.25  # a lease of 2.5 s and a heartbeat every 625 ms, as in etc/multi-region/
LEASE = 0.4 * SCALE


@pytest.mark.parametrize("seed", range(3))
def test_members_in_far_regions(seed: int) -> None:
    cluster = PeacefulCluster(seed, time_scale=SCALE, delay=(0.9 * ONE_WAY, 1.1 * ONE_WAY))
    masterships = cluster.watch.masterships
    began = cluster.now
    cluster.run_for(30.0)
    assert cluster.watch.masterships == masterships  # nobody is impatient
    assert cluster.longest_gap(began) < 1.0
    stopped, stopped_at = cluster.master, cluster.now
    cluster.cluster.stop(stopped)
    cluster.run_for(5.0)
    assert cluster.longest_gap(stopped_at) < LEASE / 2  # handed over: some round trips, and those of the clients
    cluster.cluster.start(stopped)
    cluster.run_for(5.0)
    for noticed in (True, False):
        master, killed_at = cluster.master, cluster.now
        cluster.cluster.crash(master, noticed=noticed)
        cluster.run_for(8.0)
        assert cluster.longest_gap(killed_at) < LEASE + 2.0
        cluster.cluster.start(master)
        cluster.run_for(5.0)
