"""Readers of a consumer group that was created while everything runs."""

from __future__ import annotations

from phxqueue.net.status import RpcError, Status
from phxqueue.proto.item_pb2 import QItems
from phxqueue.proto.methods import GET
from phxqueue.proto.store_pb2 import GetRequest, GetResponse
from phxqueue.testing.sim.books import Books
from phxqueue.testing.sim.calls import Answer, Caller
from phxqueue.testing.sim.checkers import Violation
from phxqueue.testing.sim.checkers.cursors import Stand
from phxqueue.testing.sim.checkers.founding import Expected
from phxqueue.testing.sim.cluster import Cluster
from phxqueue.testing.sim.workload import STORE_ID, TOPIC_ID

FOUNDED = 33
"""The group; no other has its id."""
FORGET = 0.02
"""Probability, per answer, that the reader dies and another takes over, knowing nothing."""


class FoundedReader:
    """Reads one queue for the group, as a client that claims nothing, until there is no such group any more.

    Attributes:
        position: how far it has read.
        refused: it was told that there is no such group.
    """

    def __init__(self, cluster: Cluster, books: Books, queue_id: int) -> None:
        self.queue_id = queue_id
        self.position = 0
        self.refused = False
        self._cluster = cluster
        self._books = books
        self._caller = Caller(cluster, frozenset({Status.INVALID_ARGUMENT}))
        self._next: int | None = None
        self._generation = 0
        self._replaced = False

    def start(self) -> None:
        """Begin."""
        self._get()

    def replaced(self) -> None:
        """The group is another one by now, with a reader of its own: nobody may listen to this one."""
        self._replaced = True
        if self._next is not None:
            self._get()

    def finished(self, end: int) -> bool:
        """Whether it has nothing more to read of a queue that ends there."""
        return self.position >= end or self.refused

    def _get(self) -> None:
        request = GetRequest(
            topic_id=TOPIC_ID, store_id=STORE_ID, queue_id=self.queue_id, consumer_group_id=FOUNDED, limit=20,
            wait_ms=200,
        )  # fmt: skip
        if self._replaced:
            request.limit = 0
        key = self.queue_id, FOUNDED
        if self._next is not None:
            request.next_cursor = request.prev_cursor = self._next
            request.generation = self._generation
            self._books.cursors.asked(key, self._next, self._generation)
        floor = self._books.cursors.replicated_floor(key)
        expected = self._books.founding.expect(self.queue_id)
        self._caller.call(GET, request, lambda result: self._answered(result, floor, expected))

    def _answered(self, result: Answer, floor: Stand, expected: Expected) -> None:
        world, random, founding = self._cluster.world, self._cluster.world.random, self._books.founding
        if not isinstance(result, GetResponse):
            self.refused = isinstance(result, RpcError) and result.status is Status.INVALID_ARGUMENT
            if self.refused:
                founding.refused(self.queue_id, expected)
            elif not self._replaced:
                world.call_later(random.uniform(0.01, 0.1), self._get)
            return
        founding.answered(self.queue_id, expected)
        self._books.cursors.answered((self.queue_id, FOUNDED), floor, (result.generation, result.prev_cursor))
        if self._replaced:
            return
        self._take(result)
        if random.random() < FORGET:
            self._next = None
        world.call_later(random.uniform(0, 0.02), self._get)

    def _take(self, result: GetResponse) -> None:
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
        new = {cursor: item for cursor, item in got.items() if cursor >= start}
        self._books.founding.received(self.queue_id, result.generation, new)
        self.position = self._next = result.next_cursor
        self._generation = result.generation
