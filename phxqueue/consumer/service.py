"""The consumer daemon: one process, many queues.

Every queue of a group has one owner among the consumers that serve the group, by weighted consistent hash over the
weights in consumerconfig.conf (assignment.py); each owned queue gets a Worker. All workers share the handler slots, the
bound on memory, the producer for later attempts, and the connections.
"""

from __future__ import annotations

import random as random_module
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from phxqueue.config import DEAD_LETTER_BASE, ConsumerNode, SkipInfo, Topic, UnknownIdError
from phxqueue.consumer.assignment import Queue, Ring, owned
from phxqueue.consumer.handlers import Handle, Handler
from phxqueue.consumer.items import Place
from phxqueue.consumer.limits import Limit, Share, Throttle, by_group, combined, limits_of_files, owned_share
from phxqueue.consumer.next_attempts import Ordering
from phxqueue.consumer.settings import ConsumerSettings
from phxqueue.consumer.sharing import Budget, HandlerSlots, StoreHealth
from phxqueue.consumer.slots import Slot
from phxqueue.consumer.speed import Speed
from phxqueue.consumer.worker import Source, Worker
from phxqueue.consumer.workshop import Retrier, Stats, Workshop
from phxqueue.producer.routes import store_route
from phxqueue.producer.sender import Caller

Owned = tuple[int, int, int]
"""(consumer_group_id, store_id, queue_id)"""


