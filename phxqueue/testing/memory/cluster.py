"""What an application's test opens: a producer, its own handlers consuming, and a way to wait until all is done."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from phxqueue.config import DEAD_LETTER_BASE, Cluster, Consumer, ConsumerNode, Topic, load_cluster
from phxqueue.consumer.handlers import as_handler
from phxqueue.consumer.items import Item
from phxqueue.consumer.middleware import as_middleware, wrapped
from phxqueue.consumer.service import ConsumerService
from phxqueue.consumer.workshop import Stats
from phxqueue.producer import CheckBack, Producer
from phxqueue.producer.attempts import ATTEMPTS, GROUP, LAST_ERROR, REASON
from phxqueue.producer.routes import store_route
from phxqueue.proto.item_pb2 import QItems
from phxqueue.proto.methods import GET
from phxqueue.proto.store_pb2 import GetRequest, GetResponse
from phxqueue.testing.memory.clock import SkippingClock
from phxqueue.testing.memory.store import MemoryStores
from phxqueue.testing.memory.topic import small_topic

_ME = Consumer(ip="127.0.0.1", port=1)
#: Turns of the reactor in which nothing happens before a cluster counts as quiet.
_QUIET_TURNS = 3
#: Dead letters read with one call.
_PAGE = 1000


class NotSettled(AssertionError):
    """Items are not finished, and time is over: says which queues and what is at work."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An item that no handler wanted. `reason`, `last_error`: why; `attempts`: how often it was tried."""

    item: Item
    consumer_group_id: int
    reason: str
    attempts: int
    last_error: str


