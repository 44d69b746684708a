"""Bugs of what serves clients: outcomes, retries, cursors, masks, delays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from phxqueue.replica.errors import OutcomeUnknown
from phxqueue.store.batcher import Batcher
from phxqueue.store.fencing import Fencing
from phxqueue.store.get import GetCall
from phxqueue.store.index import QueueIndex
from phxqueue.store.positions import Positions
from phxqueue.store.proposals import Proposals
from phxqueue.store.queues import StoreQueues
from phxqueue.store.state import QueueState
from phxqueue.store.views import View
from tests.simulation.mutants.table import Patch, lost_with_a_restart, mutant, replace, wrap


@mutant(0)
def unknown_is_told_as_refused(patch: Patch) -> None:
    """An entry that may still become chosen is answered as surely not stored."""

    def change(error: Callable[..., Any]) -> Callable[..., Any]:
        def _error(self: Proposals, failure: Any, *more: Any) -> Any:
            return self._refuse() if failure.check(OutcomeUnknown) else error(self, failure, *more)

        return _error

    wrap(patch, Proposals, "_error", change)


@mutant(2)
def retries_are_stored_again(patch: Patch) -> None:
    """The idempotence window knows nothing."""
    replace(patch, StoreQueues, "recall", lambda *_, **__: None)


@mutant(0)
def window_not_in_checkpoint(patch: Patch) -> None:
    """A node that restarts from a checkpoint has forgotten which batches it stored."""

    def forget(state: QueueState) -> None:
        state.window = state.window.emptied()

    lost_with_a_restart(patch, forget)


@mutant(1)
def cursors_not_in_checkpoint(patch: Patch) -> None:
    """A node that restarts from a checkpoint has forgotten where consumers stand."""

    def forget(state: QueueState) -> None:
        state.acked.clear()

    lost_with_a_restart(patch, forget)


@mutant(7)
def cursor_moves_not_applied(patch: Patch) -> None:
    """Acknowledgements are in the log, and nobody takes them out of it."""
    replace(patch, StoreQueues, "_move_cursor", lambda *_, **__: None)


@mutant(0)
def cursor_moves_not_proposed(patch: Patch) -> None:
    """Acknowledgements stay in the master's memory."""
    replace(patch, Batcher, "move", lambda *_, **__: None)


@mutant(0)
def delivered_counts_as_acknowledged(patch: Patch) -> None:
    """What was handed out counts as done."""

    def change(deliver: Callable[..., Any]) -> Callable[..., Any]:
        def _deliver(self: Positions, key: Any, cursor: int, *more: Any, **named: Any) -> None:
            deliver(self, key, cursor, *more, **named)
            self.acknowledge(key, cursor, 0)

        return _deliver

    wrap(patch, Positions, "deliver", change)


@mutant(0)
def delivered_again_below_acked(patch: Patch) -> None:
    """A reader that starts anew gets items that its group has acknowledged."""

    def change(start: Callable[..., Any]) -> Callable[..., Any]:
        def _start(self: Positions, key: Any, wanted: int | None, *more: Any, **named: Any) -> Any:
            position, reset = start(self, key, wanted, *more, **named)
            return (position, reset) if wanted == position else (max(0, position - 10), reset)

        return _start

    wrap(patch, Positions, "start", change)


@mutant(0)
def positions_skip(patch: Patch) -> None:
    """A reader whose answer got lost goes on behind what it never got."""

    def start(
        self: Positions, key: Any, wanted: int | None, acked: int, end: int, *, believed: bool = True
    ) -> tuple[int, bool]:
        delivered = self.delivered(key)
        return (acked if delivered is None else max(delivered, acked)), False

    replace(patch, Positions, "start", start)


@mutant(0)
def mask_not_asked(patch: Patch) -> None:
    """A consumer group gets items that are for others."""
    replace(patch, View, "may_have", lambda *_, **__: True)
    replace(patch, View, "has", lambda *_, **__: True)


@mutant(0)
def mask_forgotten(patch: Patch) -> None:
    """The index remembers one of the groups an entry is for."""

    def change(append: Callable[..., Any]) -> Callable[..., Any]:
        def _append(self: QueueIndex, instance: int, count: int, mask: int, *rest: Any) -> None:
            append(self, instance, count, mask & -mask, *rest)

        return _append

    wrap(patch, QueueIndex, "append", change)


@mutant(3)
def delay_ignored(patch: Patch) -> None:
    """Items of a delayed queue are delivered at once."""

    def change(init: Callable[..., Any]) -> Callable[..., Any]:
        def __init__(self: GetCall, *arguments: Any, **more: Any) -> None:
            init(self, *arguments, **more)
            self._delay_ms = 0

        return __init__

    wrap(patch, GetCall, "__init__", change)


@mutant(1)
def fencing_tokens_not_replicated(patch: Patch) -> None:
    """A new master does not know whose lock has passed to another."""

    def admit(self: Fencing, key: tuple[int, int], token: int) -> None:
        self.check(key, token)
        self._seen[key] = max(token, self.highest(key))

    replace(patch, Fencing, "admit", admit)


@mutant(0)
def fencing_tokens_not_compared(patch: Patch) -> None:
    """Whoever lost the lock may go on acknowledging."""
    replace(patch, Fencing, "check", lambda *_, **__: None)


@mutant(0)
def fencing_tokens_not_in_checkpoint(patch: Patch) -> None:
    """A node that restarts from a checkpoint has forgotten them."""

    def forget(state: QueueState) -> None:
        state.fences.clear()

    lost_with_a_restart(patch, forget)
