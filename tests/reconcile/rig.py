"""A topic in memory with two pubs and two consumer groups, and hands that reach into it to break things."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from phxqueue.config import ConsumerGroup, NodeAddress, Pub, QueueInfo, Reconcile, Store, Topic
from phxqueue.console.alarms import Alarms, Standing
from phxqueue.consumer import Result
from phxqueue.net.routing import Route
from phxqueue.net.status import RpcError, Status
from phxqueue.producer import NewItem
from phxqueue.proto.item_pb2 import ItemBatch
from phxqueue.proto.ledger_pb2 import GetLedgerRequest
from phxqueue.proto.methods import ADD, GET, GET_LEDGER
from phxqueue.proto.status_pb2 import AuditStatus
from phxqueue.proto.store_pb2 import AddRequest, GetRequest, GetResponse
from phxqueue.reconcile.rows import LedgerRow, Picture
from phxqueue.store.index import QueueIndex
from phxqueue.testing import InMemoryCluster

#: The one queue of each pub.
QUEUES = {1: 0, 2: 10}
#: Items of each pub before anything is broken, and after.
ITEMS = 20


def two_pubs(reconcile: Reconcile) -> Topic:
    """Pub 1 has queue 0 and pub 2 queue 10; groups 1 and 2 read both; no attempt is repeated."""
    return Topic(
        topic_id=1,
        topic_name="books",
        handle_ids=(1,),
        queue_infos=tuple(
            QueueInfo(queue_info_id=pub, ranges=((queue, queue),), count=1) for pub, queue in QUEUES.items()
        ),
        pubs=tuple(
            Pub(pub_id=pub, queue_info_ids=(pub,), consumer_group_ids=(1, 2), reconcile=reconcile) for pub in QUEUES
        ),
        consumer_groups=tuple(ConsumerGroup(consumer_group_id=group) for group in (1, 2)),
        stores=(Store(store_id=1, nodes=(NodeAddress(0, "127.0.0.1", 0, 0),)),),
    )


class Books:
    """The cluster, and what was handled.

    Attributes:
        handled: (consumer group, pub, buffer) of everything, in order.
        on_add, on_get: may change requests and answers on their way; None: nobody does.
        on_store: answers an Add in the store's place, which it is given; None: the store does.
        on_cached: may change the payload of an entry that is read; None: nobody does.
    """

    def __init__(self, reconcile: Reconcile, groups: Collection[int] = (1, 2)) -> None:
        self.handled: list[tuple[int, int, bytes]] = []
        self.on_add: Callable[[AddRequest], None] | None = None
        self.on_get: Callable[[GetRequest, GetResponse], None] | None = None
        self.on_store: Callable[[AddRequest, Callable[[AddRequest], Deferred[Any]]], Deferred[Any]] | None = None
        self.on_cached: Callable[[int, bytes], bytes] | None = None
        self.cluster = InMemoryCluster({1: self._handle}, two_pubs(reconcile), consumer_group_ids=groups)
        self._held: Deferred[None] | None = None
        self._stores = self.cluster._stores
        self._call = self._stores.call
        self._stores.call = self._broken_call  # type: ignore[method-assign]
        [self.group] = self._stores._groups
        self._cached = self.group.cached
        self.group.cached = self._broken_cached  # type: ignore[method-assign]

    def _handle(self, context: Any, item: Any) -> Result:
        self.handled.append((context.consumer_group_id, item.pub_id, item.buffer))
        return Result.OK

    def _broken_call(self, route: Route, method: Any, request: Any, deadline_s: float, **kwargs: Any) -> Deferred[Any]:
        if method is ADD and self.on_add is not None:
            request = AddRequest.FromString(request.SerializeToString())
            self.on_add(request)
        if method is ADD and self.on_store is not None:
            return self.on_store(request, lambda told: self._call(route, method, told, deadline_s, **kwargs))
        if method is GET and self._held is not None:
            waiting: Deferred[Any] = Deferred()
            self._held.addCallback(lambda _: waiting.callback(None) if not waiting.called else None)
            return waiting.addCallback(lambda _: self._broken_call(route, method, request, deadline_s, **kwargs))
        answer: Deferred[Any] = self._call(route, method, request, deadline_s, **kwargs)
        return answer.addCallback(lambda response: self._broken_answer(method, request, response))

    def _broken_answer(self, method: Any, request: Any, response: Any) -> Any:
        if method is GET and self._held is not None and response.batches:
            return Failure(RpcError(Status.UNAVAILABLE, "the answer got lost"))
        if method is GET and self.on_get is not None:
            self.on_get(request, response)
        return response

    def _broken_cached(self, instance: int) -> bytes | None:
        payload = self._cached(instance)
        return payload if payload is None or self.on_cached is None else self.on_cached(instance, payload)

    def hold(self) -> None:
        """No Get arrives, and no answer to one leaves, until `release`."""
        self._held = Deferred()

    def release(self) -> None:
        """Let them pass."""
        self.forget_parsed()
        held, self._held = self._held, None
        assert held is not None
        held.callback(None)

    def forget_parsed(self) -> None:
        """Have entries taken apart anew."""
        reading = self._stores._services[1]._groups[0].reading
        for parsed in (reading.parsed, reading.cold):
            parsed._entries.clear()
            parsed._bytes = 0

    # ---- what happens ------------------------------------------------------------------------------

    async def enqueue(self, name: str) -> None:
        """Enqueue ITEMS of each pub, each in a batch of its own."""
        for number in range(ITEMS):
            for pub in QUEUES:
                await self.cluster.producer.enqueue_many([NewItem(pub, 1, f"{name} {number} of pub {pub}".encode())])

    async def add(self, *batches: ItemBatch) -> None:
        """Store batches in one entry; a store merges such for its readers."""
        await self._call(_ROUTE, ADD, AddRequest(topic_id=1, store_id=1, batches=batches), 5.0)

    async def until(self, condition: Callable[[], object]) -> None:
        """Let time pass until something holds."""
        while not condition():
            await deferLater(reactor, 0, bool)
            wait = self.cluster.clock.next_call()
            if wait is not None and wait < 10:
                self.cluster.clock.skip(wait)

    def pass_time(self, seconds: float) -> None:
        """Let so much time be over, at once."""
        self.cluster.clock.skip(seconds)

    async def call(self, request: GetRequest) -> GetResponse:
        """Call the store as anybody may."""
        answer: GetResponse = await self._call(_ROUTE, GET, request, 5.0)
        return answer

    async def ledger(self) -> list[LedgerRow]:
        """The rows of the ledger, as `phxqueue reconcile` asks for them."""
        request = GetLedgerRequest(topic_id=1, store_id=1, group_id=0)
        picture = Picture()
        picture.take(1, 0, await self._call(_ROUTE, GET_LEDGER, request, 5.0))
        return picture.sorted_rows()

    # ---- what is seen ------------------------------------------------------------------------------

    @property
    def alarms(self) -> Alarms:
        """Those that the store raised."""
        found: Any = self._stores._services[1]._alarms
        alarms: Alarms = found.alarms
        return alarms

    def standing(self) -> dict[tuple[int, int], Standing]:
        """Alarms about acknowledgements, by (queue, group)."""
        found = {}
        for one in self.alarms.standing.values():
            subject = dict(one.alarm.subject)
            if "queue" not in subject:
                continue  # the ledger's, which follow some seconds later
            assert subject["store"] == 1
            found[int(subject["queue"]), int(subject["group"])] = one
        return found

    def audits(self) -> dict[tuple[int, int], AuditStatus]:
        """Counts by (queue, group)."""
        return {(one.queue_id, one.consumer_group_id): one for one in self._stores._services[1].audits()}

    def index(self, pub: int) -> QueueIndex:
        """Of the pub's queue."""
        index: QueueIndex = self.group.state_machine.queues[QUEUES[pub]]
        return index

    def acked(self, pub: int, group: int) -> int:
        """Everything of the pub's queue below is acknowledged."""
        machine = self.group.state_machine
        positions = self._stores._services[1]._groups[0].positions
        key = QUEUES[pub], group
        return positions.acked(key, machine.acked_cursor(*key))

    def all_acked(self, cursor: int) -> bool:
        """Whether every group has acknowledged every queue up to there."""
        return all(self.acked(pub, group) == cursor for pub in QUEUES for group in (1, 2))

    def handled_of(self, pub: int, group: int, name: str) -> set[bytes]:
        """The buffers of a name that were handled."""
        return {
            buffer
            for ours, of, buffer in self.handled
            if (ours, of) == (group, pub) and buffer.startswith(name.encode())
        }


#: There is only one store, and it is always the master.
_ROUTE: Any = None
