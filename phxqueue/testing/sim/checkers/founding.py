"""A consumer group created at run time gets exactly what is enqueued after, and what is retained when it begins there.

Knows when clients offered an item and were told that it is stored, and when the creation was asked for and confirmed.
What lies between may have come before or after it. When the group has been deleted it gets nothing; when it is created
again, it is another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from phxqueue.testing.sim.checkers import Violation


@dataclass(slots=True)
class _Life:
    """Of the group in one queue, from when its creation is asked for.

    Attributes:
        earliest: whether it begins at the earliest item, else at the latest.
        generation, start: of its positions in the queue, and where it stands at first.
        ends: its deletion has been asked for; `ended`: and confirmed.
    """

    earliest: bool
    asked: float
    created: float | None = None
    generation: int = 0
    start: int = 0
    ends: bool = False
    ended: bool = False

    @property
    def certain(self) -> bool:
        """Whether there is such a group for sure."""
        return self.created is not None and not self.ends


@dataclass(frozen=True, slots=True)
class Expected:
    """What was known of the group when a reader asked."""

    life: _Life
    certain: bool
    ended: bool


class Founding:
    """Of one group."""

    def __init__(self) -> None:
        self._offered: dict[bytes, float] = {}
        self._stored: dict[bytes, float] = {}
        self._lives: dict[int, _Life] = {}  # the last one in each queue
        self._received: dict[int, dict[int, dict[int, bytes]]] = {}  # queue -> generation -> cursor -> item

    def offered(self, item: bytes, now: float) -> None:
        """A producer sends an item for the first time."""
        self._offered[item] = now

    def stored(self, items: Iterable[bytes], now: float) -> None:
        """A producer was told that they are stored, or kept aside until they are due."""
        self._stored.update(dict.fromkeys(items, now))

    def asked(self, queue_id: int, now: float, *, earliest: bool) -> None:
        """The group is going to be created in a queue."""
        life = self._lives.get(queue_id)
        if life is None or life.ended:
            self._lives[queue_id] = _Life(earliest, now)

    def created(self, queue_id: int, now: float) -> None:
        """It was confirmed that it is."""
        self._lives[queue_id].created = now

    def deleting(self, queue_id: int) -> None:
        """It is going to be deleted."""
        self._lives[queue_id].ends = True

    def deleted(self, queue_id: int) -> None:
        """It was confirmed that it is."""
        self._lives[queue_id].ended = True

    def placed(self, queue_id: int, generation: int, position: int) -> None:
        """It was created, and stands there in the queue."""
        life = self._lives[queue_id]
        life.generation, life.start = generation, position

    def expect(self, queue_id: int) -> Expected:
        """A reader is about to ask."""
        life = self._lives[queue_id]
        return Expected(life, life.certain, life.ended)

    def answered(self, queue_id: int, expected: Expected) -> None:
        """It was told of items, or that there are none."""
        if expected.ended and self._lives[queue_id] is expected.life:
            raise Violation(f"queue {queue_id}: a group was answered that had been deleted before it asked")

    def refused(self, queue_id: int, expected: Expected) -> None:
        """It was told that there is no such group."""
        if expected.certain and self._lives[queue_id] is expected.life and expected.life.certain:
            raise Violation(f"queue {queue_id}: a group was refused that had been created before it asked")

    def received(self, queue_id: int, generation: int, items: Mapping[int, bytes]) -> None:
        """A reader of the group got these, by cursor."""
        self._received.setdefault(queue_id, {}).setdefault(generation, {}).update(items)

    def _received_in(self, queue_id: int, life: _Life) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        for generation, items in self._received.get(queue_id, {}).items():
            if generation >= life.generation:
                found.update(items)
        return found

    def check_contents(self, contents: Mapping[int, Sequence[bytes]]) -> None:
        """At the end; `contents`: every queue, read from its beginning to its end."""
        for queue_id, life in self._lives.items():
            if life.ends:
                continue
            received = self._received_in(queue_id, life)
            for cursor, item in enumerate(contents.get(queue_id, ())):
                got = received.get(cursor)
                if got is not None and got != item:
                    raise Violation(
                        f"queue {queue_id} cursor {cursor}: {got[:30]!r} was delivered, {item[:30]!r} is there"
                    )
                if got is None and self._must(life, item, cursor):
                    raise Violation(f"queue {queue_id} cursor {cursor}: {item[:30]!r} did not come to the new group")
                if got is not None and self._must_not(life, item):
                    raise Violation(f"queue {queue_id} cursor {cursor}: {item[:30]!r} came, which was there before")

    def _must(self, life: _Life, item: bytes, cursor: int) -> bool:
        if life.earliest:
            return cursor >= life.start
        return life.created is not None and self._offered.get(item, 0.0) > life.created

    def _must_not(self, life: _Life, item: bytes) -> bool:
        return not life.earliest and self._stored.get(item, float("inf")) < life.asked
