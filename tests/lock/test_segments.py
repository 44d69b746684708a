"""Checkpoints of a lock table in pieces: each writes what is new, and all together say what the table says."""

from __future__ import annotations

import random

import pytest

from phxqueue.lock import segments
from phxqueue.lock.snapshot import CorruptState, encode_state
from phxqueue.lock.table import LockTable
from phxqueue.proto.lock_pb2 import LockCommand, LockOperation
from phxqueue.replica.interfaces import Checkpoint
from phxqueue.replica.portions import at_once

KINDS = LockOperation.Kind


class Node:
    """A table with what its checkpoints have stored."""

    def __init__(self) -> None:
        self.table = LockTable()
        self.stored: dict[bytes, bytes] = {}
        self.do(LockOperation(kind=KINDS.NONE), begins_term=True)

    def do(self, *operations: LockOperation, begins_term: bool = False) -> None:
        command = LockCommand(version=1, operations=operations, term=self.table.term, begins_term=begins_term)
        self.table.apply(self.table.applied + 1, 0, command.SerializeToString())

    def checkpoint(self) -> Checkpoint:
        made = self.table.checkpoint()
        for key, blob in made.segments:
            assert key not in self.stored
            self.stored[key] = blob
        for key in made.dropped:
            del self.stored[key]
        return made

    def restarted(self) -> LockTable:
        table = LockTable()
        table.restore(self.checkpoint().state, self.stored.items())
        return table


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that are met soon."""
    monkeypatch.setattr(segments, "SEALED_KEYS", 8)
    monkeypatch.setattr(segments, "SEALED_BYTES", 2000)
    monkeypatch.setattr(segments, "SPARE_RECORDS", 20)
    monkeypatch.setattr(segments, "SPARE_SEGMENTS", 4)


def acquire(name: str) -> LockOperation:
    return LockOperation(kind=KINDS.ACQUIRE, key=name, client_id="me", lease_ms=1000)


def write(key: str, value: bytes) -> LockOperation:
    return LockOperation(kind=KINDS.SET, key=key, value=value)


def test_a_checkpoint_writes_what_is_new() -> None:
    node = Node()
    node.do(*(acquire(f"lock {number}") for number in range(100)))
    assert sum(len(blob) for _, blob in node.checkpoint().segments) > 4000
    node.do(acquire("one more"))
    [(_, blob)] = node.checkpoint().segments
    assert len(blob) < 100
    assert node.checkpoint().segments == []
    assert node.restarted().locks == node.table.locks


def test_what_is_gone_stays_gone() -> None:
    node = Node()
    node.do(acquire("a"), write("a", b"x"))
    node.checkpoint()
    node.do(LockOperation(kind=KINDS.RELEASE, key="a", force=True))
    node.checkpoint()
    assert (node.restarted().locks, len(node.restarted().strings)) == ({}, 1)
    node.do(LockOperation(kind=KINDS.DELETE, key="a"))
    assert len(node.restarted()) == 0


def test_much_is_sealed_between_checkpoints_too_in_pieces() -> None:
    node = Node()
    for number in range(50):
        node.do(acquire(f"lock {number}"))
    made = node.checkpoint()
    assert len(made.segments) >= 6
    assert max(len(blob) for _, blob in made.segments) < 1000
    node.do(*(write(f"string {number}", bytes(1500)) for number in range(10)))
    assert max(len(blob) for _, blob in node.checkpoint().segments) < 3 * 2000 + 1500
    assert node.restarted().strings == node.table.strings


@pytest.mark.parametrize("seed", range(20))
def test_whatever_changes_a_restart_finds_it_all_and_old_segments_go(seed: int) -> None:
    random_ = random.Random(seed)
    node = Node()
    keys = [f"key {number}" for number in range(random_.choice((3, 40, 200)))]
    hot = keys[:3]
    for _ in range(300):
        operations = []
        for _ in range(random_.randrange(1, 6)):
            key = random_.choice(hot if random_.random() < 0.7 else keys)
            kind = random_.choice((KINDS.ACQUIRE, KINDS.RELEASE, KINDS.SET, KINDS.DELETE))
            value = bytes(random_.randrange(20))
            operations.append(LockOperation(kind=kind, key=key, client_id="me", value=value, force=True, lease_ms=1))
        node.do(*operations)
        if random_.random() < 0.3:
            node.checkpoint()
        if random_.random() < 0.05:
            restarted = node.restarted()
            assert restarted.state_hash() == node.table.state_hash()
            node.table = restarted
    restarted = node.restarted()
    assert (restarted.locks, restarted.strings) == (node.table.locks, node.table.strings)
    live = len(node.table)
    assert len(node.stored) <= 2 * (4 + 2 * live // 8) + 2
    assert records(node) <= 2 * (2 * live + 20)


def records(node: Node) -> int:
    """In all segments together."""
    numbers = sorted(int.from_bytes(key, "big") for key in node.stored)
    sealed = at_once(segments.reading_segments(numbers, node.stored.items(), {}, {}))
    return sum(len(one.keys) for one in sealed)


def test_a_segment_that_is_damaged_or_missing_is_noticed() -> None:
    node = Node()
    node.do(*(acquire(f"lock {number}") for number in range(20)))
    state = node.checkpoint().state
    for key, blob in list(node.stored.items()):
        for wrong in (blob[:-1], blob[:20] + bytes([blob[20] ^ 1]) + blob[21:], b""):
            with pytest.raises(CorruptState, match="checksum"):
                LockTable().restore(state, {**node.stored, key: wrong}.items())
        with pytest.raises(CorruptState, match="1 are missing"):
            LockTable().restore(state, [item for item in node.stored.items() if item[0] != key])
    first, second, *_ = node.stored
    with pytest.raises(CorruptState, match="says that it is segment"):
        LockTable().restore(state, {**node.stored, first: node.stored[second]}.items())


def test_later_segments_than_those_of_the_checkpoint_do_not_count() -> None:
    node = Node()
    node.do(acquire("a"))
    state, before = node.checkpoint().state, dict(node.table.locks)
    node.do(acquire("b"))
    node.checkpoint()
    table = LockTable()
    table.restore(state, node.stored.items())
    assert table.locks == before


def test_a_checkpoint_that_is_restored_in_portions_takes_the_place_of_all_at_once() -> None:
    node, other = Node(), Node()
    node.do(*(acquire(f"lock {number}") for number in range(40)), write("s", b"x"))
    state = node.checkpoint().state
    other.do(acquire("its own"))
    other.checkpoint()
    other.table.watch()
    work = other.table.restoring(state, node.stored.items())
    for _ in node.stored:
        next(work)
    other.do(acquire("meanwhile"))
    put_in_place = at_once(work)
    assert [*other.table.locks] == ["its own", "meanwhile"]
    seen = other.table.locks
    left = put_in_place()
    assert other.table.state_hash() == node.table.state_hash()
    assert (other.table.size, other.table.take_changed()) == (node.table.size, {})
    at_once(left)
    assert other.table.state_hash() == node.table.state_hash()
    assert not seen
    assert other.table.checkpoint() == node.table.checkpoint()


def test_a_damaged_checkpoint_changes_nothing() -> None:
    node, other = Node(), Node()
    node.do(*(acquire(f"lock {number}") for number in range(40)))
    state = node.checkpoint().state
    first = min(node.stored)  # it is read last
    other.do(acquire("its own"))
    before = other.table.state_hash()
    work = other.table.restoring(state, {**node.stored, first: node.stored[first][:-1]}.items())
    with pytest.raises(CorruptState, match="checksum"):
        at_once(work)
    assert other.table.state_hash() == before


def test_the_checkpoint_of_an_older_version_is_read_and_the_next_one_is_in_pieces() -> None:
    node = Node()
    node.do(*(acquire(f"lock {number}") for number in range(20)), write("s", b"x"))
    table = LockTable()
    table.restore(encode_state(node.table._state()))
    assert table.state_hash() == node.table.state_hash()
    made = table.checkpoint()
    assert len(made.segments) == 2
    again = LockTable()
    again.restore(made.state, made.segments)
    assert again.state_hash() == node.table.state_hash()
