"""A consumer group that is created while everything runs, and its readers."""

from __future__ import annotations

from phxqueue.proto.item_pb2 import QItems
from phxqueue.proto.methods import CREATE_GROUP, GET
from phxqueue.proto.store_pb2 import CreateGroup, CreateGroupRequest, GetRequest, GetResponse, GroupChangeResponse
from phxqueue.testing.sim.books import Books
from phxqueue.testing.sim.calls import Answer, Caller
from phxqueue.testing.sim.checkers import Violation
from phxqueue.testing.sim.cluster import Cluster
from phxqueue.testing.sim.workload import PUB_ID, STORE_ID, TOPIC_ID

FOUNDED = 33
"""The group; no other has its id."""
FORGET = 0.02
"""Probability, per answer, that the reader dies and another takes over, knowing nothing."""
EARLIEST, LATEST = 0, 1


class Founder:
    """Creates the group in one Paxos group after the other; asks until it knows."""

    def __init__(self, cluster: Cluster, books: Books) -> None:
        self.readers: list[FoundedReader] = []
        self._cluster = cluster
        self._books = books
        self._caller = Caller(cluster)
        self._left = list(range(cluster.shape.paxos_groups))
        books.founding.earliest = bool(len(books.workload.queues) % 2)  # as good as any coin, and no draw
        self._start_ms = EARLIEST if books.founding.earliest else LATEST

    @property
    def done(self) -> bool:
        """Whether the group is created everywhere."""
        return not self._left

    def start(self) -> None:
        """Begin, at some time in the midst of things."""
        self._cluster.world.call_later(self._cluster.world.random.uniform(0.2, 2.0), self._send)

    def _queues(self) -> list[int]:
        groups = self._cluster.shape.paxos_groups
        return [queue_id for queue_id in self._books.workload.queues if queue_id % groups == self._left[0]]

    def _send(self) -> None:
        for queue_id in self._queues():
            self._books.founding.asked(queue_id, self._cluster.world.now)
        request = CreateGroupRequest(
            topic_id=TOPIC_ID,
            store_id=STORE_ID,
            paxos_group=self._left[0],
            consumer_group_id=FOUNDED,
            create=CreateGroup(pub_ids=[PUB_ID], start_ms=self._start_ms),
        )
        self._caller.call(CREATE_GROUP, request, self._answered)

    def _answered(self, result: Answer) -> None:
        world = self._cluster.world
        if not isinstance(result, GroupChangeResponse):
            world.call_later(world.random.uniform(0.005, 0.05), self._send)
            return
        for queue_id in self._queues():
            self._books.founding.created(queue_id, world.now)
            reader = FoundedReader(self._cluster, self._books, queue_id)
            self.readers.append(reader)
            reader.start()
        self._left.pop(0)
        if self._left:
            world.call_later(world.random.uniform(0, 0.3), self._send)


class FoundedReader:
    """Reads one queue for the group, as a client that claims nothing."""

    def __init__(self, cluster: Cluster, books: Books, queue_id: int) -> None:
        self.queue_id = queue_id
        self.position = 0
        self._cluster = cluster
        self._books = books
        self._caller = Caller(cluster)
        self._next: int | None = None
        self._generation = 0

    def start(self) -> None:
        """Begin."""
        self._get()

    def _get(self) -> None:
        request = GetRequest(
            topic_id=TOPIC_ID, store_id=STORE_ID, queue_id=self.queue_id, consumer_group_id=FOUNDED, limit=20,
            wait_ms=200,
        )  # fmt: skip
        if self._next is not None:
            request.next_cursor = request.prev_cursor = self._next
            request.generation = self._generation
            self._books.cursors.asked((self.queue_id, FOUNDED), self._next, self._generation)
        self._caller.call(GET, request, self._answered)

    def _answered(self, result: Answer) -> None:
        world, random = self._cluster.world, self._cluster.world.random
        if not isinstance(result, GetResponse):
            world.call_later(random.uniform(0.01, 0.1), self._get)
            return
        if self._next is None:
            self._books.founding.began(self.queue_id, result.prev_cursor)
        start = result.prev_cursor if self._next is None or result.reset else self._next
        got: dict[int, bytes] = {}
        for batch in result.batches:
            if not batch.header.consumer_group_ids >> (FOUNDED - 1) & 1:
                raise Violation(
                    f"queue {self.queue_id}: a batch that does not name group {FOUNDED} was delivered to it"
                )
            items = QItems.FromString(batch.items).items
            got.update((batch.first_cursor + place, item.buffer) for place, item in enumerate(items))
        self._books.note("founded got", self.queue_id, sorted(got))
        self._books.founding.received(self.queue_id, {cursor: item for cursor, item in got.items() if cursor >= start})
        self.position = self._next = result.next_cursor
        self._generation = result.generation
        if random.random() < FORGET:
            self._next = None
        world.call_later(random.uniform(0, 0.02), self._get)
