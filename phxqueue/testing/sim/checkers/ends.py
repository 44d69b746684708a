"""Every item ends in exactly one place, and the sums that the store shows say so: held against the simulator's books.

The books follow the chosen entries, with no more of the store's code than the meaning of a command: which items were
stored, which of them a cursor has passed, and what was to become of each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from phxqueue.proto.item_pb2 import BatchHeader
from phxqueue.proto.origin import Origin
from phxqueue.proto.store_pb2 import StoreCommand
from phxqueue.testing.sim.checkers import Violation

#: Commands from which on later attempts and dead letters are counted, and dropped items.
COUNTED_SINCE = 3
DROPS_COUNTED_SINCE = 11


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the items of one consumer group are."""

    enqueued: int
    finished: int
    waiting: int
    dead: int
    dropped: int


class Ends:
    """Follows some queues of one topic.

    Args:
        queues: those of the attempt chain, the first one first; `letters` is where dead letters go.
        is_dropped: whether the item there is dropped when its turn comes.

    Attributes:
        everybody_knows: all members run a program that counts, and say so: from now on everything counts.
    """

    def __init__(
        self, queues: Sequence[int], letters: int, groups: Sequence[int], is_dropped: Callable[[int, int], bool]
    ) -> None:
        self.everybody_knows = False
        self._queues = queues
        self._letters = letters
        self._groups = groups
        self._is_dropped = is_dropped
        self._version: dict[int, int] = {}  # of the newest command chosen, by Paxos group
        self._ends: Counter[int] = Counter()
        self._acked: Counter[tuple[int, int]] = Counter()
        self._stored: Counter[tuple[int, int]] = Counter()  # (consumer group, origin)
        self._uncounted: Counter[tuple[int, int]] = Counter()
        self._dropped: Counter[int] = Counter()
        self._perhaps_dropped: Counter[int] = Counter()

    def stored(self, group_id: int, header: BatchHeader, version: int) -> None:
        """A batch got its place, by a command of that version."""
        if header.queue_id not in (*self._queues, self._letters):
            return
        self._ends[header.queue_id] += header.count
        if header.origin == Origin.NEW:
            return
        for group in self._groups:
            if header.consumer_group_ids >> (group - 1) & 1:
                self._stored[group, header.origin] += header.count
                if version < COUNTED_SINCE:
                    if self._understood(group_id, COUNTED_SINCE):
                        raise Violation(f"a later attempt, or a dead letter, of group {group} is not counted")
                    self._uncounted[group, header.origin] += header.count

    def moved(self, group_id: int, command: StoreCommand) -> None:
        """The cursor moves of a chosen command."""
        for move in command.cursor_moves:
            queue_id, group = move.queue_id, move.consumer_group_id
            if queue_id not in self._queues or group not in self._groups:
                continue
            before, acked = self._acked[queue_id, group], min(move.acked, self._ends[queue_id])
            if acked <= before:
                continue
            self._acked[queue_id, group] = acked
            dropped = sum(self._is_dropped(queue_id, cursor) for cursor in range(before, acked))
            counted = command.version >= DROPS_COUNTED_SINCE or self._understood(group_id, DROPS_COUNTED_SINCE)
            (self._dropped if counted else self._perhaps_dropped)[group] += dropped
        self._version[group_id] = max(self._version.get(group_id, 0), command.version)

    def _understood(self, group_id: int, version: int) -> bool:
        return self.everybody_knows or self._version.get(group_id, 0) >= version

    def check(self, group: int, told: Places) -> None:
        """Compare what the store tells of a consumer group; only when all is quiet."""
        if told.enqueued != told.finished + told.waiting + told.dead + told.dropped:
            raise Violation(f"group {group}: the sums do not add up: {told}")
        own, others = self._stored[group, Origin.RETRIED], sum(self._uncounted.values())
        dead = self._stored[group, Origin.DEAD] - self._uncounted[group, Origin.DEAD]
        dropped = self._dropped[group]
        if told.dead != dead:
            raise Violation(f"group {group}: {dead} dead letters were stored, {told.dead} are told")
        if not dropped <= told.dropped <= dropped + self._perhaps_dropped[group]:
            raise Violation(f"group {group}: {dropped} items were dropped, {told.dropped} are told")
        enqueued = self._ends[self._queues[0]]
        if others:
            return  # what older programs stored is not told apart
        waiting = sum(self._ends[queue_id] - self._acked[queue_id, group] for queue_id in self._queues)
        expected = Places(
            enqueued=enqueued,
            finished=enqueued - dead - told.dropped - waiting,
            waiting=waiting,
            dead=dead,
            dropped=told.dropped,
        )
        if told != expected:
            raise Violation(f"group {group}: {told} is told, it has to be {expected}; {own} later attempts")
