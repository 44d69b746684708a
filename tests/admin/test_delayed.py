"""``phxqueue delayed``: paging through what waits, and cancelling by id."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, fail, succeed

from phxqueue.admin.delayed import Found, cancelled, waiting
from phxqueue.admin.errors import AdminError
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.store_pb2 import CancelDelayedResponse, DelayedBatch, ListDelayedResponse
from phxqueue.testing import small_topic

TOPIC = small_topic([1])


class Answers:
    """A store that gives its answers in order, and remembers what it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.asked: list[Any] = []
        self._answers = list(answers)

    def call(self, route: Any, method: Any, request: Any, deadline_s: float, **timing: Any) -> Deferred[Any]:
        copy = type(request)()
        copy.CopyFrom(request)
        self.asked.append(copy)
        answer = self._answers.pop(0)
        return fail(answer) if isinstance(answer, Exception) else succeed(answer)


def page(*numbers: int, more: bool) -> ListDelayedResponse:
    batches = [DelayedBatch(timer_number=number, deliver_at_ms=1000 + number) for number in numbers]
    return ListDelayedResponse(batches=batches, more=more, after_ms=1000 + numbers[-1], after_number=numbers[-1])


@pytest_twisted.ensureDeferred
async def test_goes_from_page_to_page() -> None:
    store = Answers(page(1, 2, more=True), page(3, more=False))
    found = [one.timer_number async for one in waiting(store, TOPIC, 1, 3, only_queue=True)]
    assert found == [1, 2, 3]
    assert [(request.after_ms, request.after_number) for request in store.asked] == [(0, 0), (1002, 2)]


@pytest_twisted.ensureDeferred
async def test_cancels_by_id_and_says_what_was_there() -> None:
    waits = DelayedBatch(queue_id=3, deliver_at_ms=1_700_000_000_000, timer_number=42)
    store = Answers(
        ListDelayedResponse(batches=[waits]), CancelDelayedResponse(count=1),
        ListDelayedResponse(), RpcError(Status.NOT_FOUND, "gone"),
    )  # fmt: skip
    assert await cancelled(store, TOPIC, "1-3-1700000000000-42") is Found.WAITING
    assert await cancelled(store, TOPIC, "1-3-1700000000000-42") is Found.NOWHERE
    looked, request = store.asked[:2]
    assert (looked.queue_id, looked.after_ms, looked.after_number) == (3, 1_700_000_000_000, 41)
    assert (request.queue_id, request.deliver_at_ms, request.timer_number) == (3, 1_700_000_000_000, 42)


@pytest_twisted.ensureDeferred
async def test_one_that_was_cancelled_before_or_never_was_is_not_told_as_cancelled_now() -> None:
    """Of cancelled ones a store remembers the number alone, so it cannot know whether the rest of the id is right."""
    other = DelayedBatch(queue_id=3, deliver_at_ms=1_700_000_000_001, timer_number=42)
    store = Answers(ListDelayedResponse(batches=[other]), CancelDelayedResponse(count=1))
    assert await cancelled(store, TOPIC, "1-3-1700000000000-42") is Found.CANCELLED
    assert "was cancelled before" in Found.CANCELLED.value


@pytest_twisted.ensureDeferred
async def test_what_waits_for_another_queue_is_not_cancelled() -> None:
    store = Answers(ListDelayedResponse(batches=[DelayedBatch(queue_id=3, deliver_at_ms=17, timer_number=42)]))
    assert await cancelled(store, TOPIC, "1-2-17-42") is Found.NOWHERE
    assert len(store.asked) == 1


@pytest.mark.parametrize("text", ["", "1-2-3", "1-2-3-x", "1-2-3-4-5", "1-2-3-²"])
@pytest_twisted.ensureDeferred
async def test_refuses_what_is_no_id(text: str) -> None:
    with pytest.raises(AdminError, match="delayed list"):
        await cancelled(Answers(), TOPIC, text)
