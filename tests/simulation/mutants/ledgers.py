"""Bugs of the ledgers: what is counted twice, not at all, or as something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from phxqueue.producer.confirmed import Known
from phxqueue.proto.ledger_pb2 import ProducedReport
from phxqueue.reconcile import ledger as ledger_module
from phxqueue.reconcile.kinds import Kind
from phxqueue.reconcile.ledger import Ledger
from phxqueue.store.queues import StoreQueues
from phxqueue.store.state import QueueState
from phxqueue.testing.sim.producers import LedgerProducer
from tests.simulation.mutants.table import Patch, lost_with_a_restart, mutant, replace, wrap


@mutant(3)
def reports_count_however_often_they_come(patch: Patch) -> None:
    """A report that was sent again is counted again."""

    def change(report: Callable[..., Any]) -> Callable[..., Any]:
        def _report(self: Ledger, report_: ProducedReport, *more: Any, **named: Any) -> None:
            self.reports.pop(report_.producer_id, None)
            report(self, report_, *more, **named)

        return _report

    wrap(patch, Ledger, "report", change)


@mutant(3)
def what_is_under_way_is_vouched_for(patch: Patch) -> None:
    """A producer vouches for batches whose outcome it does not know yet."""

    def change(known: Callable[..., Known]) -> Callable[..., Known]:
        def _known(self: LedgerProducer, *arguments: Any) -> Known:
            right = known(self, *arguments)
            return right._replace(to=right.sent)

        return _known

    wrap(patch, LedgerProducer, "_known", change)


@mutant(1)
def ledger_not_in_checkpoint(patch: Patch) -> None:
    """A node that restarts from a checkpoint begins its sums anew."""

    def forget(state: QueueState) -> None:
        for rows in state.ledger.minutes.values():
            rows.clear()

    lost_with_a_restart(patch, forget)


@mutant(1)
def acknowledged_from_the_beginning(patch: Patch) -> None:
    """Every move of a cursor counts all that lies below it, also what an earlier move has counted."""

    def change(acknowledge: Callable[..., Any]) -> Callable[..., Any]:
        def _acknowledge(self: Ledger, move: Any, first: int, *more: Any) -> None:
            acknowledge(self, move, 0, *more)

        return _acknowledge

    wrap(patch, Ledger, "acknowledge", change)


@mutant(1)
def replays_are_netted_away(patch: Patch) -> None:
    """What a replay makes outstanding again has no column."""
    replace(patch, Ledger, "replay", lambda *_, **__: None)


@mutant(2)
def delayed_items_are_delayed_for_ever(patch: Patch) -> None:
    """What has come due is still counted as waiting."""

    def change(come_due: Callable[..., Any]) -> Callable[..., Any]:
        def _come_due(
            self: Ledger,
            number: int,
            queue_id: int,
            cursor: int,
            pub_id: int,
            mask: int,
            sums: tuple[int, int],
            added: int,
        ) -> None:
            come_due(self, number, queue_id, cursor, pub_id, mask, (0, 0), added)

        return _come_due

    wrap(patch, Ledger, "come_due", change)


@mutant(8)
def retried_items_count_as_new_ones(patch: Patch) -> None:
    """A later attempt is counted as another item."""
    kind_of = ledger_module.kind_of

    def change(queue_id: int, origin: int) -> Kind:
        kind = kind_of(queue_id, origin)
        return Kind.NEW if kind is Kind.RETRIED else kind

    patch.setattr(ledger_module, "kind_of", change)


@mutant(3)
def duplicates_are_confirmed_in_another_minute(patch: Patch) -> None:
    """What is answered from the window is said to be stored when it was asked for, by another producer's reckoning."""

    def change(stored_ms: Callable[..., Any]) -> Callable[..., Any]:
        def _stored_ms(self: StoreQueues, *arguments: Any) -> int:
            return int(stored_ms(self, *arguments)) + 60_000 * 60

        return _stored_ms

    wrap(patch, StoreQueues, "_stored_ms", change)
