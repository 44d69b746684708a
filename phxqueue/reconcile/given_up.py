"""What cannot be judged, because accounts were given up: there were too many. Pure.

A producer may go on with an account that was given up, and report the whole of it: then a new one is below zero by what
the old one had, and nothing is missing. So up to what was given up of a minute, pub and consumer group, nothing there
is called a difference. It is told as not checked instead.
"""

from __future__ import annotations

from phxqueue.reconcile.columns import UNREPORTED
from phxqueue.reconcile.ledger import EARLIER, Ledger

Row = tuple[int, int, int]
"""(minute, pub id, consumer group id)"""


class GivenUp:
    """Of one ledger, for one look at it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._left: dict[Row, int] = {}

    def missing(self, row: Row, items: int) -> int:
        """So many items of a row seem to be missing: how many of them are."""
        left = self._of(row)
        known = min(left, items)
        self._left[row] = left - known
        return items - known

    def altered(self, row: Row) -> int:
        """The digests of an account seem to be wrong: 1, they are."""
        return int(not self._of(row))

    def _of(self, row: Row) -> int:
        left = self._left.get(row)
        if left is None:
            minute, pub_id, group = row
            numbers = self._ledger.minutes.get(minute, {}).get((pub_id, group)) if minute != EARLIER else None
            left = numbers[UNREPORTED] if numbers is not None else 0
        return left
