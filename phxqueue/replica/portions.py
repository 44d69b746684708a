"""Long work in portions, so that the reactor has its turns in between: a generator that yields wherever it may rest.

Work that takes seconds (restoring a checkpoint of ten million rows) would cost the node the leases of all its groups.
How long one step takes is for whoever writes the generator to bound: some milliseconds at most.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from phxqueue.replica.interfaces import Clock

ResultT = TypeVar("ResultT")
Portions = Generator[None, None, ResultT]
PutInPlace = Callable[[], Portions[None]]
"""Puts what was made ready in the place of what there is, at once; what is left to do is to let go of the latter."""

PORTION_S = 0.005
"""No step is begun when a turn of the reactor has been used for so long."""
PORTION_STEPS = 16
"""Most steps of one turn."""
FREED = 4096
"""Most entries of a table that are let go of in one step."""


def at_once(work: Portions[ResultT]) -> ResultT:
    """Do all of it now, where nothing else waits; return its result."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return cast(ResultT, end.value)


async def in_portions(work: Portions[ResultT], clock: Clock, turn: Callable[[], Deferred[None]]) -> ResultT:
    """Do it by and by; return its result. `turn()` fires when everything else has had its turn."""
    while True:
        await turn()
        until = clock.seconds() + PORTION_S
        for _ in range(PORTION_STEPS):
            try:
                next(work)
            except StopIteration as end:
                return cast(ResultT, end.value)
            if clock.seconds() >= until:
                break


def emptying(tables: Iterable[MutableMapping[Any, Any]]) -> Portions[None]:
    """Empty tables that nobody looks at any more: to free a million objects in one go takes long, too."""
    for table in tables:
        while table:
            for _ in range(min(FREED, len(table))):
                table.popitem()
            yield
