"""What the consumers of the tests do with an item: write it down, and sometimes fail."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from twisted.internet.task import deferLater

from phxqueue.consumer import Context, Item, Result

#: One file for all consumers: its lines are in the order in which items were handled, whoever did it.
_ledger = os.open(Path(os.environ["PHXQUEUE_TEST_LEDGER"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
_pid = os.getpid()


def record(context: Context, item: Item) -> Result:
    """Write ``pid uin text`` as one line, in one write, so that lines are whole whenever the process is killed."""
    os.write(_ledger, f"{_pid} {item.uin} {item.buffer.decode()}\n".encode())
    return Result.OK


def record_number(context: Context, item: Item) -> Result:
    """As `record`, but only the first word of the text: what follows is there for its length."""
    os.write(_ledger, f"{_pid} {item.uin} {item.buffer.partition(b' ')[0].decode()}\n".encode())
    return Result.OK


async def record_number_after_a_while(context: Context, item: Item) -> Result:
    """As `record_number`, some time after the item was received: whoever is killed meanwhile has it in hand."""
    from twisted.internet import reactor

    await deferLater(reactor, random.expovariate(20.0), lambda: None)
    return record_number(context, item)


def moody(context: Context, item: Item) -> Result:
    """As `record`, but raise at the first attempt of what begins with "raise", and always at "poison"."""
    text = item.buffer.decode()
    if text.startswith("poison") or (text.startswith("raise") and item.count == 0):
        raise RuntimeError(f"the handler does not like {text!r}")
    return record(context, item)


def stubborn(context: Context, item: Item) -> Result:
    """As `record`, but every seventh item fails at its first two attempts."""
    if int(item.buffer) % 7 == 3 and context.attempt <= 2:
        if item.uin % 2:
            raise RuntimeError("not yet")
        return Result.RETRY
    return record(context, item)


def harmful(context: Context, item: Item) -> Result:
    """As `record`, but "crash" ends its process, and "hang" never returns."""
    text = item.buffer.decode()
    if text.startswith("crash"):
        os._exit(9)
    while text.startswith("hang"):
        time.sleep(3600)
    return record(context, item)
