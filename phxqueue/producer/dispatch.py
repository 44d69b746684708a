"""What happens to items between the call that takes them in and their outcome: buffer, lanes, turns, and the end.

The buffer's bound lets an entry in or makes it wait; it lines up in the lane of its Paxos group; at the end of the
reactor's turn the lanes send what is due (:mod:`phxqueue.producer.sender`); the answer makes room for others.
"""

from __future__ import annotations

import random as random_module
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from phxqueue.config import Topic
from phxqueue.net.routing import Caller
from phxqueue.net.status import Status
from phxqueue.producer.admission import Admission
from phxqueue.producer.entries import LaneEntry
from phxqueue.producer.errors import BufferFull, ProducerClosed
from phxqueue.producer.reporting import Reporter
from phxqueue.producer.routes import store_route
from phxqueue.producer.sender import Sender
from phxqueue.producer.settings import ProducerSettings
from phxqueue.producer.surroundings import Stats, Surroundings


class Dispatch:
    """Of one producer.

    Args:
        topic: the configuration in use.
        caller: makes calls.
        clock: the reactor.
        begin_turn: called with the time and the stores to avoid, at the first item of a reactor turn.
        on_close: called after close() has flushed; the Deferred is waited for.
    """

    log = Logger()

    def __init__(
        self,
        topic: Topic,
        caller: Caller,
        clock: IReactorTime,
        *,
        settings: ProducerSettings,
        stats: Stats,
        random: random_module.Random,
        producer_id: int,
        begin_turn: Callable[[float, frozenset[int]], None],
        on_close: Callable[[], Deferred[None]] | None,
    ) -> None:
        self.settings = settings
        self.stats = stats
        self.topic = topic
        self.turn_open = False
        self._clock = clock
        self._begin_turn = begin_turn
        self._on_close = on_close
        self._admission: Admission[LaneEntry] = Admission(
            settings.buffer_items, settings.buffer_size, settings.max_waiting
        )
        self._senders: dict[tuple[int, int], Sender] = {}  # by (store, Paxos group)
        self._numbers: dict[int, Iterator[int]] = {}  # batch sequences by store
        self._avoid: dict[int, float] = {}  # store: until when items without key go elsewhere
        self._unsent: set[Sender] = set()  # have something new in their lanes
        self._flush_call: IDelayedCall | None = None
        self._sweep_call: IDelayedCall | None = None
        self._closed: Deferred[None] | None = None
        self._idle: Deferred[None] | None = None
        self.reporter = Reporter(
            caller,
            clock,
            lambda store_id, group: store_route(self.topic, store_id, group),
            topic_id=topic.topic_id,
            producer_id=producer_id,
            interval_s=settings.report_interval_s,
            most_rows=settings.report_rows,
            known=lambda lane: self._senders[lane].known,
        )
        self.surroundings = Surroundings(
            caller=caller,
            clock=clock,
            random=random,
            settings=settings,
            stats=stats,
            topic_id=topic.topic_id,
            producer_id=producer_id,
            left=self._left,
            unreachable=self._unreachable,
            confirmed=self.reporter.confirmed,
            sent=self.reporter.sent,
        )

    def reconfigure(self, topic: Topic) -> None:
        """Follow the stores of a newer configuration."""
        self.topic = topic
        known = {store.store_id for store in topic.stores}
        for (store_id, group), sender in self._senders.items():
            if store_id in known:
                sender.route = store_route(topic, store_id, group)

    def close(self) -> Deferred[None]:
        """See Producer.close."""
        if self._closed is None:
            self._closed = Deferred()
            self._idle = Deferred()
            timeout = self._clock.callLater(self.settings.close_timeout_s, self._close_now)
            self._idle.addCallback(self._disconnect, timeout)
            self._cancel_flush()
            self.turn_open = False
            for sender in list(self._senders.values()):
                sender.closing = True
                sender.flush()
            self._check_idle()
        waiter: Deferred[None] = Deferred()
        self._closed.addBoth(_pass_on, waiter)
        return waiter

    # -- the way in -----------------------------------------------------------------------------------

    def open_turn(self) -> None:
        """The first enqueue of a reactor turn: all of a turn share its time and leave at its end.

        Raises:
            ProducerClosed.
        """
        if self._closed is not None:
            raise ProducerClosed("the producer is closed: make a new one")
        avoid = frozenset(self._avoid) if self._avoid else frozenset()
        self._begin_turn(self._clock.seconds(), avoid)
        self.turn_open = True
        self._schedule_flush()
        if self._sweep_call is None:
            self._sweep_call = self._clock.callLater(self.settings.sweep_s, self._sweep)

    def _schedule_flush(self) -> None:
        if self._flush_call is None:
            self._flush_call = self._clock.callLater(0, self._flush)

    def _flush(self) -> None:
        """The end of the turn."""
        self._flush_call = None
        self.turn_open = False
        unsent, self._unsent = self._unsent, set()
        for sender in unsent:
            sender.flush()

    def admit(self, entry: LaneEntry) -> None:
        """Let an entry into the buffer, have it wait, or refuse it."""
        if self._admission.enter(entry):
            self._line_up(entry)
        elif not self._admission.wait(entry):
            self.stats.refused += entry.count
            entry.fail(
                BufferFull(
                    f"the producer holds {self._admission.items} items and {self._admission.size} bytes that are not "
                    f"confirmed yet, and {self._admission.waiting} calls wait for room: enqueue slower, or raise "
                    "producer_buffer_items and producer_buffer_bytes in topicconfig.conf; nothing was written"
                )
            )

    def _line_up(self, entry: LaneEntry) -> None:
        sender = self._senders.get(entry.lane)
        if sender is None:
            sender = self._make_sender(entry.lane)
        sender.add(entry)
        self._unsent.add(sender)

    def _make_sender(self, lane: tuple[int, int]) -> Sender:
        numbers = self._numbers.setdefault(lane[0], count(1))
        sender = Sender(self.surroundings, lane, store_route(self.topic, *lane), numbers)
        sender.closing = self._closed is not None
        self._senders[lane] = sender
        return sender

    # -- the way out ----------------------------------------------------------------------------------

    def _left(self, items: int, size: int) -> None:
        if self._admission.waiting:
            self._expire_waiting(self._clock.seconds())
        admitted = self._admission.leave(items, size)
        for entry in admitted:
            self._line_up(entry)
        if admitted:
            self._schedule_flush()
        if self._idle is not None:
            self._check_idle()

    def _unreachable(self, store_id: int) -> None:
        self._avoid[store_id] = self._clock.seconds() + self.settings.avoid_store_s

    def _sweep(self) -> None:
        """Tell those whose deadline has passed; runs only while something is held."""
        self._sweep_call = None
        now = self._clock.seconds()
        self._expire_waiting(now)
        for sender in list(self._senders.values()):
            sender.expire(now)
        self._avoid = {store_id: until for store_id, until in self._avoid.items() if until > now}
        if self._admission.items or self._admission.waiting or self._avoid:
            self._sweep_call = self._clock.callLater(self.settings.sweep_s, self._sweep)

    def _cancel_flush(self) -> None:
        if self._flush_call is not None:
            self._flush_call.cancel()
            self._flush_call = None

    def _expire_waiting(self, now: float) -> None:
        settings = self.settings
        for entry in self._admission.expire(now - settings.deadline_s + settings.least_try_s):
            self.stats.refused += entry.count
            text = f"no room in the producer's buffer within {settings.deadline_s:g} s; nothing was written"
            entry.fail(BufferFull(text, Status.DEADLINE_EXCEEDED))

    def _check_idle(self) -> None:
        if self._idle is None or self._admission.waiting or not all(sender.idle for sender in self._senders.values()):
            return
        idle, self._idle = self._idle, None
        idle.callback(None)

    def _close_now(self) -> None:
        self.log.warn("closing: {items} items without outcome", items=self._admission.items)
        for entry in self._admission.drain():
            self.stats.refused += entry.count
            entry.fail(ProducerClosed("the producer was closed before the item was sent; nothing was written"))
        for sender in list(self._senders.values()):
            sender.abort()
        self._check_idle()

    def _disconnect(self, _: None, timeout: IDelayedCall) -> None:
        if timeout.active():
            timeout.cancel()
        for sender in list(self._senders.values()):
            sender.abort()  # what is still being settled
        self._cancel_flush()
        if self._sweep_call is not None:
            self._sweep_call.cancel()
            self._sweep_call = None
        self.reporter.close().addCallback(self._hang_up)

    def _hang_up(self, _: None) -> None:
        assert self._closed is not None
        closed = succeed(None) if self._on_close is None else self._on_close()
        closed.chainDeferred(self._closed)


def _pass_on(result: Any, waiter: Deferred[None]) -> Any:
    waiter.callback(None)
    if isinstance(result, Failure):
        Dispatch.log.failure("disconnecting failed", result)
        return None
    return result
