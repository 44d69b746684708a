"""What becomes of an item: results, exceptions, time-outs, retries, dead letters; and that order holds."""

from __future__ import annotations

import itertools
import random
from collections import Counter, defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import globalLogPublisher

from phxqueue.config import Pub, QueueInfo, dead_letter_queue
from phxqueue.consumer import Context, IHandler, Item, Result
from phxqueue.consumer.echo import EchoHandler
from phxqueue.producer.items import read_cookies
from phxqueue.proto.item_pb2 import QItem
from tests.consumer.rig import Rig
from tests.producer.fake_store import Fault, make_topic


def dead_letters(rig: Rig, pub_id: int = 1) -> list[QItem]:
    return rig.store.items(1, dead_letter_queue(pub_id))


def test_results() -> None:
    results = {b"ok": Result.OK, b"ignore": Result.IGNORE, b"dead": Result.DEAD}
    seen: Counter[bytes] = Counter()

    def handle(context: Context, item: Item) -> Result:
        seen[item.buffer] += 1
        return results[item.buffer]

    rig = Rig(handle)
    rig.enqueue(*results)
    rig.run(10)
    assert seen == {b"ok": 1, b"ignore": 1, b"dead": 1}
    [letter] = dead_letters(rig)
    assert letter.buffer == b"dead"
    assert read_cookies(letter.sys_cookies) == {
        "dead.reason": b"handler said DEAD",
        "dead.attempts": b"1",
        "dead.last_error": b"its handler said DEAD",
        "dead.consumer_group_id": b"1",
    }
    assert rig.unacknowledged() == 0
    stats = rig.service.stats
    assert (stats.ok, stats.ignored, stats.dead, stats.retried) == (1, 1, 1, 0)


def test_retry_walks_the_attempt_chain_with_its_delays_for_this_group_only() -> None:
    seen: list[tuple[int, int, int, float]] = []

    def handle(context: Context, item: Item) -> Result:
        seen.append((context.consumer_group_id, context.attempt, item.count, context.deadline))
        assert item.enqueued_at == 1000.0
        assert (item.attempt_enqueued_at > 1000.0) == (item.count > 0)
        assert context.delay == pytest.approx(rig.clock.seconds() - 1000.0)
        assert (context.attempt_delay < context.delay) == (item.count > 0)
        return Result.RETRY if context.consumer_group_id == 1 else Result.OK

    rig = Rig(handle, groups=(1, 2), handler_timeout_s=0.0)
    rig.enqueue(b"x", uin=3)
    rig.run(10)
    assert [entry[1:3] for entry in seen if entry[0] == 1] == [(1, 0), (2, 1), (3, 2)]
    assert [entry[1:3] for entry in seen if entry[0] == 2] == [(1, 0)]
    times = [entry[3] for entry in seen if entry[0] == 1]
    assert all(1.0 <= later - earlier < 1.1 for earlier, later in itertools.pairwise(times))
    [letter] = dead_letters(rig)
    assert read_cookies(letter.sys_cookies)["dead.attempts"] == b"3"
    assert rig.unacknowledged(1) == rig.unacknowledged(2) == 0
    assert rig.acks.wrong == []


class Boom(Exception):
    pass


@pytest.mark.parametrize("how", ["raise", "errback", "coroutine", "late errback", "exit"])
def test_a_handler_that_raises_costs_its_item_one_attempt_and_harms_nothing_else(how: str, logged_errors: Any) -> None:
    rig: Rig

    async def coroutine() -> Result:
        raise Boom("in a coroutine")

    def handle(context: Context, item: Item) -> Any:
        if item.buffer != b"bad":
            return rig.note(context, item)
        if how == "coroutine":
            return coroutine()
        if how in ("errback", "late errback"):
            deferred: Deferred[Result] = Deferred()
            error = Boom("in a Deferred")
            deferred.errback(error) if how == "errback" else rig.clock.callLater(0.5, deferred.errback, error)
            return deferred
        if how == "exit":
            raise SystemExit("a handler may not end the daemon")
        raise Boom("at once")

    rig = Rig(handle)
    rig.enqueue(b"before", b"bad", b"after", uin=1)
    rig.run(10)
    assert rig.handled == [b"before", b"after"]
    failures = logged_errors.flush(SystemExit if how == "exit" else Boom)
    assert len(failures) == 3, "one traceback per attempt"
    [letter] = dead_letters(rig)
    last_error = read_cookies(letter.sys_cookies)["dead.last_error"]
    assert last_error.startswith(b"SystemExit: a handler" if how == "exit" else b"Boom: ")
    assert rig.unacknowledged() == 0
    assert rig.service._workshop.slots.free == rig.settings.nhandler


