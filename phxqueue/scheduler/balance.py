"""Weights from loads: who is overloaded gives work to who is not. Pure.

The load of a consumer is about proportional to its weight, by a factor that nobody knows: what its queues carry, how
fast its machine is, what else runs there. So a pass does not compute the right weights; it makes a step towards them
from the weights in force, ``weight x (mean / load) ^ DAMPING``, and the next pass sees what came of it. A step is
damped and bounded because loads are noisy and queues come in lumps.

Nothing moves while nobody is overloaded: every move costs a handover. A weight never falls below a share of the
consumer's configured one, so that an unlucky consumer is not starved for good, and one that idles can only gain.

Differs from the original, which computes weights from the configured ones instead of from those in force (so that two
passes undo each other), gives an idle consumer nothing at all, and decides that a cluster is balanced by a counter that
is never counted (sections 8.4 and 15 of its description).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: 1 would go the whole way in one step, and swing when loads answer late.
DAMPING = 0.5
#: Most that a weight changes in one pass, as a factor.
STEP = 2.0
#: Loads below this many percent count as this many: an idle consumer does not deserve everything at once.
LEAST_LOAD = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceRule:
    """When weights move, and how far. All in percent, but for `sticky`.

    Attributes:
        max_load, max_mean_load: overloaded is who carries more than the one, and more than this share of the mean.
        min_weight, max_weight: bounds of a weight, as shares of the configured one.
        sticky: thousandths of the configured weight; smaller changes are not made.
    """

    max_load: float = 80.0
    max_mean_load: float = 150.0
    min_weight: float = 10.0
    max_weight: float = 200.0
    sticky: int = 100


@dataclass(frozen=True, slots=True)
class Share:
    """One live consumer: its configured weight, the one in force, its load in percent (None: not known yet)."""

    scale: int
    weight: int
    load: float | None


def mean_load(shares: Mapping[str, Share]) -> float:
    """Return the mean load of those that have one; 0 when nobody has."""
    loads = [share.load for share in shares.values() if share.load is not None]
    return sum(loads) / len(loads) if loads else 0.0


def overloaded(shares: Mapping[str, Share], rule: BalanceRule) -> list[str]:
    """Return who carries too much and has something to give, by name.

    One that is down to its least weight and still overloaded, by a single heavy queue perhaps, is not helped by
    weights: it must not keep the others moving. A core has no more than 100 percent, so when the mean is high, half the
    way from it to the top counts as too much (150 percent of 70 would be more than anybody can report).
    """
    mean = mean_load(shares)
    limit = max(rule.max_load, min(mean * rule.max_mean_load / 100, max(mean, (mean + 100) / 2)))
    return sorted(
        name
        for name, share in shares.items()
        if share.load is not None and share.load > limit and share.weight > _least(share, rule)
    )


def next_weights(shares: Mapping[str, Share], rule: BalanceRule) -> dict[str, int]:
    """Return the weights after one pass; those in force when nobody is overloaded."""
    weights = {name: share.weight for name, share in shares.items()}
    if not overloaded(shares, rule):
        return weights
    mean = max(mean_load(shares), LEAST_LOAD)
    for name, share in shares.items():
        if share.load is None or share.scale == 0:
            continue
        factor = min(max((mean / max(share.load, LEAST_LOAD)) ** DAMPING, 1 / STEP), STEP)
        weight = min(max(round(share.weight * factor), _least(share, rule)), most(share.scale, rule))
        if abs(weight - share.weight) * 1000 >= rule.sticky * share.scale:
            weights[name] = weight
    return weights


def most(scale: int, rule: BalanceRule) -> int:
    """Return the highest weight of a consumer that is configured with `scale`."""
    return max(1, round(scale * rule.max_weight / 100))


def _least(share: Share, rule: BalanceRule) -> int:
    return max(1, round(share.scale * rule.min_weight / 100))
