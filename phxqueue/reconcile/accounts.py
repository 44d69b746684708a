"""What each producer has still to report of what is stored from it. Pure.

An account is opened when something of a producer is stored and closed when its reports agree with it, in count and
digest sum. One below zero is a loss: a store confirmed what no store has. Reports follow what they report through the
same log, so an account is never below zero only because something is late.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

MASK64 = (1 << 64) - 1

Key = tuple[int, int, int, int, int]
"""(producer id, minute, pub id, mask, kind)"""

#: Open accounts at most: a constant of the command version.
MOST_ACCOUNTS = 1 << 16


class Accounts:
    """The open accounts of one Paxos group.

    Args:
        closed: told of an account that is closed although it does not balance, as (key, items, digest sum): it is too
            old, or there are too many.
    """

    def __init__(self, closed: Callable[[Key, int, int], None]) -> None:
        self._closed = closed
        self.open: dict[Key, tuple[int, int]] = {}  # count (signed) and digest sum mod 2^64

    def store(self, key: Key, count: int, digest_sum: int) -> None:
        """So much of the producer was stored."""
        self._move(key, count, digest_sum)

    def report(self, key: Key, count: int, digest_sum: int) -> None:
        """The producer says that so much was confirmed to it."""
        self._move(key, -count, -digest_sum)

    def _move(self, key: Key, count: int, digest_sum: int) -> None:
        before = self.open.get(key)
        if before is not None:
            count, digest_sum = before[0] + count, before[1] + digest_sum
        digest_sum &= MASK64
        if count or digest_sum:
            self.open[key] = count, digest_sum
            if before is None and len(self.open) > MOST_ACCOUNTS:
                self._close(next(iter(self.open)))
        elif before is not None:
            del self.open[key]

    def close_before(self, minute: int) -> None:
        """Close those of earlier minutes."""
        for key in [key for key in self.open if key[1] < minute]:
            self._close(key)

    def _close(self, key: Key) -> None:
        count, digest_sum = self.open.pop(key)
        self._closed(key, count, digest_sum)

    def dump(self) -> list[int]:
        """All of it, as numbers."""
        numbers = [len(self.open)]
        for key, (count, digest_sum) in self.open.items():
            numbers += *key, count & MASK64, digest_sum
        return numbers

    def load(self, numbers: Iterator[int]) -> None:
        """Take what `dump` gave off the front, into an empty object."""
        for _ in range(next(numbers)):
            producer_id, minute, pub_id, mask, kind, count, digest_sum = (next(numbers) for _ in range(7))
            signed = count - (1 << 64) if count >> 63 else count
            self.open[producer_id, minute, pub_id, mask, kind] = signed, digest_sum
