"""Producers and consumers of the simulation: they find the master, retry, and write everything into the ledger.

They speak the wire protocol's requests to the real service, but are far simpler than the client libraries: what is
under test is what the store promises to *any* client that keeps the protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutine
from typing import Any

from google.protobuf.message import Message
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from phxqueue.net.identity import ANONYMOUS
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.item_pb2 import BatchHeader, ItemBatch, QItem, QItems
from phxqueue.proto.methods import ADD, GET, Method
from phxqueue.proto.store_pb2 import AddRequest, AddResponse, GetRequest, GetResponse
from phxqueue.testing.sim.checkers import Violation
from phxqueue.testing.sim.checkers.ledger import Ledger
from phxqueue.testing.sim.cluster import Cluster

TOPIC_ID = 1
STORE_ID = 1
PUB_ID = 1
CALL_TIMEOUT = 1.0


class SimContext:
    """What a handler may know of a simulated call."""

    peer = ANONYMOUS
    deadline: float | None = None

    def __init__(self) -> None:
        self.cancelled = False
        self._on_cancel: Callable[[], None] | None = None

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Remember whom to tell when nobody wants the answer any more."""
        self._on_cancel = callback

    def cancel(self) -> None:
        """The caller has given up."""
        self.cancelled = True
        if self._on_cancel is not None:
            self._on_cancel()


