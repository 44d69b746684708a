"""Clients that enqueue delayed batches and cancel some of them; they retry until they know, as producers do."""

from __future__ import annotations

from collections.abc import Iterator

from phxqueue.net.status import RpcError, Status
from phxqueue.proto.item_pb2 import BatchHeader, ItemBatch, QItem, QItems
from phxqueue.proto.methods import ADD, CANCEL_DELAYED
from phxqueue.proto.store_pb2 import AddRequest, AddResponse, CancelDelayedRequest, CancelDelayedResponse
from phxqueue.testing.sim.books import Books
from phxqueue.testing.sim.calls import Answer, Caller
from phxqueue.testing.sim.checkers import Violation
from phxqueue.testing.sim.cluster import Cluster
from phxqueue.testing.sim.workload import PUB_ID, STORE_ID, TOPIC_ID
from phxqueue.testing.sim.world import WallClocks

BATCHES = 12
CANCEL = 0.3
"""Probability, per batch, that it is cancelled, at some time around the one at which it is due."""
ABANDON = 0.1
"""Probability, per refusal of a batch that surely was not stored, that the application gives it up."""
LONGEST = 1.5
"""Longest delay, in seconds."""


class Delayer:
    """One client: one batch after another."""

    def __init__(self, cluster: Cluster, books: Books, producer_ids: Iterator[int]) -> None:
        self._cluster = cluster
        self._books = books
        self._random = cluster.world.random
        self._caller = Caller(cluster)
        self._id = next(producer_ids)
        self._left = BATCHES
        self._cancelling = 0
        self._items: list[bytes] = []
        self._batch = ItemBatch()
        self._maybe_stored = False
        self._token = 0

    @property
    def done(self) -> bool:
        """Whether everything has an outcome, what is to be cancelled too."""
        return not self._left and not self._cancelling

    def start(self) -> None:
        """Send the next batch, if there is one left."""
        if not self._left:
            return
        workload, world = self._books.workload, self._cluster.world
        queue_id = self._random.choice(workload.queues)
        due = world.now + self._random.uniform(-0.1, LONGEST)
        mask = workload.mask if self._random.random() < 0.6 else 1 << (self._random.choice(workload.groups) - 1)
        # Delayed items keep no order among each other but that of their times: each batch is a lane of its own.
        lane = (self._id, self._left)
        self._items = [b"delayed %d/%d/%d" % (*lane, number) for number in range(self._random.choice((1, 1, 3)))]
        for number, item in enumerate(self._items):
            self._books.offered(lane, number, item, mask)
        self._books.timers.offered(self._items, due)
        self._token = self._books.recording.append(f"delayer {lane}", queue_id, self._items)
        header = BatchHeader(
            queue_id=queue_id,
            pub_id=PUB_ID,
            consumer_group_ids=mask,
            count=len(self._items),
            producer_id=self._id,
            sequence=BATCHES + 1 - self._left,
            deliver_at_ms=int((WallClocks.EPOCH + due) * 1000) + 1,
        )
        items = QItems(items=[QItem(buffer=item) for item in self._items]).SerializeToString()
        self._batch = ItemBatch(header=header, items=items)
        self._maybe_stored = False
        self._send()

    def _send(self) -> None:
        request = AddRequest(topic_id=TOPIC_ID, store_id=STORE_ID, batches=[self._batch])
        self._caller.call(ADD, request, self._answered)

    def _answered(self, result: Answer) -> None:
        random, world = self._random, self._cluster.world
        if isinstance(result, AddResponse):
            self._stored(result)
        elif result is None or (isinstance(result, RpcError) and result.maybe_executed):
            self._maybe_stored = True
            world.call_later(random.uniform(0.005, 0.05), self._send)
        elif not self._maybe_stored and random.random() < ABANDON:
            self._books.recording.not_appended(self._token)
            for item in self._items:
                self._books.ledger.was_refused(item)
            self._next()
        else:
            world.call_later(random.uniform(0.005, 0.05), self._send)

    def _stored(self, response: AddResponse) -> None:
        [outcome] = response.results
        if outcome.status != Status.OK or outcome.count != len(self._items) or not outcome.delayed:
            raise Violation(f"a good delayed batch of {len(self._items)} items was answered {outcome}")
        self._books.note("delayed", self._batch.header.queue_id, outcome.timer_number)
        self._books.timers.accepted(self._items)
        self._books.founding.stored(self._items, self._cluster.world.now)
        if self._random.random() < CANCEL:
            self._cancelling += 1
            header = self._batch.header
            request = CancelDelayedRequest(
                topic_id=TOPIC_ID,
                store_id=STORE_ID,
                queue_id=header.queue_id,
                deliver_at_ms=header.deliver_at_ms,
                timer_number=outcome.timer_number,
            )
            pause = self._random.uniform(0, LONGEST)
            self._cluster.world.call_later(pause, _Cancel(self, request, self._items).send)
        self._next()

    def _next(self) -> None:
        self._left -= 1
        self._cluster.world.call_later(self._random.uniform(0, 0.4), self.start)

    def cancelled(self, items: list[bytes], *, told: bool) -> None:
        """A cancellation has an outcome: `told` that the items will not be delivered, or that it is too late."""
        self._cancelling -= 1
        self._books.note("cancelled", items[0], told)
        if told:
            self._books.timers.cancelled(items)


class _Cancel:
    """One batch to be cancelled; asks until it knows."""

    def __init__(self, delayer: Delayer, request: CancelDelayedRequest, items: list[bytes]) -> None:
        self._delayer = delayer
        self._request = request
        self._items = items
        self._caller = Caller(delayer._cluster, frozenset({Status.NOT_FOUND}))

    def send(self) -> None:
        """Ask."""
        self._caller.call(CANCEL_DELAYED, self._request, self._answered)

    def _answered(self, result: Answer) -> None:
        if isinstance(result, CancelDelayedResponse):
            if result.count != len(self._items):
                raise Violation(f"{len(self._items)} items were cancelled and {result.count} counted")
            self._delayer.cancelled(self._items, told=True)
        elif isinstance(result, RpcError) and result.status is Status.NOT_FOUND:
            self._delayer.cancelled(self._items, told=False)
        else:
            world = self._delayer._cluster.world
            world.call_later(world.random.uniform(0.005, 0.05), self.send)
