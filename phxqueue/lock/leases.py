"""Which leases have run out, by the clock of the master. Pure: time is passed in, in seconds.

A heap of deadlines, in which a renewal changes nothing: it only notes the new deadline beside it, and what comes to the
top too early goes back in. So a renewal costs a dictionary write, and each lease comes up once in its length, however
often it is renewed.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from phxqueue.lock.records import TableKey


@dataclass(slots=True)
class _Lease:
    """`queued`: it is in the heap; not so between being taken as due and what comes of that."""

    stamp: int
    length: float
    deadline: float
    queued: bool = True


class Leases:
    """The leases of one Paxos group, as its master counts them. A key without an end to its lease is not in here."""

    def __init__(self) -> None:
        self._leases: dict[TableKey, _Lease] = {}
        self._heap: list[tuple[float, TableKey, int]] = []

    def __len__(self) -> int:
        return len(self._leases)

    def begin(self, key: TableKey, stamp: int, lease_ms: int, now: float) -> None:
        """A lease begins, or begins again; 0: it has no end."""
        if not lease_ms:
            self._leases.pop(key, None)
            return
        length = lease_ms / 1000
        earlier = self._leases.get(key)
        deadline = now + length
        self._leases[key] = _Lease(stamp, length, deadline)
        # What is in the heap for this stamp comes up in time, unless the lease has become shorter.
        if earlier is None or earlier.stamp != stamp or not earlier.queued or deadline < earlier.deadline:
            self._push(key, self._leases[key])

    def renew(self, key: TableKey, now: float) -> None:
        """The same lease runs its full length again."""
        lease = self._leases.get(key)
        if lease is not None:
            lease.deadline = now + lease.length
            if not lease.queued:
                self._push(key, lease)

    def date_back(self, key: TableKey, begun: float) -> None:
        """A lease began at this time already."""
        lease = self._leases.get(key)
        if lease is not None:
            lease.deadline = begun + lease.length
            self._push(key, lease)

    def forget(self, key: TableKey) -> None:
        """Nothing is under this key any more."""
        self._leases.pop(key, None)

    def clear(self) -> None:
        """End a mastership: nothing expires here any more."""
        self._leases.clear()
        self._heap.clear()

    def remaining(self, key: TableKey, now: float) -> float | None:
        """Seconds left of a lease, at least 0; None: it has no end."""
        lease = self._leases.get(key)
        return None if lease is None else max(0.0, lease.deadline - now)

    def begun(self, key: TableKey) -> float | None:
        """When a lease began, or began again, last; None: it has no end, or is not there."""
        lease = self._leases.get(key)
        return None if lease is None else lease.deadline - lease.length

    def take_due(self, now: float, most: int) -> list[tuple[TableKey, int]]:
        """Return the keys whose leases have run out, with the stamps of their records; each is returned once."""
        due: list[tuple[TableKey, int]] = []
        while len(due) < most and (deadline := self.next_due()) is not None and deadline <= now:
            _, key, stamp = heappop(self._heap)
            self._leases[key].queued = False
            due.append((key, stamp))
        return due

    def again(self, key: TableKey, stamp: int, due: float) -> None:
        """What was due could not be carried out: it is due again at this time."""
        lease = self._leases.get(key)
        if lease is not None and lease.stamp == stamp and not lease.queued:
            lease.deadline = max(lease.deadline, due)
            self._push(key, lease)

    def next_due(self) -> float | None:
        """When the next lease runs out; None: there is none."""
        heap = self._heap
        while heap:
            deadline, key, stamp = heap[0]
            lease = self._leases.get(key)
            wanted = lease is not None and lease.stamp == stamp and lease.queued
            if wanted and lease is not None and lease.deadline <= deadline:
                return deadline
            heappop(heap)
            if wanted and lease is not None:
                heappush(heap, (lease.deadline, key, stamp))
        return None

    def _push(self, key: TableKey, lease: _Lease) -> None:
        lease.queued = True
        heappush(self._heap, (lease.deadline, key, lease.stamp))
        if len(self._heap) > 64 + 4 * len(self._leases):
            self._rebuild()

    def _rebuild(self) -> None:
        """Drop from the heap what nobody is waiting for."""
        self._heap = [(lease.deadline, key, lease.stamp) for key, lease in self._leases.items() if lease.queued]
        heapify(self._heap)