@pytest.mark.parametrize("wrong", [None, True, 5, "ok", b"ok", [Result.OK]])
def test_a_result_that_is_none_is_an_attempt_not_a_success(wrong: object) -> None:
    rig = Rig(lambda context, item: wrong)
    rig.enqueue(b"x")
    rig.run(10)
    [letter] = dead_letters(rig)
    assert b"which is no Result" in read_cookies(letter.sys_cookies)["dead.last_error"]


def test_coroutines_deferreds_and_awaitables() -> None:
    rig: Rig

    async def coroutine(context: Context, item: Item) -> Result:
        await deferLater(rig.clock, 0.1)
        return rig.note(context, item)

    class Awaitable:
        def __init__(self, context: Context, item: Item) -> None:
            self.arguments = context, item

        def __await__(self) -> Any:
            yield deferLater(rig.clock, 0.1)
            return rig.note(*self.arguments)

    rig = Rig()
    rig.handlers[1] = coroutine
    rig.handlers[2] = Awaitable
    rig.enqueue(b"1")
    rig.enqueue(b"2", handle_id=2)
    assert rig.handled == []
    rig.run(1)
    assert rig.handled == [b"1", b"2"]
    assert rig.unacknowledged() == 0


def test_a_handler_that_takes_too_long_is_cancelled_and_costs_an_attempt() -> None:
    cancelled: list[Deferred[Result]] = []
    rig: Rig

    def handle(context: Context, item: Item) -> Any:
        if item.buffer == b"slow":
            return Deferred(cancelled.append)
        return rig.note(context, item)

    rig = Rig(handle, handler_timeout_s=2.0)
    rig.enqueue(b"slow", b"next", uin=1)
    rig.run(1.9)
    assert rig.handled == []
    rig.run(0.2)
    assert rig.handled == [b"next"]
    assert len(cancelled) == 1
    rig.run(20)
    assert rig.service.stats.timed_out == len(cancelled) == 3
    [letter] = dead_letters(rig)
    assert b"did not finish within 2 s" in read_cookies(letter.sys_cookies)["dead.last_error"]
    assert rig.unacknowledged() == 0
    assert rig.service._workshop.slots.free == rig.settings.nhandler


def test_a_handler_that_cannot_be_cancelled_costs_an_attempt_all_the_same(logged_errors: Any) -> None:
    def refuse(_: Deferred[Result]) -> None:
        raise Boom("it cannot be cancelled")

    rig = Rig(lambda context, item: Deferred(refuse), handler_timeout_s=2.0)
    rig.enqueue(b"one", b"other")
    rig.run(20)
    assert sorted(letter.buffer for letter in dead_letters(rig)) == [b"one", b"other"]
    assert rig.unacknowledged() == 0
    assert rig.service._workshop.slots.free == rig.settings.nhandler
    assert len(logged_errors.flush(Boom)) == 6


def test_handlers_that_cannot_be_cancelled_hold_up_no_end(logged_errors: Any) -> None:
    def refuse(_: Deferred[Result]) -> None:
        raise Boom("it cannot be cancelled")

    rig = Rig(lambda context, item: Deferred(refuse), stop_timeout_s=1.0)
    rig.enqueue(b"one", b"other")
    rig.run(0.5)
    stopped = rig.service.stopService()
    rig.run(2)
    assert stopped.called
    assert rig.unacknowledged() == 2
    assert len(logged_errors.flush(Boom)) == 2


def test_what_a_handler_says_after_its_time_counts_for_nothing(logged_errors: Any) -> None:
    late: list[Deferred[Any]] = []

    async def stubborn(context: Context, item: Item) -> Result:
        late.append(Deferred())
        try:
            await Deferred()
        except CancelledError:
            await late[-1]
        return Result.OK

    rig = Rig(stubborn, handler_timeout_s=1.0)
    rig.enqueue(b"x")
    rig.run(1.5)
    assert rig.service.stats.retried == 1
    late[0].callback(None)
    rig.run(10)
    assert rig.service.stats.ok == 0
    late[1].errback(Boom("much too late"))
    rig.run(1)
    assert len(logged_errors.flush(Boom)) == 1
    late[2].callback(None)
    rig.run(1)
    assert len(dead_letters(rig)) == 1


