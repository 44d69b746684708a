"""The items of one queue that are fetched and not started, and which of them may start next. Pure.

An item passes three places, in this order:

- its lane: items of one uin one after another (lanes.py);
- its gate, if there is a limit on its speed: it is held until the gate lets it through;
- its batch, if its handler takes several at once. A batch starts when it is full, or when no other batch of its
  handler is at work for this queue: nobody waits for company on an idle system, and under load batches grow.

Whatever it waits for, its lane waits with it, and nobody else does. So a batch never holds two items of one uin.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

from phxqueue.consumer.lanes import Lanes
from phxqueue.consumer.slots import Slot


class Gate(Protocol):
    """A limit on the speed of some kind of item. Gates are compared by identity."""

    def admit(self) -> bool:
        """Let one item through, if that may be now."""


class Lineup:
    """Fetched items in order of arrival.

    Args:
        batch_items: most items of one batch, by handle_id; 0: its handler takes one at a time.
        gate: what holds an item back; None: nothing does.
    """

    __slots__ = ("_at_work", "_batch_items", "_gate", "_gathered", "_held", "_is_batch", "_lanes", "_next")

    def __init__(
        self, batch_items: Callable[[int], int] | None = None, gate: Callable[[Slot], Gate | None] | None = None
    ) -> None:
        self._lanes: Lanes[Slot] = Lanes()
        self._batch_items = batch_items
        self._gate = gate
        self._held: dict[Gate, deque[Slot]] = {}
        self._gathered: dict[int, deque[Slot]] = {}  # by handle_id
        self._at_work: dict[int, int] = {}  # batches, by handle_id
        self._next: list[Slot] | None = None  # found, and not taken yet
        self._is_batch = False  # what was found

    @property
    def holding(self) -> bool:
        """Whether a gate holds something back."""
        return bool(self._held)

    @property
    def held(self) -> int:
        """Items that gates hold back."""
        return sum(len(items) for items in self._held.values())

    def held_by_gate(self) -> Iterator[tuple[Gate, int]]:
        """How many each gate holds back."""
        return ((gate, len(items)) for gate, items in self._held.items())

    def add(self, slot: Slot) -> None:
        """Another item, behind all others."""
        self._lanes.add(slot.uin, slot)

    def ready(self) -> bool:
        """Whether take() has something. Asking may take an item through its gate."""
        if self._next is None:
            self._next = self._find()
        return self._next is not None

    def take(self) -> list[Slot]:
        """What may start now: one item, or a batch of one handle_id. Raises IndexError when nothing may."""
        slots = self._next
        if slots is None:
            if not self.ready():
                raise IndexError("nothing is ready")
            slots = self._next
            assert slots is not None
        self._next = None
        if self._is_batch:
            handle_id = slots[0].handle_id
            self._at_work[handle_id] = self._at_work.get(handle_id, 0) + 1
        return slots

    def batch_done(self, handle_id: int) -> None:
        """A batch that was taken is no longer at work; its items may still be."""
        left = self._at_work[handle_id] - 1
        if left:
            self._at_work[handle_id] = left
        else:
            del self._at_work[handle_id]

    def done(self, slot: Slot) -> None:
        """An item that was taken is finished: the next of its uin may follow."""
        self._lanes.done(slot.uin)

    def again(self, slot: Slot) -> None:
        """An item that was taken shall be taken again; its uin goes on waiting for it."""
        self._lanes.again(slot.uin, slot)

    def drop(self, unwanted: Callable[[Slot], bool]) -> list[Slot]:
        """Take out the items that are unwanted, as far as they have not been taken; returns them."""
        dropped: list[Slot] = []
        self._held = _sift_all(self._held, unwanted, dropped)
        self._gathered = _sift_all(self._gathered, unwanted, dropped)
        if self._next is not None:
            self._next = list(_sift(self._next, unwanted, dropped)) or None
        for slot in dropped:
            self._lanes.done(slot.uin)
        return dropped + self._lanes.drop(unwanted)

    def release(self) -> list[Slot]:
        """Take out whatever a gate holds back; returns it."""
        held = {slot for items in self._held.values() for slot in items}
        return self.drop(held.__contains__) if held else []

    def _find(self) -> list[Slot] | None:
        for barrier, held in list(self._held.items()) if self._held else ():
            while held and barrier.admit():
                slot = held.popleft()
                if not held:
                    del self._held[barrier]
                if (found := self._admitted(slot)) is not None:
                    return found
        lanes, gate_of = self._lanes, self._gate
        while lanes.ready:
            slot = lanes.take()
            gate = gate_of(slot) if gate_of is not None else None
            if gate is not None and (gate in self._held or not gate.admit()):
                self._held.setdefault(gate, deque()).append(slot)
                continue
            if (found := self._admitted(slot)) is not None:
                return found
        if self._gathered:
            for handle_id, gathered in self._gathered.items():
                if handle_id not in self._at_work:
                    return self._batch(handle_id, gathered)
        return None

    def _admitted(self, slot: Slot) -> list[Slot] | None:
        """What can start with this item: itself, the batch that it fills, or nothing yet."""
        batch_items, handle_id = self._batch_items, slot.handle_id
        limit = 0 if batch_items is None or slot.unreadable else batch_items(handle_id)
        if not limit:
            self._is_batch = False
            return [slot]
        gathered = self._gathered.setdefault(handle_id, deque())
        gathered.append(slot)
        return self._batch(handle_id, gathered) if len(gathered) >= limit else None

    def _batch(self, handle_id: int, gathered: deque[Slot]) -> list[Slot]:
        del self._gathered[handle_id]
        self._is_batch = True
        return list(gathered)


KeyT = TypeVar("KeyT")


def _sift_all(
    waiting: dict[KeyT, deque[Slot]], unwanted: Callable[[Slot], bool], dropped: list[Slot]
) -> dict[KeyT, deque[Slot]]:
    sifted = {key: _sift(slots, unwanted, dropped) for key, slots in waiting.items()}
    return {key: slots for key, slots in sifted.items() if slots}


def _sift(slots: Iterable[Slot], unwanted: Callable[[Slot], bool], dropped: list[Slot]) -> deque[Slot]:
    kept: deque[Slot] = deque()
    for slot in slots:
        (dropped if unwanted(slot) else kept).append(slot)
    return kept
