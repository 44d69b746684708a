"""A whole cluster of consumers, simulated: weights, the queues that follow from them, the loads that follow from those.

python -m benchmarks balance
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from benchmarks.skewed_load import SkewedCluster
from phxqueue.scheduler.load import Report
from phxqueue.scheduler.roll import Roll, RollRule


@dataclass(frozen=True, slots=True)
class Pass:
    """The cluster after one change of weights: `moved` queues changed hands, `loads` are in percent."""

    moved: int
    loads: dict[str, float]

    @property
    def overloaded(self) -> int:
        """How many have more to do than they can."""
        return sum(load > 100 for load in self.loads.values())

    def behind(self, cluster: SkewedCluster) -> float:
        """The part of the work that nobody gets done."""
        work = {name: load * cluster.speed[name] for name, load in self.loads.items()}
        excess = (max(load - 100, 0.0) * cluster.speed[name] for name, load in self.loads.items())
        return sum(excess) / sum(work.values())


def passes(cluster: SkewedCluster, rule: RollRule, seconds: int) -> Iterator[Pass]:
    """Let everybody report once a second; yields after each change of the weights."""
    roll = Roll(dict.fromkeys(cluster.names, 1000), rule, 0.0)
    owners = cluster.owners(dict.fromkeys(cluster.names, 1000))
    loads, version = cluster.loads(owners), 0
    for second in range(1, seconds):
        for name in cluster.names:
            roll.report(name, Report(cpu=cluster.reported(loads[name])), float(second))
        roll.advance(float(second))
        if roll.version != version:
            version, before = roll.version, owners
            owners = cluster.owners(roll.weights())
            loads = cluster.loads(owners)
            yield Pass(sum(owners[queue] != before[queue] for queue in cluster.queues), loads)


def table(consumers: int, queues: int, seconds: int, seed: int) -> Iterator[str]:
    """One line per change of the weights; the first are the static ones."""
    cluster = SkewedCluster(consumers, queues, Random(seed))
    yield f"{consumers:,} consumers of speed 0.5, 1 and 2, {queues:,} queues of uneven rates, half of all cores used"
    yield "weights of    queues moved   consumers > 80 %   > 100 %   busiest   work not done"
    for number, after in enumerate(passes(cluster, RollRule(), seconds)):
        busy = sum(load > 80 for load in after.loads.values())
        yield (
            f"{f'pass {number}' if number else 'the files':<14}{after.moved:>12,}{busy:>19,}{after.overloaded:>10,}"
            f"{max(after.loads.values()):>8.0f} %{after.behind(cluster):>15.2%}"
        )
