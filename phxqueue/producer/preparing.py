"""Half messages on a producer's side: how one gets into its queue's group, and how it is decided afterwards."""

from __future__ import annotations

from collections.abc import Collection

from twisted.internet.defer import Deferred, fail

from phxqueue.producer.dispatch import Dispatch
from phxqueue.producer.errors import EnqueueError, InvalidItem
from phxqueue.producer.halves import Half, HalfEntry, HalfId, HalfItem, decide_half
from phxqueue.producer.plans import Planner
from phxqueue.producer.receipts import Receipt
from phxqueue.producer.surroundings import Stats
from phxqueue.proto.store_pb2 import HalfState


class Preparing:
    """The half messages of one producer.

    Args:
        planner, dispatch, stats: the producer's.
        name: by which stores find somebody to ask about half messages; "": there is none, and nothing can be prepared.
    """

    def __init__(self, planner: Planner, dispatch: Dispatch, stats: Stats, name: str) -> None:
        self._planner = planner
        self._dispatch = dispatch
        self._stats = stats
        self._name = name

    def prepare(
        self, item: HalfItem, consumer_group_ids: Collection[int] | None, ttl: float, check_back_after: float
    ) -> Deferred[Half]:
        """Store an item that nobody sees before it is committed. See `Producer.prepare`."""
        try:
            entry = self._entry(item, consumer_group_ids, ttl, check_back_after)
        except EnqueueError:
            self._stats.refused += 1
            return fail()
        entry.make = lambda half_id: self.known(half_id, item)
        deferred = entry.deferred = Deferred(entry.cancel)
        self._stats.enqueued += 1
        self._dispatch.admit(entry)
        return deferred

    def half(self, half_id: str) -> Half:
        """A half message by its name. Raises InvalidItem: it is no such name."""
        try:
            return self.known(HalfId.parse(half_id), None)
        except ValueError as error:
            raise InvalidItem(str(error)) from None

    def known(self, half_id: HalfId, item: HalfItem | None) -> Half:
        """A half message to be decided; `item`: what is in it, if that is known."""
        return Half(self._decide, half_id, item)

    def _entry(
        self, item: HalfItem, consumer_group_ids: Collection[int] | None, ttl: float, check_back_after: float
    ) -> HalfEntry:
        planner = self._planner
        if not self._dispatch.turn_open:
            self._dispatch.open_turn()
        if not self._name:
            raise InvalidItem(
                "prepare needs a producer with a name, by which the store finds somebody to ask about half "
                'messages: Producer.connect(..., name="payments", check_back=...)'
            )
        plan = planner.plan(item.pub_id, item.handle_id, consumer_group_ids)
        if plan.info.drop_all:
            raise InvalidItem(f"queue_info {plan.info.queue_info_id} has drop_all: nothing can be prepared for it")
        target, key = planner.target(plan, item.uin)
        expires_ms = planner.times(0.0, None, ttl)[1] if ttl else 0
        target = planner.prepared(target, self._name, check_back_after)
        payload, digest = planner.encode(plan, item.buffer, item.uin, item.client_id, item.user_cookies, expires_ms)
        return HalfEntry(target, key, 1, payload, digest, planner.now, planner.atime_ms)

    def _decide(self, half_id: HalfId, decision: HalfState.ValueType) -> Deferred[Receipt | None]:
        topic = self._planner.table.topic
        return Deferred.fromCoroutine(decide_half(self._dispatch.surroundings, topic, half_id, decision))
