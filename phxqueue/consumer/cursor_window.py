"""What of a queue has been fetched, and up to where it is finished without a gap. Pure.

Handlers finish in any order; a queue is acknowledged by one cursor, below which everything is finished. The window
holds the items between that cursor and the end of what was fetched. Every acknowledgement claims how many items were
really finished, and the sum of their digests: that is what the store reconciles. A claim is repeated until the store
says that the acknowledgement is durable, because a new master has to check what the old one has not replicated.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

from phxqueue.consumer.claims import Ack, Claims
from phxqueue.proto.digest import MASK64, Claim

#: What items went on as, when they were stored again: as their next attempts, as dead letters, as expired dead letters.
RETRIED, DEAD, EXPIRED = PASSED = 1, 2, 3


class Fetched(Protocol):
    """What a window has to know of an item (or of several at once, which are finished together)."""

    cursor: int  # of the first
    count: int
    digest: int
    finished: bool
    passed: int  # what it went on as: 0 nothing, else one of PASSED


ItemT = TypeVar("ItemT", bound=Fetched)


class CursorWindow(Generic[ItemT]):
    """The fetched and not yet acknowledged part of a queue.

    Attributes:
        end: one past the last cursor fetched; what lies below and is not here was not for this group.
        confirmed: the highest cursor that the store has confirmed to be acknowledged.
    """

    __slots__ = (
        "_claims",
        "_count",
        "_digest_sum",
        "_dropped",
        "_items",
        "_owed",
        "_passed",
        "_start",
        "_unreadable",
        "confirmed",
        "end",
    )

    def __init__(self, position: int) -> None:
        self.end = position
        self.confirmed = position
        self._items: deque[ItemT] = deque()
        self._claims = Claims()
        self._dropped: list[tuple[int, int]] = []  # (first, stop), in the order in which they were
        self._unreadable: list[tuple[int, int]] = []  # (first, items) of batches, rising
        self._owed = False  # the last acknowledgement has to be said again
        self._start = position  # of the next claim
        self._count = 0
        self._digest_sum = 0
        self._passed = [0, 0, 0]  # items, in the order of PASSED

    def __len__(self) -> int:
        """Items that are fetched and wait for themselves or for an earlier one to be finished."""
        return len(self._items)

    @property
    def position(self) -> int:
        """Everything below is finished."""
        return self._items[0].cursor if self._items else self.end

    @property
    def oldest(self) -> ItemT | None:
        """The first item that is fetched and not finished."""
        return self._items[0] if self._items else None

    @property
    def to_acknowledge(self) -> bool:
        """Whether more is finished than was said in the acknowledgements taken so far."""
        return self._owed or self.position > self._start

    def extend(self, items: Iterable[ItemT], end: int) -> None:
        """More was fetched: these items, in order, and nothing else for this group below `end`."""
        self._items.extend(items)
        self.end = max(self.end, end)

    def note_unreadable(self, first: int, count: int) -> None:
        """So many items from this cursor on are in a batch that cannot be read: the claim about them says so."""
        self._unreadable.append((first, count))

    def finish(self, item: ItemT) -> bool:
        """An item is finished. Returns whether it stays here, for an earlier one is not."""
        item.finished = True
        items = self._items
        while items and items[0].finished:
            done = items.popleft()
            self._count += done.count
            self._digest_sum += done.digest
            if done.passed:
                self._passed[done.passed - 1] += done.count
        return bool(items) and items[0].cursor < item.cursor

    def drop(self, item: ItemT) -> bool:
        """An item is finished by dropping it, for its time had passed: the next claim says so. Returns as `finish`."""
        self._dropped.append((item.cursor, item.cursor + item.count))
        return self.finish(item)

    def take_ack(self) -> Ack | None:
        """What can be acknowledged now, for the next request; None: nothing new."""
        stop = self.position
        if stop > self._start:
            dropped = self._take_dropped(stop) if self._dropped else ()
            unreadable = self._take_unreadable(stop) if self._unreadable else 0
            retried, dead, expired = self._passed
            self._claims.add(
                Claim(
                    self._start,
                    stop,
                    self._count,
                    self._digest_sum & MASK64,
                    dropped,
                    unreadable,
                    (retried, dead, expired),
                )
            )
            self._start, self._count, self._digest_sum, self._passed = stop, 0, 0, [0, 0, 0]
        elif not self._owed:
            return None
        self._owed = False
        return self._claims.ack()

    def _take_unreadable(self, stop: int) -> int:
        """Items below `stop` that could not be read."""
        items = sum(count for first, count in self._unreadable if first < stop)
        self._unreadable = [one for one in self._unreadable if one[0] >= stop]
        return items

    def _take_dropped(self, stop: int) -> tuple[tuple[int, int], ...]:
        """What was dropped below `stop`: neighbours as one."""
        merged: list[tuple[int, int]] = []
        for first, end in sorted(one for one in self._dropped if one[0] < stop):
            if merged and merged[-1][1] == first:
                first = merged.pop()[0]
            merged.append((first, end))
        self._dropped = [one for one in self._dropped if one[0] >= stop]
        return tuple(merged)

    def confirm(self, ack: Ack) -> None:
        """The store has taken this acknowledgement."""
        self.confirmed = max(self.confirmed, ack.stop)

    def told(self, acked: int, durable: int) -> None:
        """What the store says of the group's position: acknowledged, and acknowledged so that no failover undoes it."""
        self._claims.settle(durable)
        if acked < self.confirmed:
            self.confirmed = acked  # a new master, which has not heard of the last ones
            self._owed = True

    def give_back(self, ack: Ack) -> None:
        """Nobody knows whether the store has taken it: it will be part of the next one."""
        if ack.stop > self.confirmed:
            self._owed = True

    def advance(self, position: int) -> list[ItemT]:
        """Somebody else has acknowledged up to here: forget what is below; returns the unfinished items forgotten."""
        forgotten: list[ItemT] = []
        while self._items and self._items[0].cursor < position:
            forgotten.append(self._items.popleft())
        self.end = max(self.end, position)
        if position > self._start:
            self._start, self._count, self._digest_sum, self._passed = position, 0, 0, [0, 0, 0]
            self._dropped = [one for one in self._dropped if one[0] >= position]
            self._unreadable = [one for one in self._unreadable if one[0] >= position]
            self._claims.clear()
            self._owed = False
        self.confirmed = max(self.confirmed, position)
        return [item for item in forgotten if not item.finished]
