"""Bugs of replays: undone by what was under way, carried out again, forgotten."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from phxqueue.proto.store_pb2 import CursorMove
from phxqueue.store.outcomes import Replayed
from phxqueue.store.positions import Positions
from phxqueue.store.queues import StoreQueues
from phxqueue.store.replay_table import Moved, ReplayTable
from phxqueue.store.state import QueueState
from tests.simulation.mutants.table import Patch, lost_with_a_restart, mutant, replace, wrap


@mutant(60)
def moves_of_before_a_replay_count(patch: Patch) -> None:
    """A cursor move that was under way when its group was moved back raises the cursor again."""

    def change(move_cursor: Callable[..., None]) -> Callable[..., None]:
        def _move_cursor(self: StoreQueues, move: CursorMove, *more: Any) -> None:
            move.generation = self.replays.generation((move.queue_id, move.consumer_group_id))
            move_cursor(self, move, *more)

        return _move_cursor

    wrap(patch, StoreQueues, "_move_cursor", change)


@mutant(1, 5)
def ids_of_replays_are_forgotten(patch: Patch) -> None:
    """One that is sent again moves the group again."""

    def change(replay: Callable[..., Any]) -> Callable[..., Any]:
        def _replay(self: StoreQueues, command: Any, *more: Any) -> Any:
            outcome = replay(self, command, *more)
            self.replays.records.pop(command.id, None)
            return outcome

        return _replay

    wrap(patch, StoreQueues, "_replay", change)


@mutant(1, 5)
def a_master_believes_its_readers_after_a_replay(patch: Patch) -> None:
    """What it had handed out and taken before a replay stays in its memory."""
    replace(patch, Positions, "put", lambda *_, **__: None)


@mutant(0, 1)
def generations_not_in_checkpoint(patch: Patch) -> None:
    """A node that restarts from a checkpoint has forgotten that groups were moved."""

    def forget(state: QueueState) -> None:
        state.replays = ReplayTable()

    lost_with_a_restart(patch, forget)


@mutant(31, 41)
def a_skip_is_answered_and_not_done(patch: Patch) -> None:
    """A replay that passes over items leaves the group where it was."""

    def change(replay: Callable[..., Any]) -> Callable[..., Any]:
        def _replay(self: StoreQueues, command: Any, *more: Any) -> Any:
            outcome = replay(self, command, *more)
            for one in outcome.record.moved if isinstance(outcome, Replayed) else ():
                key = one.queue_id, command.consumer_group_id
                self.acked[key] = min(self.acked[key], one.acked)
            return outcome

        return _replay

    wrap(patch, StoreQueues, "_replay", change)


@mutant(31, 41)
def a_skip_passes_over_one_item_more(patch: Patch) -> None:
    """The group goes on behind the item that it was to go on with."""

    def change(replay: Callable[..., Any]) -> Callable[..., Any]:
        def _replay(self: StoreQueues, command: Any, *more: Any) -> Any:
            outcome = replay(self, command, *more)
            for one in outcome.record.moved if isinstance(outcome, Replayed) else ():
                if not outcome.duplicate and one.acked < one.target < self.end_cursor(one.queue_id):
                    self.acked[one.queue_id, command.consumer_group_id] = one.target + 1
            return outcome

        return _replay

    wrap(patch, StoreQueues, "_replay", change)


def after_replays(patch: Patch, spoil: Callable[[StoreQueues, Any, Moved], None]) -> None:
    """Do something else, too, when a replay has moved its group back in a queue."""

    def change(replay: Callable[..., Any]) -> Callable[..., Any]:
        def _replay(self: StoreQueues, command: Any, *more: Any) -> Any:
            outcome = replay(self, command, *more)
            if isinstance(outcome, Replayed) and not outcome.duplicate:
                for one in outcome.record.moved:
                    if one.target < one.acked:
                        spoil(self, command, one)
            return outcome

        return _replay

    wrap(patch, StoreQueues, "_replay", change)


@mutant(1, 5)
def a_replay_begins_one_item_late(patch: Patch) -> None:
    """The item that the group was to begin with does not come again."""

    def spoil(self: StoreQueues, command: Any, one: Moved) -> None:
        self.acked[one.queue_id, command.consumer_group_id] = one.target + 1

    after_replays(patch, spoil)


@mutant(1, 5)
def a_replay_moves_every_group(patch: Patch) -> None:
    """The others that read the queue get everything again as well."""

    def spoil(self: StoreQueues, command: Any, one: Moved) -> None:
        for key in [key for key in self.acked if key[0] == one.queue_id]:
            self.acked[key] = min(self.acked[key], one.target)

    after_replays(patch, spoil)
