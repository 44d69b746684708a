"""Bugs of replays: undone by what was under way, carried out again, forgotten."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from phxqueue.proto.store_pb2 import CursorMove, Replay
from phxqueue.store.outcomes import Replayed
from phxqueue.store.positions import Positions
from phxqueue.store.queues import StoreQueues
from phxqueue.store.replay_table import Moved, ReplayTable
from phxqueue.store.state import QueueState
from tests.simulation.mutants.table import Patch, lost_with_a_restart, mutant, replace, then, wrap


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

    def more(self: StoreQueues, _outcome: Any, command: Replay, *_: Any) -> None:
        self.replays.records.pop(command.id, None)

    then(patch, StoreQueues, "_replay", more)


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

    def more(self: StoreQueues, outcome: Any, command: Replay, *_: Any) -> None:
        for one in outcome.record.moved if isinstance(outcome, Replayed) else ():
            key = one.queue_id, command.consumer_group_id
            self.acked[key] = min(self.acked[key], one.acked)

    then(patch, StoreQueues, "_replay", more)


@mutant(21, 41)
def a_skip_passes_over_one_item_more(patch: Patch) -> None:
    """The group goes on behind the item that it was to go on with."""

    def spoil(self: StoreQueues, command: Replay, one: Moved) -> None:
        if one.acked < one.target < self.end_cursor(one.queue_id):
            self.acked[one.queue_id, command.consumer_group_id] = one.target + 1

    after_replays(patch, spoil)


def after_replays(patch: Patch, spoil: Callable[[StoreQueues, Replay, Moved], None]) -> None:
    """Do something else, too, for each queue in which a replay has moved its group."""

    def more(self: StoreQueues, outcome: Any, command: Replay, *_: Any) -> None:
        if isinstance(outcome, Replayed) and not outcome.duplicate:
            for one in outcome.record.moved:
                spoil(self, command, one)

    then(patch, StoreQueues, "_replay", more)


@mutant(1, 5)
def a_replay_begins_one_item_late(patch: Patch) -> None:
    """The item that the group was to begin with does not come again."""

    def spoil(self: StoreQueues, command: Replay, one: Moved) -> None:
        if one.target < one.acked:
            self.acked[one.queue_id, command.consumer_group_id] = one.target + 1

    after_replays(patch, spoil)


@mutant(1, 5)
def a_replay_moves_every_group(patch: Patch) -> None:
    """The others that read the queue get everything again as well."""

    def spoil(self: StoreQueues, command: Replay, one: Moved) -> None:
        for key in list(self.acked):
            if key[0] == one.queue_id and one.target < one.acked:
                self.acked[key] = min(self.acked[key], one.target)

    after_replays(patch, spoil)
