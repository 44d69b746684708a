"""Add: everything that can be wrong is found before anything is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from twisted.internet.defer import Deferred

from phxqueue.config import StoreNode
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.item_pb2 import BatchHeader, ItemBatch
from phxqueue.proto.store_pb2 import AddRequest, AddResponse
from phxqueue.store.atomic import check_atomic
from phxqueue.store.batcher import frame_batch
from phxqueue.store.delays import Delays
from phxqueue.store.group import StoreGroup
from phxqueue.store.half_service import Halves
from phxqueue.store.keyed import key_bounds
from phxqueue.store.outcomes import Outcome
from phxqueue.store.proposals import Proposals, add_response
from phxqueue.store.queues import BATCH_VERSION, StoreQueues
from phxqueue.store.served import ServedQueues, groups_of
from phxqueue.store.state import KEYS_VERSION
from phxqueue.store.understood import check_understood

#: No serialized BatchHeader is larger, tag and length included, its idempotency key left out: a larger batch surely
#: has items.
_HEADER_MAX = 112


def check_address(served: ServedQueues, topic_id: int, store_id: int) -> None:
    """Refuse a request that was meant for another topic or store."""
    if topic_id != served.topic_id:
        raise RpcError(
            Status.INVALID_ARGUMENT,
            f"topic_id {topic_id}: this node serves topic {served.topic_id} ({served.topic_name})",
        )
    if store_id != served.store_id:
        raise RpcError(Status.INVALID_ARGUMENT, f"store_id {store_id}: this node belongs to store {served.store_id}")


#: Disks do not empty themselves within milliseconds.
_DISK_RETRY_MS = 1000


def disk_full(node: StoreNode) -> RpcError:
    """The answer while there is no room."""
    return RpcError(
        Status.RESOURCE_EXHAUSTED,
        f"node {node.node.node_id} of store {node.store.store_id}: the disk of {node.data_dir} has less than "
        f"journal.min_free_bytes ({node.journal.min_free_bytes}) free; enqueues resume when there is room again",
        retry_after_ms=_DISK_RETRY_MS,
    )


def group_of_request(served: ServedQueues, request: AddRequest) -> int:
    """Return the Paxos group all batches of a request belong to."""
    if served.paxos_groups == 1:
        return 0
    batches = request.batches
    groups = {batch.header.queue_id % served.paxos_groups for batch in batches}
    if len(groups) > 1:
        raise RpcError(
            Status.INVALID_ARGUMENT,
            f"batches: their queues belong to {len(groups)} Paxos groups (queue_id % {served.paxos_groups}); "
            "send one request per group",
        )
    return groups.pop() if groups else 0


@dataclass(frozen=True, slots=True)
class Intake:
    """What Adds of one Paxos group work with."""

    group: StoreGroup
    machine: StoreQueues
    proposals: Proposals
    delays: Delays
    halves: Halves


def add(request: AddRequest, served: ServedQueues, intake: Intake) -> AddResponse | Deferred[AddResponse]:
    """Check a request and have its batches stored; the caller has checked address, group and mastership."""
    batches = request.batches
    machine, proposals, delays = intake.machine, intake.proposals, intake.delays
    if len(batches) == 1:  # the hot path: nothing here that is not needed
        batch = batches[0]
        header = batch.header
        if header.idempotency_key or header.atomic_batches > 1 or header.prepared_by:
            return _add_several(batches, served, intake)
        raw = batch.SerializeToString()
        _check(served, machine, header, len(raw), batch)
        sequence = header.sequence
        if sequence and machine.window.may_know(header.producer_id, sequence):
            earlier = machine.recall(header.producer_id, sequence, header.queue_id)
            if earlier is not None:
                return add_response([earlier], (header.count,))
        if header.deliver_at_ms:
            return proposals.add(frame_batch(raw), (header.count,), delays.admit([header]))
        if header.origin:
            return proposals.add(frame_batch(raw), (header.count,), delays.best_version)
        return proposals.add(frame_batch(raw), (header.count,))
    return _add_several(batches, served, intake)


def _add_several(
    batches: Sequence[ItemBatch], served: ServedQueues, intake: Intake
) -> AddResponse | Deferred[AddResponse]:
    if not batches:
        raise RpcError(Status.INVALID_ARGUMENT, "batches: the request has none")
    frames = []
    for batch in batches:
        raw = batch.SerializeToString()
        _check(served, intake.machine, batch.header, len(raw), batch)
        frames.append(frame_batch(raw))
    size = sum(map(len, frames))
    if size > served.max_request_bytes:
        raise RpcError(
            Status.INVALID_ARGUMENT,
            f"batches: {size} bytes together, more than max_message_bytes {served.max_request_bytes}; "
            "send several requests",
        )
    atomic = check_atomic(batches)
    counts = tuple(batch.header.count for batch in batches)
    known = _all_known(batches, intake.machine)
    if known is not None:
        return add_response(known, counts)
    version, front = _admit([batch.header for batch in batches], served, intake, atomic)
    return intake.proposals.add(front + b"".join(frames), counts, version)


def _admit(headers: Sequence[BatchHeader], served: ServedQueues, intake: Intake, atomic: bool) -> tuple[int, bytes]:
    """Let batches in that need more than a plain command; returns its version, and what has to stand in front of them.

    Raises:
        RpcError: a bound is reached, or not all members know such a command yet.
    """
    delays, version, front = intake.delays, BATCH_VERSION, b""
    if any(header.origin for header in headers):
        version = delays.best_version
    delayed = [header for header in headers if header.deliver_at_ms]
    if delayed:
        version = delays.admit(delayed)
    keyed = [header for header in headers if header.idempotency_key]
    prepared = [header for header in headers if header.prepared_by]
    if prepared:
        intake.halves.admit(prepared)
        version = KEYS_VERSION
    if atomic or keyed:
        what = "idempotency keys" if keyed else "batches that belong together"
        check_understood(intake.group, intake.machine, KEYS_VERSION, what)
        version = KEYS_VERSION
    if keyed:
        front = key_bounds(intake.machine.keys, keyed, served)
    return version, front


def _all_known(batches: Sequence[ItemBatch], machine: StoreQueues) -> list[Outcome] | None:
    """The outcomes of a request that was carried out before, as a whole; None when anything in it is new."""
    outcomes: list[Outcome] = []
    for batch in batches:
        header = batch.header
        earlier: Outcome | None = None
        if header.sequence:
            earlier = machine.recall(header.producer_id, header.sequence, header.queue_id)
        if earlier is None and header.idempotency_key:
            earlier = machine.keys.recall(header)
        if earlier is None:
            return None
        outcomes.append(earlier)
    return outcomes


def _check(served: ServedQueues, machine: StoreQueues, header: BatchHeader, size: int, batch: ItemBatch) -> None:
    """Refuse a batch that must not be stored; `size` is that of the serialized batch, header included."""
    mask = served.masks.get(header.queue_id << 32 | header.pub_id)
    if mask is None:
        raise RpcError(Status.INVALID_ARGUMENT, served.why_not(header.queue_id, header.pub_id))
    wanted, count = header.consumer_group_ids, header.count
    if (wanted & ~mask and wanted & ~(mask | machine.groups.extra.get(header.pub_id, 0))) or (mask and not wanted):
        raise RpcError(
            Status.INVALID_ARGUMENT,
            f"consumer_group_ids: the batch is for consumer groups {groups_of(wanted)}, pub {header.pub_id} has "
            f"{groups_of(mask)}",
        )
    if not 0 < count <= served.max_batch_items:
        if count:
            raise RpcError(
                Status.INVALID_ARGUMENT,
                f"count: the batch has {count} items, more than batch_limit {served.max_batch_items} of topic "
                f"{served.topic_name}",
            )
        raise RpcError(Status.INVALID_ARGUMENT, "count: the batch's header counts no items; do not send empty batches")
    # The header makes the batch at most a little larger than its items: look closer only when it could matter.
    size -= len(header.idempotency_key) + 4 * len(header.prepared_by)
    if size > served.max_batch_bytes and len(batch.items) > served.max_batch_bytes:
        raise RpcError(
            Status.INVALID_ARGUMENT,
            f"items: the batch has {len(batch.items)} bytes, more than items_byte_size_limit {served.max_batch_bytes} "
            f"of topic {served.topic_name}",
        )
    if size <= _HEADER_MAX and not batch.items:
        raise RpcError(Status.INVALID_ARGUMENT, f"items: the header counts {count} items and there are none")
