"""Following the scheduler: what it says holds, and its silence changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from phxqueue.config import NodeAddress, Topic, TopicSettings
from phxqueue.consumer.weights import Usage, Weights
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.methods import REPORT
from phxqueue.proto.scheduler_pb2 import ConsumerWeight, ReportRequest, ReportResponse

ME, OTHER = "10.0.0.1:8001", "10.0.0.2:8001"
TOPIC = Topic(
    topic_id=1000, topic_name="test", settings=TopicSettings(), queue_infos=(), pubs=(), consumer_groups=(), stores=(),
    consumers=(), scheduler=(NodeAddress(0, "10.1.0.1", 6100), NodeAddress(1, "10.1.0.2", 6100)),
)  # fmt: skip


class Rig:
    """A consumer's weights, and a scheduler made of its calls."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.calls: list[tuple[ReportRequest, Deferred[ReportResponse]]] = []
        self.changes = 0
        self.weights = Weights(
            TOPIC, ME, self, self.clock, lambda: Usage(12.5, 50.0), self._changed, patience_s=3.0
        )  # fmt: skip
        self.weights.start()

    def _changed(self) -> None:
        self.changes += 1

    def call(self, route: Any, method: Any, request: Any, deadline_s: float, **_: Any) -> Any:
        assert method is REPORT
        assert [str(address) for address in route.candidates] == ["10.1.0.1:6100", "10.1.0.2:6100"]
        answer: Deferred[Any] = Deferred()
        self.calls.append((request, answer))
        return answer

    @property
    def request(self) -> ReportRequest:
        return self.calls[-1][0]

    def answer(self, term: int = 0, version: int = 0, **weights: int) -> None:
        names = {"me": ME, "other": OTHER}
        listed = [ConsumerWeight(consumer=names[name], weight=weight) for name, weight in weights.items()]
        self.calls[-1][1].callback(ReportResponse(term=term, version=version, weights=listed))

    def refuse(self) -> None:
        self.calls[-1][1].errback(RpcError(Status.UNAVAILABLE, "nobody there"))

    def stopped(self) -> bool:
        done: list[Any] = []
        self.weights.stop().addBoth(done.append)
        return len(done) == 1


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.stopped()
    assert made.clock.getDelayedCalls() == []


def test_a_report_says_who_and_how_busy(rig: Rig) -> None:
    request = rig.request
    assert (request.topic_id, request.consumer, request.cpu, request.slots) == (1000, ME, 12.5, 50.0)
    assert (request.weight, request.term, request.version, request.leaving) == (0, 0, 0, False)


def test_what_the_scheduler_says_holds_and_is_told_back(rig: Rig) -> None:
    rig.answer(7, 1, me=400, other=1000)
    assert (rig.weights.known, rig.weights.current, rig.changes) == (True, {ME: 400, OTHER: 1000}, 1)
    rig.clock.advance(1.0)
    assert (rig.request.weight, rig.request.term, rig.request.version) == (400, 7, 1)
    rig.answer(7, 1)
    assert (rig.weights.current, rig.changes) == ({ME: 400, OTHER: 1000}, 1)


def test_a_scheduler_that_knows_nothing_yet_changes_nothing(rig: Rig) -> None:
    rig.answer(7, 3, me=400)
    rig.clock.advance(1.0)
    rig.answer(9, 0)
    assert (rig.weights.current, rig.changes) == ({ME: 400}, 1)
    rig.clock.advance(1.0)
    assert (rig.request.term, rig.request.version) == (7, 3)


def test_the_same_weights_of_another_master_are_no_change(rig: Rig) -> None:
    rig.answer(7, 3, me=400)
    rig.clock.advance(1.0)
    rig.answer(9, 1, me=400)
    assert rig.changes == 1
    rig.clock.advance(1.0)
    assert (rig.request.term, rig.request.version) == (9, 1)


def test_silence_changes_nothing_and_is_said_once(rig: Rig) -> None:
    rig.answer(7, 1, me=400)
    with capturedLogs() as logged:
        for _ in range(20):
            rig.clock.advance(1.0)
            rig.refuse()
        rig.clock.advance(1.0)
        rig.answer(8, 1, me=300)
    assert len(logged) == 2
    assert (rig.weights.current, rig.changes) == ({ME: 300}, 2)


def test_without_any_scheduler_the_configuration_holds_after_a_while(rig: Rig) -> None:
    rig.refuse()
    rig.clock.advance(2.9)
    assert (rig.weights.known, rig.changes) == (False, 0)
    rig.clock.advance(0.1)
    assert (rig.weights.known, rig.weights.current, rig.changes) == (True, None, 1)
    rig.answer(7, 1, me=400)
    assert (rig.weights.current, rig.changes) == ({ME: 400}, 2)


def lines(logged: list[Any]) -> list[str]:
    return [text for event in logged if (text := formatEvent(event))]


def test_a_scheduler_that_answers_without_weights_is_not_called_silent(rig: Rig) -> None:
    with capturedLogs() as logged:
        rig.refuse()
        rig.clock.advance(1.0)
        rig.answer(7, 0)
        rig.clock.advance(2.0)
    assert lines(logged) == [
        "the scheduler does not answer: UNAVAILABLE: nobody there; there are no weights yet; asking on",
        "the scheduler answers again",
        "the scheduler has no weights yet, after 3 s: the weights of consumerconfig.conf hold until it gives some",
    ]


def test_one_that_is_silent_is_called_so(rig: Rig) -> None:
    with capturedLogs() as logged:
        rig.answer(7, 0)
        rig.clock.advance(1.0)
        rig.refuse()
        rig.clock.advance(2.0)
    assert lines(logged)[1:] == [
        "no scheduler has answered for 3 s: the weights of consumerconfig.conf hold until it gives some"
    ]


def test_one_report_at_a_time(rig: Rig) -> None:
    rig.clock.advance(1.0)
    rig.clock.advance(1.0)
    assert len(rig.calls) == 1


def test_good_bye_is_said_to_a_scheduler_that_knows_us(rig: Rig) -> None:
    rig.answer(7, 1, me=400)
    assert not rig.stopped()
    assert rig.request.leaving
    rig.refuse()


def test_nobody_is_told_good_bye_who_never_answered() -> None:
    rig = Rig()
    assert rig.stopped()
    assert len(rig.calls) == 1
    assert rig.calls[0][1].called, "the report under way is cancelled"
