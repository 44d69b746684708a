"""The state machine against a naive model: per queue a list of items, nothing clever, nothing forgotten."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from phxqueue.proto.store_pb2 import FireTimers, QueueTrim
from phxqueue.store.entries import ParsedEntry
from phxqueue.store.outcomes import Delayed, Duplicate, Outcome, Refusal
from phxqueue.store.queues import StoreQueues
from tests.stand_ins import NOOP
from tests.store.fakes import NOW_MS, VALUE, batch, command, move


@dataclass(frozen=True)
class Batch:
    queue_id: int
    count: int
    mask: int
    producer_id: int
    sequence: int
    due: int = 0  # 0: not delayed; else so many milliseconds after the beginning


@dataclass(frozen=True)
class Move:
    queue_id: int
    group: int
    acked: int


@dataclass(frozen=True)
class Trim:
    queue_id: int
    first: int


@dataclass(frozen=True)
class Command:
    later_ms: int
    batches: list[Batch]
    moves: list[Move]
    trims: list[Trim]
    fire: tuple[int, int] | None  # up to which millisecond after the beginning, how many
    cancels: list[int]  # timer numbers


QUEUES = st.integers(1, 3)
BATCHES = st.builds(
    Batch,
    queue_id=QUEUES,
    count=st.integers(0, 4),
    mask=st.integers(1, 3),
    producer_id=st.integers(1, 2),
    sequence=st.integers(0, 6),
    due=st.one_of(st.just(0), st.just(0), st.integers(1, 20)),
)
MOVES = st.builds(Move, queue_id=QUEUES, group=st.integers(0, 3), acked=st.integers(0, 30))
TRIMS = st.builds(Trim, queue_id=QUEUES, first=st.integers(0, 40))
COMMANDS = st.builds(
    Command,
    later_ms=st.integers(-5, 5),
    batches=st.lists(BATCHES, max_size=6),
    moves=st.lists(MOVES, max_size=3),
    trims=st.lists(TRIMS, max_size=2),
    fire=st.one_of(st.none(), st.tuples(st.integers(0, 25), st.integers(0, 4))),
    cancels=st.lists(st.integers(0, 8), max_size=2),
)
STEPS = st.lists(st.one_of(COMMANDS, st.just("no-op"), st.just(b"\xffgarbage"), st.just("checkpoint")), max_size=25)


@dataclass
class Model:
    """Items by queue, for ever; an item is (bytes of its batch, mask). `ends`: where each entry's items end."""

    items: dict[int, list[tuple[bytes, int]]] = field(default_factory=dict)
    ends: dict[int, list[int]] = field(default_factory=dict)
    first: dict[int, int] = field(default_factory=dict)
    acked: dict[tuple[int, int], int] = field(default_factory=dict)
    seen: dict[tuple[int, int], tuple[int, int, int, bool]] = field(default_factory=dict)
    made: int = 0
    numbers: int = 0
    timers: dict[int, tuple[Batch, int, tuple[int, int]]] = field(default_factory=dict)  # content's, and place
    due: dict[int, int] = field(default_factory=dict)  # of every timer number ever
    cancelled: dict[int, int] = field(default_factory=dict)  # items

    def store(self, one: Batch, place: tuple[int, int]) -> tuple[bytes, object]:
        """Returns the batch's bytes and its expected outcome; `place`: entry, and position in it."""
        self.made += 1
        content = b"batch %d " % self.made * one.count
        identity = one.producer_id, one.sequence
        if one.count == 0:
            return content, "refused"
        if one.sequence and identity in self.seen:
            queue_id, cursor, count, delayed = self.seen[identity]
            return content, Duplicate(cursor, count, delayed) if queue_id == one.queue_id else "refused"
        if one.due:
            self.numbers += 1
            self.timers[self.numbers] = one, self.made, place
            self.due[self.numbers] = one.due
            if one.sequence:
                self.seen[identity] = one.queue_id, self.numbers, one.count, True
            return content, Delayed(self.numbers)
        queue = self.items.setdefault(one.queue_id, [])
        cursor = len(queue)
        queue.extend([(b"batch %d " % self.made, one.mask)] * one.count)
        if one.sequence:
            self.seen[identity] = one.queue_id, cursor, one.count, False
        return content, cursor

    def move(self, one: Move) -> None:
        if one.queue_id in self.items and one.group:
            key = one.queue_id, one.group
            best = max(self.acked.get(key, 0), min(one.acked, len(self.items[one.queue_id])))
            if best:
                self.acked[key] = best

    def cancel(self, number: int) -> object:
        if number in self.timers:
            self.cancelled[number] = self.timers.pop(number)[0].count
        return self.cancelled.get(number, "refused")

    def fire(self, due: int, most: int) -> None:
        """In the order of times, then of numbers. What stands side by side in its entry becomes one row."""
        ready = sorted((one.due, number) for number, (one, _, _) in self.timers.items() if one.due <= due)
        before: tuple[Batch, tuple[int, int]] | None = None
        for _, number in ready[:most]:
            one, made, place = self.timers.pop(number)
            queue = self.items.setdefault(one.queue_id, [])
            queue.extend([(b"batch %d " % made, one.mask)] * one.count)
            ends = self.ends.setdefault(one.queue_id, [])
            if before is not None and alike(*before, one, place):
                ends.pop()
            ends.append(len(queue))
            before = one, place

    def end_entry(self) -> None:
        for queue_id, items in self.items.items():
            ends = self.ends.setdefault(queue_id, [])
            if len(items) > (ends[-1] if ends else 0):
                ends.append(len(items))

    def trim(self, one: Trim) -> None:
        """Whole entries go, from the front, as long as everybody is done with every item."""
        for end in self.ends.get(one.queue_id, ()):
            first = self.first.get(one.queue_id, 0)
            masks = [mask for _, mask in self.items[one.queue_id][first:end]]
            done = all(
                self.acked.get((one.queue_id, group), 0) >= end
                for mask in masks
                for group in (1, 2)
                if mask & 1 << group - 1
            )
            if end > first:
                if end > one.first or not done:
                    return
                self.first[one.queue_id] = end


