"""Bugs of items that are written again because they keep the log."""

from __future__ import annotations

from collections.abc import Callable

from phxqueue.store.index import QueueIndex
from phxqueue.store.relocated_rows import RelocatedRows
from tests.simulation.mutants.table import Patch, mutant, replace, wrap


@mutant(126, 181, 335)
def relocated_rows_not_in_checkpoint(patch: Patch) -> None:
    """A node that restarts from a checkpoint looks for items where they were first."""

    replace(patch, RelocatedRows, "putting_back", lambda *_, **__: iter(()))


@mutant(7, 14, 126)
def a_row_is_found_at_the_wrong_batch(patch: Patch) -> None:
    """The items of a row that was written again are those of its neighbour."""

    def change(put: Callable[..., None]) -> Callable[..., None]:
        def _put_elsewhere(self: QueueIndex, row: int, now: tuple[int, int, int]) -> None:
            put(self, row, (now[0], max(now[1] - 1, 1 << 31), now[2]))

        return _put_elsewhere

    wrap(patch, QueueIndex, "_put_elsewhere", change)
