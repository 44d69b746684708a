"""A process of a consumer's pool: handles one item (or batch) after another.

Started as ``python -m phxqueue.consumer.pool_child PARENT``, with the process id of the daemon.
It is told what to do on descriptor 3 and answers on descriptor 4; its standard output and error end up in the daemon's
log. It ends when the daemon closes descriptor 3, or is gone: neither a signal to the whole process group (Ctrl-C,
SIGTERM by systemd) nor anything else ends it before it has finished what it was given.
"""

from __future__ import annotations

import ctypes
import inspect
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from phxqueue.consumer.handlers import Handler, HandlerError, Result, load_handlers
from phxqueue.consumer.items import BatchContext, Context, Item, Place
from phxqueue.daemon.memory import resident_bytes
from phxqueue.net.framing import FrameDecoder, encode_frame
from phxqueue.proto.pool_pb2 import PoolAnswer, PoolCall, PoolHandler, PoolReady, PoolStart

CALLS = 3
ANSWERS = 4
#: Far above the largest batch of items that a store accepts.
MAX_FRAME = 1 << 30
_READ_SIZE = 1 << 18
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve until the daemon says, or shows, that it is over."""
    _belong_to(int(sys.argv[1]))
    _log_to_stderr()
    frames = _frames()
    first = next(frames, None)
    if first is None:
        return
    start = PoolStart.FromString(first)
    try:
        handlers = _load(start)
    except HandlerError as error:
        _send(PoolReady(error=str(error)))
        return
    ready = PoolReady()
    for handle_id, handler in sorted(handlers.items()):
        ready.handlers.append(
            PoolHandler(handle_id=handle_id, batch_items=handler.batch_items, timeout_s=handler.timeout_s or 0.0)
        )
    _send(ready)
    for frame in frames:
        _send(answer(handlers, PoolCall.FromString(frame)))


def _load(start: PoolStart) -> dict[int, Handler]:
    plugins = any(handle_id not in start.handlers for handle_id in start.handle_ids)
    found = load_handlers(dict(start.handlers), plugins=plugins, middleware=start.middleware)
    missing = [handle_id for handle_id in start.handle_ids if handle_id not in found]
    if missing:
        raise HandlerError(
            f"pool.handle_ids names {', '.join(map(str, missing))}, but there is neither an entry of `handlers` nor a "
            "plugin for it"
        )
    return {handle_id: found[handle_id] for handle_id in start.handle_ids}


def answer(handlers: dict[int, Handler], call: PoolCall) -> PoolAnswer:
    """Handle one item or batch, and say how it went."""
    try:
        outcome = _finished(_handle(handlers[call.handle_id], call))
        results = list(outcome) if isinstance(outcome, list | tuple) and call.batch else [outcome]
        if all(isinstance(result, Result) for result in results):
            told = PoolAnswer(results=[result.name for result in results])
        else:
            told = PoolAnswer(error=f"its handler returned {outcome!r:.200}, which is no Result")
    except BaseException as error:
        told = PoolAnswer(error=f"{type(error).__name__}: {error}"[:10_000], traceback=traceback.format_exc()[-50_000:])
    told.resident_bytes = resident_bytes()
    return told


def _handle(handler: Handler, call: PoolCall) -> Any:
    place = Place(call.topic_name, call.consumer_group_id, call.store_id, call.queue_id)
    deadline, wall_s = time.monotonic() + call.timeout_s, time.time()
    items = [Item(each.item, each.cursor) for each in call.items]
    contexts = [
        Context(place, item, each.attempt, deadline, time.monotonic, wall_s)
        for item, each in zip(items, call.items, strict=True)
    ]
    if call.batch:
        return handler.call(BatchContext(contexts), items)
    return handler.call(contexts[0], items[0])


def _finished(outcome: Any) -> Any:
    """The result of a coroutine that waits for nothing (as middleware makes of a plain function)."""
    if not inspect.iscoroutine(outcome):
        return outcome
    try:
        outcome.send(None)
    except StopIteration as end:
        return end.value
    outcome.close()
    raise TypeError("a handler in the process pool has no reactor to wait for: make it a plain function")


def _frames() -> Iterator[bytes]:
    decoder = FrameDecoder(MAX_FRAME)
    while data := os.read(CALLS, _READ_SIZE):
        yield from decoder.feed(data)


def _send(message: PoolReady | PoolAnswer) -> None:
    data = memoryview(encode_frame(message.SerializeToString()))
    while data:
        data = data[os.write(ANSWERS, data) :]


def _belong_to(parent: int) -> None:
    """End with the parent, however it ends, and not by signals that are meant for it."""
    os.setpgid(0, 0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Not SIG_IGN: programs that a handler starts would inherit that.
        signal.signal(number, _heed_not)
    prctl: Callable[..., int] = ctypes.CDLL(None).prctl
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(0)  # it was gone before the kernel knew


def _heed_not(number: int, frame: FrameType | None) -> None:
    """The daemon decides."""


def _log_to_stderr() -> None:
    from twisted.logger import globalLogBeginner, textFileLogObserver

    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)


if __name__ == "__main__":
    main()
