"""Recomputing from the bytes in this node's log what its index says of a queue: `phxqueue reconcile verify`.

Every replica answers for itself. Each row of the index is compared with the entry it names, read from the journal: the
batches must be there, as many items in each as its header says, their digests must add up to the header's, and the
headers to the row: to its cursors and to its part of the prefix sums that acknowledgements are checked against.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError
from twisted.internet.defer import Deferred

from phxqueue.net.status import RpcError, Status
from phxqueue.proto.digest import MASK64, item_digest
from phxqueue.proto.item_pb2 import QItems
from phxqueue.proto.ledger_pb2 import VerifyRangeRequest, VerifyRangeResponse
from phxqueue.replica.errors import Overloaded, ReplicaError
from phxqueue.store.entries import ParsedEntry, StoredBatch
from phxqueue.store.group import StoreGroup
from phxqueue.store.index import QueueIndex
from phxqueue.store.queues import StoreQueues

#: Index rows of one answer, and of one read: an entry can be a megabyte.
ROWS_AT_ONCE = 256
READ_AT_ONCE = 16


class Wrong(Exception):
    """Something is not as it should be, at a cursor."""

    def __init__(self, cursor: int, problem: str) -> None:
        super().__init__(problem)
        self.cursor = cursor
        self.problem = problem


async def verify(request: VerifyRangeRequest, group: StoreGroup) -> VerifyRangeResponse:
    """Look at one part of the range; `stop` of the answer tells where to go on.

    Raises:
        RpcError: OUT_OF_RANGE, nothing of it is there; RESOURCE_EXHAUSTED, the disk has too much to read.
    """
    machine: StoreQueues = group.state_machine
    index = machine.queues.get(request.queue_id)
    end = machine.end_cursor(request.queue_id)
    stop = min(request.stop or end, end)
    start = max(request.start, machine.first_cursor(request.queue_id))
    if request.stop and request.stop <= machine.first_cursor(request.queue_id) > 0:
        raise RpcError(
            Status.OUT_OF_RANGE,
            f"start, stop: queue {request.queue_id} has items {machine.first_cursor(request.queue_id)} to {end - 1}",
        )
    answer = VerifyRangeResponse(
        start=start, stop=stop, end_cursor=end, history=machine.history, applied=machine.applied + 1
    )
    if index is None or start >= stop:
        return answer
    look = _Look(answer, machine, index, group)
    try:
        await look.at(start, stop)
    except Wrong as wrong:
        answer.bad, answer.bad_cursor, answer.problem = True, wrong.cursor, wrong.problem
    return answer


class _Look:
    def __init__(self, answer: VerifyRangeResponse, machine: StoreQueues, index: QueueIndex, group: StoreGroup) -> None:
        self._answer = answer
        self._machine = machine
        self._index = index
        self._group = group

    async def at(self, start: int, stop: int) -> None:
        """Look at whole rows; `stop` of the answer is where the last one ends."""
        index, answer = self._index, self._answer
        position, looked_at = start, 0
        answer.start = index.firsts[index.find(start)]
        while position < stop and looked_at < ROWS_AT_ONCE:
            # Rows may have been trimmed while we read: find the place anew.
            position = max(position, index.first_cursor)
            row = index.find(position)
            rows = range(row, min(row + READ_AT_ONCE, index.find(stop - 1) + 1))
            firsts = [index.firsts[one] for one in rows]
            payloads = await self._read([index.instances[one] for one in rows], firsts)
            for first in firsts:
                if first < index.first_cursor:
                    continue
                row = index.find(first)
                instance = index.instances[row]
                self._check_row(row, ParsedEntry(payloads[instance], self._machine.refused.get(instance, ())))
                position = index.row_end(row)
            position = max(position, index.first_cursor)
            looked_at += len(firsts)
        answer.stop = position

    async def _read(self, instances: list[int], firsts: list[int]) -> dict[int, bytes]:
        wanted = list(dict.fromkeys(instances))
        try:
            return dict(zip(wanted, await self._group.read_stored(wanted), strict=True))
        except Overloaded as error:
            raise RpcError(Status.RESOURCE_EXHAUSTED, str(error)) from error
        except ReplicaError:
            pass  # one of them: which?
        found: dict[int, bytes] = {}
        for instance, first in zip(instances, firsts, strict=True):
            try:
                [found[instance]] = await self._group.read_stored([instance])
            except ReplicaError as error:
                if first >= self._index.first_cursor:  # else it was trimmed while we read
                    raise Wrong(first, f"its entry cannot be read: {error}") from error
                found[instance] = b""
        return found

    def _check_row(self, row: int, entry: ParsedEntry) -> None:
        index, answer = self._index, self._answer
        first, end = index.firsts[row], index.row_end(row)
        count = digests = 0
        try:
            batches = entry.of_row(index, row)
        except (DecodeError, KeyError) as error:
            raise Wrong(first, f"entry {index.instances[row]} does not hold what the index says: {error!r}") from error
        for batch in batches:
            digests += _checked(batch, first + batch.offset)
            count += batch.count
        if count != end - first:
            raise Wrong(
                first + min(count, end - first),
                f"the index has {end - first} items for entry {index.instances[row]}, which holds {count}",
            )
        if digests & MASK64 != index.row_digest(row):
            raise Wrong(
                first,
                f"the index adds {index.row_digest(row):016x} for entry {index.instances[row]}; its batches' headers "
                f"add up to {digests & MASK64:016x}",
            )
        answer.items += count
        answer.batches += len(batches)
        answer.entries += 1
        answer.digest_sum = (answer.digest_sum + digests) & MASK64


def _checked(batch: StoredBatch, cursor: int) -> int:
    """The digest sum of a batch's header, which its items agree with."""
    header = batch.batch.header
    try:
        items = QItems.FromString(batch.items).items
    except DecodeError as error:
        raise Wrong(cursor, f"the batch cannot be read: {error}") from error
    if len(items) != header.count:
        raise Wrong(cursor, f"the batch has {len(items)} items, its header says {header.count}")
    digests = sum(item_digest(item.meta.producer_id, item.meta.number, item.buffer) for item in items) & MASK64
    if digests != header.digest_sum:
        raise Wrong(
            cursor,
            f"the digests of the {header.count} items of the batch add up to {digests:016x}, its header says "
            f"{header.digest_sum:016x}: one or more were altered",
        )
    return int(header.digest_sum)


def start(request: VerifyRangeRequest, group: StoreGroup) -> Deferred[VerifyRangeResponse]:
    """See `verify`."""
    return Deferred.fromCoroutine(verify(request, group))
