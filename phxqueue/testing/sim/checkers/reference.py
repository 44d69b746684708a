"""What the queues must contain: a model of the store that is as simple as can be, fed with the chosen entries.

It shares no code with the store, only the meaning of a StoreCommand. Every answer a client gets is held against it at
the moment the client gets it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from phxqueue.proto.item_pb2 import BatchHeader, QItems
from phxqueue.proto.store_pb2 import GetBatch, HalfState, Replay, StoreCommand
from phxqueue.testing.sim.checkers import Violation
from phxqueue.testing.sim.checkers.group_life import GroupLife, Placed

Key = tuple[int, int]  # (queue id, consumer group id)
Stand = tuple[int, int]  # (generation, cursor)
FirstCursor = Callable[[int], int]


@dataclass(frozen=True, slots=True)
class StoredItem:
    """One item of a queue: what it is, for which consumer groups, and when its entry was proposed."""

    buffer: bytes
    mask: int
    timestamp_ms: int


@dataclass(frozen=True, slots=True, order=True)
class _Timer:
    """A delayed batch."""

    due_ms: int
    number: int
    queue_id: int
    mask: int
    buffers: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class _Half:
    """A half message."""

    queue_id: int
    mask: int
    buffers: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Replayed:
    """A replay that was carried out; `outcome`: queue id -> (target, where the group stood)."""

    name: str
    group: int
    generation: int
    outcome: dict[int, tuple[int, int]]


class Reference:
    """The queues and the replicated cursors, as the chosen entries say."""

    def __init__(self) -> None:
        self.queues: dict[int, list[StoredItem]] = {}
        self.acked: dict[Key, int] = {}
        self.generations: dict[Key, int] = {}
        self.replayed: list[Replayed] = []  # by the last entry
        self.placed: list[Placed] = []  # groups that began or were given up, by the last entry
        self.life = GroupLife(self.acked)
        self._replays: set[str] = set()
        self._outcomes: dict[tuple[int, int], tuple[int, int]] = {}  # (producer, sequence) -> (queue, cursor)
        self._clocks: dict[int, int] = {}  # per Paxos group
        self._timers: dict[int, list[_Timer]] = {}  # per Paxos group, in the order of their numbers
        self._numbers: dict[int, int] = {}
        self._halves: dict[tuple[int, int], _Half] = {}  # (Paxos group, half number)
        self._half_numbers: dict[int, int] = {}
        self._keys: dict[tuple[int, int, bytes], int] = {}  # (Paxos group, pub, key) -> when, by the group's clock
        self._windows: dict[tuple[int, int], int] = {}  # (Paxos group, pub) -> how long keys are remembered
        self._queues_of: dict[int, set[int]] = {}  # by Paxos group

    def queues_of(self, group_id: int) -> set[int]:
        """The queues of a Paxos group."""
        return self._queues_of.get(group_id, set())

    def delayed_in(self, group_id: int) -> int:
        """Batches of a Paxos group that wait for their time."""
        return len(self._timers.get(group_id, ()))

    def chosen(self, group_id: int, instance: int, payload: bytes, first: FirstCursor) -> dict[Key, Stand]:
        """Take in the next entry of a Paxos group; return where the cursors stand that it moves.

        `first`: the first cursor of a queue, which is told by the store: what is trimmed is `trimmed`'s to check.
        """
        command = StoreCommand.FromString(payload)
        self._queues_of.setdefault(group_id, set()).update(batch.header.queue_id for batch in command.batches)
        clock = self._clocks[group_id] = max(self._clocks.get(group_id, 0), command.timestamp_ms)
        for bounds in command.key_bounds:
            self._windows[group_id, bounds.pub_id] = bounds.window_ms
        left_out = 0  # of batches that belong together
        for place, batch in enumerate(command.batches):
            header = batch.header
            if header.atomic_batches > 1:
                group = [other.header for other in command.batches[place : place + header.atomic_batches]]
                if any((other.producer_id, other.sequence) in self._outcomes for other in group):
                    left_out = len(group)
            if left_out:
                left_out -= 1
                continue
            items = QItems.FromString(batch.items).items
            if len(items) != header.count:
                raise Violation(f"a batch of queue {header.queue_id} counts {header.count} items and has {len(items)}")
            queue = self.queues.setdefault(header.queue_id, [])
            name = (header.producer_id, header.sequence)
            if header.sequence and name in self._outcomes:
                continue
            if header.idempotency_key and not self._is_first(group_id, header, clock):
                continue
            if header.prepared_by:
                number = self._half_numbers[group_id] = self._half_numbers.get(group_id, 0) + 1
                self._outcomes[name] = (header.queue_id, -number)
                buffers = tuple(item.buffer for item in items)
                self._halves[group_id, number] = _Half(header.queue_id, header.consumer_group_ids, buffers)
                continue
            if header.deliver_at_ms:
                number = self._numbers[group_id] = self._numbers.get(group_id, 0) + 1
                self._outcomes[name] = (header.queue_id, -number)
                buffers = tuple(item.buffer for item in items)
                timer = _Timer(header.deliver_at_ms, number, header.queue_id, header.consumer_group_ids, buffers)
                self._timers.setdefault(group_id, []).append(timer)
                continue
            self._outcomes[name] = (header.queue_id, len(queue))
            queue.extend(StoredItem(item.buffer, header.consumer_group_ids, clock) for item in items)
        moved: dict[Key, Stand] = {}
        for move in command.cursor_moves:
            key = move.queue_id, move.consumer_group_id
            if move.generation == self.generations.get(key, 0):
                moved[key] = move.generation, self._move(key, move.acked)
        self.replayed = [
            done for replay in command.replays if (done := self._replay(replay, instance, first)) is not None
        ]
        self.placed = []
        for change in command.groups:
            self.placed += self.life.change(group_id, change, clock, self.end, first)
        for placed in self.placed:
            self.generations[placed.key] = instance + 1
        gone = {one.timer_number for one in command.cancels}
        self._timers[group_id] = [timer for timer in self._timers.get(group_id, ()) if timer.number not in gone]
        if command.HasField("fire"):
            self._fire(group_id, command.fire.due_ms, command.fire.most, clock)
        for decision in command.half_decisions:
            half = self._halves.pop((group_id, decision.half_number), None)
            if half is not None and decision.decision == HalfState.COMMITTED:
                stored = [StoredItem(buffer, half.mask, clock) for buffer in half.buffers]
                self.queues.setdefault(half.queue_id, []).extend(stored)
        return moved

    def _is_first(self, group_id: int, header: BatchHeader, clock: int) -> bool:
        """Whether nothing was stored under the batch's key lately."""
        key = group_id, header.pub_id, header.idempotency_key
        at = self._keys.get(key)
        if at is not None and at > clock - self._windows[group_id, header.pub_id]:
            return False
        self._keys[key] = clock
        return True

    def _replay(self, replay: Replay, instance: int, first: FirstCursor) -> Replayed | None:
        """Carry it out; None: its id is known, or it is refused."""
        if replay.id in self._replays:
            return None
        outcome: dict[int, tuple[int, int]] = {}
        for target in replay.targets:
            queue_id, begin = target.queue_id, first(target.queue_id)
            acked = max(self.acked.get((queue_id, replay.consumer_group_id), 0), begin)
            cursor = max(target.cursor, begin) if replay.to_earliest else target.cursor
            exact, end = replay.HasField("to_cursor"), self.end(queue_id)
            if cursor < begin or (exact and (cursor > end or (cursor > acked and not replay.skip))):
                return None
            cursor = min(cursor, end)
            if cursor < acked or (cursor > acked and replay.skip):
                outcome[queue_id] = cursor, acked
        self._replays.add(replay.id)
        for queue_id, (cursor, _) in outcome.items():
            self.acked[queue_id, replay.consumer_group_id] = cursor
            self.life.stands((queue_id, replay.consumer_group_id))
            self.generations[queue_id, replay.consumer_group_id] = instance + 1
        return Replayed(replay.id, replay.consumer_group_id, instance + 1, outcome)

    def _fire(self, group_id: int, due_ms: int, most: int, clock: int) -> None:
        """What is due goes to the ends of its queues, by time, then by number."""
        timers = self._timers[group_id]
        due = sorted(timer for timer in timers if timer.due_ms <= due_ms)[:most]
        for timer in due:
            timers.remove(timer)
            stored = [StoredItem(buffer, timer.mask, clock) for buffer in timer.buffers]
            self.queues.setdefault(timer.queue_id, []).extend(stored)

    @property
    def delayed(self) -> int:
        """Batches that wait for their time."""
        return sum(map(len, self._timers.values()))

    @property
    def prepared(self) -> int:
        """Half messages that are not decided."""
        return len(self._halves)

    def end(self, queue_id: int) -> int:
        """One past the last item of a queue."""
        return len(self.queues.get(queue_id, ()))

    def _move(self, key: Key, acked: int) -> int:
        before, wanted = self.acked.get(key, 0), min(acked, self.end(key[0]))
        if wanted > before:
            self.life.stands(key)
        position = self.acked[key] = max(before, wanted)
        return position

    def trimmed(self, queue_id: int, first: int) -> list[bytes]:
        """A queue begins at `first`: return what was below, which every group must have acknowledged."""
        gone = self.queues.get(queue_id, [])[:first]
        for group in range(1, 65):
            for cursor in range(self.acked.get((queue_id, group), 0), len(gone)):
                if gone[cursor].mask >> (group - 1) & 1:
                    raise Violation(
                        f"queue {queue_id} cursor {cursor} was trimmed before group {group} was done with it"
                    )
        return [item.buffer for item in gone]

    def check_added(self, queue_id: int, cursor: int, items: Sequence[bytes]) -> None:
        """A producer was told that its items stand at `cursor`."""
        stored = [item.buffer for item in self.queues.get(queue_id, [])[cursor : cursor + len(items)]]
        if stored != list(items):
            raise Violation(
                f"queue {queue_id}: items acknowledged at cursor {cursor} are not what was chosen there: "
                f"{[item[:20] for item in items]} acknowledged, {[item[:20] for item in stored]} chosen"
            )

    def check_read(
        self, queue_id: int, mask: int, start: int, end: int, batches: Sequence[GetBatch]
    ) -> list[tuple[int, bytes]]:
        """A reader (of the consumer group whose bit is `mask`; 0: of all) got everything from `start` to `end`.

        Return the items that are new to it, as (cursor, item): the first batch may begin before `start`.
        """
        queue = self.queues.get(queue_id, [])
        if end > len(queue):
            raise Violation(f"queue {queue_id}: read up to {end}, but only {len(queue)} items are stored")
        got: dict[int, bytes] = {}
        last = -1
        for batch in batches:
            items = QItems.FromString(batch.items).items
            if batch.first_cursor <= last or batch.header.count != len(items) or not items:
                raise Violation(
                    f"queue {queue_id}: a batch at {batch.first_cursor} does not follow {last}, or is short"
                )
            last = batch.first_cursor + len(items) - 1
            if last < start or last >= end:
                raise Violation(f"queue {queue_id}: items up to {last} were delivered; asked for {start} to {end}")
            got.update(enumerate((item.buffer for item in items), batch.first_cursor))
        wanted = {
            cursor: item.buffer for cursor, item in enumerate(queue[start:end], start) if not mask or item.mask & mask
        }
        for cursor in wanted.keys() | {cursor for cursor in got if cursor >= start}:
            if wanted.get(cursor) != got.get(cursor):
                raise Violation(
                    f"queue {queue_id} cursor {cursor}: {_shown(got.get(cursor))} was delivered to the group of mask "
                    f"{mask:#x}, {_shown(wanted.get(cursor))} is stored for it"
                )
        return sorted(wanted.items())


def _shown(item: bytes | None) -> str:
    return "nothing" if item is None else repr(item[:30])
