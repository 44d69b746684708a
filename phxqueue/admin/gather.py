"""Runs coroutines at the same time."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList, FirstError

ResultT = TypeVar("ResultT")


async def gather(coroutines: Iterable[Coroutine[Any, Any, ResultT]]) -> list[ResultT]:
    """Return their results in order; when one fails, cancel the others and raise what it raised.

    Cancelled, it cancels all of them and raises CancelledError.
    """
    running: list[Any] = [Deferred.fromCoroutine(coroutine) for coroutine in coroutines]
    try:
        outcomes = await DeferredList(running, fireOnOneErrback=True, consumeErrors=True)
    except FirstError as error:
        for deferred in running:
            deferred.cancel()
        error.subFailure.raiseException()
    return [result for _, result in outcomes]
