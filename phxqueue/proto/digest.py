"""The digest of an item, which reconciliation sums up on all three sides. Pure; part of the wire protocol."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from xxhash import xxh3_64_intdigest

MASK64 = (1 << 64) - 1

#: Stretches of dropped items in the claims of one request.
MOST_DROPPED = 4096

_identity = Struct("<QQ").pack


def item_digest(producer_id: int, number: int, buffer: bytes) -> int:
    """The item's share of a batch's `digest_sum`: xxh3_64 over its identity (16 bytes, little-endian) and buffer."""
    return xxh3_64_intdigest(_identity(producer_id, number) + buffer)


@dataclass(frozen=True, slots=True)
class Claim:
    """Everything received of [start, stop) is finished: `count` items with this digest sum mod 2^64.

    dropped: (first, stop) of those that were dropped because their time had passed, rising.
    unreadable: items among them that could not be read; count and digests are then those of their batches' headers.
    passed: how many were stored again: as later attempts, as dead letters, as expired dead letters.
    """

    start: int
    stop: int
    count: int
    digest_sum: int
    dropped: tuple[tuple[int, int], ...] = ()
    unreadable: int = 0
    passed: tuple[int, int, int] = (0, 0, 0)
