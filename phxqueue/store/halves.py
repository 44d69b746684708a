"""What the commands about half messages do to the replicated state. Pure; see :mod:`phxqueue.store.half_table`.

A batch with `prepared_by` gets no cursor when it is chosen, but a half number. A decision takes it out of the table:
committed, it goes to the end of its queue by reference, as a delayed batch that is due; rolled back, it is counted. The
first decision in the log counts, whoever made it, and every later one is told what that was.
"""

from __future__ import annotations

from collections.abc import Iterable

from phxqueue.net.status import Status
from phxqueue.proto.item_pb2 import BatchHeader
from phxqueue.proto.origin import Origin
from phxqueue.proto.store_pb2 import HalfDecision
from phxqueue.reconcile import columns
from phxqueue.reconcile.columns import PREPARED
from phxqueue.reconcile.tally import Tally
from phxqueue.store.delayed import append_by_reference
from phxqueue.store.half_table import COMMITTED, EXPIRED, ROLLED_BACK, Decided, Half, minute_of
from phxqueue.store.outcomes import HalfOutcome, Outcome, Refusal
from phxqueue.store.state import QueueState

_MAX_SIZE = (1 << 32) - 1
_COLUMNS = {COMMITTED: columns.COMMITTED, ROLLED_BACK: columns.ROLLED_BACK, EXPIRED: columns.TIMED_OUT}


def prepare(state: QueueState, header: BatchHeader, instance: int, ordinal: int, size: int) -> int:
    """Take a half message in; return its half number."""
    number = state.halves.next_number
    half = Half(
        prepared_ms=state.clock_ms,
        number=number,
        instance=instance,
        mask=header.consumer_group_ids,
        digest=header.digest_sum,
        queue_id=header.queue_id,
        pub_id=header.pub_id,
        items=header.count,
        size=min(size, _MAX_SIZE),
        ordinal=ordinal,
        name=0,
        check_after_ms=header.check_after_ms,
    )
    state.halves.add(half, header.prepared_by)
    if state.ledger.whole:
        state.ledger.count_half(PREPARED, minute_of(half), half.pub_id, half.mask, half.items)
    return number


def decide(state: QueueState, decisions: Iterable[HalfDecision]) -> tuple[list[Outcome], set[int]]:
    """Carry out decisions; returns the outcome of each, and the ids of the queues that got items."""
    outcomes: list[Outcome] = []
    touched: set[int] = set()
    for one in decisions:
        outcome = _decide(state, one)
        outcomes.append(outcome)
        if isinstance(outcome, HalfOutcome) and outcome.state == COMMITTED and not outcome.repeated:
            touched.add(outcome.queue_id)
    return outcomes, touched


def _decide(state: QueueState, one: HalfDecision) -> HalfOutcome | Refusal:
    number, wanted = one.half_number, one.decision
    if wanted not in (COMMITTED, ROLLED_BACK, EXPIRED):
        return Refusal(Status.INVALID_ARGUMENT, f"decision: {wanted} is none")
    half = state.halves.take(number)
    if half is None:
        return decided_before(state, number)
    if state.ledger.whole:
        state.ledger.count_half(_COLUMNS[wanted], minute_of(half), half.pub_id, half.mask, half.items)
    cursor = 0
    if wanted == COMMITTED:
        cursor, extra = state.end_cursor(half.queue_id), state.groups.extra.get(half.pub_id, 0)
        if state.ledger.opened:  # it is in the books from now on, as an item that no producer has reported
            added = extra & ~half.mask if state.ledger.whole else 0
            state.ledger.place(half.queue_id, cursor, half.pub_id, half.mask | added)
            kind = Tally(0, half.queue_id, half.pub_id, half.mask, Origin.NEW, added)
            state.ledger.store({kind: [half.items, half.digest]})
        append_by_reference(state, [half], extra)
    decided = Decided(wanted, half.queue_id, half.pub_id, half.items, cursor, half.prepared_ms)
    state.halves.remember(number, decided, state.clock_ms)
    return HalfOutcome(wanted, half.queue_id, cursor, half.items)


def decided_before(state: QueueState, number: int) -> HalfOutcome | Refusal:
    """What became of a half message that is not undecided."""
    found = state.halves.decided(number)
    if found is not None:
        _, decided = found
        return HalfOutcome(decided.state, decided.queue_id, decided.cursor, decided.items, repeated=True)
    what = "there never was one" if number >= state.halves.next_number else "it was decided, too long ago to say how"
    return Refusal(Status.NOT_FOUND, f"no half message has number {number}: {what}")
