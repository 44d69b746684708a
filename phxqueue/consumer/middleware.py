"""What runs around every handler: tracing, measuring, a database session, a check that all items have to pass.

A middleware is an object with one or both of

    def before(self, context, item): ...          # None: go on; a Result: the handler is not called
    def after(self, context, item, result): ...   # None: the result stands; a Result: that one instead

Either may be a coroutine function or return a Deferred. `before` is called from the outermost to the innermost; `after`
in the opposite order, and for every middleware whose `before` was passed, whatever happened inside: `result` is a
Result, or the exception that was raised. What a middleware raises counts as if the handler had raised it.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from phxqueue.consumer.handlers import Handler, HandlerError, Result, check_callable, load_object, made
from phxqueue.consumer.items import BatchContext, Context, Item


@dataclass(frozen=True, slots=True)
class Middleware:
    """One layer around the handlers; None: it does nothing there."""

    before: Any = None
    after: Any = None


def load_middleware(specification: str) -> Middleware:
    """Import "module:object". Raises HandlerError, naming what is wrong."""
    return as_middleware(load_object(specification), specification)


def as_middleware(found: Any, name: str) -> Middleware:
    """A layer made of an object or a class of objects. Raises HandlerError when it is none."""
    if isinstance(found, Middleware):
        return found
    found = made(found, name)
    before, after = getattr(found, "before", None), getattr(found, "after", None)
    if not callable(before) and not callable(after):
        raise HandlerError(f"{name!r} has neither before(context, item) nor after(context, item, result)")
    if before is not None:
        check_callable(before, name, "(context, item)")
    if after is not None:
        check_callable(after, name, "(context, item, result)")
    return Middleware(before, after)


def wrapped(handler: Handler, layers: Sequence[Middleware]) -> Handler:
    """The handler with these layers around it, outermost first."""
    if not layers:
        return handler
    if handler.batch_items:
        return replace(handler, call=_BatchCall(handler.call, layers))
    return replace(handler, call=_Call(handler.call, layers))


class _Passage:
    """One item on its way in and out."""

    def __init__(self, layers: Sequence[Middleware], context: Context, item: Item) -> None:
        self._layers = layers
        self._context = context
        self._item = item
        self._passed = 0

    async def enter(self) -> Any:
        """None: the handler is to be called; else what to take instead of its result."""
        for layer in self._layers:
            if layer.before is not None:
                try:
                    answer = await _settled(layer.before(self._context, self._item))
                except Exception as error:
                    return error
                if answer is not None:
                    return answer
            self._passed += 1
        return None

    async def leave(self, outcome: Any) -> Any:
        """What becomes of a result or an exception on the way out."""
        for layer in reversed(self._layers[: self._passed]):
            if layer.after is not None:
                try:
                    answer = await _settled(layer.after(self._context, self._item, outcome))
                except Exception as error:
                    answer = error
                if answer is not None:
                    outcome = answer
        return outcome


class _Call:
    """A handler of single items, with layers around it."""

    def __init__(self, call: Any, layers: Sequence[Middleware]) -> None:
        self._call = call
        self._layers = tuple(layers)

    async def __call__(self, context: Context, item: Item) -> Any:
        passage = _Passage(self._layers, context, item)
        outcome = await passage.enter()
        if outcome is None:
            try:
                outcome = await _settled(self._call(context, item))
            except Exception as error:
                outcome = error
        outcome = await passage.leave(outcome)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


class _BatchCall:
    """A batch handler, with layers around each item. What was refused on the way in is in no batch."""

    def __init__(self, call: Any, layers: Sequence[Middleware]) -> None:
        self._call = call
        self._layers = tuple(layers)

    async def __call__(self, context: BatchContext, items: Sequence[Item]) -> Any:
        passages = [_Passage(self._layers, each, item) for each, item in zip(context.contexts, items, strict=True)]
        outcomes = [await passage.enter() for passage in passages]
        wanted = [place for place, outcome in enumerate(outcomes) if outcome is None]
        if wanted:
            inner = BatchContext([context.contexts[place] for place in wanted])
            try:
                found = await _settled(self._call(inner, [items[place] for place in wanted]))
            except Exception as error:
                found = error
            for place, outcome in zip(wanted, _one_each(found, len(wanted)), strict=True):
                outcomes[place] = outcome
        return [
            _result(await passage.leave(outcome), each)
            for passage, outcome, each in zip(passages, outcomes, context.contexts, strict=True)
        ]


def _one_each(found: Any, count: int) -> list[Any]:
    if isinstance(found, list | tuple) and len(found) == count:
        return list(found)
    if isinstance(found, Result | Exception):
        return [found] * count
    return [TypeError(f"handle_batch returned {found!r:.200} for {count} items: return one Result for each")] * count


def _result(outcome: Any, context: Context) -> Any:
    """In a batch an exception is that of one item, and must not fail the others."""
    if not isinstance(outcome, Exception):
        return outcome
    context.log.error("{context}: {kind}: {error}", context=context, kind=type(outcome).__name__, error=outcome)
    return Result.RETRY


async def _settled(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
