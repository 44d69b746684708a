"""Old items are written again at the end of the log: the same items, cursors, order and digests, in another place."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import NamedTuple

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from phxqueue.config import StoreLimits
from phxqueue.proto.item_pb2 import ItemBatch, QItem, QItems
from phxqueue.proto.store_pb2 import QueueTrim, Relocation, StoreCommand
from phxqueue.store.entries import ParsedEntry
from phxqueue.store.queues import StoreQueues
from phxqueue.store.relocation import RELOCATION_VERSION, Pin, RelocationBounds, plan
from tests.conftest import LoggedErrors
from tests.store.fakes import NOW_MS, VALUE, StoreUnderTest, batch, command, move

BOUNDS = RelocationBounds(log_bytes=1000, command_bytes=1000, item_bytes=5000)
LATER = NOW_MS + 3_600_000


def items(name: str, count: int = 1) -> bytes:
    return QItems(items=[QItem(buffer=b"%s/%d" % (name.encode(), n)) for n in range(count)]).SerializeToString()


class Log:
    """A state machine with its log, and what a reader finds in it."""

    def __init__(self) -> None:
        self.machine = StoreQueues(segment_rows=4)
        self.entries: list[bytes] = []

    def append(self, payload: bytes) -> int:
        instance = len(self.entries)
        self.entries.append(payload)
        self.machine.apply(instance, VALUE, payload)
        return instance

    def add(self, *batches: ItemBatch) -> int:
        return self.append(command(*batches, version=3))

    def contents(self, queue_id: int = 1) -> list[tuple[int, bytes]]:
        """Every item that the index leads to, with its cursor."""
        index = self.machine.queues[queue_id]
        found = []
        for row in range(len(index)):
            instance = index.instances[row]
            entry = ParsedEntry(self.entries[instance], self.machine.refused.get(instance, ()))
            for stored in entry.of_row(index, row):
                buffers = [item.buffer for item in QItems.FromString(stored.items).items]
                found += list(enumerate(buffers, index.firsts[row] + stored.offset))
        return found

    def relocate(self, pins: list[Pin]) -> int:
        return self.append(self.relocation(pins))

    def relocation(self, pins: list[Pin]) -> bytes:
        made = StoreCommand(version=RELOCATION_VERSION, timestamp_ms=NOW_MS)
        for pin in pins:
            entry = ParsedEntry(self.entries[pin.instance], self.machine.refused.get(pin.instance, ()))
            if pin.timer_number or pin.half_number:
                found = entry.referenced(pin.ordinal, 1)
            else:
                index = self.machine.queues[pin.queue_id]
                row = index.row_at(pin.first_cursor)
                assert row is not None
                found = entry.of_row(index, row)
            made.relocations.add(
                queue_id=pin.queue_id, first_cursor=pin.first_cursor, deliver_at_ms=pin.deliver_at_ms,
                timer_number=pin.timer_number, half_number=pin.half_number, instance=pin.instance,
                first_batch=len(made.relocated), batches=len(found),
            )  # fmt: skip
            made.relocated.extend(stored.batch for stored in found)
        return made.SerializeToString()

    def restored(self) -> StoreQueues:
        """What a node has that starts from a checkpoint made now, with the segments of all checkpoints before."""
        checkpoint = self.machine.checkpoint()
        self.segments = {**getattr(self, "segments", {}), **dict(checkpoint.segments)}
        for key in checkpoint.dropped:
            self.segments.pop(key, None)
        made = StoreQueues(segment_rows=4)
        made.restore(checkpoint.state, self.segments.items())
        return made


def plan_all(log: Log) -> list[Pin]:
    """Everything that is in use, as far as it lies in the older part of the log."""
    return plan(log.machine, 1e9, RelocationBounds(log_bytes=1, command_bytes=1 << 30, item_bytes=1 << 30))


def pinned_log() -> Log:
    """One item that nobody reads, one delayed batch, and a hundred entries that are done with."""
    log = Log()
    log.add(batch(1, 3, items=items("stuck", 3)), batch(2, 1, items=items("other")), batch(1, 1, items=items("too")))
    log.add(batch(1, 2, items=items("late", 2), deliver_at_ms=LATER))
    for number in range(100):
        log.add(batch(2, 1, items=items(f"done {number}") + bytes(0)))
    log.append(command(moves=[move(2, 1, 101), move(2, 2, 101)], version=3))
    log.append(
        StoreCommand(version=2, timestamp_ms=NOW_MS, trims=[{"queue_id": 2, "first_cursor": 101}]).SerializeToString()
    )
    return log


def test_the_log_is_free_again_and_everything_is_where_it_was() -> None:
    log = pinned_log()
    before, digests = log.contents(), list(log.machine.queues[1].digests)
    assert log.machine.first_needed() == 0
    at = log.relocate(plan_all(log))
    assert log.machine.first_needed() == at
    assert log.contents() == before
    assert list(log.machine.queues[1].digests) == digests
    log.append(StoreCommand(version=3, timestamp_ms=NOW_MS, fire={"due_ms": LATER, "most": 9}).SerializeToString())
    assert [buffer for _, buffer in log.contents()][-2:] == [b"late/0", b"late/1"]
    assert log.machine.queues[1].end_cursor == 6


def test_sealed_rows_are_found_in_their_new_place_after_a_restart() -> None:
    log = Log()
    for number in range(10):
        log.add(batch(1, 1, items=items(f"old {number}")))
    log.add(batch(1, 1, items=items("late"), deliver_at_ms=LATER))
    log.restored()  # the first rows are in sealed segments now
    for number in range(200):
        log.add(batch(2, 1, items=items(f"{number}")))
    log.relocate(plan_all(log))
    restored = log.restored()
    assert restored.state_hash() == log.machine.state_hash()
    assert restored.first_needed() == log.machine.first_needed() > 0
    assert restored.timers.lowest_instance == log.machine.timers.lowest_instance == log.machine.applied
    log.machine = restored
    assert [buffer for _, buffer in log.contents()] == [b"old %d/0" % number for number in range(10)]


def test_the_hash_tells_where_things_are() -> None:
    one, other = pinned_log(), pinned_log()
    one.relocate(plan_all(one))
    other.append(StoreCommand(version=RELOCATION_VERSION, timestamp_ms=NOW_MS).SerializeToString())
    assert one.machine.state_hash() != other.machine.state_hash()


def test_what_has_moved_or_gone_is_left_alone() -> None:
    log = pinned_log()
    pins = plan_all(log)
    payload = log.relocation(pins)
    first = log.append(payload)
    log.append(payload)  # it names where they no longer are
    assert log.machine.first_needed() == first
    log = pinned_log()
    pins = plan_all(log)
    log.append(command(cancels=[(LATER, 1)], version=3))
    log.append(command(moves=[move(1, 1, 4), move(1, 2, 4)], version=3))
    log.append(
        StoreCommand(version=2, timestamp_ms=NOW_MS, trims=[{"queue_id": 1, "first_cursor": 4}]).SerializeToString()
    )
    before = log.machine.first_needed()
    made = StoreCommand(version=RELOCATION_VERSION, timestamp_ms=NOW_MS)
    for pin in pins:
        made.relocations.add(
            queue_id=pin.queue_id, first_cursor=pin.first_cursor, deliver_at_ms=pin.deliver_at_ms,
            timer_number=pin.timer_number, instance=pin.instance, batches=1,
        )  # fmt: skip
    made.relocations.append(Relocation(queue_id=99, instance=1))
    log.append(made.SerializeToString())
    assert log.machine.first_needed() == before + 1 == log.machine.applied + 1


def test_a_command_of_an_older_version_moves_nothing() -> None:
    log = pinned_log()
    made = StoreCommand(version=RELOCATION_VERSION - 1, timestamp_ms=NOW_MS)
    made.relocations.add(queue_id=1, first_cursor=0, instance=0, batches=1)
    log.append(made.SerializeToString())
    assert log.machine.first_needed() == 0


def test_the_plan_begins_with_the_oldest_and_keeps_its_bounds() -> None:
    log = Log()
    for number in range(100):
        log.add(batch(1, 1, items=bytes(300)), batch(2, 1, items=bytes(50 if number else 6000)))
    for _ in range(900):
        log.append(command(version=3))
    pins = plan(log.machine, 1000.0, BOUNDS)
    assert [(pin.instance, pin.queue_id) for pin in pins] == [(0, 1), (1, 1), (1, 2), (2, 1), (2, 2)]
    assert plan(log.machine, 0.9, BOUNDS) == [], "little is kept"
    assert plan(log.machine, 70.0, BOUNDS) == [], "more than half of it is in use"


class Found(NamedTuple):
    """An item as the index leads to it."""

    buffer: bytes
    mask: int
    timestamp_ms: int


def digest_of(buffers: Iterable[bytes]) -> int:
    return sum(map(xxhash.xxh3_64_intdigest, buffers)) % (1 << 64)


def found_in(log: Log, queue_id: int) -> dict[int, Found]:
    """Every item by its cursor; what the index says of a row is what its items say."""
    index = log.machine.queues[queue_id]
    buffers = dict(log.contents(queue_id))
    found = {}
    for row in range(len(index)):
        cursors = range(index.firsts[row], index.row_end(row))
        inside = [buffers.pop(cursor) for cursor in cursors]
        assert index.row_digest(row) == digest_of(inside)
        assert index.sizes[row] == len(QItems(items=[QItem(buffer=one) for one in inside]).SerializeToString())
        for cursor, buffer in zip(cursors, inside, strict=True):
            found[cursor] = Found(buffer, index.masks[row], index.timestamps[row])
    assert not buffers
    return found


class Two:
    """The same commands in two logs; of one of them, old items are written again now and then."""

    def __init__(self, random: Random) -> None:
        self.plain, self.cleaned = Log(), Log()
        self._random = random
        self._acked = dict.fromkeys((1, 2, 3), 0)
        self._now_ms = NOW_MS

    def both(self, payload: StoreCommand) -> None:
        self._now_ms += self._random.randint(0, 2)
        payload.timestamp_ms = self._now_ms
        for log in (self.plain, self.cleaned):
            log.append(payload.SerializeToString())

    def add(self, step: int) -> None:
        random, batches = self._random, []
        for part in range(random.randint(1, 3)):
            due = NOW_MS + random.randint(0, 50) if random.random() < 0.3 else 0
            count = random.randint(1, 3)
            written = items(f"{step}.{part}", count)
            batches.append(
                batch(random.randint(1, 3), count, items=written, deliver_at_ms=due,
                      digest=digest_of(item.buffer for item in QItems.FromString(written).items),
                      mask=random.choice((1, 2, 3)), producer_id=7, sequence=random.choice((0, step + 1)))
            )  # fmt: skip
        self.both(StoreCommand(version=3, batches=batches))

    def fire(self, step: int) -> None:
        due, most = NOW_MS + self._random.randint(0, 60), self._random.randint(1, 4)
        self.both(StoreCommand(version=3, fire={"due_ms": due, "most": most}))

    def trim(self, step: int) -> None:
        queue_id = self._random.randint(1, 3)
        end = self.plain.machine.end_cursor(queue_id)
        acked = self._acked[queue_id] = self._random.randint(self._acked[queue_id], end)
        moves = [move(queue_id, group, acked) for group in (1, 2)]
        self.both(StoreCommand(version=2, cursor_moves=moves, trims=[{"queue_id": queue_id, "first_cursor": acked}]))

    def relocate(self, step: int) -> None:
        self.cleaned.relocate(plan_all(self.cleaned))
        self.plain.append(StoreCommand(version=RELOCATION_VERSION, timestamp_ms=NOW_MS).SerializeToString())

    def restart(self, step: int) -> None:
        self.cleaned.machine = self.cleaned.restored()

    def check(self, queue_id: int) -> None:
        """Items are compared and not rows: what is due together is one row if it stands side by side, and batches that
        did may be apart when they were written again, or the other way round. Rows are what is trimmed, so what is
        there of a row that is acknowledged in part may differ.
        """
        one, other = found_in(self.plain, queue_id), found_in(self.cleaned, queue_id)
        acked, end = self._acked[queue_id], self.plain.machine.end_cursor(queue_id)
        assert {*range(acked, end)} <= one.keys() & other.keys()
        assert all(one[cursor] == other[cursor] for cursor in one.keys() & other.keys())
        indexes = [log.machine.queues[queue_id] for log in (self.plain, self.cleaned)]
        assert len({(index.end_cursor, index.end_digest) for index in indexes}) == 1


def compare_with_and_without(seed: int) -> None:
    random = Random(seed)
    two = Two(random)
    actions = [Two.add] * 10 + [Two.fire] * 3 + [Two.trim] * 3 + [Two.relocate] * 2 + [Two.restart] * 2
    for step in range(60):
        random.choice(actions)(two, step)
    for queue_id in two.plain.machine.queues:
        two.check(queue_id)
    assert two.cleaned.machine.first_needed() >= two.plain.machine.first_needed()


@given(st.integers(0, 2**32))
def test_whatever_happens_between_readers_find_the_same(seed: int) -> None:
    compare_with_and_without(seed)


def test_what_was_apart_is_one_row_when_it_was_written_again() -> None:
    plain, cleaned = Log(), Log()
    for log in (plain, cleaned):
        for name in ("one", "two"):
            log.add(batch(1, 1, items=items(name), deliver_at_ms=LATER, digest=digest_of([f"{name}/0".encode()])))
        for number in range(10):
            log.add(batch(2, 1, items=items(f"{number}"), digest=digest_of([b"%d/0" % number])))
    cleaned.relocate(plan_all(cleaned))
    plain.append(StoreCommand(version=RELOCATION_VERSION, timestamp_ms=NOW_MS).SerializeToString())
    for log in (plain, cleaned):
        log.append(StoreCommand(version=3, timestamp_ms=NOW_MS, fire={"due_ms": LATER, "most": 9}).SerializeToString())
        trim = QueueTrim(queue_id=1, first_cursor=1)
        log.append(command(moves=[move(1, 1, 1), move(1, 2, 1)], trims=[trim], version=3))
    assert [len(log.machine.queues[1]) for log in (plain, cleaned)] == [1, 1]
    assert sorted(found_in(plain, 1)) == [1]
    assert sorted(found_in(cleaned, 1)) == [0, 1], "half of a row is not trimmed"
    assert found_in(plain, 1)[1] == found_in(cleaned, 1)[1]


# ---- the master's side ----------------------------------------------------------------------------------


def store(**kwargs: object) -> StoreUnderTest:
    made = StoreUnderTest(StoreLimits(relocate_bytes=1 << 16), **kwargs)  # type: ignore[arg-type]
    made.added(batch(1, 1, items=items("stuck"), mask=1))
    for _ in range(20):
        made.added(batch(3, 1, items=bytes(10_000), mask=1))
    made.group.append(command(moves=[move(3, 1, 20)], version=3))
    trim = {"queue_id": 3, "first_cursor": 20}
    made.group.append(StoreCommand(version=2, timestamp_ms=NOW_MS, trims=[trim]).SerializeToString())
    return made


def first_needed(made: StoreUnderTest) -> int:
    return int(made.group.state_machine.first_needed())


def test_a_master_writes_again_what_keeps_the_log() -> None:
    made = store()
    assert first_needed(made) == 0
    made.clock.advance(1.1)
    assert first_needed(made) == 23
    answer = made.get(1, 1).answer
    assert [item.buffer for one in answer.batches for item in QItems.FromString(one.items).items] == [b"stuck/0"]
    length = len(made.group.log)
    made.clock.advance(60.0)
    assert len(made.group.log) == length, "once is enough"


def test_what_is_on_disk_only_is_read() -> None:
    made = store()
    made.service._groups[0].reading.parsed._entries.clear()
    made.group.uncached.add(0)
    made.clock.advance(1.1)
    assert first_needed(made) == 0
    made.group.finish_read()
    assert first_needed(made) == 23


def test_what_went_while_it_was_read_stays_gone() -> None:
    made = store()
    made.service._groups[0].reading.parsed._entries.clear()
    made.group.uncached.add(0)
    made.clock.advance(1.1)
    made.group.append(command(moves=[move(1, 1, 1)], version=3))
    trim = {"queue_id": 1, "first_cursor": 1}
    made.group.append(StoreCommand(version=2, timestamp_ms=NOW_MS, trims=[trim]).SerializeToString())
    made.group.finish_read()
    assert first_needed(made) == len(made.group.log) == 25


def test_a_checkpoint_of_another_member_may_take_the_place_of_the_state_meanwhile(logged_errors: LoggedErrors) -> None:
    made = store()
    made.service._groups[0].reading.parsed._entries.clear()
    made.group.uncached.add(0)
    made.clock.advance(1.1)
    other = StoreUnderTest()
    other.added(batch(2, 1, items=items("other"), mask=1))
    taken = other.group.state_machine.checkpoint()
    made.group.state_machine.restore(taken.state, taken.segments)
    made.group.finish_read()
    assert logged_errors.flush() == []


@pytest.mark.parametrize("reason", ["an old member", "no master"])
def test_nothing_is_proposed_by_whom_it_must_not_be(reason: str) -> None:
    made = store()
    if reason == "an old member":
        made.group.lowest_version = RELOCATION_VERSION - 1
    else:
        made.group.master = 1
    made.clock.advance(5.0)
    assert first_needed(made) == 0


def test_only_one_at_a_time() -> None:
    made = store(auto=True)
    made.group.auto = False
    made.clock.advance(5.0)
    assert len(made.group.proposed) == 1
    outcome: Deferred[object] = made.group.proposed[0][1]
    made.group.choose()
    assert outcome.called