def test_nhandler_bounds_what_is_at_work_over_all_queues_and_serves_them_in_turns() -> None:
    at_work: list[tuple[int, Deferred[Result]]] = []
    most = 0

    def handle(context: Context, item: Item) -> Deferred[Result]:
        nonlocal most
        at_work.append((context.queue_id, Deferred()))
        most = max(most, sum(not d.called for _, d in at_work))
        return at_work[-1][1]

    rig = Rig(handle, nhandler=3, start=False)
    for uin in range(1, 61):
        rig.enqueue(b"%d" % uin, uin=uin)
    rig.service.startService()
    rig.run(0.1)
    assert len(at_work) == 3
    for index in range(60):
        at_work[index][1].callback(Result.OK)
        rig.run(0.001)
    assert len(at_work) == 60
    assert most == 3
    assert set(Counter(queue_id for queue_id, _ in at_work[:12])) == {0, 1, 2, 3}, (
        "one queue does not starve the others"
    )
    rig.run(1)
    assert rig.unacknowledged() == 0


def test_a_busy_queue_gives_the_reactor_its_turn() -> None:
    trace: list[str] = []

    def handle(context: Context, item: Item) -> Result:
        rig.clock.rightNow += 0.001  # each takes a millisecond
        trace.append("item")
        return Result.OK

    def somebody_else() -> None:
        trace.append("turn")
        if trace.count("item") < 200:
            rig.clock.callLater(0.0001, somebody_else)

    rig = Rig(handle, slice_s=0.005, start=False)
    rig.enqueue(*[b"x"] * 200)
    rig.service.startService()
    somebody_else()
    rig.run(1)
    assert trace.count("item") == 200
    assert max(len(run) for run in "".join(name[0] for name in trace).split("t")) <= 16
    assert rig.unacknowledged() == 0


# -- handle_ids nobody handles -------------------------------------------------------------------------


def test_an_item_without_handler_uses_up_its_attempts_and_is_said_once() -> None:
    said: list[str] = []

    def observe(event: Any) -> None:
        if "register one under" in str(event.get("log_format")):
            said.append(event["why"])

    globalLogPublisher.addObserver(observe)
    try:
        rig = Rig()
        del rig.handlers[2]
        rig.enqueue(b"1", b"2", handle_id=2)
        rig.enqueue(b"fine")
        rig.run(10)
    finally:
        globalLogPublisher.removeObserver(observe)
    assert said == ["no handler for handle_id 2"]
    assert rig.handled == [b"fine"]
    assert [letter.buffer for letter in dead_letters(rig)] == [b"1", b"2"]
    assert rig.service.stats.unknown_handle == 6
    assert rig.unacknowledged() == 0


# -- re-enqueueing that fails --------------------------------------------------------------------------


def test_an_item_is_not_acknowledged_before_its_next_attempt_is_durable() -> None:
    attempts: list[int] = []

    def handle(context: Context, item: Item) -> Result:
        attempts.append(context.attempt)
        return Result.RETRY if context.attempt == 1 else Result.OK

    rig = Rig(handle)
    rig.store.fault = lambda name, request: Fault.NO_MASTER if name == "add" and len(rig.store.adds) > 1 else Fault.NONE
    rig.enqueue(b"x", uin=1)
    rig.run(30)
    assert attempts == [1]
    assert rig.unacknowledged() == 1
    assert 6 < len(rig.store.adds) < 60, "pauses grow, within bounds"
    rig.store.fault = lambda name, request: Fault.NONE
    rig.run(10)
    assert attempts == [1, 2]
    assert rig.unacknowledged() == 0
    assert rig.service.stats.retried == 1


def test_a_uin_waits_for_the_next_attempt_of_its_item_others_do_not() -> None:
    seen: list[bytes] = []

    def handle(context: Context, item: Item) -> Result:
        seen.append(item.buffer)
        return Result.RETRY if context.attempt == 1 else Result.OK

    rig = Rig(handle, start=False)
    rig.enqueue(b"a", b"b", uin=1)
    rig.enqueue(b"other", uin=2)
    rig.store.fault = lambda name, request: Fault.NO_MASTER if name == "add" else Fault.NONE
    rig.service.startService()
    rig.run(1)
    assert sorted(seen) == [b"a", b"other"]
    rig.store.fault = lambda name, request: Fault.NONE
    rig.run(20)
    assert [buffer for buffer in seen if buffer != b"other"] == [b"a", b"b", b"a", b"b"]