class Caller:
    """Makes one call at a time over the faulty network; every answer may be lost on either way."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._target = 0

    def call(
        self, method: Method[Any, Any], request: Message, answered: Callable[[Message | RpcError | None], None]
    ) -> None:
        """Call the node believed to be master; `answered(None)` when no answer came in time."""
        world, network = self._cluster.world, self._cluster.network
        wire = request.SerializeToString()
        state = {"open": True}
        context = SimContext()

        def finish(result: Message | RpcError | None) -> None:
            if state["open"]:
                state["open"] = False
                timeout.cancel()
                self._learn(result)
                answered(result)

        def give_up() -> None:
            context.cancel()
            finish(None)

        timeout = world.call_later(CALL_TIMEOUT, give_up)
        if world.random.random() >= network.faults.loss:
            world.call_later(network.delay(), self._arrive, self._target, method, wire, context, finish)

    def _arrive(
        self,
        node_id: int,
        method: Method[Any, Any],
        wire: bytes,
        context: SimContext,
        finish: Callable[[Message | RpcError | None], None],
    ) -> None:
        process = self._cluster.processes.get(node_id)
        world, network = self._cluster.world, self._cluster.network

        def reply(result: Any) -> None:
            if isinstance(result, Failure):
                if result.check(RpcError) is None:
                    result.raiseException()
                result = result.value
            if world.random.random() >= network.faults.loss:
                world.call_later(network.delay(), finish, result)

        if process is None or not process.recovered:
            reply(RpcError(Status.UNAVAILABLE, "connection refused"))
            return

        def handle() -> None:
            try:
                result = process.service.table[method.number].handler(method.request.FromString(wire), context)
            except RpcError as error:
                reply(error)
                return
            if iscoroutine(result):
                result = Deferred.fromCoroutine(result)
            if isinstance(result, Deferred):
                result.addBoth(reply)
                result.addErrback(self._cluster.report)
            else:
                reply(result)

        process.clock.callLater(0, handle)

    def _learn(self, result: Message | RpcError | None) -> None:
        """Go elsewhere after a failure: where the redirect says, else the next node."""
        if isinstance(result, RpcError) and result.redirect:
            self._target = int(result.redirect.rsplit(":", 1)[1])
        elif result is None or isinstance(result, RpcError):
            self._target = (self._target + 1) % self._cluster.shape.nodes


class LedgerProducer:
    """Adds batches to one queue, one in flight, each retried under its sequence until its outcome is known."""

    def __init__(self, cluster: Cluster, ledger: Ledger, producer_id: int, queue_id: int, items: int) -> None:
        self.unfinished = items
        self._cluster = cluster
        self._ledger = ledger
        self._producer_id = producer_id
        self._queue = (STORE_ID, queue_id)
        self._caller = Caller(cluster)
        self._number = 0
        self._sequence = 0
        self._batch: list[bytes] = []
        self._request = AddRequest()

    def start(self) -> None:
        """Begin."""
        self._next()

    def _next(self) -> None:
        if self.unfinished <= 0:
            return
        random = self._cluster.world.random
        count = min(self.unfinished, random.choice((1, 1, 2, 5, 20)))
        self._sequence += 1
        self._batch = []
        for _ in range(count):
            item = b"%d-%d-" % (self._producer_id, self._number) + bytes(random.randrange(100))
            self._ledger.offered(self._producer_id, self._number, item)
            self._batch.append(item)
            self._number += 1
        header = BatchHeader(
            queue_id=self._queue[1],
            pub_id=PUB_ID,
            consumer_group_ids=1,
            count=count,
            producer_id=self._producer_id,
            sequence=self._sequence,
        )
        items = QItems(items=[QItem(buffer=item) for item in self._batch]).SerializeToString()
        self._request = AddRequest(
            topic_id=TOPIC_ID, store_id=STORE_ID, batches=[ItemBatch(header=header, items=items)]
        )
        self._send()

    def _send(self) -> None:
        self._caller.call(ADD, self._request, self._answered)

    def _answered(self, result: Message | RpcError | None) -> None:
        if isinstance(result, AddResponse):
            outcome = result.results[0]
            if outcome.status != Status.OK or outcome.count != len(self._batch):
                raise Violation(f"a good batch was answered {outcome}")
            for offset, item in enumerate(self._batch):
                self._ledger.was_acknowledged(self._queue, outcome.first_cursor + offset, item)
            self.unfinished -= len(self._batch)
            self._cluster.world.call_later(self._cluster.world.random.uniform(0, 0.1), self._next)
            return
        if isinstance(result, RpcError) and result.status in (Status.INVALID_ARGUMENT, Status.INTERNAL):
            raise Violation(f"a good batch was refused: {result}")
        self._cluster.world.call_later(self._cluster.world.random.uniform(0.01, 0.1), self._send)


class LedgerConsumer:
    """Reads one queue from where its group stands, acknowledging what it has got by its next Get."""

    def __init__(self, cluster: Cluster, ledger: Ledger, queue_id: int) -> None:
        self.received: dict[int, bytes] = {}
        self.queue_id = queue_id
        self._stopped = False
        self._cluster = cluster
        self._ledger = ledger
        self._queue = (STORE_ID, queue_id)
        self._caller = Caller(cluster)
        self._prev: int | None = None
        self._next_cursor: int | None = None

    def start(self) -> None:
        """Begin."""
        self._get()

    def stop(self) -> None:
        """Make no further calls."""
        self._stopped = True

    def forget(self) -> None:
        """The consumer process dies and another takes over, knowing nothing."""
        self._prev = self._next_cursor = None

    def _get(self) -> None:
        if self._stopped:
            return
        request = GetRequest(
            topic_id=TOPIC_ID,
            store_id=STORE_ID,
            queue_id=self._queue[1],
            limit=50,
            consumer_group_id=1,
            wait_ms=200,
        )
        if self._prev is not None:
            request.prev_cursor = self._prev
        if self._next_cursor is not None:
            request.next_cursor = self._next_cursor
        self._caller.call(GET, request, self._answered)

    def _answered(self, result: Message | RpcError | None) -> None:
        world = self._cluster.world
        if isinstance(result, GetResponse):
            start = result.prev_cursor if result.reset or self._next_cursor is None else self._next_cursor
            for batch in result.batches:
                for offset, item in enumerate(QItems.FromString(batch.items).items):
                    cursor = batch.first_cursor + offset
                    if cursor >= start:
                        self._ledger.was_delivered(self._queue, cursor, item.buffer)
                        self.received[cursor] = item.buffer
            self._prev = self._next_cursor = result.next_cursor
            if world.random.random() < 0.02:
                self.forget()
            world.call_later(world.random.uniform(0, 0.01), self._get)
            return
        if isinstance(result, RpcError) and result.status in (Status.INVALID_ARGUMENT, Status.INTERNAL):
            raise Violation(f"a good Get was refused: {result}")
        world.call_later(world.random.uniform(0.01, 0.1), self._get)
