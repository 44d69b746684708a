"""The alarm about an acknowledgement that what is stored contradicts."""

from __future__ import annotations

from collections.abc import Iterable

from phxqueue.config import group_bit
from phxqueue.console.alarms import Alarm
from phxqueue.proto.digest import MASK64, Claim
from phxqueue.proto.store_pb2 import GetRequest
from phxqueue.store.reading import Reading
from phxqueue.store.reconciliation import Audit, dispute
from phxqueue.store.served import ServedQueue

MISMATCH = "mismatch"
UNREADABLE = "unreadable"

_TO_DO = (
    "See whether what is stored is whole: `phxqueue reconcile verify --store {store} --queue {queue} --from {first} "
    "--to {stop}`, and what it is: `phxqueue peek --queue {store}:{queue} --from {first}`; "
    "docs/operations/reconciliation.md says what each case comes from"
)


def alarm_name(request: GetRequest) -> str:
    """What the alarm about a queue and consumer group is called."""
    return " ".join([MISMATCH, *(f"{what} {which}" for what, which in _subject(request))])


def mismatch_alarm(request: GetRequest, claim: Claim, audit: Audit, queue: ServedQueue, reading: Reading) -> Alarm:
    """What an operator has to know of a claim that is false."""
    strict = queue.reconcile == "strict"
    consequence = (
        "the acknowledgement is refused, the items come again (reconcile = strict)"
        if strict
        else "the acknowledgement counts nevertheless (reconcile = alarm)"
    )
    pubs = pubs_in(request, claim, queue, reading)
    return Alarm(
        kind=MISMATCH,
        subject=_subject(request),
        labels={"pub": "+".join(map(str, pubs))},
        cause=f"{dispute(claim, audit)}; {consequence}",
        remedy=_TO_DO.format(store=request.store_id, queue=request.queue_id, first=claim.start, stop=claim.stop),
        facts={
            "first_cursor": claim.start,
            "last_cursor": claim.stop - 1,
            "stored_items": audit.count,
            "claimed_items": claim.count,
            "stored_digest": f"{audit.digest_sum & MASK64:016x}",
            "claimed_digest": f"{claim.digest_sum:016x}",
            "stored_unreadable": audit.unreadable,
            "claimed_unreadable": claim.unreadable,
            "reconcile": queue.reconcile,
        },
        lasting=not strict,
    )


def unreadable_alarm(request: GetRequest, claim: Claim, queue: ServedQueue, reading: Reading) -> Alarm:
    """Batches are stored that nobody can read: whoever made them is at fault, or what was between them and the store.

    Their consumers have made dead letters of them.
    """
    return Alarm(
        kind=UNREADABLE,
        subject=_subject(request),
        labels={"pub": "+".join(map(str, pubs_in(request, claim, queue, reading)))},
        cause=f"cursors {claim.start} to {claim.stop - 1}: {claim.unreadable} items are in batches that cannot be read",
        remedy=(
            "The beginning of each batch is in the dead letters (`phxqueue dlq list`) with the reason; find the "
            "producer that makes such batches and enqueue again what they were to hold"
        ),
        facts={
            "first_cursor": claim.start,
            "last_cursor": claim.stop - 1,
            "unreadable_items": claim.unreadable,
        },
        lasting=True,
    )


def _subject(request: GetRequest) -> tuple[tuple[str, str | int], ...]:
    return ("store", request.store_id), ("queue", request.queue_id), ("group", request.consumer_group_id)


def pubs_in(request: GetRequest, claim: Claim, queue: ServedQueue, reading: Reading) -> list[int]:
    """The pubs whose items for the group are in the range, as far as its entries are in memory; else all it can be."""
    if len(queue.pubs) > 1:
        found = set(_pubs_of_rows(request, claim, reading))
        if 0 not in found and found:
            return sorted(found)
    return sorted(queue.pubs)


def _pubs_of_rows(request: GetRequest, claim: Claim, reading: Reading) -> Iterable[int]:
    """Pub ids, and 0 for what would have to be read from disk."""
    index, bit = reading.machine.queues[request.queue_id], group_bit(request.consumer_group_id)
    row = index.find(max(claim.start, index.first_cursor))
    last = min(len(index), row + reading.limits.scan_rows)
    while row < last and index.firsts[row] < claim.stop:
        entry = reading.entry(index.instances[row])
        if entry is None:
            yield 0
            return
        for batch in entry.of_row(index, row):
            first = index.firsts[row] + batch.offset
            if batch.mask & bit and first < claim.stop and first + batch.count > claim.start:
                yield batch.pub_id
        row += 1
