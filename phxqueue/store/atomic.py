"""Batches that are stored together or not at all. Pure.

They stand side by side in one request, hence in one entry; the header of the first says how many they are. What could
keep one of them out (its number is known already, or was forgotten) is looked for in all of them before the first is
stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from phxqueue.net.status import RpcError, Status
from phxqueue.proto.item_pb2 import ItemBatch
from phxqueue.store.outcomes import Duplicate, Outcome, Refusal


class Recalls(Protocol):
    """What is needed of StoreQueues."""

    def recall(self, producer_id: int, sequence: int, queue_id: int) -> Duplicate | Refusal | None: ...


def fates_of_atomic(state: Recalls, batches: Sequence[ItemBatch], first: int) -> list[Outcome]:
    """What becomes of the batches that belong to the one at `first`; empty: they are new, store them all."""
    wanted = batches[first].header.atomic_batches
    group = [batch.header for batch in batches[first : first + wanted]]
    wrong = _what_is_wrong(batches, first)
    if wrong:
        return [Refusal(Status.INVALID_ARGUMENT, wrong)] * len(group)
    earlier = [
        state.recall(header.producer_id, header.sequence, header.queue_id) if header.sequence else None
        for header in group
    ]
    if all(outcome is None for outcome in earlier):
        return []
    if all(isinstance(outcome, Duplicate) for outcome in earlier):
        return [outcome for outcome in earlier if outcome is not None]
    told = next((outcome for outcome in earlier if isinstance(outcome, Refusal)), None)
    if told is None:
        told = Refusal(Status.OUT_OF_RANGE, "of batches that belong together some were stored before and some not")
    return [
        Refusal(told.status, f"{told.message}; none of the {wanted} batches that belong together was stored now")
    ] * (len(group))


def check_atomic(batches: Sequence[ItemBatch]) -> bool:
    """Check what a request says of batches that belong together; return whether there are any.

    Raises:
        RpcError: INVALID_ARGUMENT.
    """
    found = False
    position = 0
    while position < len(batches):
        wanted = max(batches[position].header.atomic_batches, 1)
        if wanted > 1:
            found = True
            wrong = _what_is_wrong(batches, position)
            if wrong:
                raise RpcError(Status.INVALID_ARGUMENT, wrong)
        position += wanted
    return found


def _what_is_wrong(batches: Sequence[ItemBatch], first: int) -> str:
    """With a group, whatever is in the state; "": nothing."""
    wanted = batches[first].header.atomic_batches
    group = [batch.header for batch in batches[first : first + wanted]]
    if len(group) < wanted:
        return f"atomic_batches: {wanted} from batch {first} on, which is more than there are"
    if any(header.atomic_batches > 1 for header in group[1:]):
        return f"atomic_batches: batch {first} has {wanted}, and one of those says so, too"
    if any(not one.count or one.idempotency_key or one.deliver_at_ms or one.prepared_by for one in group):
        return "atomic_batches: such batches have items, and no idempotency_key, no deliver_at_ms and no prepared_by"
    return ""
