"""The process pool: what a handler does to its process costs its own item an attempt, and nobody else anything.

With real processes; each takes half a second to start, so they are shared as far as they survive.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import formatEvent, globalLogPublisher

from phxqueue.config import PoolSettings
from phxqueue.consumer import BatchContext, Context, HandlerError, Item, Result
from phxqueue.consumer.handlers import Handler, HandlerTimeout, PoolFailure
from phxqueue.consumer.items import Place
from phxqueue.consumer.pool import ProcessPool
from phxqueue.proto.item_pb2 import Meta, QItem
from phxqueue.proto.pool_pb2 import PoolStart

#: Nothing here takes so long: it ends what hangs. A busy machine may take ten times as long to start a process.
pytestmark = pytest.mark.reactor_limit(100)

PLACE = Place("shop", 3, 1, 17)
TELL, BATCH = 1, 2
HANDLERS = {TELL: "tests.consumer.pool_handlers:tell", BATCH: "tests.consumer.pool_handlers:Batch"}


class Calls:
    """A pool with its handlers."""

    def __init__(self, pool: ProcessPool, handlers: dict[int, Handler], log: list[str]) -> None:
        self.pool = pool
        self.handlers = handlers
        self.log = log

    def tell(self, text: str, cursor: int = 0) -> Deferred[Any]:
        item = make_item(text, cursor)
        return self.handlers[TELL].call(context_of(item), item)  # type: ignore[no-any-return]

    async def logged(self, text: str) -> str:
        while True:
            for line in self.log:
                if text in line:
                    return line
            await deferLater(reactor, 0.01)  # type: ignore[arg-type]


def make_item(text: str, cursor: int = 0) -> Item:
    return Item(QItem(buffer=text.encode(), count=1, meta=Meta(handle_id=1, uin=9, atime_ms=1)), cursor)


def context_of(item: Item) -> Context:
    return Context(PLACE, item, 2, 0.0, lambda: 0.0, 5.0)


@asynccontextmanager
async def a_pool(timeout_s: float = 20.0, start: PoolStart | None = None, **settings: Any) -> AsyncIterator[Calls]:
    log: list[str] = []

    def observe(event: Any) -> None:
        log.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    start = start or PoolStart(handlers=HANDLERS, handle_ids=list(HANDLERS))
    pool = ProcessPool(reactor, start, PoolSettings(**{"nproc": 1, **settings}), timeout_s)
    try:
        yield Calls(pool, await pool.start(), log)
    finally:
        pids = pool.pids
        await pool.close()
        globalLogPublisher.removeObserver(observe)
        assert not set(map(str, pids)) & set(os.listdir("/proc"))


@pytest_twisted.ensureDeferred
async def test_what_handlers_say_and_get() -> None:
    async with a_pool() as calls:
        for result in Result:
            assert await calls.tell(f"result {result.name}") is result
        assert await calls.tell("wait") is Result.OK
        await calls.tell("describe", cursor=41)
        assert "place group 3, store 1, queue 17 cursor 41 attempt 2 uin 9" in await calls.logged("place")
        assert "time True True" in await calls.logged("time")
        assert "descriptors [0, 1, 2, 3, 4]" in await calls.logged("descriptors"), "nothing else of ours is open there"
        for text, why in (
            ("raise it does not like it", "RuntimeError: it does not like it"),
            ("exit 3", "SystemExit: 3"),
            ("nonsense yes", "its handler returned 'yes', which is no Result"),
        ):
            with pytest.raises(PoolFailure, match=why) as failure:
                await calls.tell(text)
        assert "in _exit" not in failure.value.traceback
        [before] = calls.pool.pids
        batch, items = calls.handlers[BATCH], [make_item("OK"), make_item("DEAD"), make_item("RETRY")]
        assert (batch.batch_items, batch.timeout_s, batch.pooled) == (3, 7.0, True)
        found = await batch.call(BatchContext([context_of(item) for item in items]), items)
        assert found == [Result.OK, Result.DEAD, Result.RETRY]
        assert "batch of 3 [2, 2, 2]" in await calls.logged("batch of")
        with pytest.raises(PoolFailure, match="KeyError"):
            await batch.call(BatchContext([context_of(items[0])]), [make_item("what")])
        assert calls.pool.pids == [before], "none of this ends a process"


@pytest_twisted.ensureDeferred
async def test_what_ends_a_process_costs_its_own_item_an_attempt() -> None:
    async with a_pool(nproc=2) as calls:
        waiting = [calls.tell("result OK", cursor) for cursor in range(20)]
        crashed, vanished = calls.tell("crash"), calls.tell("vanish 7")
        more = [calls.tell("result OK", cursor) for cursor in range(20)]
        with pytest.raises(PoolFailure, match="ended before it was handled: killed by SIGSEGV"):
            await crashed
        with pytest.raises(PoolFailure, match="ended before it was handled: exit status 7"):
            await vanished
        for each in waiting + more:
            assert await each is Result.OK
        assert calls.pool.died == 2
        while len(calls.pool.pids) < 2:  # the second one may be resting before it is started again
            await deferLater(reactor, 0.01)  # type: ignore[arg-type]


@pytest_twisted.ensureDeferred
async def test_a_hung_process_is_killed_at_the_time_out_and_waiting_does_not_count() -> None:
    async with a_pool(timeout_s=2.0) as calls:
        hung = calls.tell("hang")
        next_hung = calls.tell("hang")
        behind = calls.tell("result OK")
        with pytest.raises(HandlerTimeout, match=r"did not finish within 2 s .* was killed"):
            await hung
        with pytest.raises(HandlerTimeout):
            await next_hung
        assert await behind is Result.OK, "it had waited for longer than the time-out"
        assert calls.pool.died == 2


@pytest_twisted.ensureDeferred
async def test_what_nobody_waits_for_any_more_is_killed() -> None:
    async with a_pool() as calls:
        hung, waiting = calls.tell("hang"), calls.tell("result OK")
        await calls.logged("hanging")
        for deferred in (waiting, hung):
            deferred.cancel()
            with pytest.raises(CancelledError):
                await deferred
        assert await calls.tell("result OK") is Result.OK
        assert calls.pool.died == 1


@pytest_twisted.ensureDeferred
async def test_processes_are_replaced_when_they_are_old_or_large() -> None:
    async with a_pool(max_items_per_process=3, max_process_bytes=300 << 20, memory_check_s=3600.0) as calls:
        pids = []
        for _ in range(4):
            await calls.tell("result OK")
            pids.append(calls.pool.pids[0])
        assert pids[0] == pids[1] != pids[3]
        assert calls.pool.recycled == 1
        assert await calls.tell(f"swell {400 << 20}") is Result.OK
        assert calls.pool.recycled == 2, "it is large now, but it was in time: that costs nothing"


@pytest_twisted.ensureDeferred
async def test_a_process_that_grows_without_end_is_killed() -> None:
    async with a_pool(max_process_bytes=300 << 20, memory_check_s=0.02) as calls:
        with pytest.raises(PoolFailure, match=r"it grew to \d+ bytes, beyond pool.max_process_bytes"):
            await calls.tell(f"grow {400 << 20}")
        assert (calls.pool.recycled, calls.pool.died) == (0, 1)
        assert await calls.tell("result OK") is Result.OK


@pytest_twisted.ensureDeferred
async def test_handlers_that_cannot_be_imported_are_told_at_start() -> None:
    start = PoolStart(handlers={1: "tests.consumer.pool_handlers:nothing"}, handle_ids=[1])
    with pytest.raises(HandlerError, match=r"cannot start: handle_id 1: .* has no attribute 'nothing'"):
        async with a_pool(start=start):
            pass
    start = PoolStart(handle_ids=[5])
    with pytest.raises(HandlerError, match=r"pool.handle_ids names 5, but there is neither"):
        async with a_pool(start=start):
            pass


@pytest_twisted.ensureDeferred
async def test_signals_to_the_whole_group_do_not_end_it_but_closing_does() -> None:
    async with a_pool() as calls:
        [pid] = calls.pool.pids
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(pid, number)
        assert await calls.tell("result OK") is Result.OK
        assert calls.pool.pids == [pid]
        assert os.getpgid(pid) == pid
        hung = calls.tell("hang")
        behind = calls.tell("result OK")
        outcomes: list[Any] = []
        for deferred in (hung, behind):
            deferred.addErrback(lambda failure: outcomes.append(failure.value))
        await calls.logged("hanging")
    assert [str(outcome) for outcome in outcomes] == [
        "the consumer stopped before a process was free",
        f"its process {pid} ended before it was handled: the consumer stopped",
    ]
    with pytest.raises(PoolFailure, match="is stopping"):
        await calls.tell("result OK")


class FailingReactor:
    """Cannot start processes."""

    def __init__(self) -> None:
        self.callLater: Callable[..., Any] = reactor.callLater  # type: ignore[attr-defined]

    def spawnProcess(self, *arguments: Any, **named: Any) -> Any:
        raise OSError(11, "Resource temporarily unavailable")


@pytest_twisted.ensureDeferred
async def test_a_machine_without_processes_is_told() -> None:
    pool = ProcessPool(FailingReactor(), PoolStart(handlers=HANDLERS, handle_ids=[1]), PoolSettings(nproc=1), 1.0)
    with pytest.raises(HandlerError, match="Resource temporarily unavailable"):
        await pool.start()
    await pool.close()
