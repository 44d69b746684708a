"""Handlers of several items at once: results one by one, and what goes wrong with all of them."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from phxqueue.config import dead_letter_queue
from phxqueue.consumer import BatchContext, Item, Result
from phxqueue.consumer.handlers import Handler, HandlerError, as_handler
from phxqueue.producer.items import read_cookies
from tests.consumer.rig import Rig


class Batches:
    """Notes the batches, and answers what it is told to."""

    batch_items = 4

    def __init__(self, answer: Any = Result.OK) -> None:
        self.answer = answer
        self.seen: list[list[bytes]] = []
        self.contexts: list[BatchContext] = []

    def handle_batch(self, context: BatchContext, items: list[Item]) -> Any:
        self.contexts.append(context)
        self.seen.append([item.buffer for item in items])
        return self.answer(items) if callable(self.answer) else self.answer


def rig_of(batches: Batches, **settings: Any) -> Rig:
    rig = Rig(start=False, **settings)
    rig.handlers[1] = as_handler(batches, "batches")  # type: ignore[assignment]
    return rig


def test_batches_are_full_under_load_and_never_hold_a_uin_twice() -> None:
    batches = Batches()
    rig = rig_of(batches)
    rig.enqueue(*[b"%d" % number for number in range(10)])
    rig.enqueue(b"a1", b"a2", uin=4)
    rig.service.startService()
    rig.run(1)
    assert max(map(len, batches.seen)) == 4
    assert sorted(buffer for batch in batches.seen for buffer in batch) == sorted(
        [b"%d" % number for number in range(10)] + [b"a1", b"a2"]
    )
    assert not any({b"a1", b"a2"} <= set(batch) for batch in batches.seen)
    assert rig.service.stats.ok == 12
    assert rig.unacknowledged() == 0
    assert rig.service._workshop.slots.free == rig.settings.nhandler


def test_every_item_has_its_own_result() -> None:
    results = {b"ok": Result.OK, b"ignore": Result.IGNORE, b"dead": Result.DEAD, b"retry": Result.RETRY}
    batches = Batches(lambda items: [results[item.buffer] if item.count == 0 else Result.OK for item in items])
    rig = rig_of(batches)
    rig.enqueue(*results)
    rig.service.startService()
    rig.run(10)
    assert [set(batch) for batch in batches.seen] == [set(results), {b"retry"}]
    stats = rig.service.stats
    assert (stats.ok, stats.ignored, stats.dead, stats.retried, stats.handled) == (2, 1, 1, 1, 5)
    assert rig.unacknowledged() == 0
    context = batches.contexts[0]
    assert [each.attempt for each in context.contexts] == [1, 1, 1, 1]
    assert "4 items" in repr(context)
    assert batches.contexts[1].contexts[0].attempt == 2
    assert context.place == context.contexts[0].place
    assert context.deadline == context.contexts[0].deadline


@pytest.mark.parametrize("wrong", [None, [Result.OK], [Result.OK] * 5, "ok", [None] * 4])
def test_a_wrong_answer_costs_each_item_an_attempt(wrong: Any) -> None:
    batches = Batches(lambda items: wrong if len(items) == 4 and items[0].count == 0 else Result.OK)
    rig = rig_of(batches)
    rig.enqueue(b"1", b"2", b"3", b"4")
    rig.service.startService()
    rig.run(10)
    assert rig.service.stats.raised == 4
    assert rig.service.stats.retried == 4
    assert rig.service.stats.ok == 4
    assert rig.unacknowledged() == 0


class Boom(Exception):
    pass


@pytest.mark.parametrize("late", [False, True])
def test_an_exception_costs_each_item_an_attempt_and_is_logged_once(late: bool, logged_errors: Any) -> None:
    def answer(items: list[Item]) -> Any:
        if items[0].count:
            return Result.OK
        if not late:
            raise Boom("at once")
        deferred: Deferred[Any] = Deferred()
        rig.clock.callLater(0.1, deferred.errback, Boom("later"))
        return deferred

    rig = rig_of(Batches(answer))
    rig.enqueue(b"1", b"2", b"3")
    rig.service.startService()
    rig.run(10)
    assert len(logged_errors.flush(Boom)) == 1
    assert rig.service.stats.retried == 3
    assert rig.unacknowledged() == 0


def test_a_batch_that_takes_too_long_costs_each_item_an_attempt() -> None:
    batches = Batches(lambda items: Deferred())
    rig = Rig(start=False)
    rig.handlers[1] = Handler(batches.handle_batch, 4, timeout_s=0.5)  # type: ignore[assignment]
    rig.enqueue(b"1", b"2")
    rig.service.startService()
    rig.run(20)
    assert rig.service.stats.timed_out == 6
    letters = rig.store.items(1, dead_letter_queue(1))
    assert [letter.buffer for letter in letters] == [b"1", b"2"]
    assert b"within 0.5 s" in read_cookies(letters[0].sys_cookies)["dead.last_error"]
    assert rig.unacknowledged() == 0


def test_items_gather_while_a_batch_is_at_work() -> None:
    waiting: list[Deferred[Result]] = []

    def answer(items: list[Item]) -> Deferred[Result]:
        waiting.append(Deferred())
        return waiting[-1]

    batches = Batches(answer)
    rig = rig_of(batches)
    rig.service.startService()
    rig.run(0.1)
    for number in range(3):
        rig.enqueue(b"%d" % number, uin=4)
        rig.enqueue(b"x%d" % number, uin=8 + number)
    assert len(batches.seen[0]) == 1
    while len(waiting) and rig.unacknowledged():
        for deferred in waiting:
            if not deferred.called:
                deferred.callback(Result.OK)
        rig.run(0.2)
    assert max(map(len, batches.seen)) > 1
    assert [buffer for batch in batches.seen for buffer in batch if b"x" not in buffer] == [b"0", b"1", b"2"]


def test_what_a_batch_handler_says_of_itself() -> None:
    class Silent:
        def handle_batch(self, context: BatchContext, items: list[Item]) -> Result:
            return Result.OK

    assert as_handler(Silent, "silent").batch_items == 100
    assert as_handler(Batches, "batches").batch_items == 4
    for attribute, value in (("batch_items", 0), ("batch_items", "many"), ("timeout_s", True), ("timeout_s", -1)):
        broken = type("Broken", (Silent,), {attribute: value})
        with pytest.raises(HandlerError, match=f"{attribute} is {value!r}"):
            as_handler(broken, "broken")
