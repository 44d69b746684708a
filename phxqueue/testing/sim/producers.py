"""Producers of the simulation: they retry under the same sequence until they know, and write everything down.

They speak the wire protocol's requests to the real service, but are far simpler than the client library: what is under
test is what the store promises to *any* client that keeps the protocol.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from xxhash import xxh3_64_intdigest

from phxqueue.net.status import RpcError, Status
from phxqueue.producer.confirmed import Known
from phxqueue.proto.digest import MASK64
from phxqueue.proto.item_pb2 import BatchHeader, ItemBatch, QItem, QItems
from phxqueue.proto.methods import ADD
from phxqueue.proto.store_pb2 import AddRequest, AddResponse
from phxqueue.testing.sim.books import Books
from phxqueue.testing.sim.calls import Answer, Caller
from phxqueue.testing.sim.checkers import Violation
from phxqueue.testing.sim.cluster import Cluster
from phxqueue.testing.sim.repeaters import SHARE as REPEATED
from phxqueue.testing.sim.repeaters import Repeater
from phxqueue.testing.sim.reporters import Reporter
from phxqueue.testing.sim.workload import PUB_ID, STORE_ID, TOPIC_ID

RESTART = 0.01
"""Probability, per answer that did not come, that the producer's process has died meanwhile."""
ABANDON = 0.1
"""Probability, per refusal, that the application gives the batch up, if it surely was not stored."""


@dataclass(slots=True)
class _Batch:
    """One batch under way. `floor`: the acknowledged end of its queue when it was sent first."""

    queue_id: int
    items: list[bytes]
    floor: int
    token: int


class LedgerProducer:
    """One producer process: several lanes, whose sequences are drawn from one counter and arrive in any order.

    Attributes:
        unheard: by the id of a process that died: items under way then. Some may be stored; nobody is told.
    """

    def __init__(self, cluster: Cluster, books: Books, producer_ids: Iterator[int]) -> None:
        self.lanes: list[Lane] = []
        self.cluster = cluster
        self.books = books
        self._producer_ids = producer_ids
        self.reporters: list[Reporter] = []
        self.producer_id = 0
        self.unheard: dict[int, int] = {}
        self.restart()

    def restart(self) -> None:
        """Start over as another process: a new id, and no memory of what is under way."""
        self.unheard[self.producer_id] = sum(lane.under_way for lane in self.lanes)
        self.producer_id = next(self._producer_ids)
        self._sequence = 0
        if self.books.workload.reporting:
            for reporter in self.reporters:
                reporter.dead = reporter.dead or not reporter.done
            known = partial(self._known, self.producer_id)
            self.reporters.append(Reporter(self.cluster, self.books.keeping, self.producer_id, known))
        for lane in self.lanes:
            lane.forget()

    def _known(self, producer_id: int) -> Known:
        """Every batch but those under way has an outcome, and none was given up that may have been stored."""
        if producer_id != self.producer_id:
            return Known()  # a process that is no more
        first = min((lane.first_under_way for lane in self.lanes), default=math.inf)
        return Known(0, int(min(first - 1, self._sequence)), self._sequence)

    def sequence(self) -> int:
        """Return the next sequence number."""
        self._sequence += 1
        return self._sequence

    @property
    def done(self) -> bool:
        """Whether all lanes have sent everything."""
        return all(lane.done for lane in self.lanes)

    @property
    def reported(self) -> bool:
        """Whether everything that was confirmed to its last process is reported."""
        return all(reporter.done for reporter in self.reporters)

    def confirmed(self, request: AddRequest, response: AddResponse) -> None:
        """A request was answered."""
        if self.reporters:
            self.reporters[-1].confirmed(request.batches, response.results)


