"""A request repeated under its sequence has its first outcome, whatever happened meanwhile: never a second copy.

That nothing stands in a queue twice is the ledger's to check; here it is what the repetition is told.
"""

from __future__ import annotations

from collections.abc import Sequence

from phxqueue.net.status import Status
from phxqueue.proto.store_pb2 import AddResult
from phxqueue.testing.sim.checkers import Violation


def check_repeated(first: Sequence[AddResult], again: Sequence[AddResult]) -> None:
    """`first` is what the producer was told when its batches were stored, `again` what it is told now."""
    for one, other in zip(first, again, strict=True):
        same = (one.first_cursor, one.count) == (other.first_cursor, other.count)
        if other.status != Status.OK or not other.duplicate or not same:
            raise Violation(
                f"a batch of {one.count} items was stored at {one.first_cursor}; sent again under its sequence, within "
                f"the idempotence window, it is answered {other}"
            )
