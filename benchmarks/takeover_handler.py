"""What the consumers of `benchmarks takeover` and `benchmarks latency` do with an item: write down when it came."""

from __future__ import annotations

import os
import time
from functools import lru_cache

from phxqueue.consumer import Context, Item, Result

FILE = "PHXQUEUE_TAKEOVER_LOG"


@lru_cache(maxsize=1)
def _log() -> int:
    return os.open(os.environ[FILE], os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def note(context: Context, item: Item) -> Result:
    """One line, in one write: queue, process, seconds of the monotonic clock, which all processes share."""
    os.write(_log(), f"{context.queue_id} {os.getpid()} {time.monotonic()}\n".encode())
    return Result.OK


def delay(context: Context, item: Item) -> Result:
    """Seconds since the time in the item, of the same clock."""
    os.write(_log(), f"{time.monotonic() - float(item.buffer)}\n".encode())
    return Result.OK
