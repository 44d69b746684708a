"""What the consumers of the tests do with an item: write it down, and sometimes fail."""

from __future__ import annotations

import os
from pathlib import Path

from phxqueue.consumer import Context, Item, Result

_ledger = os.open(
    Path(os.environ["PHXQUEUE_TEST_LEDGER"]) / f"{os.getpid()}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND
)


def record(context: Context, item: Item) -> Result:
    """Write ``uin text`` as one line, in one write, so that lines are whole whenever the process is killed."""
    os.write(_ledger, f"{item.uin} {item.buffer.decode()}\n".encode())
    return Result.OK


def moody(context: Context, item: Item) -> Result:
    """As `record`, but raise at the first attempt of what begins with "raise", and always at "poison"."""
    text = item.buffer.decode()
    if text.startswith("poison") or (text.startswith("raise") and item.count == 0):
        raise RuntimeError(f"the handler does not like {text!r}")
    return record(context, item)
