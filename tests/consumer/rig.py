"""A consumer and a producer on a clock that only tests move, against the store in memory."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from phxqueue.config import Cluster, Consumer, ConsumerNode, Topic, group_bit
from phxqueue.consumer import ConsumerService, ConsumerSettings, Result
from phxqueue.consumer.items import Context, Item
from phxqueue.proto.digest import MASK64, item_digest
from phxqueue.proto.store_pb2 import GetRequest
from tests.producer import rig as producer_rig
from tests.producer.fake_store import FakeStore

ME = Consumer(ip="127.0.0.1", port=8001)


class Rig(producer_rig.Rig):
    """Clock, store, producer and consumers of group 1 (and whichever groups are asked for)."""

    def __init__(
        self,
        handle: Callable[[Context, Item], Any] | None = None,
        *,
        topic: Topic | None = None,
        groups: tuple[int, ...] = (1,),
        seed: int = 1,
        start: bool = True,
        **settings: Any,
    ) -> None:
        super().__init__(topic, seed=seed)
        object.__setattr__(self.topic, "consumers", (ME,))
        self.groups = groups
        self.settings = ConsumerSettings(**settings)
        self.handled: list[bytes] = []
        self.contexts: list[Context] = []
        self.handlers: dict[int, Callable[[Context, Item], Any]] = {1: handle or self.note, 2: handle or self.note}
        self.acks = AckChecker(self.store)
        self.service = self.make_service()
        if start:
            self.service.startService()

    def make_service(self) -> ConsumerService:
        """A consumer process; a new one takes the place of one that is gone."""
        node = ConsumerNode(
            cluster=Cluster(topics=(self.topic,)),
            topic=self.topic,
            consumer=ME,
            consumer_group_ids=self.groups,
            handlers={},
        )
        return ConsumerService(
            node,
            self.store,
            self.producer,
            self.handlers,
            self.clock,
            settings=self.settings,
            random=random.Random(1),
            wall=self.clock.seconds,
        )

    def note(self, context: Context, item: Item) -> Result:
        """The usual handler: remembers the item."""
        self.handled.append(item.buffer)
        self.contexts.append(context)
        return Result.OK

    def enqueue(self, *buffers: bytes, uin: int = 0, handle_id: int = 1, pub_id: int = 1) -> None:
        """Put items into the store, and let them be handled."""
        for buffer in buffers:
            self.producer.enqueue(pub_id, handle_id, buffer, uin)
        self.run(0.02)

    def stop(self) -> list[Any]:
        """Stop the consumer; what that comes to."""
        return producer_rig.watch(self.service.stopService())

    def unacknowledged(self, group_id: int = 1) -> int:
        """Items of a group in all queues that are not acknowledged."""
        return sum(
            batch.header.count
            for (store_id, queue_id), queue in self.store.queues.items()
            if queue_id < 1 << 20
            for batch in queue.batches
            if batch.header.consumer_group_ids & group_bit(group_id)
            and batch.first + batch.header.count > self.store.acked[store_id, queue_id, group_id]
        )


class AckChecker:
    """Checks every acknowledgement as the store's reconciliation would: count and digests of exactly that range."""

    def __init__(self, store: FakeStore) -> None:
        self._store = store
        self._get = store._get
        self.checked = 0
        self.wrong: list[str] = []
        store._get = self._checked  # type: ignore[method-assign]

    def off(self) -> None:
        """Check no more."""
        self._store._get = self._get  # type: ignore[method-assign]

    def _checked(self, request: GetRequest, answer: Any) -> None:
        if request.HasField("prev_cursor"):
            self._check(request)
        self._get(request, answer)

    def _check(self, request: GetRequest) -> None:
        """The claims reach without a gap from below what is acknowledged to what is to be, and each of them is true."""
        place = (request.store_id, request.queue_id)
        acked = self._store.acked[(*place, request.consumer_group_id)]
        position = request.claims[0].start
        if position > acked:
            self.wrong.append(f"{place}: claims begin at {position}, {acked} is acknowledged")
        for claim in request.claims:
            count, digests = self._stored(place, request.consumer_group_id, claim.start, claim.stop)
            if (claim.start, claim.count, claim.digest_sum) != (position, count, digests):
                self.wrong.append(f"{place}: [{position}, {claim.stop}) has {count} items, claimed is {claim}")
            position = claim.stop
        if position != request.prev_cursor:
            self.wrong.append(f"{place}: claims end at {position}, acknowledged is {request.prev_cursor}")
        self.checked += 1

    def _stored(self, place: tuple[int, int], consumer_group_id: int, start: int, stop: int) -> tuple[int, int]:
        count, digests = 0, 0
        for batch in self._store.queues[place].batches:
            if not batch.header.consumer_group_ids & group_bit(consumer_group_id):
                continue
            for cursor, item in enumerate(self._store.items_of(batch), batch.first):
                if start <= cursor < stop:
                    count += 1
                    digests += item_digest(item.meta.producer_id, item.meta.number, item.buffer)
        return count, digests & MASK64
