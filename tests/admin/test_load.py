"""The load generator under a clock of ours, against producers that answer when the test says."""

from __future__ import annotations

import random
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from phxqueue.admin.bench import parse_uin, progress_text, report
from phxqueue.admin.errors import AdminError
from phxqueue.admin.load import Load, LoadPlan, LoadResult
from phxqueue.producer import NewItem, OutcomeUnknown, Receipt, Receipts, Refused
from phxqueue.producer.receipts import Segment


class FakeProducer:
    """Answers after `latency` seconds of the clock, or fails."""

    def __init__(self, clock: Clock, latency: float = 0.01) -> None:
        self.in_flight = self.most_in_flight = self.calls = 0
        self.error: Exception | None = None
        self._clock = clock
        self._latency = latency

    def enqueue(self, pub_id: int, handle_id: int, buffer: bytes, uin: int = 0) -> Deferred[Receipt]:
        return self._begin(Receipt(1, 0, self.calls))

    def enqueue_many(self, items: list[NewItem]) -> Deferred[Receipts]:
        return self._begin(Receipts(len(items), [Segment(range(len(items)), 1, 0, 0, None)]))

    def _begin(self, outcome: Any) -> Deferred[Any]:
        self.calls += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        result: Deferred[Any] = Deferred()
        self._clock.callLater(self._latency, self._end, result, outcome)
        return result

    def _end(self, result: Deferred[Any], outcome: Any) -> None:
        self.in_flight -= 1
        if self.error is not None:
            result.errback(self.error)
        else:
            result.callback(outcome)


def advance(clock: Clock, seconds: float, step: float = 0.001) -> None:
    for _ in range(round(seconds / step)):
        clock.advance(step)


def plan(**fields: Any) -> LoadPlan:
    return LoadPlan(**{"in_flight": 4, "make_buffer": lambda: b"x", **fields})


@pytest_twisted.ensureDeferred
async def test_unlimited_keeps_every_slot_busy() -> None:
    clock = Clock()
    producers = [FakeProducer(clock), FakeProducer(clock)]
    load = Load(clock, producers, plan())
    running = Deferred.fromCoroutine(load.run(1.0))
    advance(clock, 1.1)
    result = await running
    assert [producer.most_in_flight for producer in producers] == [4, 4]
    assert result.seconds == pytest.approx(1.0, abs=0.002)
    assert result.rate == pytest.approx(8 / 0.01, rel=0.03)
    assert result.latencies.percentile(0.5) == pytest.approx(10_000, rel=0.1)
    assert load.in_flight == 0


@pytest_twisted.ensureDeferred
async def test_a_rate_is_kept_on_average() -> None:
    clock = Clock()
    load = Load(clock, [FakeProducer(clock)], plan(qps=200, in_flight=100), rng=random.Random(1))
    running = Deferred.fromCoroutine(load.run(10.0))
    advance(clock, 10.1)
    assert (await running).rate == pytest.approx(200, rel=0.1)


@pytest_twisted.ensureDeferred
async def test_waiting_for_a_free_slot_is_part_of_the_latency() -> None:
    clock = Clock()
    # 100 a second are wanted, one slot of 20 ms carries 50: the backlog grows, and every latency with it.
    load = Load(clock, [FakeProducer(clock, 0.02)], plan(qps=100, in_flight=1), rng=random.Random(1))
    running = Deferred.fromCoroutine(load.run(4.0))
    advance(clock, 4.1)
    result = await running
    assert result.rate == pytest.approx(50, rel=0.1)
    assert result.latencies.max_us > 1_000_000


@pytest_twisted.ensureDeferred
async def test_batches_count_items() -> None:
    clock = Clock()
    confirmed: list[int] = []
    load = Load(clock, [FakeProducer(clock)], plan(batch=50, in_flight=1), on_confirmed=confirmed.append)
    running = Deferred.fromCoroutine(load.run(0.1))
    advance(clock, 0.2)
    result = await running
    assert set(confirmed) == {50}
    assert result.confirmed == 50 * result.latencies.count or result.confirmed == 50 * (result.latencies.count - 1)


@pytest_twisted.ensureDeferred
async def test_failures_are_counted_by_status_and_slow_the_slot_down() -> None:
    clock = Clock()
    producer = FakeProducer(clock)
    producer.error = OutcomeUnknown("no answer")
    load = Load(clock, [producer], plan(in_flight=1))
    running = Deferred.fromCoroutine(load.run(0.3))
    advance(clock, 0.3)
    producer.error = Refused("no room")
    advance(clock, 0.2)
    result = await running
    assert result.statuses == {"DEADLINE_EXCEEDED": 5} or result.statuses == {"DEADLINE_EXCEEDED": 5, "UNAVAILABLE": 1}
    assert result.first_error == "no answer"
    assert "first failure: no answer" in report(result)


@pytest_twisted.ensureDeferred
async def test_an_answer_within_the_call_does_not_recurse() -> None:
    class Immediate(FakeProducer):
        def enqueue(self, pub_id: int, handle_id: int, buffer: bytes, uin: int = 0) -> Deferred[Receipt]:
            self.calls += 1
            return succeed(Receipt(1, 0, -1))

    clock = Clock()
    producer = Immediate(clock)
    running = Deferred.fromCoroutine(Load(clock, [producer], plan(in_flight=1)).run(0.5))
    advance(clock, 0.6)
    await running
    assert producer.calls >= 400


@pytest_twisted.ensureDeferred
async def test_cancelled_it_has_measured_what_there_was() -> None:
    clock = Clock()
    load = Load(clock, [FakeProducer(clock)], plan())
    running = Deferred.fromCoroutine(load.run(60.0))
    running.addErrback(lambda _: None)
    advance(clock, 1.0)
    running.cancel()
    advance(clock, 0.1)
    await running
    assert load.result.seconds == pytest.approx(1.0, abs=0.01)
    assert load.result.confirmed > 300
    assert not clock.getDelayedCalls()


def test_uins() -> None:
    assert parse_uin("7")() == 7
    assert {parse_uin("3-5")() for _ in range(200)} <= {3, 4, 5}
    for text in ("", "x", "5-", "-5", "9-3", str(2**64)):
        with pytest.raises(AdminError, match="--uin"):
            parse_uin(text)


def test_report_and_progress() -> None:
    result = LoadResult(started=0.0, ended=2.0)
    result.statuses.update({"OK": 10_000, "RESOURCE_EXHAUSTED": 5})
    result.latencies.record(0.002, times=10_000)
    lines = report(result)
    assert lines[0] == "10,000 messages confirmed in 2.00 s: 5,000/s"
    assert lines[1] == "statuses: OK 10,000, RESOURCE_EXHAUSTED 5"
    assert lines[2].startswith("latency: mean 2.00 ms  p50 ")
    load = Load(Clock(), [], plan())
    load.result = result
    assert progress_text(load, 2.0, 10.0) == "2 of 10 s: 10,000 confirmed, 5,000/s, 5 FAILED"
