"""A model of consumers under skewed load: what each would report if it owned the queues that the weights give it."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from phxqueue.consumer.assignment import Queue, Ring


class SkewedCluster:
    """Queues of very different rates on machines of different speed.

    Args:
        consumers, queues: how many.
        usage: mean load of all consumers, in percent.
        noise: standard deviation of a report, as a share of the load.
    """

    def __init__(
        self, consumers: int, queues: int, random: Random, *, usage: float = 50.0, noise: float = 0.05
    ) -> None:
        self.names = [f"10.0.{n // 250}.{n % 250}:8001" for n in range(consumers)]
        self.queues: list[Queue] = [(1 + n // 1000, n % 1000) for n in range(queues)]
        self.speed = {name: random.choice([0.5, 1.0, 1.0, 2.0]) for name in self.names}
        rates = [random.lognormvariate(0, 0.5) for _ in self.queues]
        work = usage * sum(self.speed.values()) / sum(rates)
        self.rates = dict(zip(self.queues, (rate * work for rate in rates), strict=True))
        self._random = random
        self._noise = noise

    def owners(self, weights: Mapping[str, int]) -> dict[Queue, str]:
        """Who owns each queue."""
        ring = Ring(weights)
        return {queue: ring.owner(1, queue) or "" for queue in self.queues}

    def loads(self, owners: Mapping[Queue, str]) -> dict[str, float]:
        """The true load of each consumer, in percent; above 100: it falls behind."""
        loads = dict.fromkeys(self.names, 0.0)
        for queue, name in owners.items():
            if name:
                loads[name] += self.rates[queue] / self.speed[name]
        return loads

    def reported(self, load: float) -> float:
        """What a consumer measures: noise, and never more than the core it has."""
        return min(max(load * self._random.gauss(1, self._noise), 0.0), 100.0)
