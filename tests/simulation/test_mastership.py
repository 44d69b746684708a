"""Who is master stays master: short pauses, busy moments and nodes that come back depose nobody."""

from __future__ import annotations

import pytest

from tests.simulation.rig import PeacefulCluster

LEASE = 0.4
HEARTBEAT = 0.1


@pytest.mark.parametrize("seed", range(2))
def test_a_master_paused_for_less_than_its_lease_is_not_deposed(seed: int) -> None:
    cluster = PeacefulCluster(seed)
    master = cluster.master
    for duration in (0.05, 0.1, 0.2, 0.3, 0.35, 0.39):
        for _ in range(3):
            cluster.run_a_moment()
            began = cluster.now
            cluster.cluster.pause(master, duration)
            cluster.run_for(duration + 0.5)
            assert (cluster.master, cluster.watch.masterships) == (master, 1)
            assert cluster.longest_gap(began) < duration + 0.2


@pytest.mark.parametrize("seed", range(2))
def test_a_busy_master_is_not_deposed(seed: int) -> None:
    """Its reactor is held up for most of the time, 90 ms at a stretch."""
    cluster = PeacefulCluster(seed)
    master = cluster.master
    for _ in range(40):
        cluster.cluster.pause(master, 0.09)
        cluster.run_for(0.1)
    assert (cluster.master, cluster.watch.masterships) == (master, 1)


@pytest.mark.parametrize("seed", range(2))
def test_a_master_paused_for_long_is_replaced_and_follows_when_it_wakes(seed: int) -> None:
    cluster = PeacefulCluster(seed)
    master, began = cluster.master, cluster.now
    cluster.cluster.pause(master, 3.0)
    cluster.run_for(2.5)
    assert cluster.master != master
    assert cluster.longest_gap(began) < 2.0
    successor, masterships, wakes_at = cluster.master, cluster.watch.masterships, cluster.now
    cluster.run_for(2.5)
    assert (cluster.master, cluster.watch.masterships) == (successor, masterships)
    assert cluster.longest_gap(wakes_at) < 0.1
    group = cluster.cluster.group(master, 0)
    assert group is not None
    assert not group.core.is_master
    assert group.master_node() == successor


@pytest.mark.parametrize("seed", range(2))
def test_a_paused_follower_changes_nothing(seed: int) -> None:
    cluster = PeacefulCluster(seed)
    master, began = cluster.master, cluster.now
    for follower in cluster.followers:
        cluster.cluster.pause(follower, 1.5)
        cluster.run_for(2.5)
        assert (cluster.master, cluster.watch.masterships) == (master, 1)
    assert cluster.longest_gap(began) < 0.1


@pytest.mark.parametrize("seed", range(2))
def test_a_follower_that_was_cut_off_does_not_depose_the_master_when_it_returns(seed: int) -> None:
    cluster = PeacefulCluster(seed)
    master, began = cluster.master, cluster.now
    ballot = cluster.cluster.processes[master].node.groups[0].core.ballot
    pairs = cluster.cut_off(cluster.followers[0])
    cluster.run_for(3.0)
    cluster.cluster.network.cut -= pairs
    cluster.run_for(3.0)
    assert (cluster.master, cluster.watch.masterships) == (master, 1)
    assert cluster.cluster.processes[master].node.groups[0].core.ballot == ballot
    assert cluster.longest_gap(began) < 0.1
    assert cluster.lag < 10


@pytest.mark.parametrize("seed", range(2))
def test_a_follower_that_hears_nothing_cannot_talk_the_others_over(seed: int) -> None:
    """It asks for votes all the time: the others have heard from the master."""
    cluster = PeacefulCluster(seed)
    master, deaf, began = cluster.master, cluster.followers[0], cluster.now
    cluster.cluster.network.cut |= {(other, deaf) for other in cluster.cluster.node_ids if other != deaf}
    cluster.run_for(4.0)
    assert (cluster.master, cluster.watch.masterships) == (master, 1)
    assert cluster.longest_gap(began) < 0.1


@pytest.mark.parametrize("seed", range(2))
def test_a_master_without_a_majority_steps_down_and_the_others_go_on(seed: int) -> None:
    cluster = PeacefulCluster(seed)
    former, began = cluster.master, cluster.now
    pairs = cluster.cut_off(former)
    cluster.run_for(LEASE + HEARTBEAT)
    group = cluster.cluster.group(former, 0)
    assert group is not None
    assert not group.serving()
    cluster.run_for(1.5)
    assert not group.proposing()
    assert cluster.master != former
    assert cluster.longest_gap(began) < 2.0
    cluster.cluster.network.cut -= pairs
    successor, masterships = cluster.master, cluster.watch.masterships
    cluster.run_for(3.0)
    assert (cluster.master, cluster.watch.masterships) == (successor, masterships)
    assert cluster.lag < 10


@pytest.mark.parametrize("seed", range(2))
def test_peers_that_wrongly_believe_the_master_gone_do_not_depose_it(seed: int) -> None:
    """Its connections break and are refused for a moment, as when a firewall is loaded: its heartbeats come through."""
    cluster = PeacefulCluster(seed)
    master = cluster.master
    for _ in range(10):
        cluster.run_a_moment()
        cluster.cluster.refuse(master)
        cluster.run_for(0.5)
    assert (cluster.master, cluster.watch.masterships) == (master, 1)


@pytest.mark.parametrize("nodes", [3, 5])
def test_an_idle_cluster_elects_within_seconds(nodes: int) -> None:
    for seed in range(5):
        cluster = PeacefulCluster(seed, nodes=nodes)
        assert cluster.books.acknowledgements[0] < 1.5
        assert cluster.watch.masterships == 1