class ConsumerService(Service):
    """Consumes the queues that one consumer process owns.

    Args:
        node: its configuration.
        caller: makes calls (net.routing.MasterClient).
        retrier: takes later attempts and dead letters (a Producer of the same topic); not closed by this service.
        handlers: by handle_id; see handlers.load_handlers.
        clock: the reactor.
        settings: bounds and times; None: what the node's file says.
        wall: the time of day, Unix seconds.
    """

    log = Logger()

    def __init__(
        self,
        node: ConsumerNode,
        caller: Caller,
        retrier: Retrier,
        handlers: Mapping[int, Handle | Handler],
        clock: IReactorTime,
        *,
        settings: ConsumerSettings | None = None,
        random: random_module.Random | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.setName(f"consumer {node.consumer.address}")  # type: ignore[no-untyped-call]
        self.settings = settings or ConsumerSettings.from_node(node)
        self.stats = Stats()
        self._node = node
        self._caller = caller
        self._clock = clock
        self._budget = Budget(self.settings.prefetch_size, self.settings.min_fetch_size, clock)
        self._health: dict[tuple[int, int], StoreHealth] = {}  # by store and Paxos group
        self._workers: dict[Owned, Worker] = {}
        self._leaving: dict[Owned, Deferred[None]] = {}
        self._set_later = Throttle()
        self.speed = Speed(clock, self._owned_share)
        self._workshop = Workshop(
            clock=clock,
            settings=self.settings,
            stats=self.stats,
            slots=HandlerSlots(self.settings.nhandler, clock),
            handlers=handlers,
            retrier=retrier,
            speed=self.speed,
            wall=wall,
            jitter=(random or random_module.Random()).random,
        )

    @property
    def queues(self) -> tuple[Owned, ...]:
        """The queues being consumed."""
        return tuple(sorted(self._workers))

    @property
    def at_work(self) -> int:
        """Items whose handler runs or whose next attempt is being enqueued, over all queues."""
        return sum(worker.at_work for worker in self._workers.values())

    @property
    def handlers_at_work(self) -> int:
        """Handlers that have not come to an end (plain functions end at once), over all queues."""
        return self.settings.nhandler - self._workshop.slots.free

    def startService(self) -> None:
        """Start consuming the queues this consumer owns."""
        super().startService()  # type: ignore[no-untyped-call]
        self._throttle()
        self._assign()

    def stopService(self) -> Deferred[None]:
        """Stop fetching, let handlers finish (at most `stop_timeout_s`), acknowledge what is finished."""
        super().stopService()  # type: ignore[no-untyped-call]
        for key in list(self._workers):
            self._leave(key)
        return Deferred.fromCoroutine(self._all_left())

    def reconfigure(self, node: ConsumerNode) -> None:
        """Go on with a newer configuration: queues that are no longer owned are given up, new ones are started.

        Bounds, times and handlers stay as they were.
        """
        self._node = node
        if self.running:
            self._throttle()
            self._assign()

    # -- how fast --------------------------------------------------------------------------------------

    def set_throttle(self, throttle: Throttle) -> None:
        """Limits and pauses that were set at run time: they stand before those of the files."""
        self._set_later = throttle
        if self.running:
            self._throttle()

    def set_share(self, share: Share | None) -> None:
        """Have somebody else say what part of each limit is ours (a scheduler); None: as many as our queues are."""
        self.speed.share = share or self._owned_share
        self.speed.refresh()

    def _owned_share(self, limit: Limit) -> float:
        return owned_share(self._node.topic, self._workers.keys(), limit)

    def _throttle(self) -> None:
        topic = self._node.topic
        limits = by_group(combined(limits_of_files(topic), self._set_later.limits), topic)
        self.speed.configure(Throttle(limits, self._set_later.paused))
        for worker in self._workers.values():
            worker.fetch()  # what was paused may go on

    # -- who owns what -------------------------------------------------------------------------------

    def _assign(self) -> None:
        wanted = set(my_queues(self._node))
        for key in set(self._workers) - wanted:
            self._leave(key)
        for key in sorted(wanted - set(self._workers) - set(self._leaving)):
            self._start_worker(key)
        self.speed.refresh()
        self.log.info(
            "{name}: consuming {queues} queues of consumer groups {groups}",
            name=self.name, queues=len(wanted), groups=sorted({key[0] for key in wanted}),
        )  # fmt: skip

    def _start_worker(self, key: Owned) -> None:
        group_id, store_id, queue_id = key
        topic = self._node.topic
        lane = topic.store(store_id).group_of_queue(queue_id)
        route = store_route(topic, store_id, lane)
        health = self._health.get((store_id, lane))
        if health is None:
            health = self._health[store_id, lane] = StoreHealth(route.what, self._clock)
        source = Source(
            topic_id=topic.topic_id,
            place=Place(topic.topic_name, group_id, store_id, queue_id),
            route=route,
            caller=self._caller,
            budget=self._budget,
            health=health,
            keyed=_is_keyed(topic, queue_id),
            skip=_skip_rule(topic, group_id, queue_id),
            ordering=Ordering.of_group(topic.consumer_group(group_id)),
            gate=self.speed.gate(group_id, _queue_info_id(topic, queue_id)),
            paused=partial(self._is_paused, group_id, pubs_of_queue(topic, store_id, queue_id)),
        )
        worker = self._workers[key] = Worker(source, self._workshop)
        worker.fetch()

    def _is_paused(self, group_id: int, pub_ids: Collection[int]) -> bool:
        return all(self.speed.is_paused(group_id, pub_id) for pub_id in pub_ids)

    def _leave(self, key: Owned) -> None:
        """Give a queue up; whoever gets it next continues where this consumer's acknowledgements end."""
        worker = self._workers.pop(key)
        timeout = self._clock.callLater(self.settings.stop_timeout_s, self._give_up, worker)
        left = self._leaving[key] = Deferred.fromCoroutine(worker.stop())
        left.addErrback(lambda failure: self.log.failure("{place}: stopping failed", failure, place=worker.place))
        left.addCallback(self._left, key, timeout)

    def _left(self, _: None, key: Owned, timeout: IDelayedCall) -> None:
        self._leaving.pop(key, None)
        if timeout.active():
            timeout.cancel()
        if self.running and key in my_queues(self._node):
            self._start_worker(key)  # it was given back while it was being given up
            self.speed.refresh()

    def _give_up(self, worker: Worker) -> None:
        self.log.warn(
            "{place}: {count} items still at work after {seconds:g} s (stop_timeout_s); they will be delivered again",
            place=worker.place, count=worker.at_work, seconds=self.settings.stop_timeout_s,
        )  # fmt: skip
        worker.abort()

    async def _all_left(self) -> None:
        while self._leaving:
            await DeferredList(list(self._leaving.values()))


def my_queues(node: ConsumerNode) -> list[Owned]:
    """The (group, store, queue) that a consumer owns, by the weights of its configuration."""
    topic, me = node.topic, node.consumer.address
    ignored = set(topic.settings.consumer_ignore_consumer_group_ids)
    found: list[Owned] = []
    for group_id in node.consumer_group_ids:
        if group_id in ignored:
            continue
        ring = Ring(weights_of_group(topic, group_id))
        queues: list[Queue] = list(topic.queues_of_group(group_id))
        found += [(group_id, store_id, queue_id) for store_id, queue_id in owned(ring, me, group_id, queues)]
    return found


def weights_of_group(topic: Topic, group_id: int) -> dict[str, int]:
    """The weight of every consumer that serves a group, by its address."""
    return {
        consumer.address: consumer.scale
        for consumer in topic.consumers
        if not consumer.consumer_group_ids or group_id in consumer.consumer_group_ids
    }


def pubs_of_queue(topic: Topic, store_id: int, queue_id: int) -> tuple[int, ...]:
    """The pubs whose items may be in a queue of a store."""
    try:
        info_id = topic.queue_info_of_queue(queue_id).queue_info_id
    except UnknownIdError:
        return (queue_id - DEAD_LETTER_BASE,)
    return tuple(pub.pub_id for pub in topic.pubs_of_store(store_id) if info_id in pub.queue_info_ids)


def _queue_info_id(topic: Topic, queue_id: int) -> int:
    try:
        return topic.queue_info_of_queue(queue_id).queue_info_id
    except UnknownIdError:
        return 0  # dead letters


def _is_keyed(topic: Topic, queue_id: int) -> bool:
    try:
        return not topic.queue_info_of_queue(queue_id).handle_by_random_uin
    except UnknownIdError:
        return True  # dead letters


def _skip_rule(topic: Topic, group_id: int, queue_id: int) -> Callable[[Slot], bool] | None:
    """What is passed over in a queue: everything (drop_all), what skip_infos say, or nothing (None)."""
    try:
        info = topic.queue_info_of_queue(queue_id)
    except UnknownIdError:
        return None
    if info.drop_all:
        return lambda slot: True
    rules = [
        rule
        for rule in topic.skip_infos
        if rule.consumer_group_id in (-1, group_id) and rule.queue_info_id in (-1, info.queue_info_id)
    ]
    return (lambda slot: any(_matches(rule, slot) for rule in rules)) if rules else None


def _matches(rule: SkipInfo, slot: Slot) -> bool:
    meta = slot.message.meta
    return (
        rule.uin in (0, meta.uin)
        and rule.pub_id in (-1, slot.message.pub_id or meta.pub_id or slot.pub_id)
        and rule.handle_id in (-1, meta.handle_id)
    )
