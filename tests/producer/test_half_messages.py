"""Half messages and delayed items from the producer's side, against answers that tests make up."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from phxqueue.net.status import RpcError, Status
from phxqueue.producer import Decision, Half, HalfUnknown, OutcomeUnknown, Producer, ProducerSettings, Refused
from phxqueue.producer.check_backs import ANSWER_S
from phxqueue.proto.methods import ADD, CANCEL_DELAYED, DECIDE_HALF, POLL_CHECK_BACKS
from phxqueue.proto.store_pb2 import (
    AddResponse,
    CancelDelayedResponse,
    DecideHalfResponse,
    HalfMessage,
    HalfState,
    PollCheckBacksResponse,
)
from tests.conftest import LoggedErrors
from tests.producer.fake_store import make_topic


class Rig:
    """A producer whose calls are answered by hand: the first of `answers` of a method, else never."""

    def __init__(self, check_back: Callable[[Half], Any] | None = None) -> None:
        self.clock = Clock()
        self.answers: dict[str, deque[Any]] = {m.name: deque() for m in (ADD, CANCEL_DELAYED, DECIDE_HALF)}
        self.polls: list[Deferred[Any]] = []
        self.calls: list[Any] = []
        self.producer = Producer(
            make_topic(),
            self,
            self.clock,
            settings=ProducerSettings(deadline_s=5.0, report_interval_s=0.0),
            random=random.Random(1),
            name="payments",
            check_back=check_back,
        )

    def call(self, route: Any, method: Any, request: Any, deadline_s: float, **_: Any) -> Deferred[Any]:
        if method is POLL_CHECK_BACKS:
            self.polls.append(Deferred())
            return self.polls[-1]
        self.calls.append(request)
        answers = self.answers[method.name]
        if not answers:
            return Deferred()
        answer = answers.popleft()
        return fail(answer) if isinstance(answer, Exception) else succeed(answer)

    def outcome(self, deferred: Deferred[Any], seconds: float = 10.0) -> Any:
        found: list[Any] = []
        deferred.addBoth(found.append)
        self.clock.pump([0.1] * round(seconds / 0.1))
        [result] = found
        return result.value if isinstance(result, Failure) else result

    def close(self) -> None:
        self.producer.close()
        self.clock.pump([1.0] * 20)


BUSY = RpcError(Status.RESOURCE_EXHAUSTED, "busy")
SILENT = RpcError(Status.DEADLINE_EXCEEDED, "no answer")


def test_a_decision_is_sent_again_until_it_is_answered() -> None:
    rig = Rig()
    rig.answers["DecideHalf"].extend([BUSY, SILENT, DecideHalfResponse(state=HalfState.COMMITTED, queue_id=2)])
    receipt = rig.outcome(rig.producer.half("1-2-3").commit())
    assert (receipt.store_id, receipt.queue_id) == (1, 2)
    assert len(rig.calls) == 3
    rig.close()


@pytest.mark.parametrize(
    ("errors", "kind"), [([BUSY] * 100, Refused), ([SILENT] + [BUSY] * 100, OutcomeUnknown), ([SILENT], OutcomeUnknown)]
)
def test_without_an_answer_in_time_only_what_was_surely_not_done_is_refused(errors: list[RpcError], kind: type) -> None:
    for name, ask in (("DecideHalf", "half"), ("CancelDelayed", "cancel")):
        rig = Rig()
        rig.answers[name].extend(errors)
        rig.answers[name].append(RpcError(Status.PERMISSION_DENIED, "no"))
        asked = rig.producer.half("1-2-3").commit() if ask == "half" else rig.producer.cancel_delayed("1-2-3-4")
        assert type(rig.outcome(asked)) is kind
        rig.close()


def test_what_is_not_there() -> None:
    rig = Rig()
    rig.answers["DecideHalf"].append(RpcError(Status.NOT_FOUND, "none"))
    rig.answers["CancelDelayed"].extend([RpcError(Status.NOT_FOUND, "none"), CancelDelayedResponse(count=1)])
    assert isinstance(rig.outcome(rig.producer.half("1-2-3").roll_back()), HalfUnknown)
    assert rig.outcome(rig.producer.cancel_delayed("1-2-3-4")) is False
    assert rig.outcome(rig.producer.cancel_delayed("1-2-3-4")) is True
    rig.close()


@pytest.mark.parametrize("text", ["", "1-2", "1-2-x", "1-2--3", "1-2-3-4-5", f"1-{1 << 32}-3", f"1-2-{1 << 64}"])
def test_texts_that_are_no_names(text: str) -> None:
    rig = Rig()
    with pytest.raises(Refused, match="is not the id of a half message"):
        rig.producer.half(text)
    assert "is not the id of a delayed item" in str(rig.outcome(rig.producer.cancel_delayed(text), 0.1))
    assert rig.calls == []
    rig.close()


def test_a_cancelled_prepare_is_a_cancelled_deferred() -> None:
    rig = Rig()
    preparing = rig.producer.prepare(1, 1, b"x")
    preparing.cancel()
    assert isinstance(rig.outcome(preparing, 0.1), CancelledError)
    under_way = rig.producer.prepare(1, 1, b"y")
    rig.clock.advance(0)
    under_way.cancel()
    error = rig.outcome(under_way, 0.1)
    assert isinstance(error, CancelledError)
    assert isinstance(error, OutcomeUnknown)
    assert len(rig.calls) == 1
    rig.close()


def test_an_ordinary_item_is_no_half_message() -> None:
    rig = Rig()
    answer = AddResponse()
    answer.results.add(prepared=True, half_number=3)
    rig.answers["Add"].append(answer)
    assert "keeps as a half message what was sent as none" in str(rig.outcome(rig.producer.enqueue(1, 1, b"x")))
    rig.close()


def test_an_application_that_does_not_answer_is_asked_about_others_all_the_same() -> None:
    asked: list[bytes] = []

    def check_back(half: Half) -> Any:
        assert half.item is not None
        asked.append(half.item.buffer)
        return Deferred() if half.item.buffer == b"hangs" else Decision.UNDECIDED

    rig = Rig(check_back)
    [poll] = rig.polls
    poll.callback(PollCheckBacksResponse(halves=[half_message(1, b"hangs"), half_message(2, b"answered")]))
    assert asked == [b"hangs", b"answered"]
    rig.clock.pump([ANSWER_S / 10] * 11)
    rig.polls[-1].callback(PollCheckBacksResponse(halves=[half_message(3, b"later")]))
    assert asked == [b"hangs", b"answered", b"later"]
    rig.close()


def test_a_defect_does_not_end_the_polls(logged_errors: LoggedErrors) -> None:
    rig = Rig(check_back=lambda half: Decision.COMMIT)
    nodes = len(rig.polls)
    for poll in list(rig.polls):
        poll.errback(ZeroDivisionError("a defect"))
    assert len(logged_errors.flush(ZeroDivisionError)) == nodes
    rig.clock.pump([0.1] * 10)
    assert len(rig.polls) == 2 * nodes
    rig.close()
    assert len(rig.polls) == 2 * nodes


def half_message(number: int, buffer: bytes) -> HalfMessage:
    from phxqueue.proto.item_pb2 import Meta, QItem, QItems

    items = QItems(items=[QItem(buffer=buffer, meta=Meta(pub_id=1, handle_id=1))]).SerializeToString()
    return HalfMessage(half_number=number, queue_id=2, pub_id=1, count=1, items=items)