class InMemoryCluster:
    """A topic in memory with your handlers consuming it; use it with ``async with``.

    Args:
        handlers: by handle_id; what the files of a consumer could name: functions, coroutine functions, objects with a
            method `handle` or `handle_batch`, classes of such objects.
        topic: the configuration; None: pub 1 with three attempts, see small_topic. Or the path of a globalconfig.conf
            with one topic: delays, attempts and pubs are then those of production.
        consumer_group_ids: the groups that the handlers consume for; None: all of the topic.
        middleware: what runs around all handlers, outermost first: objects with `before`, `after` or both.
        reactor: None: the global one.

    Attributes:
        producer: a Producer of the topic.
        clock: skips delays (`clock.skip(60)`); `settle` skips by itself.
    """

    def __init__(
        self,
        handlers: Mapping[int, Any],
        topic: Topic | str | Path | None = None,
        *,
        consumer_group_ids: Collection[int] | None = None,
        middleware: Iterable[Any] = (),
        reactor: Any = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        layers = [as_middleware(each, f"middleware {each!r}") for each in middleware]
        found = {number: wrapped(as_handler(each, f"handler {number}"), layers) for number, each in handlers.items()}
        self._reactor = reactor
        self.topic = replace(_topic(topic, handlers), consumers=(_ME,))
        groups = [group.consumer_group_id for group in self.topic.consumer_groups]
        self._groups = frozenset(groups if consumer_group_ids is None else consumer_group_ids)
        self.clock = SkippingClock(reactor)
        self.clock.on_call = self._wake
        self._woken: Deferred[None] | None = None
        self._stores = MemoryStores(self.topic, self.clock, self._wall)
        self.producer = Producer(self.topic, self._stores, self.clock, wall_clock=self._wall)
        self._others: list[Producer] = []
        node = ConsumerNode(
            cluster=Cluster(topics=(self.topic,)),
            topic=self.topic,
            consumer=_ME,
            consumer_group_ids=tuple(sorted(self._groups)),
            handlers={},
        )
        self._consumer = ConsumerService(node, self._stores, self.producer, found, self.clock, wall=self._wall)

    async def __aenter__(self) -> InMemoryCluster:
        self._consumer.startService()
        return self

    def another_producer(self, name: str = "", check_back: CheckBack | None = None) -> Producer:
        """A producer of its own, as another process would have it. It is closed with the cluster.

        Args:
            name, check_back: for half messages: see Producer.connect.
        """
        other = Producer(self.topic, self._stores, self.clock, wall_clock=self._wall, name=name, check_back=check_back)
        self._others.append(other)
        return other

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._consumer.stopService()
        for producer in (self.producer, *self._others):
            await producer.close()
        self._stores.close()
        self.clock.close()

    @property
    def stats(self) -> Stats:
        """What the consumer has done so far."""
        return self._consumer.stats

    async def settle(self, timeout_s: float = 10.0) -> None:
        """Wait until every item is finished for every group, dead letters included; delays are skipped.

        While a handler waits for something of its own (a real timer, a real connection) nothing is skipped.

        Args:
            timeout_s: seconds of real time.

        Raises:
            NotSettled: time is over, or nothing is left that could finish the rest.
        """
        end = self._reactor.seconds() + timeout_s
        while True:
            await self._quiet(end)
            unfinished = self._unfinished()
            if not unfinished:
                return
            if self._reactor.seconds() >= end:
                raise NotSettled(f"after {timeout_s:g} s: {'; '.join(unfinished)}; {self._consumer.at_work} at work")
            if self._consumer.handlers_at_work:
                await self._something_happens(end)
                continue
            wait = self.clock.next_call()
            if wait is None:
                raise NotSettled(f"nothing left that could go on with {'; '.join(unfinished)}")
            due = self._stores.next_delayed()
            if due is not None and not self._behind():
                wait = max(wait, due - self._wall())  # nobody has anything to do before
            self.clock.skip(wait)

    async def dead_letters(self) -> list[DeadLetter]:
        """Every dead letter of the topic, oldest first within its queue."""
        found: list[DeadLetter] = []
        for store_id, status in list(self._stores.queues()):
            if status.queue_id >= DEAD_LETTER_BASE:
                found += await self._dead_letters_of(store_id, status.queue_id)
        return found

    async def _dead_letters_of(self, store_id: int, queue_id: int) -> list[DeadLetter]:
        route = store_route(self.topic, store_id, self.topic.store(store_id).group_of_queue(queue_id))
        found: list[DeadLetter] = []
        position, end = 0, 1
        while position < end:
            request = GetRequest(
                topic_id=self.topic.topic_id, store_id=store_id, queue_id=queue_id, limit=_PAGE, random=True
            )
            request.next_cursor = position
            response: GetResponse = await self._stores.call(route, GET, request, 1.0)
            for batch in response.batches:
                for cursor, message in enumerate(QItems.FromString(batch.items).items, batch.first_cursor):
                    found.append(_dead_letter(Item(message, cursor)))
            position, end = response.next_cursor, response.end_cursor
        return found

    def _wall(self) -> float:
        """The time of day, ahead by what was skipped."""
        return time.time() + self.clock.skipped

    async def _quiet(self, end: float) -> None:
        """Let everything run that can run now; at the latest at `end`."""
        quiet = 0
        while quiet < _QUIET_TURNS and self._reactor.seconds() < end:
            before = self.clock.ran, self._stores.calls
            await deferLater(self._reactor, 0, bool)
            quiet = quiet + 1 if before == (self.clock.ran, self._stores.calls) else 0

    async def _something_happens(self, end: float) -> None:
        """A handler that ends has the consumer do something; at the latest at `end`."""
        self._woken = Deferred()
        timeout = self._reactor.callLater(max(end - self._reactor.seconds(), 0.0), self._wake)
        await self._woken
        if timeout.active():
            timeout.cancel()

    def _wake(self) -> None:
        woken, self._woken = self._woken, None
        if woken is not None:
            woken.callback(None)

    def _unfinished(self) -> list[str]:
        delayed = [
            f"{status.delayed} delayed items of store {store_id} queue {status.queue_id}"
            for store_id, status in self._stores.queues()
            if status.delayed
        ]
        return delayed + self._behind()

    def _behind(self) -> list[str]:
        """The queues that hold something unfinished."""
        return [
            f"group {group.consumer_group_id} has {status.end_cursor - group.acked} of store {store_id} "
            f"queue {status.queue_id} before it"
            for store_id, status in self._stores.queues()
            if status.queue_id < DEAD_LETTER_BASE
            for group in status.groups
            if group.consumer_group_id in self._groups and group.acked < status.end_cursor
        ]


def _topic(given: Topic | str | Path | None, handlers: Mapping[int, Any]) -> Topic:
    if given is None:
        return small_topic(handlers)
    if isinstance(given, Topic):
        return given
    [topic] = load_cluster(given).topics
    return topic


def _dead_letter(item: Item) -> DeadLetter:
    notes = {key: value.decode() for key, value in item.sys_cookies.items()}
    return DeadLetter(item, int(notes[GROUP]), notes[REASON], int(notes[ATTEMPTS]), notes.get(LAST_ERROR, ""))
