"""Get: acknowledge, find, read, wait.

The order is what makes it safe. The lease is checked when the call comes in and again after everything that took time
(a read from disk, a long poll): what a deposed master still has in memory may be old. Only then does `delivered` move,
in the same step in which the answer leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from phxqueue.config import MAX_CONSUMER_GROUP_ID, group_bit
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.store_pb2 import GetRequest, GetResponse
from phxqueue.replica.errors import ReplicaError
from phxqueue.replica.interfaces import DelayedCall
from phxqueue.store.acknowledge import acknowledge
from phxqueue.store.entries import Answer, ParsedEntry
from phxqueue.store.index import QueueIndex
from phxqueue.store.long_poll import Parked
from phxqueue.store.positions import Reader
from phxqueue.store.queues import StoreQueues
from phxqueue.store.reading import Reading, unreadable_error
from phxqueue.store.rows import Wanted, plan
from phxqueue.store.served import ServedQueue, ServedQueues, groups_of
from phxqueue.store.views import View, view_of

#: Later than every timestamp.
_FOR_EVER = 1 << 63
#: Entries read from disk at a time for a queue with delayed items: each may be as large as an entry can be.
_READ_ENTRIES = 16


def get(
    request: GetRequest, served: ServedQueues, reading: Reading, reader: Reader
) -> GetResponse | Deferred[GetResponse]:
    """Answer one Get; the caller has checked address, group and mastership. `reader`: tells it from others."""
    queue = served.queue(request.queue_id)
    if queue is None:
        raise RpcError(Status.INVALID_ARGUMENT, f"queue_id: {served.why_not(request.queue_id)}")
    _check_group(request, queue, reading.machine)
    if request.random:
        return _peek(request, queue, reading)
    key = request.queue_id, request.consumer_group_id
    admitted = reading.fencing.admit(key, request.fencing_token)
    if admitted is not None:
        return admitted.addCallback(lambda _: _get_admitted(request, queue, reading, reader))
    return _take_and_go_on(request, queue, reading, reader)


def _get_admitted(
    request: GetRequest, queue: ServedQueue, reading: Reading, reader: Reader
) -> GetResponse | Deferred[GetResponse]:
    """Its fencing token has been replicated, which took time."""
    if not reading.group.serving():
        raise reading.refuse()
    reading.fencing.check((request.queue_id, request.consumer_group_id), request.fencing_token)
    return _take_and_go_on(request, queue, reading, reader)


def _take_and_go_on(
    request: GetRequest, queue: ServedQueue, reading: Reading, reader: Reader
) -> GetResponse | Deferred[GetResponse]:
    """Take the acknowledgement in, then read."""
    taken = acknowledge(request, queue, reading, reader)
    if isinstance(taken, Deferred):
        return taken.addCallback(lambda in_place: _go_on(request, queue, reading, reader, in_place))
    return _go_on(request, queue, reading, reader, taken)


def _go_on(
    request: GetRequest, queue: ServedQueue, reading: Reading, reader: Reader, in_place: bool
) -> GetResponse | Deferred[GetResponse]:
    """The acknowledgement is taken in, or the reader is not in its place: find where to read."""
    machine, positions = reading.machine, reading.positions
    key = request.queue_id, request.consumer_group_id
    acked = positions.acked(key, machine.acked_cursor(*key))
    end = machine.end_cursor(request.queue_id)
    if request.limit == 0:
        delivered = positions.delivered(key)
        if request.leaving and request.reader_id:
            reading.beginning.left(key, request.reader_id, acked, delivered or 0)
        return GetResponse(
            prev_cursor=acked,
            next_cursor=acked if delivered is None else delivered,
            reset=not in_place,
            end_cursor=end,
            durable_cursor=machine.acked_cursor(*key),
            history=machine.history,
            generation=machine.replays.generation(key),
        )
    wanted = request.next_cursor if request.HasField("next_cursor") else None
    believed = request.HasField("generation") or not reading.replaying(key) or positions.was_handed_to(key, reader)
    position, reset = positions.start(key, wanted, acked, end, believed=believed) if in_place else (acked, True)
    return GetCall(request, queue, position, reset, reading, reader).start()


def _check_group(request: GetRequest, queue: ServedQueue, machine: StoreQueues) -> None:
    group_id = request.consumer_group_id
    if request.random and group_id == 0:
        return
    if not 1 <= group_id <= MAX_CONSUMER_GROUP_ID:
        raise RpcError(
            Status.INVALID_ARGUMENT, f"consumer_group_id: {group_id} is not a number from 1 to {MAX_CONSUMER_GROUP_ID}"
        )
    if not queue.readers & group_bit(group_id) and not machine.groups.reads(group_id, queue.pubs):
        raise RpcError(
            Status.INVALID_ARGUMENT,
            f"consumer_group_id: consumer group {group_id} is in no pub of queue {request.queue_id}; groups that read "
            f"it: {groups_of(queue.readers)}",
        )


def _peek(request: GetRequest, queue: ServedQueue, reading: Reading) -> GetResponse | Deferred[GetResponse]:
    """Read from anywhere, move nothing."""
    machine, key = reading.machine, (request.queue_id, request.consumer_group_id)
    end = machine.end_cursor(request.queue_id)
    if request.HasField("next_cursor"):
        position = request.next_cursor
        if position < machine.first_cursor(request.queue_id):
            raise _trimmed(request.queue_id, position, machine)
    else:  # where the group stands; without a group, the oldest there is
        acked = reading.positions.acked(key, machine.acked_cursor(*key))
        position = max(acked, machine.first_cursor(request.queue_id))
    if position > end:
        raise RpcError(
            Status.OUT_OF_RANGE,
            f"next_cursor: {position} is beyond the end of queue {request.queue_id}, which is {end}",
        )
    if request.limit == 0:
        return GetResponse(next_cursor=position, end_cursor=end)
    return GetCall(request, queue, position, reset=False, reading=reading).start()


def _trimmed(queue_id: int, position: int, machine: StoreQueues) -> RpcError:
    return RpcError(
        Status.OUT_OF_RANGE,
        f"next_cursor: {position} of queue {queue_id} is no longer there; the earliest item that is has cursor "
        f"{machine.first_cursor(queue_id)}",
    )


class GetCall:
    """One Get on its way: tries to answer at once, and waits for the disk or for items when it cannot."""

    def __init__(
        self,
        request: GetRequest,
        queue: ServedQueue,
        position: int,
        reset: bool,
        reading: Reading,
        reader: Reader = None,
    ) -> None:
        self._request = request
        self._queue = queue
        self._queue_id = request.queue_id
        self._key = (request.queue_id, request.consumer_group_id)
        self._reading = reading
        self._reader = reader
        self._position = position
        self._reset = reset
        self._generation = reading.machine.replays.generation(self._key)
        self._begins = bool(request.reader_id) and (reset or not request.HasField("next_cursor"))
        self._view = self._look_up_view()
        self._delay_ms = 0 if request.random else queue.delay_ms
        limits = reading.limits
        self._items = min(request.limit, limits.items)
        self._size = min(request.limit_bytes or limits.size, limits.size)
        self._deadline = reading.clock.seconds() + min(request.wait_ms, limits.wait_max_ms) / 1000
        self._later: Deferred[GetResponse] | None = None
        self._parked: Parked | None = None
        self._soon: DelayedCall | None = None
        self._cold: dict[int, ParsedEntry] = {}  # entries read from disk for this call

    def _look_up_view(self) -> View:
        return view_of(self._reading.machine.groups, *self._key, by_mask=self._queue.by_mask)

    def start(self) -> GetResponse | Deferred[GetResponse]:
        """Answer at once if that is possible, else later."""
        response = self._step()
        return self._answer_later() if response is None else response

    def _answer_later(self) -> Deferred[GetResponse]:
        if self._later is None:
            self._later = Deferred(self._cancel)
        return self._later

    def _step(self) -> GetResponse | None:
        """Look for items once: the answer, or None when reading or waiting has begun."""
        reading = self._reading
        if self._has_to_hear():
            return self._finish(GetResponse(), hands_out=False)
        index = reading.machine.queues.get(self._queue_id)
        if index is None:
            return self._nothing(None)
        if self._position < index.first_cursor:
            # What was trimmed is nothing that this group has still to read; a peek wanted it nevertheless.
            if self._request.random:
                raise _trimmed(self._queue_id, self._position, reading.machine)
            self._position = index.first_cursor
        wanted = Wanted(
            view=self._view,
            items=self._items,
            size=self._size,
            stored_before_ms=reading.wall_ms() - self._delay_ms + 1 if self._delay_ms else _FOR_EVER,
        )
        found = plan(index, self._position, wanted, reading.limits.scan_rows)
        if not found.rows:
            self._position = found.position
            if found.unfinished:
                self._soon = reading.clock.callLater(0, self._resume)
                return None
            return self._nothing(None if found.not_due is None else index.timestamps[found.not_due] + self._delay_ms)
        answer = Answer(wanted, self._position)
        for row in found.rows:
            entry = self._entry(index.instances[row])
            if entry is None:
                if answer.items:
                    break  # what is at hand leaves now, the rest waits for the next Get
                self._read(_instances(index, found.rows))
                return None
            answer.add_row(index, row, entry)
            if answer.full:
                break
        self._position = answer.position
        if not answer.items:
            # Nothing in these rows was for this group (the position was inside one of several masks, or the group was
            # created after them): others have their turn, then it goes on.
            self._soon = reading.clock.callLater(0, self._resume)
            return None
        return self._finish(answer.response)

    def _finish(self, response: GetResponse, *, hands_out: bool = True) -> GetResponse:
        """Complete an answer and let `delivered` follow it; nothing may come between this and its leaving.

        One that hands nothing out leaves `delivered` to the reader that it may belong to.
        """
        reading = self._reading
        if not self._request.random:
            reading.fencing.check(self._key, self._request.fencing_token)
        response.next_cursor = self._position
        response.now_ms = max(reading.wall_ms(), reading.machine.clock_ms)
        response.end_cursor = reading.machine.end_cursor(self._queue_id)
        if not self._request.random:
            durable = response.durable_cursor = reading.machine.acked_cursor(*self._key)
            response.prev_cursor = reading.positions.acked(self._key, durable)
            response.reset = self._reset
            response.history = reading.machine.history
            response.generation = self._generation
            if self._begins and response.batches:
                self._tell_begin(response)
            if hands_out:
                reading.positions.deliver(self._key, self._position, self._reader)
        return response

    def _tell_begin(self, response: GetResponse) -> None:
        """A reader gets its first items: tell it how many before it got them and did not finish them."""
        reading = self._reading
        delivered = reading.positions.delivered(self._key) or 0
        begin = reading.beginning.began(
            self._key, self._request.reader_id, response.prev_cursor, delivered, self._position
        )
        if begin is not None:
            response.begins, response.suspects_end = begin.count, begin.end

    # ---- entries ------------------------------------------------------------------------------------

    def _entry(self, instance: int) -> ParsedEntry | None:
        """Return an entry that is in memory."""
        return self._cold.get(instance) or self._reading.entry(instance)

    def _read(self, instances: list[int]) -> None:
        """Read entries off the reactor, then look again."""

        def keep(entries: dict[int, ParsedEntry]) -> None:
            self._cold.update(entries)
            self._resume()

        self._answer_later()
        self._reading.read(instances).addCallbacks(keep, self._unreadable).addErrback(self._fail)

    def _unreadable(self, failure: Failure) -> None:
        failure.trap(ReplicaError)
        if self._position < self._reading.machine.first_cursor(self._queue_id):
            self._resume()  # trimmed while it was being read
            return
        error = unreadable_error(failure.value)
        error.message = f"queue {self._queue_id}: {error.message}"
        self._fail(Failure(error))

    # ---- waiting ------------------------------------------------------------------------------------

    def _nothing(self, due_ms: int | None) -> GetResponse | None:
        """Nothing to return now: wait for items, or until a delayed one is due, or answer that there is nothing.

        A reader that is not where its group stands is not kept waiting: what it has in hand counts no more.
        """
        reading = self._reading
        left = self._deadline - reading.clock.seconds()
        if left <= 1e-6 or self._reset or reading.polls.full:
            return self._finish(GetResponse())
        if due_ms is not None:
            left = min(left, max(due_ms - reading.wall_ms(), 1) / 1000)
        self._parked = reading.polls.park((reading.group.group_id, self._queue_id), left, self._resume)
        return None

    def _resume(self) -> None:
        """Go on: items came, time passed, entries were read, or the group is not served here any more."""
        self._parked = self._soon = None
        later = self._answer_later()
        if later.called:
            return
        try:
            if not self._reading.group.serving():
                raise self._reading.refuse()
            self._follow_replay()
            response = self._step()
        except Exception:
            self._fail(Failure())  # an RpcError for the caller, or a defect for the log
            return
        if response is not None:
            later.callback(response)

    def _follow_replay(self) -> None:
        """If the group was moved meanwhile, its reader starts again there; it may be gone, or another one by its id."""
        machine, key = self._reading.machine, self._key
        generation = machine.replays.generation(key)
        if generation != self._generation and not self._request.random:
            _check_group(self._request, self._queue, machine)
            self._generation, self._view = generation, self._look_up_view()
            self._position = self._reading.positions.acked(key, machine.acked_cursor(*key))
            self._reset, self._begins = True, bool(self._request.reader_id)

    def _has_to_hear(self) -> bool:
        """Whether its reader has to be told of a replay before it is given anything.

        One that names no generation is known by its cursors only. Were it given items at once and the answer lost, it
        would ask again with the cursors of before, and they might be taken for an acknowledgement of those items.
        """
        if not self._reset or self._request.random or self._request.HasField("generation"):
            return False
        return self._reading.replaying(self._key)

    def _fail(self, failure: Failure) -> None:
        later = self._answer_later()
        if not later.called:
            later.errback(failure)

    def _cancel(self, later: Deferred[Any]) -> None:
        """Nobody wants the answer any more: stop waiting, hand nothing out."""
        if self._parked is not None:
            self._reading.polls.remove(self._parked)
        if self._soon is not None and self._soon.active():
            self._soon.cancel()


def _instances(index: QueueIndex, rows: Sequence[int]) -> list[int]:
    """The entries to read for these rows. Delayed items may be small ones of large entries: not too many at a time."""
    if not index.has_references:
        return [index.instances[row] for row in rows]
    return list(dict.fromkeys(index.instances[row] for row in rows))[:_READ_ENTRIES]
