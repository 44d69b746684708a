"""Clients that send batches which belong together; and some that try to have half of them stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from phxqueue.net.status import Status
from phxqueue.proto.item_pb2 import BatchHeader, ItemBatch, QItem, QItems
from phxqueue.proto.methods import ADD
from phxqueue.proto.store_pb2 import AddRequest, AddResponse
from phxqueue.testing.sim.asking import Asking
from phxqueue.testing.sim.books import Books
from phxqueue.testing.sim.checkers import Violation
from phxqueue.testing.sim.cluster import Cluster
from phxqueue.testing.sim.workload import PUB_ID, STORE_ID, TOPIC_ID

BUNDLES = 8
DEATHS = 0.1
"""Probability, per answer that did not come, that the process dies."""
SPOILT = 0.3
"""Probability that one of the batches was stored by itself before: none of the others may be stored then."""


class Bundler:
    """One client: one bundle after another."""

    def __init__(self, cluster: Cluster, books: Books, producer_ids: Iterator[int]) -> None:
        self._cluster = cluster
        self._books = books
        self._random = cluster.world.random
        self._id = next(producer_ids)
        self._left = BUNDLES
        self._sequence = 0

    @property
    def done(self) -> bool:
        """Whether everything was sent and has an outcome, or its client has died."""
        return not self._left

    def start(self) -> None:
        """Send the next bundle, if there is one left."""
        if not self._left:
            return
        groups, queues = self._cluster.shape.paxos_groups, self._books.workload.queues
        first = self._random.choice(queues)
        alike = [queue_id for queue_id in queues if (queue_id - first) % groups == 0]
        places = [first, *(self._random.choice(alike) for _ in range(self._random.choice((1, 1, 2))))]
        batches = [self._batch(number, queue_id) for number, queue_id in enumerate(places)]
        if self._random.random() < SPOILT:
            alone = ItemBatch.FromString(self._random.choice(batches).SerializeToString())
            self._send([alone], lambda response: self._spoil(response, batches, alone))
        else:
            items = [item for batch in batches for item in _items(batch)]
            self._books.together.offered(items)
            self._bundle(batches)
            self._send(batches, lambda response: self._stored(response, batches))

    def _batch(self, number: int, queue_id: int) -> ItemBatch:
        workload, lane = self._books.workload, (self._id, self._left, number)
        items = [b"bundle %d/%d/%d/%d" % (*lane, place) for place in range(self._random.choice((1, 2)))]
        for place, item in enumerate(items):
            self._books.offered(lane, place, item, workload.mask)
        self._books.recording.append(f"bundler {lane}", queue_id, items)
        self._sequence += 1
        header = BatchHeader(
            queue_id=queue_id,
            pub_id=PUB_ID,
            consumer_group_ids=workload.mask,
            count=len(items),
            producer_id=self._id,
            sequence=self._sequence,
        )
        return ItemBatch(header=header, items=QItems(items=[QItem(buffer=item) for item in items]).SerializeToString())

    @staticmethod
    def _bundle(batches: list[ItemBatch]) -> None:
        batches[0].header.atomic_batches = len(batches)

    def _send(self, batches: list[ItemBatch], told: Callable[[AddResponse | None], None]) -> None:
        request = AddRequest(topic_id=TOPIC_ID, store_id=STORE_ID, batches=batches)
        Asking(self._cluster, ADD, request, told, deaths=DEATHS).send()

    def _spoil(self, response: AddResponse | None, batches: list[ItemBatch], alone: ItemBatch) -> None:
        if response is None:
            self._next()
            return
        self._bundle(batches)
        self._send(batches, lambda answer: self._spoilt(answer, batches, alone))

    def _spoilt(self, response: AddResponse | None, batches: list[ItemBatch], alone: ItemBatch) -> None:
        if response is not None:
            for batch, outcome in zip(batches, response.results, strict=True):
                if batch.header.sequence == alone.header.sequence:
                    continue
                if outcome.status != Status.OUT_OF_RANGE:
                    raise Violation(f"one of {len(batches)} batches was stored before, another was answered {outcome}")
                for item in _items(batch):
                    self._books.ledger.was_refused(item)
        self._next()

    def _stored(self, response: AddResponse | None, batches: list[ItemBatch]) -> None:
        if response is not None:
            for batch, outcome in zip(batches, response.results, strict=True):
                header = batch.header
                if outcome.status != Status.OK or outcome.count != header.count:
                    raise Violation(f"good batches that belong together were answered {outcome}")
                self._books.added(header.queue_id, 0, outcome.first_cursor, _items(batch))
            self._books.together.accepted()
        self._next()

    def _next(self) -> None:
        self._left -= 1
        self._cluster.world.call_later(self._random.uniform(0, 0.4), self.start)


def _items(batch: ItemBatch) -> list[bytes]:
    return [item.buffer for item in QItems.FromString(batch.items).items]
