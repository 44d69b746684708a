"""Whose turn it is: the calls that wait for locks, in the order in which their callers began to wait. Pure.

A caller says how long it has waited already, so it keeps its place when it has to call again: because one call may wait
only so long, or because another node has become master, who knows nothing of the queues of the former one. Nobody but
the head of a queue is ever told anything, so however many wait, nobody polls.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import Generic, TypeVar

CallT = TypeVar("CallT")


@dataclass(slots=True, eq=False)
class Waiter(Generic[CallT]):
    """One acquisition that waits.

    Attributes:
        since: when its caller began to wait, in seconds of the master's clock, as far as the caller says; `number`
            tells equal ones apart.
        call: what is to be answered; None: nobody waits for an answer any more.
        proposed: an entry that may grant the lock to it is under way.
    """

    key: str
    client_id: str
    lease_ms: int
    since: float
    number: int
    call: CallT | None
    proposed: bool = False

    @property
    def place(self) -> tuple[float, int]:
        """What the queue is sorted by."""
        return self.since, self.number


class Waiters(Generic[CallT]):
    """The queues of all locks of one Paxos group."""

    def __init__(self) -> None:
        self._queues: dict[str, list[Waiter[CallT]]] = {}
        self._by_client: dict[tuple[str, str], Waiter[CallT]] = {}
        self._number = 0

    def __len__(self) -> int:
        return len(self._by_client)

    def join(self, key: str, client_id: str, lease_ms: int, since: float, call: CallT) -> Waiter[CallT]:
        """Queue up. The client must not be in the queue of this key already; see `find`."""
        self._number += 1
        waiter = Waiter(key, client_id, lease_ms, since, self._number, call)
        insort(self._queues.setdefault(key, []), waiter, key=_place)
        self._by_client[key, client_id] = waiter
        return waiter

    def leave(self, waiter: Waiter[CallT]) -> None:
        """It waits no longer: it has the lock, or its time is over."""
        if self._by_client.get((waiter.key, waiter.client_id)) is not waiter:
            return
        del self._by_client[waiter.key, waiter.client_id]
        queue = self._queues[waiter.key]
        del queue[bisect_left(queue, waiter.place, key=_place)]
        if not queue:
            del self._queues[waiter.key]

    def find(self, key: str, client_id: str) -> Waiter[CallT] | None:
        """The place of a client in the queue of a key."""
        return self._by_client.get((key, client_id))

    def first(self, key: str) -> Waiter[CallT] | None:
        """Whose turn it is."""
        queue = self._queues.get(key)
        return queue[0] if queue else None

    def count(self, key: str) -> int:
        """How many wait for a lock."""
        return len(self._queues.get(key, ()))

    def clear(self) -> list[Waiter[CallT]]:
        """Empty all queues; return who waited."""
        waiting = list(self._by_client.values())
        self._queues.clear()
        self._by_client.clear()
        return waiting


def _place(waiter: Waiter[CallT]) -> tuple[float, int]:
    return waiter.place
