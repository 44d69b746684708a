"""Bugs of what becomes of items: dead letters, later attempts, what is dropped, and requests that come again."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from phxqueue.config import Topic
from phxqueue.consumer.cursor_window import CursorWindow
from phxqueue.producer import attempts
from phxqueue.proto.store_pb2 import GetRequest
from phxqueue.store import acknowledge, passed_on, queues
from phxqueue.store.batcher import Batcher
from phxqueue.store.idempotence import Idempotence
from phxqueue.store.outcomes import Duplicate
from phxqueue.store.queues import StoreQueues
from phxqueue.store.state import QueueState
from phxqueue.testing.sim.chains.fates import GROUPS
from tests.simulation.mutants.table import BrokenMutant, Patch, lost_with_a_restart, mutant, wrap


@mutant(6, 8)
def the_chain_ends_an_attempt_early(patch: Patch) -> None:
    """An item is a dead letter although it has an attempt left."""

    def change(info: Callable[..., Any]) -> Callable[..., Any]:
        return lambda self, pub_id, count, *more: info(self, pub_id, count + 1 if count else 0, *more)

    wrap(patch, Topic, "attempt_queue_info", change)


@mutant(6, 8)
def the_chain_never_ends(patch: Patch) -> None:
    """What nobody can handle is tried once more, as if it had failed for the first time, and succeeds by chance."""

    def change(info: Callable[..., Any]) -> Callable[..., Any]:
        return lambda self, pub_id, count, *more: info(self, pub_id, min(count, 2), *more)

    wrap(patch, Topic, "attempt_queue_info", change)


@mutant(6, 8)
def dropped_items_are_not_proposed(patch: Patch) -> None:
    """What was dropped stays in the master's memory."""

    def change(move: Callable[..., None]) -> Callable[..., None]:
        def _move(self: Batcher[Any], *arguments: Any, **named: Any) -> None:
            given = takes.bind(self, *arguments, **named)
            given.arguments["dropped"] = ()
            move(*given.args, **given.kwargs)

        takes = inspect.signature(move)
        if "dropped" not in takes.parameters:
            raise BrokenMutant("a move says otherwise what was dropped")

        return _move

    wrap(patch, Batcher, "move", change)


@mutant(6, 8)
def dropped_items_count_each_time_they_are_said(patch: Patch) -> None:
    """A master proposes all that it is told was dropped, acknowledged before or not, and all of it counts.

    (Either alone changes nothing: the one is the other's second line of defence, see tests/store/test_dropped.py.)
    """

    def _count(counts: Any, group: int, before: int, acked: int, dropped: Iterable[Any]) -> None:
        passed_on.count_dropped(counts, group, 0, acked, dropped)

    def _dropped(request: GetRequest, reading: Any, acked: int) -> Any:
        return tuple((one.first, one.first + one.count) for claim in request.claims for one in claim.dropped)

    for module, name, new in ((queues, "count_dropped", _count), (acknowledge, "_dropped", _dropped)):
        if not hasattr(module, name):
            raise BrokenMutant(f"{module.__name__} has no {name} any more")
        patch.setattr(module, name, new)


@mutant(6, 8)
def sums_not_in_checkpoint(patch: Patch) -> None:
    """A node that restarts from a checkpoint has forgotten how many items were passed on."""

    def forget(state: QueueState) -> None:
        state.passed_on.clear()

    lost_with_a_restart(patch, forget)


@mutant(6, 8)
def later_attempts_count_as_new(patch: Patch) -> None:
    """An item that is tried again counts as one more that was enqueued."""
    if not hasattr(queues, "count_passed_on"):
        raise BrokenMutant("the state machine counts otherwise")
    patch.setattr(queues, "count_passed_on", lambda *counted: None)


@mutant(0, 1)
def only_the_last_requests_of_a_producer_are_remembered(patch: Patch) -> None:
    """The window is far shorter than it is said to be."""

    def change(known: Callable[..., Any]) -> Callable[..., Any]:
        def _known(self: Idempotence, producer_id: int, sequence: int, *more: Any) -> Any:
            producer = self.get(producer_id)
            late = producer is not None and sequence + 4 < producer.highest
            return None if late else known(self, producer_id, sequence, *more)

        return _known

    wrap(patch, Idempotence, "known", change)


@mutant(0, 1)
def a_repeated_request_is_told_the_end_of_its_queue(patch: Patch) -> None:
    """A request that comes again is not stored again, but answered with another place."""

    def change(recall: Callable[..., Any]) -> Callable[..., Any]:
        def _recall(self: StoreQueues, producer_id: int, sequence: int, queue_id: int, *more: Any) -> Any:
            found = recall(self, producer_id, sequence, queue_id, *more)
            if isinstance(found, Duplicate) and not found.delayed:
                return Duplicate(self.end_cursor(queue_id) - found.count, found.count)
            return found

        return _recall

    wrap(patch, StoreQueues, "recall", change)


@mutant(6, 8)
def dead_letters_do_not_say_why(patch: Patch) -> None:
    """A dead letter is stored without its reason and its attempts."""
    if not hasattr(attempts, "_note"):
        raise BrokenMutant("dead letters are written otherwise")
    patch.setattr(attempts, "_note", lambda *_, **__: None)


@mutant(6, 8)
def a_dead_letter_is_for_every_group(patch: Patch) -> None:
    """What one group cannot handle comes again to all of them."""
    if not hasattr(attempts, "group_bit"):
        raise BrokenMutant("attempts are addressed otherwise")
    everybody = sum(1 << (group - 1) for group in GROUPS)
    patch.setattr(attempts, "group_bit", lambda *_, **__: everybody)


@mutant(6, 8)
def acknowledged_before_it_is_passed_on(patch: Patch) -> None:
    """What has been fetched counts as finished, though its next attempt, or its dead letter, is not stored yet."""
    if not isinstance(vars(CursorWindow).get("position"), property):
        raise BrokenMutant("the window says otherwise how far it is finished")
    patch.setattr(CursorWindow, "position", property(lambda self: self.end))
