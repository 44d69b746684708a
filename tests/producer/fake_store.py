"""A store in memory, for tests of clients: one object answers for all nodes of all stores, with faults on demand.

It keeps the promises of the real one that clients build on: idempotence by (producer_id, sequence), whole batches,
gap-free cursors, `acked` and `delivered` per queue and group, long polls. A *fault* decides what becomes of one
call: see Fault.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock

from phxqueue.config import ConsumerGroup, NodeAddress, Pub, QueueInfo, Store, Topic, TopicSettings, group_bit
from phxqueue.net.routing import Route
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.item_pb2 import BatchHeader, ItemBatch, QItem, QItems
from phxqueue.proto.methods import ADD, GET
from phxqueue.proto.store_pb2 import AddRequest, AddResponse, AddResult, GetRequest, GetResponse


class Fault(enum.Enum):
    """What becomes of one call."""

    NONE = "carried out and answered"
    NO_MASTER = "not carried out; NO_MASTER"
    OVERLOADED = "not carried out; RESOURCE_EXHAUSTED for the call"
    BATCH_OVERLOADED = "not carried out; RESOURCE_EXHAUSTED for each batch"
    DENIED = "not carried out; PERMISSION_DENIED"
    REQUEST_LOST = "not carried out; the caller cannot know: UNAVAILABLE"
    REPLY_LOST = "carried out; the caller cannot know: UNAVAILABLE"
    LATE = "carried out long after the caller was told DEADLINE_EXCEEDED"
    SILENT = "not carried out, no answer before the deadline"


@dataclass
class Stored:
    """A batch in a queue."""

    first: int
    header: BatchHeader
    items: bytes
    time_ms: int


@dataclass
class Queue:
    end: int = 0
    batches: list[Stored] = field(default_factory=list)


@dataclass
class Poll:
    request: GetRequest
    position: int
    reset: bool
    answer: Deferred[GetResponse]
    timer: IDelayedCall


def make_store(store_id: int = 1, **fields: Any) -> Store:
    """A store of one node, which nobody dials."""
    return Store(store_id=store_id, nodes=(NodeAddress(0, "127.0.0.1", 5100 + store_id),), **fields)


def make_topic(
    *,
    stores: tuple[Store, ...] = (make_store(),),
    queue_infos: tuple[QueueInfo, ...] = (
        QueueInfo(queue_info_id=1, ranges=((0, 3),), count=1),
        QueueInfo(queue_info_id=2, ranges=((10, 11),), count=2, delay=1.0),
    ),
    pubs: tuple[Pub, ...] = (
        Pub(pub_id=1, queue_info_ids=(1, 2), consumer_group_ids=(1, 2)),
        Pub(pub_id=2, queue_info_ids=(1,), consumer_group_ids=(1,)),
    ),
    consumer_groups: tuple[ConsumerGroup, ...] = (
        ConsumerGroup(consumer_group_id=1),
        ConsumerGroup(consumer_group_id=2),
    ),
    **settings: Any,
) -> Topic:
    """A small topic: pub 1 has three attempts, pub 2 one."""
    return Topic(
        topic_id=1000,
        topic_name="test",
        handle_ids=(1, 2),
        settings=TopicSettings(**settings),
        queue_infos=queue_infos,
        pubs=pubs,
        consumer_groups=consumer_groups,
        stores=stores,
    )


class FakeStore:
    """Takes the place of net.routing.MasterClient."""

    def __init__(self, clock: Clock, topic: Topic, latency_s: float = 0.001) -> None:
        self.clock = clock
        self.topic = topic
        self.latency_s = latency_s
        self.queues: dict[tuple[int, int], Queue] = defaultdict(Queue)
        self.acked: dict[tuple[int, int, int], int] = defaultdict(int)
        self.history = 0
        self.delivered: dict[tuple[int, int, int], int] = {}
        self.outcomes: dict[tuple[int, int, int], AddResult] = {}
        self.polls: list[Poll] = []
        self.forgotten: set[int] = set()  # sequences that the window no longer knows
        self.adds: list[AddRequest] = []
        self.gets: list[GetRequest] = []
        self.calls_open = 0
        self.most_open = 0
        self.closed = False
        #: Asked once per call; tests replace it.
        self.fault: Callable[[str, Any], Fault] = lambda method, request: Fault.NONE

    # -- what a client sees ---------------------------------------------------------------------------

    def call(
        self,
        route: Route,
        method: Any,
        request: Any,
        deadline_s: float,
        *,
        try_timeout_s: float | None = None,
        searching: Any = None,
    ) -> Deferred[Any]:
        assert deadline_s > 0
        name = "add" if method is ADD else "get"
        copy = method.request.FromString(request.SerializeToString())
        (self.adds if method is ADD else self.gets).append(copy)
        fault = self.fault(name, copy)
        if name == "add":
            self.calls_open += 1
            self.most_open = max(self.most_open, self.calls_open)
        return self._perform(fault, name, copy, deadline_s)

    def _perform(self, fault: Fault, name: str, request: Any, deadline_s: float) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred(lambda d: self._cancelled(d))
        if name == "add":
            answer.addBoth(self._closed_call)
        if fault is Fault.NONE:
            self._later(self._carry_out, name, request, answer)
        elif fault is Fault.BATCH_OVERLOADED and name == "add":
            response = AddResponse()
            for _ in request.batches:
                response.results.add(status=Status.RESOURCE_EXHAUSTED, message="full", retry_after_ms=20)
            self._later(self._answer, answer, response)
        elif fault is Fault.LATE:
            self.clock.callLater(deadline_s, self._fail, answer, Status.DEADLINE_EXCEEDED)
            self.clock.callLater(deadline_s + 0.05, self._carry_out, name, request, _nobody())
        elif fault is Fault.SILENT:
            self.clock.callLater(deadline_s, self._fail, answer, Status.DEADLINE_EXCEEDED)
        else:
            if fault is Fault.REPLY_LOST:
                self._later(self._carry_out, name, request, _nobody())
            status = {
                Fault.NO_MASTER: Status.NO_MASTER,
                Fault.OVERLOADED: Status.RESOURCE_EXHAUSTED,
                Fault.BATCH_OVERLOADED: Status.RESOURCE_EXHAUSTED,
                Fault.DENIED: Status.PERMISSION_DENIED,
                Fault.REQUEST_LOST: Status.UNAVAILABLE,
                Fault.REPLY_LOST: Status.UNAVAILABLE,
            }[fault]
            self._later(self._fail, answer, status)
        return answer

    def _cancelled(self, answer: Deferred[Any]) -> None:
        for poll in [poll for poll in self.polls if poll.answer is answer]:
            self._remove(poll)

    def _closed_call(self, result: Any) -> Any:
        self.calls_open -= 1
        return result

    def _later(self, action: Callable[..., None], *args: Any) -> None:
        self.clock.callLater(self.latency_s, action, *args)

    def _answer(self, answer: Deferred[Any], response: Any) -> None:
        if not answer.called:
            answer.callback(response)

    def _fail(self, answer: Deferred[Any], status: Status) -> None:
        if not answer.called:
            answer.errback(RpcError(status, "made up by the test"))

    def _carry_out(self, name: str, request: Any, answer: Deferred[Any]) -> None:
        if name == "add":
            self._answer(answer, self._add(request))
        else:
            self._get(request, answer)

    # -- Add ------------------------------------------------------------------------------------------

    def _add(self, request: AddRequest) -> AddResponse:
        response = AddResponse()
        for batch in request.batches:
            header = batch.header
            key = (request.store_id, header.producer_id, header.sequence)
            known = self.outcomes.get(key)
            if header.sequence in self.forgotten:
                response.results.add(status=Status.OUT_OF_RANGE, message="older than the window")
                continue
            if known is not None:
                response.results.add(first_cursor=known.first_cursor, count=known.count, duplicate=True)
                continue
            result = response.results.add(first_cursor=self._append(request.store_id, batch), count=header.count)
            self.outcomes[key] = result
        self._wake()
        return response

    def _append(self, store_id: int, batch: ItemBatch) -> int:
        assert batch.header.count == len(QItems.FromString(batch.items).items) > 0
        assert batch.header.count <= self.topic.settings.batch_limit
        assert len(batch.items) <= self.topic.settings.items_byte_size_limit
        for item in QItems.FromString(batch.items).items:
            assert not item.consumer_group_ids & ~batch.header.consumer_group_ids, "nobody would be shown this item"
            if not item.consumer_group_ids:
                assert batch.header.consumer_group_ids == self.topic.groups_mask(batch.header.pub_id)
        queue = self.queues[store_id, batch.header.queue_id]
        first = queue.end
        queue.batches.append(Stored(first, batch.header, batch.items, int(self.clock.seconds() * 1000)))
        queue.end += batch.header.count
        return first

    # -- Get ------------------------------------------------------------------------------------------

    def _get(self, request: GetRequest, answer: Deferred[Any]) -> None:
        key = (request.store_id, request.queue_id, request.consumer_group_id)
        queue = self.queues[key[:2]]
        anew = request.HasField("history") and request.history != self.history
        lost = anew or (request.HasField("prev_cursor") and request.prev_cursor > queue.end)
        if request.HasField("prev_cursor") and not lost:
            self.acked[key] = max(self.acked[key], request.prev_cursor)
        acked = self.acked[key]
        if request.limit == 0:
            response = GetResponse(
                prev_cursor=acked, next_cursor=self.delivered.get(key, acked), reset=lost, end_cursor=queue.end
            )
            response.history = self.history
            self._answer(answer, response)
            return
        position, reset = acked, lost
        if request.HasField("next_cursor") and not anew:
            delivered = self.delivered.get(key)
            wanted = request.next_cursor
            matches = acked <= wanted <= queue.end if delivered is None else delivered == wanted >= acked
            position, reset = (wanted, lost) if matches else (acked, lost or wanted != acked)
        timer = self.clock.callLater(request.wait_ms / 1000, self._poll_over)
        self.polls.append(Poll(request, position, reset, answer, timer))
        self._wake()

    def _poll_over(self) -> None:
        for poll in [poll for poll in self.polls if not poll.timer.active()]:
            self.polls.remove(poll)
            self._finish(poll, GetResponse())

    def _wake(self) -> None:
        for poll in list(self.polls):
            if poll.answer.called:  # cancelled
                self._remove(poll)
                continue
            response = self._collect(poll)
            if response.batches:
                self._remove(poll)
                self._finish(poll, response)

    def _remove(self, poll: Poll) -> None:
        self.polls.remove(poll)
        if poll.timer.active():
            poll.timer.cancel()

    def _collect(self, poll: Poll) -> GetResponse:
        request, response = poll.request, GetResponse()
        bit = group_bit(request.consumer_group_id)
        delay_ms = self._delay_ms(request.queue_id)
        now_ms = self.clock.seconds() * 1000
        items = size = 0
        for batch in self.queues[request.store_id, request.queue_id].batches:
            if batch.first + batch.header.count <= poll.position:
                continue
            if batch.time_ms + delay_ms > now_ms:
                self.clock.callLater((batch.time_ms + delay_ms - now_ms) / 1000 + 0.001, self._wake)
                break
            if batch.header.consumer_group_ids & bit:
                full = items + batch.header.count > request.limit or size + len(batch.items) > request.limit_bytes
                if items and full:
                    break
                response.batches.add(
                    first_cursor=batch.first, header=batch.header, items=batch.items, timestamp_ms=batch.time_ms
                )
                items += batch.header.count
                size += len(batch.items)
            poll.position = batch.first + batch.header.count
        return response

    def _delay_ms(self, queue_id: int) -> float:
        for info in self.topic.queue_infos:
            if queue_id in info.queue_ids:
                return info.delay * 1000
        return 0.0

    def _finish(self, poll: Poll, response: GetResponse) -> None:
        request = poll.request
        key = (request.store_id, request.queue_id, request.consumer_group_id)
        self.delivered[key] = poll.position
        response.prev_cursor = self.acked[key]
        response.next_cursor = poll.position
        response.reset = poll.reset
        response.history = self.history
        response.end_cursor = self.queues[key[:2]].end
        self._answer(poll.answer, response)

    # -- what a test sees -----------------------------------------------------------------------------

    def items_of(self, batch: Stored) -> list[QItem]:
        """The items of one batch."""
        return list(QItems.FromString(batch.items).items)

    def items(self, store_id: int, queue_id: int) -> list[QItem]:
        """Everything in a queue."""
        return [item for batch in self.queues[store_id, queue_id].batches for item in self.items_of(batch)]

    def all_batches(self) -> list[Stored]:
        """Every batch in all queues."""
        return [batch for key in sorted(self.queues) for batch in self.queues[key].batches]

    def all_items(self) -> list[QItem]:
        """Everything in all queues."""
        return [item for key in sorted(self.queues) for item in self.items(*key)]

    def fail_over(self) -> None:
        """A new master: what only the old one knew is forgotten, and long polls end."""
        self.delivered.clear()
        for poll in list(self.polls):
            self._remove(poll)
            self._fail(poll.answer, Status.UNAVAILABLE)

    def move(self, key: tuple[int, int, int], position: int) -> None:
        """Put a group somewhere else, as a replay or another reader would; its long polls end."""
        for poll in [p for p in self.polls if (p.request.store_id, p.request.queue_id) == key[:2]]:
            self._remove(poll)
            self._fail(poll.answer, Status.UNAVAILABLE)
        self.acked[key] = self.delivered[key] = position

    @property
    def open_polls(self) -> int:
        """Long polls that somebody waits for."""
        return sum(not poll.answer.called for poll in self.polls)


def _nobody() -> Deferred[Any]:
    """The answer to a caller that does not wait for it any more."""
    return Deferred().addErrback(lambda _: None)


__all__ = ["ADD", "GET", "FakeStore", "Fault", "make_store", "make_topic"]
