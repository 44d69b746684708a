"""Bugs of consumer groups that come and go: they miss what they have to read, or are kept when nobody wants them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from phxqueue.proto.store_pb2 import DeleteGroup, GroupChange
from phxqueue.store.group_service import GroupChanges
from phxqueue.store.group_table import GroupTable
from phxqueue.store.queues import StoreQueues
from phxqueue.store.replay_table import ReplayTable
from phxqueue.store.state import QueueState
from phxqueue.store.views import View
from tests.simulation.mutants.table import Patch, lost_with_a_restart, mutant, replace, then, wrap


def with_grace(patch: Patch, grace_ms: int) -> None:
    """Let groups that are taken out of the files have another grace time than is configured."""

    def more(self: GroupChanges, *_: Any, **__: Any) -> None:
        self._limits = dataclasses.replace(self._limits, grace_ms=grace_ms)

    then(patch, GroupChanges, "__init__", more)


@mutant(5, 15)
def a_new_group_is_in_no_mask(patch: Patch) -> None:
    """Batches of producers that do not know the group do not get its bit."""
    replace(patch, GroupTable, "_count", lambda *_, **__: None)


@mutant(5, 15)
def what_was_there_is_judged_by_masks(patch: Patch) -> None:
    """A group that begins at the earliest item passes over what was stored before it was created."""
    replace(patch, View, "has", lambda self, stored: not self.mask or bool(stored.mask & self.mask))


@mutant(5, 37)
def new_groups_not_in_checkpoint(patch: Patch) -> None:
    """A node that restarts from a checkpoint has forgotten which groups were created."""

    def forget(state: QueueState) -> None:
        state.groups = GroupTable()

    lost_with_a_restart(patch, forget)


@mutant(62, 68)
def retention_does_not_wait_for_a_new_group(patch: Patch) -> None:
    """What the group has still to read goes, for nothing there has its bit."""
    replace(patch, GroupTable, "pin", lambda *_, **__: 1 << 64)


@mutant(15, 37)
def a_deleted_group_keeps_the_log(patch: Patch) -> None:
    """It is not noted that nothing is kept for it any more."""

    def more(self: StoreQueues, _done: Any, change: GroupChange, *_: Any) -> None:
        if change.WhichOneof("change") == "delete":
            self.groups.gone.clear()

    then(patch, StoreQueues, "_change_group", more)


@mutant(5, 15)
def what_was_acknowledged_in_its_former_life_counts(patch: Patch) -> None:
    """A group that is created again has the generation it had."""
    replace(patch, ReplayTable, "begin", lambda *_, **__: None)


@mutant(25)
def groups_leave_without_grace(patch: Patch) -> None:
    """One that is taken out of the files is given up at once."""
    with_grace(patch, 0)


@mutant(25, 46)
def what_is_given_up_is_not_counted(patch: Patch) -> None:
    """Items that a group will never read stay outstanding in the ledger."""

    def change(change_group: Callable[..., Any]) -> Callable[..., Any]:
        def _change_group(self: StoreQueues, change: GroupChange, *more: Any) -> Any:
            whole, self.ledger.whole = self.ledger.whole, False
            done = change_group(self, change, *more)
            self.ledger.whole = whole
            return done

        return _change_group

    wrap(patch, StoreQueues, "_change_group", change)


@mutant(15, 59)
def a_deleted_group_is_still_served(patch: Patch) -> None:
    """That a group is deleted is only answered."""
    replace(patch, GroupTable, "remove", lambda *_, **__: None)


@mutant(5, 330)
def who_is_back_in_time_is_given_up(patch: Patch) -> None:
    """It is not looked whether a group is in the files again when its grace time has passed."""

    def change(due_changes: Callable[..., list[GroupChange]]) -> Callable[..., list[GroupChange]]:
        def _due_changes(self: GroupChanges, *arguments: Any) -> list[GroupChange]:
            changes = [one for one in due_changes(self, *arguments) if one.WhichOneof("change") == "leave_until_ms"]
            now_ms = self._timestamp_ms()
            for (queue_id, group_id), until_ms in self._machine.groups.leaving.items():
                if until_ms <= now_ms:
                    gone = DeleteGroup(left=True)
                    changes.append(GroupChange(consumer_group_id=group_id, queue_ids=[queue_id], delete=gone))
            return changes

        return _due_changes

    wrap(patch, GroupChanges, "_due_changes", change)


@mutant(40, 5)
def who_leaves_is_not_in_checkpoint(patch: Patch) -> None:
    """A node that restarts from a checkpoint has forgotten whose grace time is running."""
    lost_with_a_restart(patch, lambda state: state.groups.leaving.clear())
