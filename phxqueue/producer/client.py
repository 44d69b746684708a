"""The producer: enqueue and enqueue_many. See docs/api.md for how to use it.

The way of an item: `enqueue` validates and serializes it and chooses its target (all in the call itself, so the
order of calls is the order of items); the buffer's bound lets it in or makes it wait; it lines up in the lane of
its Paxos group; at the end of the reactor's turn the lane sends what is due; the answer fires the Deferred.
"""

from __future__ import annotations

import os
import random as random_module
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from phxqueue.config import Cluster, Topic
from phxqueue.net.routing import Caller
from phxqueue.producer.atomic import AtomicCall, AtomicPlan
from phxqueue.producer.attempts import NextAttempt, next_attempt
from phxqueue.producer.cancelling import cancel_delayed
from phxqueue.producer.check_backs import CheckBack, CheckBacks
from phxqueue.producer.dispatch import Dispatch
from phxqueue.producer.entries import ManyCall, SingleEntry
from phxqueue.producer.errors import EnqueueError, InvalidItem
from phxqueue.producer.halves import Half, HalfItem
from phxqueue.producer.items import body_digest, encode_item
from phxqueue.producer.many import Cutter, NewItem
from phxqueue.producer.plans import Planner
from phxqueue.producer.preparing import Preparing
from phxqueue.producer.receipts import NOT_STORED, Receipt, Receipts
from phxqueue.producer.settings import ProducerSettings
from phxqueue.producer.surroundings import Stats
from phxqueue.proto.item_pb2 import QItem
from phxqueue.proto.origin import Origin


