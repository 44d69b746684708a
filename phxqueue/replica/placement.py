"""When a master gives a group to a node that is preferred to it. Pure: observations and time in, decisions out.

A node is given a group when it is preferred to the present master, and has been healthy and caught up for
``settle`` seconds without a break: a node that comes and goes gets nothing. One group moves at a time and not more
often than every ``interval`` seconds, and a transfer that failed is not tried again before ``settle`` has passed anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MasteredGroup:
    """One group this node is master of.

    preferred: the nodes preferred to this one as its master, best first.
    healthy: those of them that answer and have caught up, at this moment.
    """

    group_id: int
    preferred: tuple[int, ...]
    healthy: frozenset[int]


class Placement:
    """Decides for one node.

    Args:
        settle: seconds; infinity: never give anything away.
        interval: seconds between two transfers.
    """

    def __init__(self, settle: float, interval: float) -> None:
        self._settle = settle
        self._interval = interval
        self._healthy_since: dict[tuple[int, int], float] = {}
        self._not_before = 0.0

    def consider(self, groups: Iterable[MasteredGroup], now: float) -> tuple[int, int] | None:
        """Return (group, node to give it to) when a transfer is due. Call it often, with all groups each time."""
        since: dict[tuple[int, int], float] = {}
        due: tuple[int, int] | None = None
        for group in groups:
            for node_id in group.preferred:
                if node_id not in group.healthy:
                    continue
                pair = group.group_id, node_id
                since[pair] = self._healthy_since.get(pair, now)
                if due is None and now - since[pair] >= self._settle:
                    due = pair
        self._healthy_since = since
        if due is None or now < self._not_before:
            return None
        # Whatever comes of it: this pair has to prove itself anew.
        since[due] = now
        self._not_before = now + self._interval
        return due
