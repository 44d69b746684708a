"""The consumer daemon: one process, many queues.

Every queue of a group has one owner among the consumers that serve the group, by weighted consistent hash
(assignment.py) over the weights that the scheduler gives, or those in consumerconfig.conf. An owned queue is a Tenure
(tenure.py): it waits for the queue's lock, then a Worker reads. All workers share the handler slots, the bound on
memory, the producer for later attempts, and the connections.
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

from phxqueue.config import DEAD_LETTER_BASE, Consumer, ConsumerNode, SkipInfo, Topic, UnknownIdError
from phxqueue.consumer.assignment import Queue, Ring, owned
from phxqueue.consumer.handlers import Handle, Handler
from phxqueue.consumer.items import Place
from phxqueue.consumer.limits import (
    Limit,
    OwnedQueues,
    Share,
    Throttle,
    by_group,
    combined,
    limits_of_files,
    queue_info_id,
)
from phxqueue.consumer.next_attempts import Ordering
from phxqueue.consumer.settings import ConsumerSettings
from phxqueue.consumer.sharing import Budget, HandlerSlots, StoreHealth
from phxqueue.consumer.slots import Slot
from phxqueue.consumer.source import QueueLag, Source
from phxqueue.consumer.speed import Speed
from phxqueue.consumer.tenure import LockHealth, Locks, Tenure
from phxqueue.consumer.throttle_settings import read_throttle
from phxqueue.consumer.worker import Worker
from phxqueue.consumer.workshop import Retrier, Stats, Workshop
from phxqueue.lock.client import Held
from phxqueue.net.routing import Caller
from phxqueue.producer.routes import store_route

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
        locks: the lock service that confirms who owns a queue (but for groups with `skip_lock`); None: there is none.
        weighted: groups with `use_dynamic_scale` wait for the first call of `set_weights`.
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
        locks: Locks | None = None,
        weighted: bool = False,
    ) -> None:
        self.setName(f"consumer {node.consumer.address}")  # type: ignore[no-untyped-call]
        self.settings = settings or ConsumerSettings.from_node(node)
        self.stats = Stats()
        self._node = node
        self._caller = caller
        self._clock = clock
        self._budget = Budget(self.settings.prefetch_size, self.settings.min_fetch_size, clock)
        self._health: dict[tuple[int, int], StoreHealth] = {}  # by store and Paxos group
        self._locks = locks
        self._lock_health = LockHealth()
        self._weights: Mapping[str, int] | None = {} if weighted else None
        self._wanted: set[Owned] = set()
        self._tenures: dict[Owned, Tenure] = {}
        self._refresh: IDelayedCall | None = None
        self._leaving: dict[Owned, Deferred[None]] = {}
        self._set_later = Throttle()
        self._owned = OwnedQueues(node.topic, ())  # as of the last look
        self.speed = Speed(clock, self.share_of_queues)
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
        return tuple(sorted(key for key, tenure in self._tenures.items() if tenure.worker is not None))

    @property
    def at_work(self) -> int:
        """Items whose handler runs or whose next attempt is being enqueued, over all queues."""
        return sum(worker.at_work for worker in self._workers())

    @property
    def handlers_at_work(self) -> int:
        """Handlers that have not come to an end (plain functions end at once), over all queues."""
        return self.settings.nhandler - self._workshop.slots.free

    @property
    def held_bytes(self) -> int:
        """Bytes fetched and not finished, over all queues."""
        return self._budget.used

    def lag(self) -> dict[Owned, QueueLag]:
        """How far each of its queues is behind: what a scheduler, or a metric, wants to know."""
        return {key: tenure.worker.lag for key, tenure in self._tenures.items() if tenure.worker is not None}

    def startService(self) -> None:
        """Start consuming the queues this consumer owns."""
        super().startService()  # type: ignore[no-untyped-call]
        self._throttle()
        self._assign()

    def stopService(self) -> Deferred[None]:
        """Stop fetching, let handlers finish (at most `stop_timeout_s`), acknowledge what is finished."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._refresh is not None and self._refresh.active():
            self._refresh.cancel()
        for key in list(self._tenures):
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

    def take_settings(self, settings: Mapping[str, bytes]) -> None:
        """Take limits and pauses from the settings of the topic."""
        throttle, wrong = read_throttle(settings)
        for key in wrong:
            self.log.error("{name}: the setting {key} cannot be understood and has no effect", name=self.name, key=key)
        if throttle.limits or throttle.paused or self._set_later != Throttle():
            self.log.info(
                "{name}: set at run time: limits {limits}; paused are (group, pub) {paused}",
                name=self.name, limits=list(throttle.limits), paused=sorted(throttle.paused),
            )  # fmt: skip
        self.set_throttle(throttle)

    def set_share(self, share: Share | None) -> None:
        """Have somebody else say what part of each limit is ours (a scheduler); None: as many as our queues are."""
        self.speed.share = share or self.share_of_queues
        self.speed.refresh()

    def share_of_queues(self, limit: Limit) -> float:
        """The part of a limit that follows from the queues that are read here, 0 to 1."""
        topic = self._node.topic
        queues = tuple(key for key, tenure in self._tenures.items() if tenure.worker is not None)
        if self._owned.topic is not topic or self._owned.queues != queues:
            self._owned = OwnedQueues(topic, queues)
        return self._owned.share(limit)

    def _throttle(self) -> None:
        topic = self._node.topic
        self._workshop.slots.set_weights({info.queue_info_id: info.weight for info in topic.queue_infos if info.weight})
        limits = by_group(combined(limits_of_files(topic), self._set_later.limits), topic)
        self.speed.configure(Throttle(limits, self._set_later.paused))
        for worker in self._workers():
            worker.fetch()  # what was paused may go on

    # -- who owns what -------------------------------------------------------------------------------

    def set_weights(self, weights: Mapping[str, int] | None) -> None:
        """Follow the scheduler: weight by address of the consumer; None: those of the configuration hold."""
        self._weights = weights
        if self.running:
            self._assign()

    def _assign(self) -> None:
        wanted = self._wanted = set(my_queues(self._node, self._weights))
        for key in set(self._tenures) - wanted:
            self._leave(key)
        for key in sorted(wanted - set(self._tenures) - set(self._leaving)):
            self._begin(key)
        self.speed.refresh()
        self.log.info(
            "{name}: consuming {queues} queues of consumer groups {groups}",
            name=self.name, queues=len(wanted), groups=sorted({key[0] for key in wanted}),
        )  # fmt: skip

    def _begin(self, key: Owned) -> None:
        topic, locks = self._node.topic, self._locks
        locked = locks is not None and not topic.consumer_group(key[0]).skip_lock
        tenure = self._tenures[key] = Tenure(
            partial(self._make_worker, key),
            partial(_acquire, locks, topic, key) if locks is not None and locked else None,
            self._clock,
            self._lock_health,
            stop_timeout_s=self.settings.stop_timeout_s,
        )
        tenure.start()

    def _workers(self) -> list[Worker]:
        return [tenure.worker for tenure in self._tenures.values() if tenure.worker is not None]

    def _make_worker(self, key: Owned, fencing_token: int, fenced: Callable[[], None]) -> Worker:
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
            gate=self.speed.gate(group_id, queue_info_id(topic, queue_id)),
            kind=queue_info_id(topic, queue_id),
            paused=partial(self._is_paused, group_id, pubs_of_queue(topic, store_id, queue_id)),
            fencing_token=fencing_token,
            fenced=fenced,
        )
        if self._refresh is None:
            # The share of the limits follows the queues that are read; many may begin at the same moment.
            self._refresh = self._clock.callLater(0, self._refresh_speed)
        return Worker(source, self._workshop)

    def _refresh_speed(self) -> None:
        self._refresh = None
        self.speed.refresh()

    def _is_paused(self, group_id: int, pub_ids: Collection[int]) -> bool:
        return all(self.speed.is_paused(group_id, pub_id) for pub_id in pub_ids)

    def _leave(self, key: Owned) -> None:
        """Give a queue up; whoever gets it next continues where this consumer's acknowledgements end."""
        left = self._leaving[key] = Deferred.fromCoroutine(self._tenures.pop(key).leave())
        left.addErrback(lambda failure: self.log.failure("{key}: giving it up failed", failure, key=key))
        left.addCallback(self._left, key)

    def _left(self, _: None, key: Owned) -> None:
        self._leaving.pop(key, None)
        if self.running and key in self._wanted:
            self._begin(key)  # it was given back while it was being given up

    async def _all_left(self) -> None:
        while self._leaving:
            await DeferredList(list(self._leaving.values()))


