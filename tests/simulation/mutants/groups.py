"""Bugs of consumer groups that are created at run time: they miss what is enqueued, or what was there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from phxqueue.store.group_table import GroupTable
from phxqueue.store.state import QueueState
from phxqueue.store.views import View
from tests.simulation.mutants.table import Patch, mutant, replace, wrap


@mutant(5, 15)
def a_new_group_is_in_no_mask(patch: Patch) -> None:
    """Batches of producers that do not know the group do not get its bit."""
    replace(patch, GroupTable, "_count", lambda self: None)


@mutant(5, 15)
def what_was_there_is_judged_by_masks(patch: Patch) -> None:
    """A group that begins at the earliest item passes over what was stored before it was created."""
    replace(patch, View, "has", lambda self, stored: not self.mask or bool(stored.mask & self.mask))


@mutant(5, 37)
def new_groups_not_in_checkpoint(patch: Patch) -> None:
    """A node that restarts from a checkpoint has forgotten which groups were created."""

    def change(restore: Callable[..., Any]) -> Callable[..., Any]:
        def _restore(self: QueueState, state: bytes, segments: Iterable[tuple[bytes, bytes]]) -> None:
            restore(self, state, segments)
            self.groups = GroupTable()

        return _restore

    wrap(patch, QueueState, "restore", change)


@mutant(62, 68)
def retention_does_not_wait_for_a_new_group(patch: Patch) -> None:
    """What the group has still to read goes, for nothing there has its bit."""
    replace(patch, GroupTable, "pin", lambda self, queue_id, acked: 1 << 64)
