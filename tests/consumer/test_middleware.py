"""What runs around handlers, in which order, and what it may change."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import deferLater

from phxqueue.config import dead_letter_queue
from phxqueue.consumer import HandlerError, Item, Result
from phxqueue.consumer.handlers import Handler, as_handler, load_handlers
from phxqueue.consumer.middleware import Middleware, as_middleware, wrapped
from phxqueue.producer.items import read_cookies
from tests.consumer.rig import Rig


class Note:
    """Writes down what passes."""

    def __init__(self, name: str, trace: list[str], *, before: Any = None, after: Any = None) -> None:
        self.name, self.trace, self.answers = name, trace, (before, after)

    def before(self, context: Any, item: Item) -> Any:
        self.trace.append(f"{self.name} before {item.buffer.decode()}")
        answer = self.answers[0]
        return answer(item) if callable(answer) else answer

    def after(self, context: Any, item: Item, result: Any) -> Any:
        self.trace.append(f"{self.name} after {item.buffer.decode()} {getattr(result, 'value', result)!s}")
        return self.answers[1]


def rig_with(call: Any, *layers: Any, batch_items: int = 0) -> Rig:
    rig = Rig(start=False)
    handler = Handler(call, batch_items)
    rig.handlers[1] = wrapped(handler, [as_middleware(layer, "layer") for layer in layers])  # type: ignore[assignment]
    return rig


def run(rig: Rig, *buffers: bytes) -> None:
    rig.enqueue(*buffers, uin=1)
    rig.service.startService()
    rig.run(10)
    assert rig.unacknowledged() == 0


def test_layers_are_passed_in_and_out_again() -> None:
    trace: list[str] = []
    rig = rig_with(lambda context, item: trace.append("handled") or Result.OK, Note("A", trace), Note("B", trace))
    run(rig, b"x")
    assert trace == ["A before x", "B before x", "handled", "B after x ok", "A after x ok"]


def test_coroutines_are_waited_for() -> None:
    trace: list[str] = []

    class Slow:
        async def before(self, context: Any, item: Item) -> None:
            await deferLater(rig.clock, 0.1)
            trace.append("before")

        def after(self, context: Any, item: Item, result: Any) -> Any:
            return deferLater(rig.clock, 0.1, trace.append, "after")

    async def handle(context: Any, item: Item) -> Result:
        await deferLater(rig.clock, 0.1)
        trace.append("handled")
        return Result.OK

    rig = rig_with(handle, Slow)
    run(rig, b"1", b"2")
    assert trace == ["before", "handled", "after"] * 2
    assert rig.service.stats.ok == 2


def test_a_layer_may_answer_for_the_handler() -> None:
    trace: list[str] = []
    inner = Note("B", trace)
    rig = rig_with(rig_fail, Note("A", trace), Note("G", trace, before=Result.IGNORE), inner)
    run(rig, b"x")
    assert trace == ["A before x", "G before x", "A after x ignore"]
    assert rig.service.stats.ignored == 1


def rig_fail(context: Any, item: Item) -> Result:
    raise AssertionError("the handler was called")


def test_a_layer_may_change_the_result() -> None:
    trace: list[str] = []
    rig = rig_with(lambda context, item: Result.RETRY, Note("A", trace, after=Result.DEAD), Note("B", trace))
    run(rig, b"x")
    assert trace == ["A before x", "B before x", "B after x retry", "A after x retry"]
    assert rig.service.stats.dead == 1


class Boom(Exception):
    pass


def test_layers_see_what_is_raised(logged_errors: Any) -> None:
    trace: list[str] = []

    def handle(context: Any, item: Item) -> Result:
        raise Boom("inside")

    rig = rig_with(handle, Note("A", trace, after=Result.OK), Note("B", trace))
    run(rig, b"x")
    assert trace == ["A before x", "B before x", "B after x inside", "A after x inside"]
    assert rig.service.stats.ok == 1

    rig = rig_with(handle, Note("A", trace))
    run(rig, b"x")
    assert len(logged_errors.flush(Boom)) == 3
    [letter] = rig.store.items(1, dead_letter_queue(1))
    assert read_cookies(letter.sys_cookies)["dead.last_error"] == b"Boom: inside"


def test_what_a_layer_raises_counts_as_the_handlers(logged_errors: Any) -> None:
    trace: list[str] = []

    def refuse(item: Item) -> None:
        raise Boom("at the door")

    rig = rig_with(rig_fail, Note("A", trace), Note("B", trace, before=refuse))
    run(rig, b"x")
    assert trace[:3] == ["A before x", "B before x", "A after x at the door"]
    assert len(logged_errors.flush(Boom)) == 3


def test_around_batches_every_item_passes_by_itself(logged_errors: Any) -> None:
    trace: list[str] = []

    def door(item: Item) -> Any:
        if item.buffer == b"boom" and not item.count:
            raise Boom("at the door")
        return Result.IGNORE if item.buffer == b"ignored" else None

    def handle_batch(context: Any, items: list[Item]) -> list[Result]:
        trace.append(f"batch {[item.buffer.decode() for item in items]} {len(context.contexts)}")
        return [Result.OK] * len(items)

    rig = rig_with(handle_batch, Note("A", trace, before=door), batch_items=4)
    rig.enqueue(b"1", b"ignored", b"boom", b"2")
    rig.service.startService()
    rig.run(10)
    assert "batch ['1', '2'] 2" in trace
    assert "batch ['boom'] 1" in trace
    stats = rig.service.stats
    assert (stats.ok, stats.ignored, stats.retried) == (3, 1, 1)


@pytest.mark.parametrize("answer", [None, [Result.OK], Boom("all of them")])
def test_a_wrong_batch_answer_shows_through_layers(answer: Any) -> None:
    def handle_batch(context: Any, items: list[Item]) -> Any:
        if items[0].count:
            return Result.OK
        if isinstance(answer, Exception):
            raise answer
        return answer

    rig = rig_with(handle_batch, Middleware(before=lambda context, item: None), batch_items=4)
    rig.enqueue(b"1", b"2")
    rig.service.startService()
    rig.run(10)
    assert rig.service.stats.retried == 2
    assert rig.service.stats.ok == 2


class Nothing:
    pass


def handle(context: Any, item: Item) -> Result:
    return Result.OK


def test_what_is_no_middleware_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "shop_layers", sys.modules[__name__])
    with pytest.raises(HandlerError, match=r"middleware: 'shop_layers:Nothing' has neither before"):
        load_handlers({1: "shop_layers:handle"}, plugins=False, middleware=["shop_layers:Nothing"])
    with pytest.raises(HandlerError, match=r"cannot be called with \(context, item, result\)"):
        as_middleware(type("Short", (), {"after": staticmethod(lambda context: None)}), "short")
    found = load_handlers({1: "shop_layers:handle"}, plugins=False, middleware=["shop_layers:Fine"])
    assert found[1].call is not handle
    assert as_handler(found[1], "again") is found[1]


class Fine:
    def before(self, context: Any, item: Item) -> None:
        pass
