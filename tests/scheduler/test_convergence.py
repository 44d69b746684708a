"""A whole cluster, simulated: skewed load is spread, and then everything comes to rest."""

from __future__ import annotations

from random import Random

import pytest

from benchmarks.balance import passes
from benchmarks.skewed_load import SkewedCluster
from phxqueue.scheduler.roll import RollRule


@pytest.mark.parametrize("seed", range(5))
def test_skewed_load_is_spread_and_comes_to_rest(seed: int) -> None:
    cluster = SkewedCluster(40, 800, Random(seed))
    static, *changes = passes(cluster, RollRule(), 400)
    assert static.overloaded >= 3, "the load is not skewed: this test shows nothing"
    assert changes[-1].overloaded == 0
    assert len(changes) < 15, "they went on to the end"
    assert all(after.moved <= 0.4 * 800 for after in changes), "one pass moves a bounded part"
    assert changes[-1].moved < changes[0].moved


def test_nobody_is_starved() -> None:
    cluster = SkewedCluster(40, 800, Random(7))
    *_, last = passes(cluster, RollRule(), 300)
    assert all(load > 0 for load in last.loads.values())


def test_static_weights_move_nothing() -> None:
    cluster = SkewedCluster(40, 800, Random(3))
    seen = list(passes(cluster, RollRule(use_init_weight=True), 200))
    assert [after.moved for after in seen] == [0]
