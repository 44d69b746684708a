"""What the commands about delayed batches do to the replicated state. Pure; see :mod:`phxqueue.store.timers`.

A batch with a `deliver_at_ms` gets no cursor when it is chosen, but a timer number. A FireTimers of the master moves
what is due to the ends of the queues: the row of the index names the entry that holds the bytes, which are written
once. It is the command's `due_ms` that counts, not the time of applying it: all replicas move the same batches, and one
moved already, or cancelled, is not there any more. So a batch is delivered exactly once, whoever was master when.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from phxqueue.net.status import Status
from phxqueue.proto.item_pb2 import BatchHeader
from phxqueue.proto.store_pb2 import CancelTimer, FireTimers
from phxqueue.store.index import QueueIndex
from phxqueue.store.outcomes import Outcome, Refusal
from phxqueue.store.state import QueueState
from phxqueue.store.timers import Timer

#: Delayed batches that one command moves, whatever it asks for: a constant of the command version.
FIRE_MOST = 10_000

_MAX_SIZE = (1 << 32) - 1


class Kept(Protocol):
    """A batch that is kept aside; `instance`, `ordinal`: which batch of which entry it is."""

    @property
    def instance(self) -> int: ...
    @property
    def ordinal(self) -> int: ...
    @property
    def queue_id(self) -> int: ...
    @property
    def mask(self) -> int: ...
    @property
    def items(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def digest(self) -> int: ...


def keep_aside(state: QueueState, header: BatchHeader, instance: int, ordinal: int, size: int) -> int:
    """Take a delayed batch in; return its timer number."""
    number = state.timers.next_number
    state.timers.add(
        Timer(
            deliver_at_ms=header.deliver_at_ms,
            number=number,
            instance=instance,
            mask=header.consumer_group_ids,
            digest=header.digest_sum,
            queue_id=header.queue_id,
            pub_id=header.pub_id,
            items=header.count,
            size=min(size, _MAX_SIZE),
            ordinal=ordinal,
        )
    )
    return number


def fire(state: QueueState, command: FireTimers) -> set[int]:
    """Move what is due to the ends of its queues; return the ids of those.

    Batches that stood side by side in their entry, and go to one queue, become one row.
    """
    touched: set[int] = set()
    run: list[Timer] = []
    for timer in state.timers.take_due(command.due_ms, min(command.most, FIRE_MOST)):
        if run and not (_follows(run[-1], timer) and _alike(state, run[-1], timer)):
            _deliver(state, run)
            run = []
        run.append(timer)
        touched.add(timer.queue_id)
    if run:
        _deliver(state, run)
    return touched


def _deliver(state: QueueState, run: Sequence[Timer]) -> None:
    if state.ledger.opened:
        cursor, bits = state.end_cursor(run[0].queue_id), _extra_bits(state, run[0])
        for timer in run:
            added = bits & ~timer.mask if state.ledger.whole else 0
            sums = timer.items, timer.digest
            state.ledger.come_due(timer.number, timer.queue_id, cursor, timer.pub_id, timer.mask, sums, added)
            cursor += timer.items
    append_by_reference(state, run, _extra_bits(state, run[0]))


def _follows(one: Timer, other: Timer) -> bool:
    return (
        other.queue_id == one.queue_id
        and other.instance == one.instance
        and other.ordinal == one.ordinal + 1
        and other.mask == one.mask
        and other.pub_id == one.pub_id
    )


def _alike(state: QueueState, one: Timer, other: Timer) -> bool:
    """Whether they are for the same groups that were created at run time."""
    return _extra_bits(state, one) == _extra_bits(state, other)


def _extra_bits(state: QueueState, timer: Timer) -> int:
    return state.groups.bits_of_timer(timer.pub_id, timer.number) if state.groups.created else 0


def append_by_reference(state: QueueState, run: Sequence[Kept], bits: int = 0) -> None:
    """Batches that stand side by side in their entry go to the end of their queue, as one row.

    `bits`: of groups created at run time.
    """
    first = run[0]
    index = state.queues.get(first.queue_id)
    if index is None:
        index = state.queues[first.queue_id] = QueueIndex(first.queue_id)
    index.append_reference(
        first.instance,
        (first.ordinal, len(run)),
        sum([timer.items for timer in run]),
        first.mask | bits,
        state.clock_ms,
        sum([timer.size for timer in run]),
        sum([timer.digest for timer in run]),
        uniform=not bits,  # a later attempt has no batch for them: that is for whoever reads to see
    )


def cancel(state: QueueState, cancels: Iterable[CancelTimer]) -> list[Outcome]:
    """Drop delayed batches; the outcome of each is how many items it has, or a refusal with NOT_FOUND."""
    outcomes: list[Outcome] = []
    for one in cancels:
        timer = state.timers.get(one.deliver_at_ms, one.timer_number)
        count = state.timers.cancel(one.deliver_at_ms, one.timer_number)
        if timer is not None and state.ledger.opened:
            state.ledger.cancel(timer.number, timer.pub_id, timer.mask, timer.items)
        if count is None:
            text = f"no delayed batch has timer number {one.timer_number} and is due at {one.deliver_at_ms}"
            outcomes.append(Refusal(Status.NOT_FOUND, f"{text}: it is in its queue already, or was never there"))
        else:
            outcomes.append(count)
    return outcomes
