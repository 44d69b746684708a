"""The name of a delayed item: what a receipt says, and what cancelling it needs."""

from __future__ import annotations

from typing import NamedTuple


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
        parts = text.split("-")
        if len(parts) != 4 or not all(part.isdecimal() and len(part) <= 20 for part in parts):
            raise ValueError(f"{text!r} is not the id of a delayed item: it looks like 1-17-1764000000000-42")
        return cls(*map(int, parts))
