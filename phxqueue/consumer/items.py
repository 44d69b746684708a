"""An item as a handler sees it, and where it stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twisted.logger import Logger

from phxqueue.producer.items import read_cookies
from phxqueue.proto.item_pb2 import QItem


class Item:
    """One item. Reading is cheap; nothing can be set: what must change travels in a new item."""

    __slots__ = ("_message", "cursor")

    def __init__(self, message: QItem, cursor: int) -> None:
        self._message = message
        self.cursor = cursor

    @property
    def message(self) -> QItem:
        """All of it, as it travels. Not to be changed."""
        return self._message

    @property
    def buffer(self) -> bytes:
        """What was enqueued."""
        return self._message.buffer

    @property
    def uin(self) -> int:
        """The ordering key; 0: none."""
        return self._message.meta.uin

    @property
    def handle_id(self) -> int:
        """The kind of message, which picked the handler."""
        return self._message.meta.handle_id

    @property
    def pub_id(self) -> int:
        """The publishing route."""
        return self._message.pub_id or self._message.meta.pub_id

    @property
    def count(self) -> int:
        """Attempts that failed before this one: 0 for the first."""
        return self._message.count

    @property
    def enqueued_at(self) -> float:
        """When it was first enqueued, Unix seconds of the producer's clock."""
        return self._message.meta.atime_ms / 1000

    @property
    def attempt_enqueued_at(self) -> float:
        """When it was enqueued for this attempt, Unix seconds of that process's clock."""
        return (self._message.atime_ms or self._message.meta.atime_ms) / 1000

    @property
    def identity(self) -> tuple[int, int]:
        """(producer_id, number): the same in every attempt, and no other item's. Good for telling duplicates."""
        meta = self._message.meta
        return meta.producer_id, meta.number

    @property
    def client_id(self) -> str:
        """The free text given by who enqueued it."""
        return self._message.meta.client_id

    @property
    def user_cookies(self) -> dict[str, bytes]:
        """The application's own data beside the buffer."""
        return read_cookies(self._message.meta.user_cookies)

    @property
    def sys_cookies(self) -> dict[str, bytes]:
        """The queue's own notes; a dead letter has its reason here."""
        return read_cookies(self._message.sys_cookies)

    def __repr__(self) -> str:
        return (
            f"<Item cursor {self.cursor}, handle_id {self.handle_id}, uin {self.uin}, attempt {self.count + 1}, "
            f"{len(self.buffer)} bytes>"
        )


@dataclass(frozen=True, slots=True)
class Place:
    """One queue of one consumer group."""

    topic_name: str
    consumer_group_id: int
    store_id: int
    queue_id: int

    def __str__(self) -> str:
        return f"group {self.consumer_group_id}, store {self.store_id}, queue {self.queue_id}"


class Context:
    """Where and when an item is being handled.

    Attributes:
        attempt: 1 for the first.
        cursor: of the item.
        deadline: when the handler's time is over, in seconds of the reactor's clock.
    """

    __slots__ = ("_item", "_now", "_place", "_wall_s", "attempt", "cursor", "deadline")

    def __init__(
        self, place: Place, item: Item, attempt: int, deadline: float, now: Callable[[], float], wall_s: float
    ) -> None:
        self._place = place
        self._now = now
        self._item = item
        self._wall_s = wall_s
        self.cursor = item.cursor
        self.attempt = attempt
        self.deadline = deadline

    @property
    def delay(self) -> float:
        """Seconds from its first enqueue to the beginning of this attempt."""
        # Clocks of two machines: an item is never younger than nothing.
        return max(0.0, self._wall_s - self._item.enqueued_at)

    @property
    def attempt_delay(self) -> float:
        """The same from the enqueue for this attempt."""
        return max(0.0, self._wall_s - self._item.attempt_enqueued_at)

    @property
    def topic(self) -> str:
        """The topic's name."""
        return self._place.topic_name

    @property
    def consumer_group_id(self) -> int:
        """For whom it is being handled."""
        return self._place.consumer_group_id

    @property
    def store_id(self) -> int:
        """The store it came from."""
        return self._place.store_id

    @property
    def queue_id(self) -> int:
        """The queue it came from."""
        return self._place.queue_id

    @property
    def place(self) -> Place:
        """All of that."""
        return self._place

    @property
    def time_left(self) -> float:
        """Seconds until the handler's time is over; below 0: it is."""
        return self.deadline - self._now()

    @property
    def log(self) -> Logger:
        """A logger whose events say which item they are about."""
        return Logger(namespace="phxqueue.handler", source=self)

    def __repr__(self) -> str:
        return f"<Context {self._place}, cursor {self.cursor}, attempt {self.attempt}>"


class BatchContext:
    """Where and when a batch is being handled.

    Attributes:
        contexts: of each item, in their order.
    """

    __slots__ = ("contexts",)

    def __init__(self, contexts: Sequence[Context]) -> None:
        self.contexts = tuple(contexts)

    @property
    def place(self) -> Place:
        """The queue they came from, and for whom."""
        return self.contexts[0].place

    @property
    def deadline(self) -> float:
        """When the time for all of them is over, in seconds of the reactor's clock."""
        return self.contexts[0].deadline

    @property
    def time_left(self) -> float:
        """Seconds until then."""
        return self.contexts[0].time_left

    @property
    def log(self) -> Logger:
        """A logger whose events say which queue they are about."""
        return Logger(namespace="phxqueue.handler", source=self)

    def __repr__(self) -> str:
        return f"<BatchContext {self.place}, {len(self.contexts)} items from cursor {self.contexts[0].cursor}>"
