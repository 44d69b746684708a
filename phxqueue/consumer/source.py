"""Where the items of one queue come from, and how far it is behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from phxqueue.consumer.items import Place
from phxqueue.consumer.lineup import Gate
from phxqueue.consumer.next_attempts import Ordering
from phxqueue.consumer.sharing import Budget, StoreHealth
from phxqueue.consumer.slots import Slot
from phxqueue.net.routing import Caller, Route


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a queue's items come from, and what is special about them.

    Attributes:
        keyed: whether items of equal uin are handled one after another.
        skip: whether an item is passed over without being handled (skip_infos, drop_all).
        ordering: how failed items are tried again in their place; None: the group is not ordered.
        gate: what holds back an item; see lineup.Gate.
        paused: whether everything in the queue waits, so that nothing needs to be fetched.
        kind: of its turns among the queues of the process: the queue_info; 0: an ordinary one.
        fencing_token: of the lock under which the queue is read; 0: there is none.
        fenced: called when the store says that a newer holder reads.
    """

    topic_id: int
    place: Place
    route: Route
    caller: Caller
    budget: Budget
    health: StoreHealth
    keyed: bool = True
    skip: Callable[[Slot], bool] | None = None
    ordering: Ordering | None = None
    gate: Callable[[Slot], Gate | None] | None = None
    paused: Callable[[], bool] = bool
    kind: int = 0
    fencing_token: int = 0
    fenced: Callable[[], object] = bool


@dataclass(frozen=True, slots=True)
class QueueLag:
    """How far a queue is behind.

    Attributes:
        items: not finished, as of the last answer of the store; of other groups too, where they share a queue.
        oldest_s: age of the oldest that was fetched, since its enqueue for this attempt; 0: nothing is fetched.
        position: everything below is finished; None: nothing that was fetched waits to be finished.
        resting: it is paused, or a limit holds back what is fetched of it.
        unreachable: its store does not answer.
    """

    items: int
    oldest_s: float
    position: int | None = None
    resting: bool = False
    unreachable: bool = False
