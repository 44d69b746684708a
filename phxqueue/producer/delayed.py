"""The name of a delayed item: what a receipt says, and what cancelling it needs."""

from __future__ import annotations

from typing import NamedTuple

from phxqueue.producer.places import read_place


class DelayedId(NamedTuple):
    """Where a delayed item waits. As text: "store-queue-deliver_at_ms-timer_number"."""

    store_id: int
    queue_id: int
    deliver_at_ms: int
    timer_number: int

    def __str__(self) -> str:
        return "-".join(map(str, self))

    @classmethod
    def parse(cls, text: str) -> DelayedId:
        """Read what str() wrote.

        Raises:
            ValueError: it is no such text.
        """
        return cls(*read_place(text, (32, 32, 64, 64), "a delayed item: it looks like 1-17-1764000000000-42"))
