"""The bounds and times of one producer, by name. The topic's configuration sets them."""

from __future__ import annotations

from dataclasses import dataclass

from phxqueue.config import TopicSettings
from phxqueue.producer.batching import LaneLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerSettings:
    """Sizes in bytes, times in seconds.

    Attributes:
        item_size_limit: largest serialized item (`items_byte_size_limit`).
        batch_items, batch_size, batch_delay_s: when a batch that waits for company is sent.
        eager_in_flight: with fewer requests than this under way to a Paxos group, a batch leaves at once.
        max_in_flight: most requests under way to a Paxos group of a store.
        deadline_s: longest an enqueue tries, waiting for room in the buffer and all retries included.
        min_try_s: with less time left than this (or a tenth of deadline_s, if that is less) an item is refused instead
            of sent, and what the store has surely refused is not sent again: an answer might come too late.
        settle_s: how much longer the producer goes on asking, after an outcome was told to be unknown, before
            items that have to come after it may leave.
        buffer_items, buffer_size: unconfirmed items held; beyond them enqueue waits.
        max_waiting: calls of enqueue (chunks of an enqueue_many) that may wait; one more is refused.
        chunk_items: an enqueue_many is cut into pieces of at most so many items.
        backoff_first_s, backoff_max_s: pause before a request that a store refused for overload goes again.
        avoid_store_s: how long items without uin avoid a store that could not be reached.
        sweep_s: how often deadlines are looked at.
        close_timeout_s: longest close() waits for outcomes.
        report_interval_s, report_rows: how often what was confirmed is reported to the stores' ledgers (0: never), and
            how many rows are held until then, per Paxos group.
    """

    item_size_limit: int = 2 << 20
    batch_items: int = 1000
    batch_size: int = 256 << 10
    batch_delay_s: float = 0.002
    eager_in_flight: int = 1
    max_in_flight: int = 16
    deadline_s: float = 30.0
    min_try_s: float = 0.25
    settle_s: float = 60.0
    buffer_items: int = 100_000
    buffer_size: int = 64 << 20
    max_waiting: int = 10_000
    chunk_items: int = 1000
    backoff_first_s: float = 0.01
    backoff_max_s: float = 1.0
    avoid_store_s: float = 1.0
    sweep_s: float = 0.1
    close_timeout_s: float = 10.0
    report_interval_s: float = 15.0
    report_rows: int = 4096

    @classmethod
    def from_topic(cls, settings: TopicSettings) -> ProducerSettings:
        """What topicconfig.conf says."""
        return cls(
            item_size_limit=settings.items_byte_size_limit,
            batch_items=settings.batch_limit,
            batch_size=min(settings.producer_batch_bytes, settings.items_byte_size_limit),
            batch_delay_s=settings.producer_batch_delay_time_ms / 1000,
            eager_in_flight=settings.producer_eager_in_flight,
            max_in_flight=settings.producer_max_in_flight,
            deadline_s=settings.producer_deadline_ms / 1000,
            settle_s=settings.producer_settle_s,
            buffer_items=settings.producer_buffer_items,
            buffer_size=settings.producer_buffer_bytes,
            max_waiting=settings.producer_max_waiting,
            chunk_items=settings.batch_limit,
            backoff_max_s=settings.producer_backoff_max_ms / 1000,
            avoid_store_s=settings.producer_avoid_store_s,
            close_timeout_s=settings.producer_close_timeout_s,
            report_interval_s=settings.producer_report_interval_s,
            report_rows=settings.producer_report_rows,
        )

    @property
    def least_try_s(self) -> float:
        """See min_try_s."""
        return min(self.min_try_s, self.deadline_s / 10)

    @property
    def lane_limits(self) -> LaneLimits:
        """The part of them that decides what leaves when."""
        return LaneLimits(
            items=self.batch_items,
            size=self.batch_size,
            delay_s=self.batch_delay_s,
            eager=self.eager_in_flight,
            in_flight=self.max_in_flight,
        )
