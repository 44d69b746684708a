"""Which consumer groups come and go, as the chosen entries say, and what that does to their positions.

It shares no code with the store, only the meaning of a GroupChange.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from phxqueue.proto.store_pb2 import GroupChange

Key = tuple[int, int]  # (queue id, consumer group id)
Ends = Callable[[int], int]
"""A cursor of each queue: where it begins, or one past its last item."""
EARLIEST = 0


@dataclass(frozen=True, slots=True)
class Placed:
    """A group stands elsewhere. `given_up`: nothing is kept for it any more; `left`: for it has left the files."""

    key: Key
    was: int
    position: int
    given_up: bool
    left: bool = False


class GroupLife:
    """The groups of all Paxos groups; `acked` is where each of them stands, which it changes."""

    def __init__(self, acked: dict[Key, int]) -> None:
        self.leaving: dict[Key, int] = {}  # until when they are kept, by the clock of their Paxos group
        self._acked = acked
        self._created: dict[tuple[int, int], tuple[tuple[int, ...], int]] = {}
        self._kept: set[Key] = set()  # there is a position that would have to be given up

    def stands(self, key: Key) -> None:
        """A group has a position in a queue."""
        self._kept.add(key)

    def change(self, group_id: int, change: GroupChange, clock: int, ends: Ends, first: Ends) -> list[Placed]:
        """Carry a change out in a Paxos group whose clock is at `clock`."""
        group, kind = change.consumer_group_id, change.WhichOneof("change")
        keys = [(queue_id, group) for queue_id in change.queue_ids]
        if kind == "leave_until_ms":
            for key in keys:
                self.leaving.setdefault(key, change.leave_until_ms)
        elif kind == "stay":
            for key in keys:
                self.leaving.pop(key, None)
        elif kind == "create":
            return self._create(group_id, change, keys, ends, first)
        elif change.delete.left:
            keys = [key for key in keys if self.leaving.get(key, clock + 1) <= clock]
            return self._give_up(keys, ends, left=True)
        elif kind == "delete":
            self._created.pop((group_id, group), None)
            return self._give_up(keys, ends, left=False)
        return []

    def _create(self, group_id: int, change: GroupChange, keys: list[Key], ends: Ends, first: Ends) -> list[Placed]:
        create = change.create
        if (group_id, change.consumer_group_id) in self._created:
            return []
        self._created[group_id, change.consumer_group_id] = tuple(create.pub_ids), create.start_ms
        placed = []
        for key in keys:
            self.leaving.pop(key, None)
            if ends(key[0]):
                begin = first(key[0]) if create.start_ms == EARLIEST else ends(key[0])
                placed.append(Placed(key, begin, begin, given_up=False))
                self._acked[key] = begin
                self._kept.add(key)
        return placed

    def _give_up(self, keys: list[Key], ends: Ends, *, left: bool) -> list[Placed]:
        placed = []
        for key in keys:
            end, was = ends(key[0]), self._acked.get(key, 0)
            if key in self._kept or key in self.leaving:
                placed.append(Placed(key, was, end, given_up=True, left=left))
            self._kept.discard(key)
            self.leaving.pop(key, None)
            if end:
                self._acked[key] = end
        return placed
