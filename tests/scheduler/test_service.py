"""Reports as calls: who is answered what, and what happens by itself as time passes."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.task import Clock

from phxqueue.config import Consumer, Topic, TopicSettings
from phxqueue.net.identity import Identity, Role
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.scheduler_pb2 import (
    LimitDemand,
    ReportRequest,
    ReportResponse,
    SchedulerStatusRequest,
    ShareRequest,
)
from phxqueue.scheduler.roll import RollRule
from phxqueue.scheduler.service import SchedulerService

RULE = RollRule(keep_time=5.0, grace=3.0, warm_up=3.0)
A, B, C = "10.0.0.1:8001", "10.0.0.2:8001", "10.0.0.3:8001"


def topic(*names: str, scale: int = 1000) -> Topic:
    consumers = tuple(Consumer(ip=name.split(":")[0], port=8001, scale=scale) for name in names)
    return Topic(
        topic_id=1000, topic_name="test", settings=TopicSettings(), queue_infos=(), pubs=(), consumer_groups=(),
        stores=(), consumers=consumers,
    )  # fmt: skip


class Rig:
    """A scheduler in virtual time, and who reports to it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.service = SchedulerService(topic(A, B, C), RULE, self.clock, consumer_of=lambda name: name.split(":")[0])
        self.living = [A, B, C]

    def report(self, name: str = A, *, topic_id: int = 1000, peer: str | None = None, **fields: Any) -> ReportResponse:
        context: Any = SimpleNamespace(peer=Identity(Role.CONSUMER, peer or name.split(":")[0]))
        return self.service.report(ReportRequest(topic_id=topic_id, consumer=name, **fields), context)

    def refused(self, **fields: Any) -> RpcError:
        with pytest.raises(RpcError) as refused:
            self.report(**fields)
        return refused.value

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            for name in self.living:
                self.report(name)
            self.clock.advance(1.0)

    def weights(self, **fields: Any) -> dict[str, int]:
        return {one.consumer: one.weight for one in self.report(**fields).weights}


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    made.service.begin(7)
    yield made
    made.service.end()
    assert made.clock.getDelayedCalls() == []


def test_only_the_master_answers() -> None:
    rig = Rig()
    assert rig.refused().status is Status.NOT_MASTER
    assert rig.service.term == 0
    rig.service.begin(7)
    assert rig.service.term == 7
    rig.service.end()
    assert rig.refused().status is Status.NOT_MASTER
    assert rig.clock.getDelayedCalls() == []


def test_there_are_no_weights_before_all_had_time_to_report(rig: Rig) -> None:
    first = rig.report()
    assert (first.term, first.version, list(first.weights)) == (7, 0, [])
    rig.run(3)
    assert rig.weights() == {A: 1000, B: 1000, C: 1000}


def test_weights_are_sent_when_the_caller_has_others(rig: Rig) -> None:
    rig.run(3)
    assert rig.weights(term=7, version=1) == {}
    assert len(rig.weights(term=6, version=1)) == 3
    assert len(rig.weights(term=7, version=0)) == 3


def test_the_silent_die_by_themselves(rig: Rig) -> None:
    rig.run(3)
    rig.living.remove(C)
    rig.clock.advance(3.5)
    assert rig.service.weights()[C] == 1000
    rig.report(A)
    rig.report(B)
    rig.clock.advance(0.6)
    assert rig.service.weights() == {A: 1000, B: 1000, C: 0}
    assert rig.report(term=7, version=1).version == 2


def test_a_good_bye_shortens_the_wait(rig: Rig) -> None:
    rig.run(3)
    rig.living.remove(C)
    rig.report(C, leaving=True)
    rig.run(2)
    assert rig.service.weights()[C] == 1000
    rig.run(1)
    assert rig.service.weights()[C] == 0


def test_every_mastership_begins_anew_and_takes_over_what_is_in_force(rig: Rig) -> None:
    rig.run(3)
    rig.service.end()
    rig.service.begin(9)
    assert rig.report(weight=400, term=7, version=1).version == 0
    rig.clock.advance(3.0)
    answer = rig.report(weight=400, term=7, version=1)
    assert (answer.term, answer.version) == (9, 1)
    assert rig.service.weights() == {A: 400, B: 0, C: 0}


