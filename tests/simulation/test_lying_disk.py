"""A disk that does not keep what it says it has flushed: the node that comes back with less is found out.

Not a fault of the random seeds: what such a disk can do to a store is not within what is promised. Found out it is as
long as somebody runs who was told.
"""

from __future__ import annotations

import copy

import pytest

from phxqueue.replica.told import ToldMarks
from phxqueue.testing.sim.checkers import Violation
from tests.simulation.mutants.table import Patch
from tests.simulation.rig import PeacefulCluster

REASON = "the disk has lost what this node had confirmed"


def cluster(seed: int) -> PeacefulCluster:
    made = PeacefulCluster(seed, incarnations=True)
    made.run_for(1.0)
    return made


def lose(made: PeacefulCluster, node_id: int, seconds: float) -> tuple[int, int]:
    """For so long a disk keeps nothing of what it takes; then its machine loses power. Returns (told, kept)."""
    disk = made.cluster.disks[node_id]
    kept = copy.deepcopy((disk.groups, disk.blobs))
    made.run_for(seconds)
    links = made.cut_off(node_id)  # the others apply what it has confirmed before it is gone
    made.run_for(0.1)
    told = max(disk.group(0).log)
    made.cluster.network.cut -= links
    made.cluster.crash(node_id, noticed=True)
    disk.groups, disk.blobs = kept
    return told, max(disk.group(0).log)


@pytest.mark.parametrize("seed", range(4))
def test_a_follower_that_comes_back_with_less_stops(seed: int) -> None:
    made = cluster(seed)
    node_id = made.followers[seed % 2]
    told, kept = lose(made, node_id, 0.5)
    assert told > kept
    made.run_for(0.3)
    made.cluster.start(node_id)
    with pytest.raises(Violation, match=REASON):
        made.run_for(3.0)


@pytest.mark.parametrize("seed", range(4))
def test_one_that_kept_everything_does_not(seed: int) -> None:
    made = cluster(seed)
    node_id = made.followers[seed % 2]
    made.cluster.crash(node_id, noticed=True)
    made.run_for(0.3)
    made.cluster.start(node_id)
    made.run_for(3.0)
    assert made.lag < 50


def test_nobody_finds_out_who_was_told_nothing() -> None:
    """The proof that the check is what finds it: without the memory of others the node votes with what is left."""
    with pytest.MonkeyPatch.context() as patch:
        spoil(patch)
        made = cluster(0)
        node_id = made.followers[0]
        lose(made, node_id, 0.5)
        made.run_for(0.3)
        made.cluster.start(node_id)
        assert REASON not in violation(made, 3.0)


def violation(made: PeacefulCluster, seconds: float) -> str:
    """Let time pass; what was broken then, if anything was."""
    try:
        made.run_for(seconds)
    except Violation as found:
        return str(found)
    return ""


def spoil(patch: Patch) -> None:
    patch.setattr(ToldMarks, "told", lambda self, node_id, group_id, instance: None)
