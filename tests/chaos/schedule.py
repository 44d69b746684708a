"""Which faults, when, and in which order: drawn from the seed. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Planned:
    """One fault: what kind, a source of the choices it has to make, and how long it lasts and the calm after it."""

    number: int
    kind: str
    seed: str
    hold_s: float
    calm_s: float

    def rng(self) -> random.Random:
        """The same choices every time."""
        return random.Random(self.seed)


def schedule(seed: int, round_number: int, weights: Mapping[str, int]) -> Iterator[Planned]:
    """Draw faults without end.

    Every kind comes once, in random order, before chance alone decides by weight: a short run has seen all of them.
    Most faults and pauses are short, a few are long: failures come in bursts.
    """
    rng = random.Random(f"{seed}/{round_number}")
    kinds = sorted(kind for kind, weight in weights.items() if weight)
    first = rng.sample(kinds, len(kinds))
    number = 0
    while True:
        kind = first.pop() if first else rng.choices(kinds, [weights[kind] for kind in kinds])[0]
        hold_s = min(rng.expovariate(1.0), 6.0)
        calm_s = 0.0 if rng.random() < 0.3 else min(rng.expovariate(1.0), 5.0)
        yield Planned(number, kind, f"{seed}/{round_number}/{number}", hold_s, calm_s)
        number += 1