def my_queues(node: ConsumerNode, weights: Mapping[str, int] | None = None) -> list[Owned]:
    """The (group, store, queue) that a consumer is to own.

    Args:
        weights: of the scheduler, for groups with `use_dynamic_scale`; None: those of the configuration.
    """
    topic, me = node.topic, node.consumer.address
    ignored = set(topic.settings.consumer_ignore_consumer_group_ids)
    found: list[Owned] = []
    rings: dict[frozenset[tuple[str, int]], Ring] = {}  # groups mostly have the same consumers: a ring is dear

    def ring_of(group_weights: Mapping[str, int]) -> Ring:
        key = frozenset(group_weights.items())
        if key not in rings:
            rings[key] = Ring(group_weights)
        return rings[key]

    for group_id in node.consumer_group_ids:
        if group_id in ignored:
            continue
        ring = ring_of(weights_of_group(topic, group_id, weights))
        queues: list[Queue] = list(topic.queues_of_group(group_id))
        found += [(group_id, store_id, queue_id) for store_id, queue_id in owned(ring, me, group_id, queues)]
    return found


def weights_of_group(topic: Topic, group_id: int, weights: Mapping[str, int] | None = None) -> dict[str, int]:
    """The weight of every consumer that serves a group, by its address; `weights` as for `my_queues`."""
    dynamic = weights is not None and topic.consumer_group(group_id).use_dynamic_scale
    return {
        consumer.address: weights.get(consumer.address, 0) if dynamic and weights is not None else consumer.scale
        for consumer in topic.consumers
        if takes_part(topic, consumer, group_id)
    }


def takes_part(topic: Topic, consumer: Consumer, group_id: int) -> bool:
    """Whether a consumer serves a group, by what the files say of the consumer."""
    if topic.consumer_group(group_id).run_time:
        return group_id in consumer.run_time_group_ids
    return not consumer.consumer_group_ids or group_id in consumer.consumer_group_ids


def lock_name(topic: Topic, key: Owned) -> str:
    """The lock of a queue and consumer group."""
    group_id, store_id, queue_id = key
    return f"queue/{topic.topic_name}/{group_id}/{store_id}/{queue_id}"


def _acquire(locks: Locks, topic: Topic, key: Owned) -> Deferred[Held]:
    return locks.acquire(lock_name(topic, key), float(topic.settings.consumer_lock_lease_time_s), None)


def pubs_of_queue(topic: Topic, store_id: int, queue_id: int) -> tuple[int, ...]:
    """The pubs whose items may be in a queue of a store."""
    try:
        info_id = topic.queue_info_of_queue(queue_id).queue_info_id
    except UnknownIdError:
        return (queue_id - DEAD_LETTER_BASE,)
    return tuple(pub.pub_id for pub in topic.pubs_of_store(store_id) if info_id in pub.all_queue_info_ids)


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
