"""A handler for tests of clusters in memory."""

from __future__ import annotations

from typing import Any

from phxqueue.consumer import Result


class Notes:
    """A handler that remembers."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    def handle(self, context: Any, item: Any) -> Result:
        self.seen.append(item.buffer)
        return Result.OK
