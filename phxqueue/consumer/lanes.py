"""Which item may be handled next: items of one uin one after another, all others side by side. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")


class Lanes(Generic[ItemT]):
    """Items that wait to be handled, in order of arrival.

    A lane is one uin. While an item of it is in work the others of it wait; uin 0 is no lane.
    """

    __slots__ = ("_busy", "_ready")

    def __init__(self) -> None:
        self._ready: deque[tuple[int, ItemT]] = deque()
        self._busy: dict[int, deque[ItemT]] = {}  # uins with an item ready or in work -> those behind it

    @property
    def ready(self) -> bool:
        """Whether take() has something."""
        return bool(self._ready)

    def add(self, uin: int, item: ItemT) -> None:
        """Another item, behind all others."""
        if uin:
            behind = self._busy.get(uin)
            if behind is not None:
                behind.append(item)
                return
            self._busy[uin] = deque()
        self._ready.append((uin, item))

    def take(self) -> ItemT:
        """The next item, now in work. Raises IndexError when none is ready."""
        return self._ready.popleft()[1]

    def done(self, uin: int) -> None:
        """The item of this uin that was in work no longer is: the next one may follow."""
        if not uin:
            return
        behind = self._busy[uin]
        if behind:
            self._ready.append((uin, behind.popleft()))
        else:
            del self._busy[uin]

    def again(self, uin: int, item: ItemT) -> None:
        """The item of this uin that was in work is to be taken again, before any other of its uin."""
        self._ready.append((uin, item))

    def drop(self, unwanted: Callable[[ItemT], bool]) -> list[ItemT]:
        """Take out the items that are unwanted, as far as they are not in work; returns them."""
        waiting = {uin for uin, _ in self._ready}  # of those lanes no item is in work
        queued = [(uin, item) for uin, item in self._ready]
        for uin in waiting:
            if uin:
                queued.extend((uin, item) for item in self._busy.pop(uin))
        dropped = [item for _, item in queued if unwanted(item)]
        self._ready.clear()
        for uin, item in queued:
            if not unwanted(item):
                self.add(uin, item)
        for uin, behind in self._busy.items():
            if uin not in waiting:
                dropped.extend(item for item in behind if unwanted(item))
                self._busy[uin] = deque(item for item in behind if not unwanted(item))
        return dropped
