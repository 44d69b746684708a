"""Clients that send the same things under the same idempotency keys, as processes do that know nothing of each other.

Each of them sends every key once or twice, in an order of its own, dies now and then without an answer and comes back
under another producer id; sometimes one sends something else under the key.
"""

from __future__ import annotations

from collections.abc import Iterator

from phxqueue.net.status import Status
from phxqueue.proto.item_pb2 import BatchHeader, ItemBatch, QItem, QItems
from phxqueue.proto.methods import ADD
from phxqueue.proto.store_pb2 import AddRequest, AddResponse
from phxqueue.testing.sim.asking import Asking
from phxqueue.testing.sim.books import Books
from phxqueue.testing.sim.checkers import Violation
from phxqueue.testing.sim.cluster import Cluster
from phxqueue.testing.sim.workload import PUB_ID, STORE_ID, TOPIC_ID

KEYS = 10
OTHER = 0.15
"""Probability that something else is sent under a key."""
DEATHS = 0.1
"""Probability, per answer that did not come, that the process dies."""


class Namer:
    """One client."""

    def __init__(self, cluster: Cluster, books: Books, producer_ids: Iterator[int]) -> None:
        self._cluster = cluster
        self._books = books
        self._random = cluster.world.random
        self._producer_ids = producer_ids
        self._id = next(producer_ids)
        self._sequence = 0
        self._todo = [number for number in range(KEYS) for _ in range(self._random.choice((1, 1, 2)))]
        self._random.shuffle(self._todo)

    @property
    def done(self) -> bool:
        """Whether everything was sent and has an outcome."""
        return not self._todo

    def start(self) -> None:
        """Send what is next under its key, if there is something left."""
        if not self._todo:
            return
        number = self._todo[-1]
        other = self._random.random() < OTHER
        item = b"key %d%s" % (number, b" differently" if other else b"")
        key = b"key %d" % number
        workload = self._books.workload
        queue_id = workload.queues[number % len(workload.queues)]
        self._books.keys.offered(key, item)
        if not self._books.ledger.knows(item):
            self._books.offered((0, number, other), 0, item, workload.mask)
            self._books.recording.append(f"namer {item!r}", queue_id, [item])
        self._sequence += 1
        header = BatchHeader(
            queue_id=queue_id,
            pub_id=PUB_ID,
            consumer_group_ids=workload.mask,
            count=1,
            producer_id=self._id,
            sequence=self._sequence,
            idempotency_key=key,
            body_digest=1 + other,
        )
        batch = ItemBatch(header=header, items=QItems(items=[QItem(buffer=item)]).SerializeToString())
        request = AddRequest(topic_id=TOPIC_ID, store_id=STORE_ID, batches=[batch])

        def told(response: AddResponse | None) -> None:
            self._told(response, key, item, queue_id)

        Asking(self._cluster, ADD, request, told, deaths=DEATHS).send()

    def _told(self, response: AddResponse | None, key: bytes, item: bytes, queue_id: int) -> None:
        if response is None:  # the process has died; the next one begins with the same key
            self._id, self._sequence = next(self._producer_ids), 0
        else:
            [outcome] = response.results
            self._books.note("named", item, outcome.status, outcome.first_cursor)
            if outcome.status == Status.ALREADY_EXISTS:
                self._books.keys.was_refused(key, item)
            elif outcome.status != Status.OK or outcome.count != 1:
                raise Violation(f"a good item under {key!r} was answered {outcome}")
            else:
                queue_id = outcome.queue_id if outcome.by_key else queue_id
                self._books.keys.stored(key, item, queue_id, outcome.first_cursor)
                self._books.reference.check_added(queue_id, outcome.first_cursor, [item])
                self._books.ledger.was_acknowledged((STORE_ID, queue_id), outcome.first_cursor, item)
            self._todo.pop()
        self._cluster.world.call_later(self._random.uniform(0, 0.4), self.start)
