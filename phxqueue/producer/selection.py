"""Which store and which queue an item goes to. Pure: the same uin and the same configuration give the same place.

Store: rendezvous hashing, weighted by `scale` (Thaler and Ravishankar 1998; weights after Schindelhauer and
Schomaker 2005: the smallest -ln(u)/weight wins, u uniform in (0, 1) from a hash of store and key). Every store gets
exactly its share, and a change of one store's weight moves keys to or from that store only.

Queue: hash of the key modulo the number of queues, as in the original: changing the ranges of a queue_info
moves keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from struct import Struct

from xxhash import xxh3_64_intdigest

_key = Struct("<Q").pack
_QUEUE_SEED = 0x7175657565  # apart from every store id, so that store and queue are chosen independently
_TO_UNIT = 2.0**-64


class StoreChoice:
    """Chooses among the stores of one pub.

    Args:
        weights: (store_id, scale) pairs; stores with scale 0 get nothing.
    """

    __slots__ = ("_only", "_weighted", "store_ids")

    def __init__(self, weights: Sequence[tuple[int, int]]) -> None:
        self._weighted = sorted((store_id, 1.0 / weight) for store_id, weight in weights if weight > 0)
        self.store_ids = tuple(store_id for store_id, _ in self._weighted)
        self._only = self.store_ids[0] if len(self.store_ids) == 1 else None

    def __bool__(self) -> bool:
        return bool(self.store_ids)

    def choose(self, key: int) -> int:
        """The store of a key.

        Raises:
            ValueError: when no store has a weight.
        """
        if self._only is not None:
            return self._only
        packed = _key(key)
        return min(
            # (hash + 0.5) keeps u strictly between 0 and 1.
            (-log((xxh3_64_intdigest(packed, store_id) + 0.5) * _TO_UNIT) * inverse, store_id)
            for store_id, inverse in self._weighted
        )[1]

    def without(self, store_ids: frozenset[int]) -> StoreChoice:
        """The same choice among the other stores; all of them when none would be left."""
        rest = [(store_id, inverse) for store_id, inverse in self._weighted if store_id not in store_ids]
        if not rest or len(rest) == len(self._weighted):
            return self
        choice = StoreChoice(())
        choice._weighted = rest
        choice.store_ids = tuple(store_id for store_id, _ in rest)
        choice._only = choice.store_ids[0] if len(rest) == 1 else None
        return choice


def choose_queue(queue_ids: Sequence[int], key: int) -> int:
    """The queue of a key among the (sorted) queues of a queue_info."""
    if len(queue_ids) == 1:
        return queue_ids[0]
    return queue_ids[xxh3_64_intdigest(_key(key), _QUEUE_SEED) % len(queue_ids)]
