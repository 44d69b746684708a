"""A consumer of one queue for one group, which does with each item what stands in it."""

from __future__ import annotations

from collections.abc import Callable

from phxqueue.config import Topic, dead_letter_queue, group_bit
from phxqueue.consumer.cursor_window import CursorWindow
from phxqueue.consumer.slots import Slot, read_batch
from phxqueue.net.status import RpcError
from phxqueue.producer.attempts import Reason, next_attempt
from phxqueue.proto.digest import item_digest
from phxqueue.proto.item_pb2 import BatchHeader, ItemBatch, QItem, QItems
from phxqueue.proto.methods import ADD, GET
from phxqueue.proto.store_pb2 import AddRequest, AddResponse, GetRequest, GetResponse
from phxqueue.testing.sim.books import Books
from phxqueue.testing.sim.calls import Answer, Caller
from phxqueue.testing.sim.chains.fates import PUB_ID, fate_of
from phxqueue.testing.sim.cluster import Cluster
from phxqueue.testing.sim.workload import STORE_ID, TOPIC_ID

CRASH = 0.01
"""Probability, per answer, that the consumer dies and another one takes over, which knows nothing."""
WAIT_MS = 200
LIMIT = 10


def batch_of(item: QItem, queue_id: int, mask: int, producer_id: int, sequence: int, origin: int) -> ItemBatch:
    """A batch of one item."""
    meta = item.meta
    header = BatchHeader(
        queue_id=queue_id,
        pub_id=PUB_ID,
        consumer_group_ids=mask,
        count=1,
        digest_sum=item_digest(meta.producer_id, meta.number, item.buffer),
        producer_id=producer_id,
        sequence=sequence,
        origin=origin,
    )
    return ItemBatch(header=header, items=QItems(items=[item]).SerializeToString())


class Errand:
    """An Add that is made again under its sequence until it is done."""

    def __init__(self, cluster: Cluster, batch: ItemBatch, done: Callable[[int], None]) -> None:
        self._cluster = cluster
        self._request = AddRequest(topic_id=TOPIC_ID, store_id=STORE_ID, batches=[batch])
        self._done = done
        self._caller = Caller(cluster)

    def run(self) -> None:
        """Make it; `done` hears of the cursor."""
        self._caller.call(ADD, self._request, self._answered)

    def _answered(self, result: Answer) -> None:
        if isinstance(result, AddResponse):
            [outcome] = result.results
            assert not outcome.status, outcome
            self._done(outcome.first_cursor)
        else:
            world = self._cluster.world
            world.call_later(world.random.uniform(0.005, 0.05), self.run)