def test_an_item_of_a_pub_that_is_gone_stays_where_it_is() -> None:
    rig = Rig(lambda context, item: Result.RETRY, start=False)
    rig.enqueue(b"x", pub_id=2)
    rig.producer.reconfigure(make_topic(pubs=(Pub(pub_id=1, queue_info_ids=(1, 2), consumer_group_ids=(1, 2)),)))
    rig.service.startService()
    rig.run(30)
    assert rig.unacknowledged() == 1
    assert dead_letters(rig, 2) == []
    rig.producer.reconfigure(make_topic())
    rig.run(10)
    assert rig.unacknowledged() == 0
    assert len(dead_letters(rig, 2)) == 1


# -- everything at random ------------------------------------------------------------------------------


@settings(max_examples=12)
@given(st.integers(0, 2**32))
def test_nothing_is_lost_and_first_attempts_keep_the_order_of_a_uin(seed: int) -> None:
    """Random results, handler times, lost answers, failovers and restarts of the consumer.

    In the end every item was handled with a final result or is a dead letter, everything is acknowledged, and within
    the life of one consumer, first attempts of a uin were handled one after another and in order.
    """
    rng = random.Random(seed)
    done: Counter[bytes] = Counter()
    order: dict[tuple[int, int], list[int]] = defaultdict(list)
    at_work: Counter[int] = Counter()
    life = 0

    def handle(context: Context, item: Item) -> Any:
        if item.count == 0 and item.uin:
            order[life, item.uin].append(int(item.buffer))
        key = item.uin if item.count == 0 else 0  # later attempts come from other queues
        at_work[key] += 1
        assert key == 0 or at_work[key] == 1
        result = rng.choice((Result.OK, Result.OK, Result.OK, Result.IGNORE, Result.RETRY))

        def end(value: Any = None) -> Result:
            at_work[key] -= 1
            if result is not Result.RETRY:
                done[item.buffer] += 1
            return result

        if rng.random() < 0.5:
            return end()
        return deferLater(rig.clock, rng.random() * 0.05).addBoth(end)

    infos = (QueueInfo(queue_info_id=1, ranges=((0, 1),)), QueueInfo(queue_info_id=2, ranges=((10, 10),), count=2))
    rig = Rig(
        handle, topic=make_topic(queue_infos=infos), seed=seed, nhandler=rng.choice((1, 3, 100)), fetch_items=5,
        fetch_size=rng.choice((100, 100_000)), min_fetch_size=50, prefetch_size=rng.choice((300, 100_000)),
        stop_timeout_s=1.0, get_wait_s=0.5, get_deadline_s=0.5, handler_timeout_s=5.0, ack_interval_s=0.01,
    )  # fmt: skip
    rig.acks.off()
    faults = [fault for fault in Fault if fault is not Fault.DENIED]
    rate = rng.choice((0.0, 0.1, 0.3))
    rig.store.fault = lambda name, request: (
        rng.choice(faults) if rng.random() < rate and name == "get" and request.limit else Fault.NONE
    )
    for number in range(150):
        rig.producer.enqueue(1, 1, b"%d" % number, rng.choice((0, 1, 2, 3)))
        rig.run(rng.choice((0.0, 0.005, 0.02)))
        if rng.random() < 0.03:
            rig.store.fail_over()
        if rng.random() < 0.02:
            stopped = rig.stop()
            rig.run(3)
            assert stopped == [None]
            life += 1
            at_work.clear()
            rig.service = rig.make_service()
            rig.service.startService()
    rig.run(5)
    rig.store.fault = lambda name, request: Fault.NONE
    rig.run(15)
    everything = {b"%d" % number for number in range(150)}
    dead = {letter.buffer for letter in dead_letters(rig)}
    assert everything == set(done) | dead
    assert rig.unacknowledged() == 0
    for numbers in order.values():
        assert numbers == sorted(numbers)
    assert rig.service._budget.used == 0
    assert rig.service._workshop.slots.free == rig.settings.nhandler


def test_echo_says_what_it_got() -> None:
    said: list[str] = []

    def observe(event: Any) -> None:
        if event.get("log_namespace") == "phxqueue.handler":
            said.append(event["log_format"].format(**event))

    rig = Rig(EchoHandler().handle)
    globalLogPublisher.addObserver(observe)
    try:
        rig.enqueue("grüß {Gott} \udcff".encode("utf-8", "surrogateescape"))
    finally:
        globalLogPublisher.removeObserver(observe)
    assert said == ["consume echo succeeded! grüß {Gott} �"]
    assert IHandler.implementedBy(EchoHandler)
