"""What leaves when: the line of one lane. Pure: entries and times in, batches out.

A lane is everything of one producer for one Paxos group of one store. Entries with equal uin leave it in the
order they came, and an entry leaves only when no earlier entry of its uin is under way:

- entries of *different* uins (and entries without one) may be in several batches under way at once, and in
  any order: nobody is promised anything about them;
- a uin that is under way is `busy`. Its next entries wait aside, in a line of their own, until the outcome of
  the first is known, be it after retries, a failover or a time-out. They hold up nobody else.

So whatever becomes of a batch, nothing that must come after it has left before its fate is known. One uin alone
costs a round trip per batch, and its batches grow with the load; many uins fill the pipeline.

Each entry is touched a bounded number of times: on arrival, at most once when it is set aside, when it leaves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Waiting(Protocol):
    """What a lane has to know of an entry."""

    uin: int  # 0: no order
    count: int  # items
    size: int  # bytes
    arrived: float  # seconds
    void: bool  # cancelled before it left


EntryT = TypeVar("EntryT", bound=Waiting)


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneLimits:
    """When a batch is full, and how many may be under way.

    Attributes:
        items, size: most items and bytes of one batch; a single larger entry travels alone.
        delay_s: longest an entry waits for company while batches are under way.
        eager: batches leave at once, however small, while fewer than this many are under way.
        in_flight: most batches under way.
    """

    items: int
    size: int
    delay_s: float
    eager: int
    in_flight: int


class Lane(Generic[EntryT]):
    """The line of one lane."""

    __slots__ = ("_aside", "_busy", "_items", "_limits", "_line", "_released", "_size", "in_flight", "voided")

    def __init__(self, limits: LaneLimits) -> None:
        self._limits = limits
        self._line: deque[EntryT] = deque()  # in order of arrival; may hold entries of busy uins
        self._items = 0  # in _line
        self._size = 0  # in _line
        self._busy: set[int] = set()  # uins under way
        self._aside: dict[int, deque[EntryT]] = {}  # entries that wait for a busy uin; each line is not empty
        self._released: deque[int] = deque()  # uins of _aside that are no longer busy
        self.in_flight = 0
        self.voided: list[EntryT] = []  # void entries met on the way; for the owner to take away

    def add(self, entry: EntryT) -> None:
        """A new entry, behind all others."""
        self._line.append(entry)
        self._items += entry.count
        self._size += entry.size

    @property
    def empty(self) -> bool:
        """Nothing waits (something may be under way)."""
        return not self._line and not self._aside

    def next_batch(self, now: float, *, flush: bool = False) -> list[EntryT] | None:
        """The entries that should leave now, or None. They count as under way until `resolved`.

        Args:
            now: seconds, of the clock of `arrived`.
            flush: whether to leave without waiting for company.
        """
        if self.in_flight >= self._limits.in_flight or not (flush or self._is_due(now)):
            return None
        batch: list[EntryT] = []
        room_items, room_size = self._take_released(batch)
        self._take_line(batch, room_items, room_size)
        if not batch:
            return None
        self._busy.update([entry.uin for entry in batch if entry.uin])
        self.in_flight += 1
        return batch

    def _is_due(self, now: float) -> bool:
        limits = self._limits
        if self._released or self.in_flight < limits.eager:
            return True
        if self._items >= limits.items or self._size >= limits.size:
            return True
        return bool(self._line) and self._line[0].arrived + limits.delay_s <= now

    def due_at(self) -> float | None:
        """When the first entry in line has waited long enough for company; None: only an outcome lets more leave."""
        if not self._line or self.in_flight >= self._limits.in_flight:
            return None
        return self._line[0].arrived + self._limits.delay_s

    def _take_released(self, batch: list[EntryT]) -> tuple[int, int]:
        """Entries that had to wait aside go first; returns the room left (items, bytes)."""
        items, size = self._limits.items, self._limits.size
        while self._released:
            uin = self._released[0]
            aside = self._aside[uin]
            while aside:
                entry = aside[0]
                if not entry.void:
                    if batch and (entry.count > items or entry.size > size):
                        # With something of this uin in the batch its rest is released by the outcome.
                        if batch[-1].uin == uin:
                            self._released.popleft()
                        return 0, 0
                    batch.append(entry)
                    items -= entry.count
                    size -= entry.size
                else:
                    self.voided.append(entry)
                aside.popleft()
            del self._aside[uin]
            self._released.popleft()
        return items, size

    def _take_line(self, batch: list[EntryT], items: int, size: int) -> None:
        # Whoever was released is in the batch by now, or the batch is full: those aside are all busy.
        line, busy, aside = self._line, self._busy, self._aside
        while line:
            entry = line[0]
            uin = entry.uin
            if entry.void:
                self.voided.append(entry)
            elif uin in busy:
                waiting = aside.get(uin)
                if waiting is None:
                    aside[uin] = deque((entry,))
                else:
                    waiting.append(entry)
            else:
                if batch and (entry.count > items or entry.size > size):
                    return
                batch.append(entry)
                items -= entry.count
                size -= entry.size
            line.popleft()
            self._items -= entry.count
            self._size -= entry.size

    def resolved(self, batch: Iterable[EntryT]) -> None:
        """The fate of the whole batch is known: its uins may leave again, and there is room for another."""
        self.in_flight -= 1
        # dict.fromkeys: each uin once, in order.
        uins = dict.fromkeys(entry.uin for entry in batch)
        self._busy.difference_update(uins)
        if self._aside:
            self._released.extend(uin for uin in uins if uin in self._aside)

    def expire(self, arrived_before: float) -> list[EntryT]:
        """Take out the entries that came before that time and have not left."""
        expired: list[EntryT] = []
        while self._line and (self._line[0].arrived < arrived_before or self._line[0].void):
            entry = self._line.popleft()
            self._items -= entry.count
            self._size -= entry.size
            expired.append(entry)
        for uin in [uin for uin, aside in self._aside.items() if aside[0].arrived < arrived_before]:
            aside = self._aside[uin]
            while aside and aside[0].arrived < arrived_before:
                expired.append(aside.popleft())
            if not aside:
                del self._aside[uin]
                if uin in self._released:
                    self._released.remove(uin)
        return self._not_void(expired)

    def drain(self) -> list[EntryT]:
        """Take out everything that has not left."""
        left = self._not_void(list(self._waiting()))
        self._line.clear()
        self._aside.clear()
        self._released.clear()
        self._items = self._size = 0
        return left

    def _not_void(self, entries: list[EntryT]) -> list[EntryT]:
        self.voided.extend(entry for entry in entries if entry.void)
        return [entry for entry in entries if not entry.void]

    def _waiting(self) -> Iterator[EntryT]:
        for aside in self._aside.values():
            yield from aside
        yield from self._line
