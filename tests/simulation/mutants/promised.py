"""Bugs of half messages, idempotency keys and atomic batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import phxqueue.store.queues
from phxqueue.proto.item_pb2 import BatchHeader
from phxqueue.proto.store_pb2 import HalfState
from phxqueue.store.half_schedule import HalfSchedule
from phxqueue.store.half_service import Halves
from phxqueue.store.half_table import Decided, Half, HalfTable
from phxqueue.store.keys import KeyWindows
from phxqueue.store.outcomes import KeyDuplicate, Refusal
from phxqueue.store.state import QueueState
from tests.simulation.mutants.table import BrokenMutant, Patch, lost_with_a_restart, mutant, replace, wrap


@mutant(6, 9)
def keys_are_not_looked_at(patch: Patch) -> None:
    """What is sent again under its key is stored again."""

    def recall(self: KeyWindows, header: BatchHeader) -> KeyDuplicate | Refusal | None:
        return None

    replace(patch, KeyWindows, "recall", recall)


@mutant(6, 9)
def any_item_of_a_key_will_do(patch: Patch) -> None:
    """Something else under a known key is told to be stored where the first is."""

    def change(recall: Callable[..., Any]) -> Callable[..., Any]:
        def _recall(self: KeyWindows, header: BatchHeader, *more: Any) -> Any:
            found = recall(self, header, *more)
            if isinstance(found, Refusal):
                same = BatchHeader()
                same.CopyFrom(header)
                same.body_digest = 3 - header.body_digest
                return recall(self, same, *more)
            return found

        return _recall

    wrap(patch, KeyWindows, "recall", change)


@mutant(6, 9)
def keys_not_in_checkpoint(patch: Patch) -> None:
    """A node that restarts from a checkpoint has forgotten the keys."""

    def forget(state: QueueState) -> None:
        state.keys = KeyWindows()

    lost_with_a_restart(patch, forget)


@mutant(6, 9)
def a_decided_half_message_stays(patch: Patch) -> None:
    """What is committed can be committed again."""

    def take(self: HalfTable, number: int) -> Half | None:
        return self.find(number)

    replace(patch, HalfTable, "take", take)


@mutant(6, 9)
def how_it_was_decided_is_forgotten(patch: Patch) -> None:
    """Who decides second is told that there is no such half message."""

    def decided(self: HalfTable, number: int) -> tuple[int, Decided] | None:
        return None

    replace(patch, HalfTable, "decided", decided)


@mutant(6, 9)
def half_messages_not_in_checkpoint(patch: Patch) -> None:
    """A node that restarts from a checkpoint has forgotten what is prepared."""

    def forget(state: QueueState) -> None:
        state.halves = HalfTable()

    lost_with_a_restart(patch, forget)


@mutant(6, 9)
def nobody_ends_what_nobody_decides(patch: Patch) -> None:
    """Half messages that are not decided stay for ever."""

    def take_overdue(self: HalfSchedule, most: int) -> list[int]:
        return []

    replace(patch, HalfSchedule, "take_overdue", take_overdue)


@mutant(6, 9)
def a_question_is_taken_for_a_commit(patch: Patch) -> None:
    """What is overdue is committed instead of rolled back."""

    def change(propose: Callable[..., Any]) -> Callable[..., Any]:
        def _propose(self: Halves, numbers: Any, decision: HalfState.ValueType, *more: Any) -> Any:
            return propose(self, numbers, HalfState.COMMITTED if decision == HalfState.EXPIRED else decision, *more)

        return _propose

    wrap(patch, Halves, "_propose", change)


@mutant(9)
def batches_that_belong_together_are_stored_one_by_one(patch: Patch) -> None:
    """Of batches that belong together those are stored that were not before."""
    if not hasattr(phxqueue.store.queues, "fates_of_atomic"):
        raise BrokenMutant("queues has no fates_of_atomic any more")
    patch.setattr(phxqueue.store.queues, "fates_of_atomic", lambda *_, **__: [])
