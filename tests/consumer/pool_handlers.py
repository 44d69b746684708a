"""What the processes of the pool's tests run: well-behaved, and in every way not."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from phxqueue.consumer import Context, Item, Result


def tell(context: Context, item: Item) -> Any:
    """Do what the item says."""
    word, _, rest = item.buffer.decode().partition(" ")
    return COMMANDS[word](context, item, rest)


class Batch:
    """Says what it got on its standard output."""

    batch_items = 3
    timeout_s = 7

    def handle_batch(self, context: Any, items: list[Item]) -> list[Result]:
        print("batch of", len(items), [each.attempt for each in context.contexts])
        return [Result[item.buffer.decode()] for item in items]


def _result(context: Context, item: Item, name: str) -> Result:
    return Result[name]


def _raise(context: Context, item: Item, text: str) -> Result:
    raise RuntimeError(text)


def _exit(context: Context, item: Item, status: str) -> Result:
    sys.exit(int(status))


def _vanish(context: Context, item: Item, status: str) -> Result:
    os._exit(int(status))


def _crash(context: Context, item: Item, text: str) -> Result:
    os.kill(os.getpid(), signal.SIGSEGV)
    return Result.OK


def _hang(context: Context, item: Item, text: str) -> Result:
    print("hanging")
    sys.stdout.flush()
    while True:
        time.sleep(3600)


def _grow(context: Context, item: Item, size: str) -> Result:
    memory = b"x" * int(size)
    while memory:
        time.sleep(3600)
    return Result.OK


def _swell(context: Context, item: Item, size: str) -> Result:
    global _kept
    _kept = b"x" * int(size)
    return Result.OK


def _nonsense(context: Context, item: Item, text: str) -> Any:
    return text


async def _wait(context: Context, item: Item, text: str) -> Result:
    return Result.OK


def _describe(context: Context, item: Item, text: str) -> Result:
    descriptors = sorted(int(name) for name in os.listdir("/proc/self/fd"))
    print("place", context.place, "cursor", context.cursor, "attempt", context.attempt, "uin", item.uin)
    print("time", 0 < context.time_left <= 20, context.delay > 0)
    print("descriptors", [number for number in descriptors if os.path.exists(f"/proc/self/fd/{number}")])
    return Result.OK


_kept = b""
COMMANDS = {
    "crash": _crash, "describe": _describe, "exit": _exit, "grow": _grow, "hang": _hang, "nonsense": _nonsense,
    "raise": _raise, "result": _result, "swell": _swell, "vanish": _vanish, "wait": _wait,
}  # fmt: skip