class Lane:
    """The batches of one key: one after another, each retried under its sequence until its outcome is known.

    A request carries one batch, sometimes two, the second perhaps to another queue of the same Paxos group.
    """

    def __init__(self, producer: LedgerProducer, number: int, queue_id: int, batches: int) -> None:
        self._producer = producer
        self._cluster = producer.cluster
        self._books = producer.books
        self._random = producer.cluster.world.random
        self._number = number
        self._queue_id = queue_id
        self._left = batches
        self._caller = Caller(self._cluster, self._books.workload.refusals)
        self._items = 0
        self._batches: list[_Batch] = []
        self._request = AddRequest()
        self._generation = 0
        self._maybe_stored = False
        self._waiting = False

    @property
    def done(self) -> bool:
        """Whether everything has been sent and has an outcome."""
        return self._left <= 0

    @property
    def under_way(self) -> int:
        """Items of batches that have been sent and have no outcome."""
        return sum(len(batch.items) for batch in self._batches) if self._waiting else 0

    @property
    def first_under_way(self) -> float:
        """The lowest sequence that has no outcome; infinity: there is none."""
        return self._request.batches[0].header.sequence if self._waiting else math.inf

    def start(self) -> None:
        """Send the next batch, if there is one left."""
        if self.done:
            return
        self._batches = [self._make_batch(queue_id) for queue_id in self._queues()]
        self._request = AddRequest(topic_id=TOPIC_ID, store_id=STORE_ID)
        for batch in self._batches:
            self._request.batches.append(self._encode(batch))
        self._maybe_stored = False
        self._waiting = True
        self._send()

    def forget(self) -> None:
        """The process has died; whatever is under way has an outcome that nobody will hear of."""
        if self.done or not self._batches:  # not begun yet
            return
        self._waiting = False
        self._generation += 1
        self._number += 1000
        self._left -= 1
        self._cluster.world.call_later(self._random.uniform(0.0, 0.5), self._start_if, self._generation)

    def _queues(self) -> list[int]:
        if self._random.random() < 0.9:
            return [self._queue_id]
        groups = self._cluster.shape.paxos_groups
        alike = [queue for queue in self._books.workload.queues if (queue - self._queue_id) % groups == 0]
        return [self._queue_id, self._random.choice(alike)]

    def _make_batch(self, queue_id: int) -> _Batch:
        workload, random = self._books.workload, self._random
        lane = (self._producer.producer_id, self._number)
        mask = workload.mask if random.random() < 0.6 else 1 << (random.choice(workload.groups) - 1)
        items = []
        for _ in range(random.choice(workload.batch_items)):
            item = b"%d/%d/%d " % (*lane, self._items) + bytes(random.choice(workload.item_bytes))
            self._books.offered(lane, self._items, item, mask)
            self._items += 1
            items.append(item)
        token = self._books.recording.append(f"producer {lane[0]} lane {lane[1]}", queue_id, items)
        return _Batch(queue_id, items, self._books.reads.acknowledged_end(queue_id), token)

    def _encode(self, batch: _Batch) -> ItemBatch:
        header = BatchHeader(
            queue_id=batch.queue_id,
            pub_id=PUB_ID,
            consumer_group_ids=self._books.ledger.mask(batch.items[0]),
            count=len(batch.items),
            producer_id=self._producer.producer_id,
            sequence=self._producer.sequence(),
        )
        if self._books.workload.reporting:
            header.digest_sum = sum(map(xxh3_64_intdigest, batch.items)) & MASK64
        items = QItems(items=[QItem(buffer=item) for item in batch.items]).SerializeToString()
        return ItemBatch(header=header, items=items)

    def _send(self) -> None:
        generation = self._generation

        def answered(result: Answer) -> None:
            if generation == self._generation:
                self._answered(result)

        self._caller.call(ADD, self._request, answered)

    def _answered(self, result: Answer) -> None:
        if isinstance(result, AddResponse):
            self._stored(result)
            return
        if result is None or (isinstance(result, RpcError) and result.maybe_executed):
            self._maybe_stored = True
            if self._random.random() < RESTART:
                self._producer.restart()
                return
        elif not self._maybe_stored and self._random.random() < ABANDON:
            for batch in self._batches:
                self._books.recording.not_appended(batch.token)
                for item in batch.items:
                    self._books.ledger.was_refused(item)
            self._next()
            return
        generation = self._generation
        self._cluster.world.call_later(self._random.uniform(0.005, 0.05), self._again, generation)

    def _again(self, generation: int) -> None:
        if generation == self._generation:
            self._send()

    def _stored(self, response: AddResponse) -> None:
        self._producer.confirmed(self._request, response)
        for batch, outcome in zip(self._batches, response.results, strict=True):
            if outcome.status != Status.OK or outcome.count != len(batch.items):
                raise Violation(f"a good batch of {len(batch.items)} items was answered {outcome}")
            self._books.recording.appended(batch.token, outcome.first_cursor)
            self._books.added(batch.queue_id, batch.floor, outcome.first_cursor, batch.items)
        if self._books.workload.repeaters and self._random.random() < REPEATED:
            refusals = self._books.workload.refusals
            Repeater(self._cluster, self._request, response.results, refusals).start()
        self._next()

    def _next(self) -> None:
        self._waiting = False
        self._left -= 1
        think = self._random.uniform(0, self._books.workload.think)
        self._cluster.world.call_later(think, self._start_if, self._generation)

    def _start_if(self, generation: int) -> None:
        if generation == self._generation:
            self.start()
