"""Operators who create a consumer group while everything runs, and perhaps delete it, and create it again."""

from __future__ import annotations

from random import Random
from typing import Any

from phxqueue.proto.methods import CREATE_GROUP, DELETE_GROUP, Method
from phxqueue.proto.store_pb2 import CreateGroup, CreateGroupRequest, DeleteGroupRequest, GroupChangeResponse
from phxqueue.testing.sim.books import Books
from phxqueue.testing.sim.calls import Answer, Caller
from phxqueue.testing.sim.cluster import Cluster
from phxqueue.testing.sim.founded import FOUNDED, FoundedReader
from phxqueue.testing.sim.workload import PUB_ID, STORE_ID, TOPIC_ID

DELETED = 0.5
"""Probability that the group is deleted again."""
RECREATED = 0.6
"""Probability, then, that it is created once more."""
EARLIEST, LATEST = 0, 1


class Founder:
    """Takes one step after the other, each in one Paxos group after the other; asks until it knows.

    Attributes:
        readers: of the group, as long as there is one.
    """

    def __init__(self, cluster: Cluster, books: Books, whims: Random) -> None:
        self.readers: list[FoundedReader] = []
        self._cluster = cluster
        self._books = books
        self._random = cluster.world.random
        self._caller = Caller(cluster)
        self._steps = ["create"]
        if whims.random() < DELETED:  # drawn apart, so that a group which is created only is what it was without this
            self._steps += ["delete", "create"] if whims.random() < RECREATED else ["delete"]
        self._left = self._everywhere()
        self._earliest = bool(len(books.workload.queues) % 2)  # as good as any coin, and no draw

    @property
    def done(self) -> bool:
        """Whether every step is taken everywhere."""
        return not self._steps

    def start(self) -> None:
        """Begin, at some time in the midst of things."""
        self._cluster.world.call_later(self._random.uniform(0.2, 2.0), self._send)

    def _everywhere(self) -> list[int]:
        return list(range(self._cluster.shape.paxos_groups))

    def _queues(self) -> list[int]:
        groups = self._cluster.shape.paxos_groups
        return [queue_id for queue_id in self._books.workload.queues if queue_id % groups == self._left[0]]

    def _send(self) -> None:
        founding, now = self._books.founding, self._cluster.world.now
        creates = self._steps[0] == "create"
        for queue_id in self._queues():
            if creates:
                founding.asked(queue_id, now, earliest=self._earliest)
            else:
                founding.deleting(queue_id)
        method: Method[Any, Any] = CREATE_GROUP if creates else DELETE_GROUP
        self._caller.call(method, self._creation() if creates else self._deletion(), self._answered)

    def _creation(self) -> CreateGroupRequest:
        start_ms = EARLIEST if self._earliest else LATEST
        return CreateGroupRequest(
            topic_id=TOPIC_ID,
            store_id=STORE_ID,
            paxos_group=self._left[0],
            consumer_group_id=FOUNDED,
            create=CreateGroup(pub_ids=[PUB_ID], start_ms=start_ms),
        )

    def _deletion(self) -> DeleteGroupRequest:
        return DeleteGroupRequest(
            topic_id=TOPIC_ID, store_id=STORE_ID, paxos_group=self._left[0], consumer_group_id=FOUNDED
        )

    def _answered(self, result: Answer) -> None:
        world, random = self._cluster.world, self._random
        if not isinstance(result, GroupChangeResponse):
            world.call_later(random.uniform(0.005, 0.05), self._send)
            return
        self._books.note("group", self._steps[0], self._left[0])
        for queue_id in self._queues():
            if self._steps[0] == "create":
                self._open(queue_id)
            else:
                self._books.founding.deleted(queue_id)
        self._left.pop(0)
        if self._left:
            world.call_later(random.uniform(0, 0.3), self._send)
            return
        self._steps.pop(0)
        self._left = self._everywhere()
        if self._steps:
            self._earliest = self._earliest if self._steps[0] == "delete" else not self._earliest
            world.call_later(random.uniform(0.2, 1.2), self._send)

    def _open(self, queue_id: int) -> None:
        self._books.founding.created(queue_id, self._cluster.world.now)
        for reader in [reader for reader in self.readers if reader.queue_id == queue_id]:
            self.readers.remove(reader)
            reader.replaced()
        reader = FoundedReader(self._cluster, self._books, queue_id)
        self.readers.append(reader)
        reader.start()
