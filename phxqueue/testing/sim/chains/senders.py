"""Enqueues items that will walk the chain, one after another, each until it is stored."""

from __future__ import annotations

from collections.abc import Callable

from phxqueue.proto.item_pb2 import Meta, QItem
from phxqueue.proto.origin import Origin
from phxqueue.testing.sim.books import Books
from phxqueue.testing.sim.chains.fates import FATES, FIRST_QUEUE, GROUPS, PUB_ID
from phxqueue.testing.sim.chains.handlers import Errand, batch_of
from phxqueue.testing.sim.cluster import Cluster

ITEMS = 30
THINK = 0.15
"""Longest pause between two items, in seconds."""


class Sender:
    """One producer of the chain's pub."""

    def __init__(self, cluster: Cluster, books: Books, producer_id: int, items: int = ITEMS) -> None:
        self._cluster = cluster
        self._books = books
        self._random = cluster.world.random
        self._id = producer_id
        self._sent = 0
        self._items = items

    @property
    def done(self) -> bool:
        """Whether everything has been stored."""
        return self._sent == self._items

    def start(self) -> None:
        """Send the next one, if there is one left."""
        if not self.done:
            self.send(self._random.choice(list(FATES)), self._next)

    def send(self, kind: bytes, done: Callable[[int], None]) -> None:
        """Send an item of that kind."""
        number = self._sent + 1
        buffer = b"%s %d/%d" % (kind, self._id, number)
        mask = sum(1 << (group - 1) for group in GROUPS)
        item = QItem(buffer=buffer, meta=Meta(producer_id=self._id, number=number, handle_id=1, pub_id=PUB_ID))
        self._books.chains.offered(buffer)
        batch = batch_of(item, FIRST_QUEUE, mask, self._id, number, Origin.NEW)
        Errand(self._cluster, batch, done).run()

    def _next(self, cursor: int) -> None:
        self._sent += 1
        self._cluster.world.call_later(self._random.uniform(0, THINK), self.start)
