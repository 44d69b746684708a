"""How one speed limit is shared out among the consumers that want some of it. Pure, time passed in by the caller.

`fill` says what everybody ought to have. A `ShareBook` gets there without ever handing out more than there is: what
somebody gives up is handed on when he has said that he keeps to less, not when he was told to. So the limit holds in
every moment, however late an answer arrives, and also when it does not arrive at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

#: Part of a limit that is shared out whoever wants it: somebody whose first items arrive has something to begin with.
FLOOR = 0.01
#: Weight of somebody who owns none of the queues that a limit is about, but wants some of it (later attempts).
LEAST_WEIGHT = 0.02
#: Differences smaller than this part of a limit are not worth telling.
TOLD = 0.005


@dataclass(frozen=True, slots=True)
class Demand:
    """What one consumer could do with a limit.

    Attributes:
        wanted: the part of it that it could use now, 0 to 1.
        weight: its part of the queues that the limit is about, 0 to 1.
    """

    wanted: float
    weight: float


def fill(demands: Mapping[str, Demand]) -> dict[str, float]:
    """Share out one limit: nobody has less than he wants while another has more, in proportion to their weights.

    What nobody wants is shared out by weight as well. The shares of those with a demand or a weight are 1 together.
    (Weighted max-min fairness by water-filling: Bertsekas and Gallager, Data Networks, section 6.5.)
    """
    weights = {
        name: max(demand.weight, LEAST_WEIGHT)
        for name, demand in demands.items()
        if demand.weight > 0 or demand.wanted > 0
    }
    shares = dict.fromkeys(demands, 0.0)
    left, weight_left = 1.0, sum(weights.values())
    needs = {
        name: min(max(demands[name].wanted, FLOOR * weight / weight_left), 1.0) for name, weight in weights.items()
    }
    for name in sorted(weights, key=lambda name: (needs[name] / weights[name], name)):
        shares[name] = min(needs[name], left * weights[name] / weight_left)
        left -= shares[name]
        weight_left -= weights[name]
    total = sum(weights.values())
    if left > 0:
        for name, weight in weights.items():
            shares[name] += left * weight / total
    return shares


class _Asker:
    """One consumer, and one limit."""

    __slots__ = ("assigned", "demand", "keeps")

    def __init__(self) -> None:
        self.demand = Demand(0.0, 0.0)
        self.keeps = 0.0  # most that it may be keeping to now
        self.assigned = 0.0  # what it is told when it is answered


class ShareBook:
    """One limit: who wants how much of it, who has how much."""

    def __init__(self) -> None:
        self._askers: dict[str, _Asker] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._askers)

    def __len__(self) -> int:
        return len(self._askers)

    def ask(self, name: str, demand: Demand, keeps: float) -> None:
        """A consumer says what it could use, and what it keeps to as it says so."""
        asker = self._askers.setdefault(name, _Asker())
        asker.demand = Demand(_part(demand.wanted), _part(demand.weight))
        asker.keeps = _part(keeps)

    def forget(self, name: str) -> None:
        """A consumer keeps to nothing of this any more: it is gone, or does by itself what it may."""
        self._askers.pop(name, None)

    def settle(self, *, hand_out: bool = True) -> None:
        """Decide what everybody is told. Without `hand_out` nobody is told more than he has."""
        targets = fill({name: asker.demand for name, asker in self._askers.items()})
        spare = 1.0 - sum(asker.keeps for asker in self._askers.values()) if hand_out else 0.0
        missing = sum(max(targets[name] - asker.keeps, 0.0) for name, asker in self._askers.items())
        part = min(max(spare, 0.0) / missing, 1.0) if missing > 0 else 0.0
        for name, asker in self._askers.items():
            lacks = targets[name] - asker.keeps
            asker.assigned = asker.keeps + lacks * part if lacks > 0 else targets[name]

    def news(self, name: str) -> bool:
        """Whether a consumer should be told what was decided now rather than some time."""
        asker = self._askers.get(name)
        return asker is not None and abs(asker.assigned - asker.keeps) > TOLD

    def answer(self, name: str) -> float:
        """What a consumer is told now; 0 for one that has not asked."""
        asker = self._askers.get(name)
        if asker is None:
            return 0.0
        asker.keeps = max(asker.keeps, asker.assigned)  # until it says that it keeps to less
        return asker.assigned

    @property
    def kept(self) -> dict[str, float]:
        """What everybody may be keeping to."""
        return {name: asker.keeps for name, asker in self._askers.items()}


def _part(number: float) -> float:
    return min(max(number, 0.0), 1.0)
