"""Whose turn it is among those who wait for the same thing. Pure.

Those of one kind take turns, one each. Kinds have weights, and as long as several have somebody waiting, each gets
turns in proportion to its weight: stride scheduling (Waldspurger and Weihl 1995). A kind is charged `1 / weight` for a
turn, and the one that was charged least is next. So every kind gets on, however small its weight; one that has nobody
waiting costs the others nothing; and when it is back it goes on at the charge of the moment, with no credit for having
been away.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

T = TypeVar("T")

#: Kind of everybody who has none of his own, and its weight.
ORDINARY = 0
ORDINARY_WEIGHT = 100


class Turns(Generic[T]):
    """Those who wait.

    Attributes:
        weights: by kind; others are ORDINARY.
    """

    def __init__(self, weights: Mapping[int, int] | None = None) -> None:
        self.weights: Mapping[int, int] = weights or {}
        self._lines: dict[int, dict[T, None]] = {}  # none is empty
        self._kinds: dict[T, int] = {}
        self._charged: dict[int, float] = {}
        self._now = 0.0  # what the last one served had been charged

    def __len__(self) -> int:
        return len(self._kinds)

    def add(self, one: T, kind: int = ORDINARY) -> None:
        """Wait, behind the others of the kind; who waits already keeps his place."""
        if one in self._kinds:
            return
        kind = kind if kind in self.weights else ORDINARY
        self._kinds[one] = kind
        line = self._lines.get(kind)
        if line is None:
            line = self._lines[kind] = {}
            self._charged[kind] = max(self._charged.get(kind, 0.0), self._now)
        line[one] = None

    def remove(self, one: T) -> None:
        """Wait no longer."""
        kind = self._kinds.pop(one, None)
        if kind is not None:
            del self._lines[kind][one]
            if not self._lines[kind]:
                del self._lines[kind]

    def next(self) -> tuple[T, int]:
        """Take the next one out; returns its kind, too. There must be somebody."""
        kind = min(self._lines, key=lambda each: (self._charged[each], each))
        self._now = self._charged[kind]
        self._charged[kind] += 1 / (self.weights.get(kind) or ORDINARY_WEIGHT)
        one = next(iter(self._lines[kind]))
        self.remove(one)
        return one, kind
