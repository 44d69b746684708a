"""Bugs of consumer groups that come and go: they miss what they have to read, or are kept when nobody wants them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from phxqueue.proto.store_pb2 import GroupChange
from phxqueue.store.group_service import GroupChanges
from phxqueue.store.group_table import GroupTable
from phxqueue.store.queues import StoreQueues
from phxqueue.store.replay_table import ReplayTable
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


@mutant(15, 37)
def a_deleted_group_keeps_the_log(patch: Patch) -> None:
    """It is not noted that nothing is kept for it any more."""

    def change(change_group: Callable[..., Any]) -> Callable[..., Any]:
        def _change_group(self: StoreQueues, change: GroupChange, instance: int) -> Any:
            done = change_group(self, change, instance)
            if change.WhichOneof("change") == "delete":
                self.groups.gone.clear()
            return done

        return _change_group

    wrap(patch, StoreQueues, "_change_group", change)


@mutant(5, 15)
def what_was_acknowledged_in_its_former_life_counts(patch: Patch) -> None:
    """A group that is created again has the generation it had."""
    replace(patch, ReplayTable, "begin", lambda self, key, generation, acked: None)


@mutant(25)
def groups_leave_without_grace(patch: Patch) -> None:
    """One that is taken out of the files is given up at once."""

    def change(init: Callable[..., None]) -> Callable[..., None]:
        def __init__(self: GroupChanges, group: Any, machine: Any, limits: Any, *others: Any) -> None:
            init(self, group, machine, dataclasses.replace(limits, grace_ms=0), *others)

        return __init__

    wrap(patch, GroupChanges, "__init__", change)


@mutant(25, 46)
def what_is_given_up_is_not_counted(patch: Patch) -> None:
    """Items that a group will never read stay outstanding in the ledger."""

    def change(change_group: Callable[..., Any]) -> Callable[..., Any]:
        def _change_group(self: StoreQueues, change: GroupChange, instance: int) -> Any:
            whole, self.ledger.whole = self.ledger.whole, False
            done = change_group(self, change, instance)
            self.ledger.whole = whole
            return done

        return _change_group

    wrap(patch, StoreQueues, "_change_group", change)
