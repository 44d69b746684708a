"""Bugs of delayed batches: fired early, twice, never, or after they were cancelled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from phxqueue.store.aside import AsideTable
from phxqueue.store.delays import Delays
from phxqueue.store.state import QueueState
from phxqueue.store.timers import Timer, TimerTable
from tests.simulation.mutants.table import Patch, lost_with_a_restart, mutant, replace, then, wrap


@mutant(0)
def what_is_due_takes_along_what_is_not(patch: Patch) -> None:
    """A command that fires what is due moves what is due a second later as well."""

    def change(take_due: Callable[..., list[Timer]]) -> Callable[..., list[Timer]]:
        return lambda self, due_ms, *more: take_due(self, due_ms + 1000, *more)

    wrap(patch, AsideTable, "take_due", change)


@mutant(2)
def fired_batches_stay_in_the_table(patch: Patch) -> None:
    """Each command that fires moves again what has been moved before."""

    def put_back(self: TimerTable, taken: list[Timer], *_: Any) -> None:
        number = self.next_number
        for timer in taken[:1]:
            self.add(timer)
        self.next_number = number

    then(patch, AsideTable, "take_due", put_back)


@mutant(0)
def cancelling_is_only_answered(patch: Patch) -> None:
    """A cancelled batch stays where it is."""

    def cancel(self: TimerTable, deliver_at_ms: int, number: int) -> int | None:
        found = self._find(deliver_at_ms, number)
        return None if found is None else self._chunks[found[0]].columns[7][found[1]]

    replace(patch, TimerTable, "cancel", cancel)


@mutant(3)
def timers_not_in_checkpoint(patch: Patch) -> None:
    """A node that restarts from a checkpoint has forgotten what is delayed."""

    def forget(state: QueueState) -> None:
        state.timers = TimerTable()

    lost_with_a_restart(patch, forget)


@mutant(44, profiles=("left behind", "mixed versions"))
def the_log_is_trimmed_below_delayed_batches(patch: Patch) -> None:
    """What delayed batches refer to is not kept for them."""
    replace(patch, QueueState, "first_needed", lambda self: self.first_queued())


@mutant(12, 50)
def only_who_took_it_in_fires_it(patch: Patch) -> None:
    """After a failover nobody looks what is due, until something is delayed anew."""
    own: set[int] = set()

    def admits(admit: Callable[..., Any]) -> Callable[..., Any]:
        def _admit(self: Delays, *arguments: Any, **more: Any) -> Any:
            own.add(id(self._group))
            return admit(self, *arguments, **more)

        return _admit

    def looks(look: Callable[..., None]) -> Callable[..., None]:
        def _look(self: Delays, *arguments: Any, **more: Any) -> None:
            if id(self._group) in own:
                look(self, *arguments, **more)

        return _look

    wrap(patch, Delays, "admit", admits)
    wrap(patch, Delays, "look", looks)


@mutant(7, 3)
def cancellations_not_in_checkpoint(patch: Patch) -> None:
    """A node that restarts from a checkpoint tells who cancels a second time that it is too late."""
    lost_with_a_restart(patch, lambda state: state.timers._cancelled.clear())