def alike(one: Batch, place: tuple[int, int], other: Batch, after: tuple[int, int]) -> bool:
    """Whether two batches that are due one after the other become one row."""
    return (one.queue_id, one.mask) == (other.queue_id, other.mask) and after == (place[0], place[1] + 1)


def apply_both(model: Model, machine: StoreQueues, log: list[bytes], step: Command, at_ms: int) -> None:
    made = [(one, *model.store(one, (len(log), position))) for position, one in enumerate(step.batches)]
    expected_cancels = [model.cancel(number) for number in step.cancels]
    payload = command(
        *[
            batch(
                one.queue_id,
                one.count,
                items=content,
                mask=one.mask,
                producer_id=one.producer_id,
                sequence=one.sequence,
                deliver_at_ms=NOW_MS + one.due if one.due else 0,
            )
            for one, content, _ in made
        ],
        moves=[move(one.queue_id, one.group, one.acked) for one in step.moves],
        trims=[QueueTrim(queue_id=one.queue_id, first_cursor=one.first) for one in step.trims],
        cancels=[(NOW_MS + model.due.get(number, 3), number) for number in step.cancels],
        fire=None if step.fire is None else FireTimers(due_ms=NOW_MS + step.fire[0], most=step.fire[1]),
        at_ms=at_ms,
        version=3,
    )
    log.append(payload)
    outcomes = machine.apply(machine.applied + 1, VALUE, payload)
    assert isinstance(outcomes, list)
    all_expected = [expected for _, _, expected in made] + expected_cancels
    assert [
        expected if told(expected, outcome) else (expected, outcome)
        for expected, outcome in zip(all_expected, outcomes, strict=True)
    ] == all_expected
    for one in step.moves:
        model.move(one)
    model.end_entry()
    for one_trim in step.trims:
        model.trim(one_trim)
    if step.fire is not None:
        model.fire(*step.fire)


def told(expected: object, outcome: Outcome) -> bool:
    return outcome == expected or (expected == "refused" and isinstance(outcome, Refusal))


def content(machine: StoreQueues, log: list[bytes], queue_id: int) -> list[tuple[bytes, int]]:
    """Everything in a queue, read back from the entries through the index as Get does."""
    index, items = machine.queues[queue_id], [(b"gone", 0)] * machine.first_cursor(queue_id)
    for row in range(len(index)):
        instance = index.instances[row]
        entry = ParsedEntry(log[instance], machine.refused.get(instance, ()))
        for stored in entry.of_row(index, row):
            assert index.firsts[row] + stored.offset == len(items)
            assert stored.mask & ~index.masks[row] == 0
            size = len(stored.items) // stored.count
            items += [(stored.items[:size], stored.mask)] * stored.count
        assert len(items) == index.row_end(row)
    return items


@settings(max_examples=150)
@given(STEPS)
def test_agrees_with_the_model_whatever_is_restored_on_the_way(steps: list[object]) -> None:
    model, log = Model(), []
    steady = machine = StoreQueues(4)
    restarted = StoreQueues(4)
    saved: dict[bytes, bytes] = {}
    at_ms = NOW_MS
    for step in steps:
        if step == "checkpoint":
            checkpoint = restarted.checkpoint()
            saved.update(checkpoint.segments)
            for key in checkpoint.dropped:
                del saved[key]
            assert checkpoint.needed == restarted.first_needed()
            restarted = StoreQueues(4)
            restarted.restore(checkpoint.state, saved.items())
            assert restarted.take_dead() == []
        elif isinstance(step, Command):
            at_ms += step.later_ms
            apply_both(model, steady, log, step, at_ms)
            restarted.apply(restarted.applied + 1, VALUE, log[-1])
        else:
            kind, payload = (VALUE, step) if isinstance(step, bytes) else (NOOP, b"")
            log.append(payload)
            for replica in (steady, restarted):
                replica.apply(replica.applied + 1, kind, payload)
        assert restarted.state_hash() == steady.state_hash()
    assert {queue_id: machine.first_cursor(queue_id) for queue_id in machine.queues} == {
        queue_id: model.first.get(queue_id, 0) for queue_id in model.items
    }
    for queue_id, items in model.items.items():
        first = model.first.get(queue_id, 0)
        assert content(restarted, log, queue_id)[first:] == items[first:]
        assert all(instance >= restarted.first_needed() for instance in restarted.queues[queue_id].instances)
    assert restarted.acked == steady.acked == model.acked
    waiting = [(timer.deliver_at_ms, timer.number) for timer in restarted.timers.after(0, 0)]
    assert waiting == sorted((NOW_MS + one.due, number) for number, (one, _, _) in model.timers.items())
    assert len(restarted.timers) == len(waiting)
    assert all(place[0] >= restarted.first_needed() for _, _, place in model.timers.values())
    assert sum(restarted.timers.waiting.values()) == sum(one.count for one, _, _ in model.timers.values())
