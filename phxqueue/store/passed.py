"""What an acknowledgement adds to the ledger besides its cursor: what became of the items, what is wrong with it."""

from __future__ import annotations

from phxqueue.proto.digest import MASK64, Claim
from phxqueue.proto.store_pb2 import AckDispute, GetRequest, StoreCommand
from phxqueue.store.batcher import Passed, frame_field
from phxqueue.store.reading import Reading
from phxqueue.store.reconciliation import Audit


def note_passed(request: GetRequest, reading: Reading, acked: int, *, unproven: bool) -> None:
    """The group is done with what lies from `acked` to `prev_cursor`: have the move tell what became of it.

    Moves tell sums since the ledger was opened, so a move that is lost, or told twice, changes nothing.

    Args:
        unproven: whether nothing was compared.
    """
    ledger = reading.machine.ledger
    if not ledger.opened:
        return
    new = [claim for claim in request.claims if claim.stop > acked]
    retried, dead = sum(claim.retried for claim in new), sum(claim.dead for claim in new)
    expired, left = sum(claim.expired for claim in new), request.prev_cursor - acked if unproven else 0
    if not (retried or dead or expired or left):
        return
    key = request.queue_id, request.consumer_group_id
    before: Passed = reading.proposals.batcher.passed(key) or ledger.passed_by(*key)
    reading.proposals.batcher.pass_on(
        key, (before[0] + retried, before[1] + dead, before[2] + expired, before[3] + left)
    )


def note_dispute(
    request: GetRequest, claim: Claim, audit: Audit, reading: Reading, *, pub_id: int, refused: bool
) -> None:
    """Have the ledger note that a claim is contradicted. `pub_id`: for items that the ledger has never seen."""
    if not reading.machine.ledger.opened:
        return
    stored = claim.start, claim.stop, audit.count, audit.digest_sum & MASK64
    _propose(request, reading, stored, (claim.count, claim.digest_sum), pub_id=pub_id, refused=refused)


def note_unsettled(request: GetRequest, reading: Reading, acked: int) -> None:
    """The group passes, by an acknowledgement that was not compared, what was refused before and not made good since.

    Have the ledger note that it is accepted as it was, or it would be settled by nothing.
    """
    key = request.queue_id, request.consumer_group_id
    for one in reading.machine.ledger.disputes.known:
        ours = (one.queue_id, one.consumer_group_id) == key
        if ours and one.is_open and acked < one.stop <= request.prev_cursor:
            stored = one.start, one.stop, one.stored_count, one.stored_digest
            claimed = one.claimed_count, one.claimed_digest
            _propose(request, reading, stored, claimed, pub_id=one.pub_id, refused=False)


def _propose(
    request: GetRequest,
    reading: Reading,
    stored: tuple[int, int, int, int],
    claimed: tuple[int, int],
    *,
    pub_id: int,
    refused: bool,
) -> None:
    """`stored`: first cursor, one past the last, items and digest sum; `claimed`: items and digest sum."""
    key = request.queue_id, request.consumer_group_id
    dispute = AckDispute(
        queue_id=key[0],
        consumer_group_id=key[1],
        start=stored[0],
        stop=stored[1],
        stored_count=stored[2],
        stored_digest=stored[3],
        claimed_count=claimed[0],
        claimed_digest=claimed[1],
        refused=refused,
        generation=reading.machine.replays.generation(key),
        pub_id=pub_id,
    )
    reading.proposals.dispute(frame_field(StoreCommand.DISPUTES_FIELD_NUMBER, dispute.SerializeToString()))
