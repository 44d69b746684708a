"""What all handling in a consumer process shares: clock, bounds, counters, slots, handlers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from phxqueue.consumer.handlers import Handle, Handler
from phxqueue.consumer.settings import ConsumerSettings
from phxqueue.consumer.sharing import HandlerSlots
from phxqueue.consumer.speed import Speed
from phxqueue.producer.attempts import NextAttempt
from phxqueue.producer.receipts import Receipt
from phxqueue.proto.item_pb2 import QItem


class Retrier(Protocol):
    """What is needed of a Producer."""

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
        """The item's next attempt."""


@dataclass(slots=True)
class Stats:
    """What a consumer process has done so far, in items unless said otherwise. It only ever counts up."""

    fetched: int = 0
    handled: int = 0  # handlers that came to an end
    ok: int = 0
    ignored: int = 0
    retried: int = 0  # next attempts that are durable
    retried_in_place: int = 0  # attempts of ordered groups that another one follows in the same place
    dead: int = 0  # dead letters that are durable, but for expired items
    expired: int = 0  # items whose ttl had passed: dead letters that are durable, or dropped
    raised: int = 0
    timed_out: int = 0
    unknown_handle: int = 0
    unreadable: int = 0  # batches
    taken_apart: int = 0  # merged batches that could not be read, and were fetched one by one
    skipped: int = 0  # by skip_infos or drop_all
    resets: int = 0  # of a queue's position, by a store
    gets: int = 0  # calls
    acks: int = 0  # calls that only acknowledged
    refused_acks: int = 0  # acknowledgements that a store refused: it stores something else


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What all handling in a process shares."""

    clock: IReactorTime
    settings: ConsumerSettings
    stats: Stats
    slots: HandlerSlots
    handlers: Mapping[int, Handle | Handler]
    retrier: Retrier
    speed: Speed
    jitter: Callable[[], float]  # from 0 to 1
    wall: Callable[[], float]  # Unix seconds
    unknown_logged: set[int] = field(default_factory=set)  # handle_ids

    def handler(self, handle_id: int) -> Handler | None:
        """Who handles items of this kind; None: nobody."""
        found = self.handlers.get(handle_id)
        if isinstance(found, Handler):
            return found
        return None if found is None else Handler(found)

    def batch_items(self, handle_id: int) -> int:
        """Most items that the handler of this kind takes at once; 0: one at a time."""
        found = self.handlers.get(handle_id)
        return found.batch_items if isinstance(found, Handler) else 0