def test_the_configuration_is_followed(rig: Rig) -> None:
    rig.run(3)
    rig.service.reconfigure(topic(A, B, scale=500))
    assert rig.service.weights() == {A: 500, B: 500}
    error = rig.refused(name=C)
    assert error.status is Status.INVALID_ARGUMENT
    assert error.message.startswith(f"consumer: consumer {C} is not in consumerconfig.conf")


def test_a_consumer_speaks_for_itself_only(rig: Rig) -> None:
    error = rig.refused(name=A, peer="10.0.0.2", leaving=True)
    assert error.status is Status.PERMISSION_DENIED
    assert "reports for consumer 10.0.0.1:8001, which is consumer/10.0.0.1" in error.message


def test_shares_are_for_the_masters_own_consumers_and_sensible_demands(rig: Rig) -> None:
    def refusal(name: str = A, topic_id: int = 1000, peer: str = "", limits: int = 1, **fields: float) -> RpcError:
        context: Any = SimpleNamespace(peer=Identity(Role.CONSUMER, peer or name.split(":")[0]))
        demands = [LimitDemand(pub_id=number, **fields) for number in range(limits)]
        with pytest.raises(RpcError) as refused:
            rig.service.shares(ShareRequest(topic_id=topic_id, consumer=name, demands=demands), context)
        return refused.value

    assert refusal(topic_id=1).status is Status.INVALID_ARGUMENT
    assert refusal(peer="10.0.0.2").status is Status.PERMISSION_DENIED
    assert "is not in consumerconfig.conf" in refusal("10.0.0.9:8001").message
    assert "not from 0 to 1" in refusal(wanted=1.5).message
    assert "not from 0 to 1" in refusal(keeps=float("nan")).message
    assert "scheduler_share_limits" in refusal(limits=1001).message
    rig.service.end()
    assert refusal().status is Status.NOT_MASTER


def test_who_waits_for_shares_is_told_when_mastership_ends(rig: Rig) -> None:
    context: Any = SimpleNamespace(peer=Identity(Role.CONSUMER, "10.0.0.1"))
    demand = LimitDemand(pub_id=1, wanted=0.5, weight=0.5)
    waiting = rig.service.shares(ShareRequest(topic_id=1000, consumer=A, demands=[demand], wait_ms=1000), context)
    rig.service.end()
    failures: list[Any] = []
    waiting.addErrback(failures.append)
    assert failures[0].value.status is Status.NOT_MASTER


def test_the_status_tells_how_each_consumer_is_seen(rig: Rig) -> None:
    rig.living = [A, B]
    rig.run(4)
    rig.report(A, cpu=30.0, slots=5.0, queues=12, backlog=34)
    rig.clock.advance(0.5)
    answer = rig.service.status(SchedulerStatusRequest(topic_id=1000), SimpleNamespace())
    assert (answer.is_master, answer.term, answer.version, answer.master_s) == (True, 7, 1, 4.5)
    first, second, third = answer.consumers
    assert (first.consumer, first.alive, first.weight, first.queues, first.backlog) == (A, True, 1000, 12, 34)
    assert first.silent_s == 0.5
    assert (second.load, second.HasField("load")) == (0.0, True)
    assert (third.alive, third.weight, third.HasField("load"), third.HasField("silent_s")) == (False, 0, False, False)
    with pytest.raises(RpcError, match="topic_id"):
        rig.service.status(SchedulerStatusRequest(topic_id=1), SimpleNamespace())
    rig.service.end()
    stands_by = rig.service.status(SchedulerStatusRequest(topic_id=1000), SimpleNamespace())
    assert (stands_by.is_master, stands_by.term, len(stands_by.consumers)) == (False, 0, 0)


def test_another_topic_is_refused(rig: Rig) -> None:
    error = rig.refused(topic_id=7)
    assert error.status is Status.INVALID_ARGUMENT
    assert "of topic 1000, the request says 7" in error.message


def test_numbers_that_are_none_do_no_harm(rig: Rig) -> None:
    """A float on the wire may be NaN, and one NaN would poison the mean of everybody."""
    rig.run(3)
    for cpu in (float("nan"), float("inf"), -float("inf"), -5.0):
        error = rig.refused(cpu=cpu)
        assert error.status is Status.INVALID_ARGUMENT
    assert rig.refused(slots=float("nan")).status is Status.INVALID_ARGUMENT
    rig.run(30)
    assert rig.service.weights() == {A: 1000, B: 1000, C: 1000}
