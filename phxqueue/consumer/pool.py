"""The process pool of a consumer: runs handlers that compute, each process one item (or batch) at a time.

So what a handler does to its process, it does to its own item: a crash, `os._exit`, a C extension that writes where it
should not, memory without end, a loop without end. That costs the item one attempt; the process is replaced.
A call has its time-out from the moment a process begins with it: what waits for a process does not lose time.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from phxqueue.config import PoolSettings
from phxqueue.consumer.handlers import Handler, HandlerError, HandlerTimeout, PoolFailure, Result
from phxqueue.consumer.items import BatchContext, Context, Item
from phxqueue.consumer.pool_worker import PoolWorker
from phxqueue.proto.pool_pb2 import PoolAnswer, PoolCall, PoolItem, PoolReady, PoolStart


class _Call:
    """One item or batch on its way to a process, in it, and back."""

    def __init__(self, handler: Handler, handle_id: int, contexts: Sequence[Context], items: Sequence[Item]) -> None:
        self.handler = handler
        self.handle_id = handle_id
        self.contexts = contexts
        self.items = items
        self.timeout_s = handler.timeout_s or 0.0
        self.timer: IDelayedCall | None = None
        self.result: Deferred[Any] | None = None

    def message(self) -> PoolCall:
        place = self.contexts[0].place
        call = PoolCall(
            handle_id=self.handle_id,
            topic_name=place.topic_name,
            consumer_group_id=place.consumer_group_id,
            store_id=place.store_id,
            queue_id=place.queue_id,
            timeout_s=self.timeout_s,
            batch=bool(self.handler.batch_items),
        )
        call.items.extend(
            PoolItem(item=item.message, cursor=item.cursor, attempt=context.attempt)
            for item, context in zip(self.items, self.contexts, strict=True)
        )
        return call


class ProcessPool:
    """Processes that handle items.

    Args:
        reactor: starts them.
        start: what they have to know.
        settings: bounds; see the configuration.
        handler_timeout_s: of handlers that have no time-out of their own.
    """

    log = Logger()

    def __init__(self, reactor: Any, start: PoolStart, settings: PoolSettings, handler_timeout_s: float) -> None:
        self.size = settings.nproc or len(os.sched_getaffinity(0))
        self.died = 0
        """Processes that ended without being asked to."""
        self.recycled = 0
        """Processes that were replaced because of their age or size."""
        self._reactor = reactor
        self._start = start
        self._settings = settings
        self._handler_timeout_s = handler_timeout_s
        self._workers: dict[PoolWorker, _Call | None] = {}  # those that are not on their way out
        self._leaving: set[PoolWorker] = set()
        self._idle: deque[PoolWorker] = deque()
        self._waiting: dict[_Call, None] = {}
        self._ready: Deferred[dict[int, Handler]] | None = None
        self._failures = 0  # ends before being ready, in a row
        self._respawns: set[IDelayedCall] = set()
        self._timers: dict[PoolWorker, IDelayedCall] = {}  # until they have to be ready
        self._memory_call: IDelayedCall | None = None
        self._closed: Deferred[None] | None = None

    def start(self) -> Deferred[dict[int, Handler]]:
        """Start the processes. Fires with their handlers when the first of them is ready.

        Fails with HandlerError when it cannot be.
        """
        self._ready = Deferred()
        ready = self._ready
        for _ in range(self.size):
            self._spawn()
        return ready

    @property
    def pids(self) -> list[int]:
        """The processes there are."""
        return [worker.pid for worker in (*self._workers, *self._leaving)]

    def close(self) -> Deferred[None]:
        """End all processes: those at work are killed. Fires when they are gone."""
        if self._closed is None:
            self._closed = Deferred()
            for call in (*self._respawns, *self._timers.values()):
                if call.active():
                    call.cancel()
            self._respawns.clear()
            self._timers.clear()
            if self._memory_call is not None:
                self._memory_call.cancel()
                self._memory_call = None
            for waiting in list(self._waiting):
                self._fail(waiting, PoolFailure("the consumer stopped before a process was free"))
            for worker, call_at_work in list(self._workers.items()):
                if call_at_work is not None or not worker.ready:
                    worker.kill("the consumer stopped")
                else:
                    worker.retire()
            self._check_closed()
        return self._closed

    # -- calls -----------------------------------------------------------------------------------------

    def _handler(self, handle_id: int, batch_items: int, timeout_s: float) -> Handler:
        handler = Handler(_no_call, batch_items, timeout_s or self._handler_timeout_s, pooled=True)
        call: Callable[[Any, Any], Any] = partial(self._call, handler, handle_id)
        return Handler(call, batch_items, handler.timeout_s, pooled=True)

    def _call(
        self, handler: Handler, handle_id: int, context: Context | BatchContext, items: Item | Sequence[Item]
    ) -> Deferred[Any]:
        if isinstance(context, BatchContext):
            assert not isinstance(items, Item)
            call = _Call(handler, handle_id, context.contexts, items)
        else:
            assert isinstance(items, Item)
            call = _Call(handler, handle_id, (context,), (items,))
        result = call.result = Deferred(lambda _: self._cancel(call))
        if self._closed is not None:
            self._fail(call, PoolFailure("the consumer is stopping"))
            return result
        self._waiting[call] = None
        self._work()
        return result

    def _work(self) -> None:
        while self._idle and self._waiting:
            worker = self._idle.popleft()
            if not worker.open:
                continue
            call = next(iter(self._waiting))
            del self._waiting[call]
            self._workers[worker] = call
            call.timer = self._reactor.callLater(call.timeout_s, self._too_late, worker, call)
            worker.send(call.message())
            self._watch_memory()

    def _too_late(self, worker: PoolWorker, call: _Call) -> None:
        call.timer = None
        worker.kill("its handler took too long")
        self._fail(
            call,
            HandlerTimeout(
                f"its handler did not finish within {call.timeout_s:g} s (handler_timeout_s); its process "
                f"{worker.pid} was killed"
            ),
        )

    def _cancel(self, call: _Call) -> None:
        """Nobody waits for it any more."""
        self._waiting.pop(call, None)
        call.result = None
        for worker, at_work in self._workers.items():
            if at_work is call:
                worker.kill("nobody waits for its handler any more")
        self._stop_timer(call)

    def _succeed(self, call: _Call, value: Any) -> None:
        self._stop_timer(call)
        result, call.result = call.result, None
        if result is not None:
            result.callback(value)

    def _fail(self, call: _Call, error: Exception) -> None:
        self._waiting.pop(call, None)
        self._stop_timer(call)
        result, call.result = call.result, None
        if result is not None:
            result.errback(error)

    def _stop_timer(self, call: _Call) -> None:
        timer, call.timer = call.timer, None
        if timer is not None and timer.active():
            timer.cancel()

    # -- processes --------------------------------------------------------------------------------------

    def _spawn(self) -> None:
        worker = PoolWorker(self._reactor, self, self._start)
        self._workers[worker] = None
        timeout_s = self._settings.start_timeout_s
        self._timers[worker] = self._reactor.callLater(
            timeout_s, self._not_ready, worker, f"its handlers were not imported within {timeout_s:g} s"
        )
        try:
            worker.spawn()
        except OSError as error:  # no more processes, no more descriptors
            worker.killed_because = str(error)
            self.worker_ended(worker, str(error))

    def _not_ready(self, worker: PoolWorker, why: str) -> None:
        self._timers.pop(worker, None)
        worker.kill(why)

    def worker_ready(self, worker: PoolWorker, ready: PoolReady) -> None:
        """A process can be used, or says why not."""
        if (timer := self._timers.pop(worker, None)) is not None:
            timer.cancel()
        if ready.error:
            worker.ready = False
            worker.kill(ready.error)
            return
        self._failures = 0
        if self._ready is not None:
            told, self._ready = self._ready, None
            told.callback(
                {
                    each.handle_id: self._handler(each.handle_id, each.batch_items, each.timeout_s)
                    for each in ready.handlers
                }
            )
        self._free(worker)

    def worker_answered(self, worker: PoolWorker, answer: PoolAnswer) -> None:
        """A process has finished."""
        call = self._workers.get(worker)
        if call is None:
            worker.kill("it answered what nobody asked")
            return
        self._workers[worker] = None
        worker.items += len(call.items)
        settings = self._settings
        if worker.killed_because:
            pass  # it was too late
        elif (
            0 < settings.max_items_per_process <= worker.items or 0 < settings.max_process_bytes < answer.resident_bytes
        ):
            self._replace(worker)
        else:
            self._free(worker)
        if answer.error:
            self._fail(call, PoolFailure(answer.error, answer.traceback))
        else:
            results = [Result[name] for name in answer.results]
            self._succeed(call, results if call.handler.batch_items and len(results) != 1 else results[0])

    def worker_ended(self, worker: PoolWorker, how: str) -> None:
        """A process is gone: its item, if it had one, costs an attempt, and another process takes its place."""
        if (timer := self._timers.pop(worker, None)) is not None:
            timer.cancel()
        self._leaving.discard(worker)
        known, call = worker in self._workers, self._workers.pop(worker, None)
        if worker in self._idle:
            self._idle.remove(worker)
        why = worker.killed_because or how
        if known and self._closed is None:
            self._replace_dead(worker, why)
        if call is not None:
            self._fail(call, PoolFailure(f"its process {worker.pid} ended before it was handled: {why}"))
        self._check_closed()

    def _replace_dead(self, worker: PoolWorker, why: str) -> None:
        self.died += 1
        if worker.ready:
            self.log.warn("handler process {pid} ended: {why}; starting another", pid=worker.pid, why=why)
            self._spawn()
            return
        if self._ready is not None:  # none has ever been ready
            told, self._ready = self._ready, None
            told.errback(HandlerError(f"the processes of the pool cannot start: {why}"))
            return
        pause = min(self._settings.restart_max_s, self._settings.restart_max_s / 50 * 2.0 ** min(self._failures, 20))
        self._failures += 1
        self.log.error(
            "handler process {pid} ended before it was ready: {why}; starting another in {pause:g} s",
            pid=worker.pid, why=why, pause=pause,
        )  # fmt: skip
        self._respawns = {call for call in self._respawns if call.active()}
        self._respawns.add(self._reactor.callLater(pause, self._spawn))

    def _replace(self, worker: PoolWorker) -> None:
        """Let a process go, and start another."""
        del self._workers[worker]
        self._leaving.add(worker)
        self.recycled += 1
        worker.retire()
        self._spawn()

    def _free(self, worker: PoolWorker) -> None:
        self._workers[worker] = None
        if self._closed is not None:
            worker.retire()
            return
        self._idle.append(worker)
        self._work()

    def _watch_memory(self) -> None:
        if self._memory_call is None and self._settings.max_process_bytes and self._closed is None:
            self._memory_call = self._reactor.callLater(self._settings.memory_check_s, self._check_memory)

    def _check_memory(self) -> None:
        self._memory_call = None
        limit = self._settings.max_process_bytes
        busy = [worker for worker, call in self._workers.items() if call is not None]
        for worker in busy:
            if (size := worker.resident_bytes()) > limit:
                worker.kill(f"it grew to {size} bytes, beyond pool.max_process_bytes ({limit})")
        if busy:
            self._watch_memory()

    def _check_closed(self) -> None:
        if self._closed is not None and not self._closed.called and not self._workers and not self._leaving:
            self._closed.callback(None)


def _no_call(context: Any, items: Any) -> Any:
    raise AssertionError("a handler in the pool is called through it")