class Handler:
    """Reads one queue for one consumer group; acknowledges an item when its fate is sealed.

    Attributes:
        quiet: it has told the store of everything that it has got and finished.
    """

    def __init__(
        self, cluster: Cluster, books: Books, topic: Topic, key: tuple[int, int], new_id: Callable[[], int]
    ) -> None:
        self._cluster = cluster
        self._books = books
        self._topic = topic
        self._key = key
        self._new_id = new_id
        self._random = cluster.world.random
        self._caller = Caller(cluster)
        self._life = 0
        self._begin()

    def _begin(self) -> None:
        self._life += 1
        self._id, self._sequence = self._new_id(), 0
        self._window: CursorWindow[Slot] | None = None
        self._position: int | None = None
        self._unsure: dict[int, bytes] = {}  # got, and not known to be acknowledged for good

    @property
    def position(self) -> int:
        """Everything below has found its end here."""
        return -1 if self._window is None else self._window.position

    @property
    def quiet(self) -> bool:
        window = self._window
        return window is not None and not len(window) and not self._unsure

    def start(self) -> None:
        """Begin to read."""
        life = self._life
        window = self._window
        ack = None if window is None else window.take_ack()
        request = GetRequest(
            topic_id=TOPIC_ID, store_id=STORE_ID, queue_id=self._key[0], limit=LIMIT,
            consumer_group_id=self._key[1], wait_ms=WAIT_MS,
        )  # fmt: skip
        if self._position is not None:
            request.next_cursor = self._position
        if ack is not None:
            ack.write(request)
            self._books.cursors.asked(self._key, ack.stop)
        floor = self._books.cursors.replicated_floor(self._key)

        def answered(result: Answer) -> None:
            if life != self._life:
                return
            if not isinstance(result, GetResponse):
                if ack is not None and self._window is not None:
                    self._window.give_back(ack)
                self._cluster.world.call_later(self._random.uniform(0.01, 0.1), self._again, life)
                return
            self._books.cursors.answered(self._key, floor, (result.generation, result.prev_cursor))
            if self._window is None:
                self._window = CursorWindow(result.prev_cursor)
            elif ack is not None and not result.reset:
                self._window.confirm(ack)
            self._got(self._window, result)
            if self._random.random() < CRASH:
                self._crash()
            self._cluster.world.call_later(self._random.uniform(0, 0.02), self._again, self._life)

        self._caller.call(GET, request, answered)

    def _again(self, life: int) -> None:
        if life == self._life:
            self.start()

    def _got(self, window: CursorWindow[Slot], response: GetResponse) -> None:
        if response.reset:
            for slot in window.advance(response.prev_cursor):
                slot.stale = True
        else:
            window.told(response.prev_cursor, response.durable_cursor)
        for cursor in [cursor for cursor in self._unsure if cursor < response.durable_cursor]:
            del self._unsure[cursor]
        for batch in response.batches:
            found = list(read_batch(batch, window.end, group_bit(self._key[1]), keyed=False))
            window.extend([slot for slot, _ in found], batch.first_cursor + batch.header.count)
            for slot, ours in found:
                if ours:
                    self._unsure[slot.cursor] = slot.message.buffer
                    pause = self._random.uniform(0, 0.05)
                    self._cluster.world.call_later(pause, self._handle, self._life, slot)
                else:
                    window.finish(slot)
        window.extend((), response.next_cursor)
        self._position = response.next_cursor

    def _crash(self) -> None:
        """Whatever is not acknowledged for good will be handled again."""
        for item in self._unsure.values():
            self._books.chains.may_repeat(item, self._key[1])
        self._begin()

    def _handle(self, life: int, slot: Slot) -> None:
        if life != self._life or slot.stale:
            return
        fate = fate_of(slot.message.buffer)
        if slot.message.count >= fate.fails and not fate.late:
            self._finish(life, slot)
            return
        attempt = next_attempt(
            self._topic,
            slot.message,
            self._key[1],
            0,
            "as it was told",
            dead=fate.reason == Reason.DEAD.value,
            expired=fate.late,
        )
        if attempt.dropped:
            slot.dropped = True
            self._finish(life, slot)
            return
        queue_id = dead_letter_queue(PUB_ID) if attempt.info is None else attempt.info.queue_ids[0]
        self._sequence += 1
        mask = attempt.item.consumer_group_ids
        batch = batch_of(attempt.item, queue_id, mask, self._id, self._sequence, attempt.origin)
        Errand(self._cluster, batch, lambda cursor: self._finish(life, slot)).run()

    def _finish(self, life: int, slot: Slot) -> None:
        if life == self._life and self._window is not None and not slot.stale:
            if slot.dropped:
                self._window.drop(slot)
            else:
                self._window.finish(slot)


class Letters:
    """Reads the dead-letter queue whole, without moving anything."""

    def __init__(self, cluster: Cluster, queue_id: int) -> None:
        self.found: list[QItem] = []
        self.done = False
        self._cluster = cluster
        self._queue_id = queue_id
        self._caller = Caller(cluster)

    def start(self) -> None:
        """Begin."""
        request = GetRequest(
            topic_id=TOPIC_ID, store_id=STORE_ID, queue_id=self._queue_id, limit=200, random=True,
            next_cursor=len(self.found),
        )  # fmt: skip
        self._caller.call(GET, request, self._answered)

    def _answered(self, result: Answer) -> None:
        if isinstance(result, GetResponse):
            for batch in result.batches:
                items = QItems.FromString(batch.items).items
                self.found.extend(items[max(0, len(self.found) - batch.first_cursor) :])
            if len(self.found) >= result.end_cursor:
                self.done = True
                return
        self._cluster.world.call_later(0.01 if isinstance(result, RpcError) or result is None else 0.0, self.start)
