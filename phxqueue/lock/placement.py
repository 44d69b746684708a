"""Which lock group a key belongs to, and which Paxos group of that. Pure: the same weights, the same place everywhere.

Lock group: rendezvous hashing, weighted by `scale` (Thaler and Ravishankar 1998; weights after Schindelhauer and
Schomaker 2005: the smallest -ln(u)/weight wins, u uniform in (0, 1) from a hash of group and key). Every group gets its
share of the keys, and a change of one group's weight moves keys to or from that group only.

Paxos group: another hash of the key modulo `paxos_groups`, which never changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import log

from xxhash import xxh3_64_intdigest

_PAXOS_SEED = 0x7061786F73  # apart from every lock id, so that the two choices are independent
_TO_UNIT = 2.0**-64


class Placement:
    """Chooses among the lock groups of a topic.

    Args:
        weights: (lock_id, scale) pairs; a group with scale 0 gets no keys.
    """

    __slots__ = ("_weighted", "lock_ids")

    def __init__(self, weights: Iterable[tuple[int, int]]) -> None:
        self._weighted = sorted((lock_id, 1.0 / weight) for lock_id, weight in weights if weight > 0)
        self.lock_ids = tuple(lock_id for lock_id, _ in self._weighted)

    def lock_id(self, key: str) -> int | None:
        """The lock group of a key; None: no group has a weight."""
        if len(self.lock_ids) <= 1:
            return self.lock_ids[0] if self.lock_ids else None
        packed = key.encode()
        return min(
            # (hash + 0.5) keeps u strictly between 0 and 1.
            (-log((xxh3_64_intdigest(packed, lock_id) + 0.5) * _TO_UNIT) * inverse, lock_id)
            for lock_id, inverse in self._weighted
        )[1]


def paxos_group(key: str, paxos_groups: int) -> int:
    """The Paxos group of a key within its lock group."""
    return xxh3_64_intdigest(key.encode(), _PAXOS_SEED) % paxos_groups if paxos_groups > 1 else 0