class Producer:
    """A client that puts items into the queues of one topic.

    Make one with `await Producer.connect(...)`, use it from the reactor's thread, and `await producer.close()` it
    (or use it as an async context manager). One per process is enough: it batches better the more passes through.

    Args:
        topic: its configuration.
        caller: makes calls (net.routing.MasterClient).
        clock: the reactor.
        settings: bounds and times; None: what the topic's configuration says.
        on_close: called after close() has flushed; the Deferred is waited for.
        name: of this producer and all others like it, for half messages.
        check_back: asked about half messages of that name that nobody has decided.
    """

    log = Logger()

    def __init__(
        self,
        topic: Topic,
        caller: Caller,
        clock: IReactorTime,
        *,
        settings: ProducerSettings | None = None,
        random: random_module.Random | None = None,
        wall_clock: Callable[[], float] = time.time,
        on_close: Callable[[], Deferred[None]] | None = None,
        name: str = "",
        check_back: CheckBack | None = None,
    ) -> None:
        settings = settings or ProducerSettings.from_topic(topic.settings)
        self.stats = Stats()
        self.producer_id = int.from_bytes(os.urandom(8), "little") or 1
        random = random or random_module.Random()
        self._wall_clock = wall_clock
        self._planner = Planner(topic, self.producer_id, settings.item_size_limit, random)
        self._dispatch = Dispatch(
            topic,
            caller,
            clock,
            settings=settings,
            stats=self.stats,
            random=random,
            producer_id=self.producer_id,
            begin_turn=self._begin_turn,
            on_close=on_close,
        )
        self.name = name
        self._preparing = Preparing(self._planner, self._dispatch, self.stats, name)
        self._check_backs: CheckBacks | None = None
        if check_back is not None:
            if not name:
                raise ValueError("check_back is for a producer with a name: the half messages of that name")
            self._check_backs = CheckBacks(
                self._dispatch.surroundings,
                topic,
                name,
                check_back,
                self._preparing.known,
            )

    @classmethod
    async def connect(
        cls,
        cluster: str | Path | Cluster,
        topic: str | int,
        tls: Any = None,
        *,
        settings: ProducerSettings | None = None,
        reactor: Any = None,
        name: str = "",
        check_back: CheckBack | None = None,
    ) -> Producer:
        """A producer for a topic of a cluster.

        Nothing is sent yet: connections are made when they are needed, and made again when they are lost.

        Args:
            cluster: the path of globalconfig.conf, or a configuration that is loaded already.
            topic: name or id.
            tls: TlsPaths or a ClientTls; None: what the cluster's configuration says (TLS with the client certificate
                beside globalconfig.conf, unless TLS is off).
            settings: bounds and times; None: what the topic's configuration says.
            reactor: None: the global one.
            name: of this producer and all others like it, for half messages (`prepare`).
            check_back: called with a Half of that name that nobody has decided; says COMMIT, ROLL_BACK or UNDECIDED
                (a Decision, or an awaitable of one).

        Raises:
            ConfigError: the configuration cannot be used; every problem is listed.
            UnknownTopic: naming the topics there are.
            TlsError: a certificate or key cannot be used.
        """
        from phxqueue.producer.connecting import connect

        return connect(cls, cluster, topic, tls, settings, reactor, name, check_back)

    # -- the application's side ---------------------------------------------------------------------

    @property
    def settings(self) -> ProducerSettings:
        """Bounds and times in use."""
        return self._dispatch.settings

    @settings.setter
    def settings(self, settings: ProducerSettings) -> None:
        self._dispatch.settings = settings

    @property
    def topic(self) -> Topic:
        """The configuration in use."""
        return self._planner.table.topic

    def enqueue(
        self,
        pub_id: int,
        handle_id: int,
        buffer: bytes,
        uin: int = 0,
        client_id: str = "",
        user_cookies: Mapping[str, bytes] | None = None,
        consumer_group_ids: Collection[int] | None = None,
        delay: float = 0.0,
        deliver_at: float | None = None,
        ttl: float = 0.0,
        idempotency_key: bytes | None = None,
        priority: int = 0,
    ) -> Deferred[Receipt]:
        """Put one item into a queue. The item has its place in the order of its uin when this call returns.

        Args:
            pub_id: the publishing route.
            handle_id: the kind of message: picks the handler.
            buffer: the message.
            uin: ordering key; items of one pub with equal uin are queued, and handled, in the order of the calls.
                0: no key.
            client_id: free text for logs.
            user_cookies: small data for the handler besides the buffer.
            consumer_group_ids: only these groups of the pub; None: all.
            delay: seconds until it comes into its queue; `cancel_delayed` takes it back until then. Of its uin it
                has its place among those that come into the queue at that time.
            deliver_at: the same as a time, Unix seconds.
            ttl: seconds, counted from when it is due, after which no handler gets it any more: it becomes a dead
                letter, or is dropped and counted, as its pub says. 0: it never expires.
            idempotency_key: the application's name for this item within its pub, 1 to 64 bytes. An item with the same
                key within `idempotency_window_s` of the pub, from whichever producer, is not stored again: its receipt
                is that of the first. b"": none.
            priority: 1 to the number of priority_queue_info_ids of the pub: which of these it goes to; 0: none.

        Returns:
            A Deferred (await it) of a Receipt: the item is durable on a majority.
            It fails with Refused (surely not written; InvalidItem when the call is wrong, KeyReused when the key is
            another item's) or OutcomeUnknown.
        """
        planner = self._planner
        try:
            if not self._dispatch.turn_open:
                self._dispatch.open_turn()
            plan = planner.plan(pub_id, handle_id, consumer_group_ids, priority)
            target, key = planner.target(plan, uin, idempotency_key)
            if plan.info.drop_all:
                self.stats.dropped += 1
                return succeed(planner.drop(plan.info, target))
            expires_ms = 0
            if delay or ttl or deliver_at is not None:
                due_ms, expires_ms = planner.times(delay, deliver_at, ttl)
                if due_ms:
                    target = planner.delayed(target, due_ms)
            payload, digest = planner.encode(plan, buffer, uin, client_id, user_cookies, expires_ms)
            if idempotency_key is not None:
                body = body_digest(handle_id, uin, target.mask, buffer, user_cookies)
                target = planner.with_key(target, idempotency_key, body)
        except EnqueueError:
            return self._refused()
        return self._enter(SingleEntry(target, key, 1, payload, digest, planner.now, planner.atime_ms))

    def prepare(
        self,
        pub_id: int,
        handle_id: int,
        buffer: bytes,
        uin: int = 0,
        client_id: str = "",
        user_cookies: Mapping[str, bytes] | None = None,
        consumer_group_ids: Collection[int] | None = None,
        ttl: float = 0.0,
        check_back_after: float = 0.0,
    ) -> Deferred[Half]:
        """Store an item that nobody sees before it is committed: a half message.

        Args:
            check_back_after: seconds after which the store asks a producer of this name what became of it, while it
                is undecided; 0: `check_back_after_s` of the pub. The others are those of `enqueue`.

        Returns:
            A Deferred (await it) of a Half: it is durable on a majority, and waits for `commit()` or `roll_back()`.
            It fails as `enqueue` does; when the outcome is unknown, and it is prepared after all, it is asked about.
        """
        item = HalfItem(pub_id, handle_id, buffer, uin, client_id, user_cookies)
        return self._preparing.prepare(item, consumer_group_ids, ttl, check_back_after)

    def half(self, half_id: str) -> Half:
        """A half message by its name, whoever prepared it.

        Raises:
            InvalidItem: it is no such name.
        """
        return self._preparing.half(half_id)

    def enqueue_many(
        self, items: Iterable[NewItem], *, atomic: bool = False, store: int | None = None
    ) -> Deferred[Receipts]:
        """Put many items into their queues; the order of equal uins is the order given.

        Args:
            atomic: all of them become visible at once, or none does. They have to lead to one Paxos group of one
                store: one uin at most, the items without any follow it. At most `batch_limit` items and
                `items_byte_size_limit` bytes together.
            store: for an atomic call without any uin: the store it goes to; None: any.

        Returns:
            A Deferred (await it) of one Receipt or EnqueueError per item. It does not fail because items do; an atomic
            call does: with Refused (surely nothing is written; NotOnePlace or TooMuchAtOnce when it cannot be done at
            once), or OutcomeUnknown (all is, or nothing).
        """
        try:
            if not self._dispatch.turn_open:
                self._dispatch.open_turn()
            if atomic:
                return self._enqueue_atomic(items, store)
            if store is not None:
                raise InvalidItem("store= is for atomic calls: other items go where their uins lead, or anywhere")
        except EnqueueError:
            return fail()
        call = ManyCall()
        cutter = Cutter(self._planner, call, self.settings.chunk_items, self.settings.batch_size)
        cutter.cut(items)
        self.stats.enqueued += cutter.taken
        self.stats.refused += cutter.refused
        self.stats.dropped += cutter.dropped
        cutter.line_up(self._dispatch.admit)
        return call.deferred

    def _enqueue_atomic(self, items: Iterable[NewItem], store_id: int | None) -> Deferred[Receipts]:
        settings, call = self.settings, AtomicCall()
        plan = AtomicPlan(self._planner, settings.batch_items, settings.item_size_limit)
        entry = plan.entry(items, store_id, call)
        if entry is None:
            return succeed(Receipts(len(call.dropped), call.dropped))
        self.stats.enqueued += entry.count
        self.stats.dropped += len(call.dropped)
        self._dispatch.admit(entry)
        return call.deferred

    def cancel_delayed(self, delayed: Receipt | str) -> Deferred[bool]:
        """Take a delayed item back, by its receipt or by the receipt's `delayed_id`.

        Returns:
            A Deferred (await it): True, it will not be delivered; False, it is in its queue already.
            It fails with Refused (the id is none) or OutcomeUnknown (cancel again).
        """
        return Deferred.fromCoroutine(cancel_delayed(self._dispatch.surroundings, self.topic, delayed))

    def enqueue_attempt(
        self,
        item: QItem,
        consumer_group_id: int,
        last_error: str,
        *,
        dead: bool = False,
        expired: bool = False,
        tried_in_place: int = 0,
    ) -> tuple[NextAttempt, Deferred[Receipt]]:
        """The next attempt of an item that a consumer group could not handle; see attempts.next_attempt. For consumers.

        Raises:
            UnknownIdError: the topic no longer has the item's pub.
        """
        now_ms = int(self._wall_clock() * 1000)
        ends: dict[str, Any] = {"dead": dead, "expired": expired, "tried_in_place": tried_in_place}
        attempt = next_attempt(self.topic, item, consumer_group_id, now_ms, last_error, **ends)
        if attempt.dropped:
            self.stats.dropped += 1
            return attempt, succeed(Receipt(0, 0, NOT_STORED))
        return attempt, self._enqueue_item(attempt, attempt.origin)

    def enqueue_again(self, item: QItem, *, dead: bool = False) -> Deferred[Receipt]:
        """Put an item that has its identity already into the first queue of its pub, or among its dead letters.

        Used for dead letters; fails as enqueue does.
        """
        info = None if dead else self.topic.attempt_queue_info(item.pub_id or item.meta.pub_id, item.count)
        return self._enqueue_item(NextAttempt(item, info, None), Origin.NEW if dead else Origin.REQUEUED)

    def _enqueue_item(self, attempt: NextAttempt, origin: Origin) -> Deferred[Receipt]:
        item, info = attempt.item, attempt.info
        planner = self._planner
        try:
            if not self._dispatch.turn_open:
                self._dispatch.open_turn()
            pub_id = item.pub_id or item.meta.pub_id
            target, key = planner.target_of_attempt(pub_id, info, item.meta.uin, item.consumer_group_ids, origin)
            if info is not None and info.drop_all:
                self.stats.dropped += 1
                return succeed(planner.drop(info, target))
            payload, digest = encode_item(item, self.settings.item_size_limit)
        except EnqueueError:
            return self._refused()
        return self._enter(SingleEntry(target, key, 1, payload, digest, planner.now, item.atime_ms))

    def reconfigure(self, topic: Topic) -> None:
        """Go on with a newer configuration of the same topic. What has been enqueued keeps its place.

        Bounds and times (`settings`) stay as they were.
        """
        if topic.topic_id != self.topic.topic_id:
            raise ValueError(f"this producer is for topic {self.topic.topic_id}, not {topic.topic_id}")
        self._planner.reconfigure(topic)
        self._dispatch.reconfigure(topic)
        if self._check_backs is not None:
            self._check_backs.reconfigure(topic)

    def close(self) -> Deferred[None]:
        """Send what is waiting, wait for outcomes (at most `close_timeout_s`), and disconnect.

        From the call on enqueue is refused. What has no outcome in time fails with Refused or OutcomeUnknown.
        """
        if self._check_backs is not None:
            self._check_backs.close()
        return self._dispatch.close()

    async def __aenter__(self) -> Producer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _begin_turn(self, now: float, avoid: frozenset[int]) -> None:
        self._planner.begin_turn(now, self._wall_clock(), avoid)

    def _enter(self, entry: SingleEntry) -> Deferred[Receipt]:
        self.stats.enqueued += 1
        deferred = entry.deferred = Deferred(entry.cancel)
        self._dispatch.admit(entry)
        return deferred

    def _refused(self) -> Deferred[Receipt]:
        self.stats.refused += 1
        return fail()
