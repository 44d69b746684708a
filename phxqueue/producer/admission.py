"""The bound on what a producer holds: a buffer that is full makes callers wait, in line and not for ever. Pure."""

from __future__ import annotations

from collections import deque
from typing import Generic

from phxqueue.producer.batching import EntryT


class Admission(Generic[EntryT]):
    """Counts items and bytes that are not confirmed yet.

    An entry is let in while the buffer is below both bounds, so it exceeds them by less than one entry (and an
    entry as large as the whole buffer still gets in). The others wait in line, at most `max_waiting` of them;
    nobody overtakes, or the order of a uin would be lost.
    """

    __slots__ = ("_items_limit", "_line", "_max_waiting", "_size_limit", "items", "size")

    def __init__(self, items_limit: int, size_limit: int, max_waiting: int) -> None:
        self._items_limit = items_limit
        self._size_limit = size_limit
        self._max_waiting = max_waiting
        self._line: deque[EntryT] = deque()
        self.items = 0
        self.size = 0

    @property
    def waiting(self) -> int:
        """Entries in line."""
        return len(self._line)

    def enter(self, entry: EntryT) -> bool:
        """Come in, if there is room and nobody waits."""
        if self._line or self.items >= self._items_limit or self.size >= self._size_limit:
            return False
        self.items += entry.count
        self.size += entry.size
        return True

    def wait(self, entry: EntryT) -> bool:
        """Join the line, if it is not full as well."""
        if len(self._line) >= self._max_waiting:
            return False
        self._line.append(entry)
        return True

    def leave(self, items: int, size: int) -> list[EntryT]:
        """So much has gone; returns those who come in instead, in order."""
        self.items -= items
        self.size -= size
        admitted: list[EntryT] = []
        while self._line and self.items < self._items_limit and self.size < self._size_limit:
            entry = self._line.popleft()
            if not entry.void:
                self.items += entry.count
                self.size += entry.size
                admitted.append(entry)
        return admitted

    def expire(self, arrived_before: float) -> list[EntryT]:
        """Take those out of the line who came before that time. Void ones go unmentioned."""
        expired: list[EntryT] = []
        while self._line and (self._line[0].void or self._line[0].arrived < arrived_before):
            entry = self._line.popleft()
            if not entry.void:
                expired.append(entry)
        return expired

    def drain(self) -> list[EntryT]:
        """Take everybody out of the line."""
        left = [entry for entry in self._line if not entry.void]
        self._line.clear()
        return left
