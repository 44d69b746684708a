"""The lane: what leaves when, and never two of one uin out of order."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phxqueue.producer.batching import Lane, LaneLimits

LIMITS = LaneLimits(items=10, size=1000, delay_s=0.5, eager=1, in_flight=3)


@dataclass
class Waiting:
    number: int
    uin: int
    count: int = 1
    size: int = 10
    arrived: float = 0.0
    void: bool = False


def line_up(lane: Lane[Waiting], *uins: int, first: int = 0, arrived: float = 0.0) -> None:
    for number, uin in enumerate(uins, first):
        lane.add(Waiting(number, uin, arrived=arrived))


def numbers(batch: list[Waiting] | None) -> list[int] | None:
    return None if batch is None else [entry.number for entry in batch]


def test_with_nothing_under_way_a_batch_leaves_at_once() -> None:
    lane: Lane[Waiting] = Lane(LIMITS)
    assert lane.next_batch(0.0) is None
    line_up(lane, 0)
    assert numbers(lane.next_batch(0.0)) == [0]


def test_with_a_batch_under_way_the_next_waits_for_company() -> None:
    lane: Lane[Waiting] = Lane(LIMITS)
    line_up(lane, 0)
    lane.next_batch(0.0)
    line_up(lane, *[0] * 9, first=1)
    assert lane.next_batch(0.1) is None
    assert lane.due_at() == 0.5
    line_up(lane, 0, first=10)
    assert numbers(lane.next_batch(0.1)) == list(range(1, 11)), "ten items are a full batch"


def test_bytes_fill_a_batch_as_well() -> None:
    lane: Lane[Waiting] = Lane(LIMITS)
    line_up(lane, 0)
    lane.next_batch(0.0)
    lane.add(Waiting(1, 0, size=600))
    lane.add(Waiting(2, 0, size=600))
    assert numbers(lane.next_batch(0.0)) == [1]


def test_one_entry_beyond_all_limits_travels_alone() -> None:
    lane: Lane[Waiting] = Lane(LIMITS)
    lane.add(Waiting(0, 0, count=50, size=5000))
    lane.add(Waiting(1, 0))
    assert numbers(lane.next_batch(0.0)) == [0]


def test_waiting_long_enough_is_enough() -> None:
    lane: Lane[Waiting] = Lane(LIMITS)
    line_up(lane, 0)
    lane.next_batch(0.0)
    line_up(lane, 0, first=1, arrived=0.2)
    assert lane.next_batch(0.69) is None
    assert numbers(lane.next_batch(0.7)) == [1]


def test_flush_does_not_wait_and_the_pipeline_is_bounded() -> None:
    lane: Lane[Waiting] = Lane(LIMITS)
    for number in range(3):
        line_up(lane, 0, first=number)
        assert numbers(lane.next_batch(0.0, flush=True)) == [number]
    line_up(lane, 0, first=3)
    assert lane.next_batch(9.0, flush=True) is None
    lane.resolved([Waiting(0, 0)])
    assert numbers(lane.next_batch(0.0, flush=True)) == [3]


def test_a_uin_under_way_holds_up_itself_and_nobody_else() -> None:
    lane: Lane[Waiting] = Lane(LIMITS)
    line_up(lane, 7)
    first = lane.next_batch(0.0)
    line_up(lane, 7, 8, 7, 0, first=1)
    assert numbers(lane.next_batch(0.0, flush=True)) == [2, 4]
    assert lane.next_batch(0.0, flush=True) is None
    assert first is not None
    lane.resolved(first)
    assert numbers(lane.next_batch(0.0)) == [1, 3]


def test_released_uins_leave_first_and_keep_their_rest_behind_them() -> None:
    lane: Lane[Waiting] = Lane(LIMITS)
    line_up(lane, 7)
    first = lane.next_batch(0.0)
    line_up(lane, *[7] * 12, first=1)
    assert lane.next_batch(0.0, flush=True) is None
    assert first is not None
    lane.resolved(first)
    line_up(lane, 7, 9, first=13)
    second = lane.next_batch(0.0, flush=True)
    assert numbers(second) == list(range(1, 11))
    assert numbers(lane.next_batch(0.0, flush=True)) == [14], "9 is free, 7 is not"
    assert second is not None
    lane.resolved(second)
    assert numbers(lane.next_batch(0.0, flush=True)) == [11, 12, 13]


def test_void_entries_vanish_and_are_told_about() -> None:
    lane: Lane[Waiting] = Lane(LIMITS)
    line_up(lane, 7)
    first = lane.next_batch(0.0)
    line_up(lane, 7, 8, 7, first=1)
    assert numbers(lane.next_batch(0.0, flush=True)) == [2]
    dead = Waiting(4, 0, void=True)
    lane.add(dead)
    assert lane.next_batch(0.0, flush=True) is None
    assert lane.voided == [dead]
    assert first is not None
    lane._aside[7][0].void = True
    lane.resolved(first)
    assert numbers(lane.next_batch(0.0)) == [3]
    assert [entry.number for entry in lane.voided] == [4, 1]


def test_expire_and_drain_take_from_everywhere() -> None:
    lane: Lane[Waiting] = Lane(LIMITS)
    line_up(lane, 7)
    first = lane.next_batch(0.0)
    line_up(lane, 7, first=1, arrived=1.0)
    lane.next_batch(1.0, flush=True)
    line_up(lane, 7, 8, 0, first=2, arrived=2.0)
    assert [entry.number for entry in lane.expire(1.5)] == [1]
    assert first is not None
    lane.resolved(first)
    assert sorted(entry.number for entry in lane.drain()) == [2, 3, 4]
    assert lane.empty
    assert lane.next_batch(9.0, flush=True) is None


@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 4))
def test_order_of_a_uin_holds_whatever_happens(seed: int, in_flight: int, eager: int) -> None:
    """Random arrivals, outcomes in any order, expiry, cancelling: per uin, batches leave in order and one at a time."""
    rng = random.Random(seed)
    limits = LaneLimits(
        items=rng.randint(1, 6), size=rng.choice((15, 40, 1000)), delay_s=0.2, eager=eager, in_flight=in_flight
    )
    lane: Lane[Waiting] = Lane(limits)
    under_way: list[list[Waiting]] = []
    left: dict[int, list[int]] = defaultdict(list)
    added: dict[int, list[int]] = defaultdict(list)
    gone: set[int] = set()
    now, number = 0.0, 0
    waiting: list[Waiting] = []

    def check(batch: list[Waiting]) -> None:
        assert batch
        assert len(batch) == 1 or sum(entry.count for entry in batch) <= limits.items
        assert len(batch) == 1 or sum(entry.size for entry in batch) <= limits.size
        busy = {entry.uin for other in under_way for entry in other if entry.uin}
        for entry in batch:
            assert not entry.void
            assert not entry.uin or entry.uin not in busy, "two batches of one uin under way"
            left[entry.uin].append(entry.number)
        under_way.append(batch)
        assert len(under_way) <= in_flight

    for _ in range(150):
        now += rng.random() * 0.1
        action = rng.random()
        if action < 0.5:
            entry = Waiting(number, rng.choice((0, 1, 2, 3)), rng.randint(1, 2), rng.choice((10, 30)), now)
            number += 1
            lane.add(entry)
            waiting.append(entry)
            added[entry.uin].append(entry.number)
        elif action < 0.8:
            while (batch := lane.next_batch(now, flush=rng.random() < 0.3)) is not None:
                check(batch)
        elif action < 0.95 and under_way:
            lane.resolved(under_way.pop(rng.randrange(len(under_way))))
        elif action < 0.97:
            gone.update(entry.number for entry in lane.expire(now - 0.8))
        elif waiting and (entry := rng.choice(waiting)).number not in left[entry.uin]:
            entry.void = True
            gone.add(entry.number)
    while not lane.empty or under_way:
        while (batch := lane.next_batch(now, flush=True)) is not None:
            check(batch)
        if under_way:
            lane.resolved(under_way.pop(rng.randrange(len(under_way))))
    for uin, numbers_left in left.items():
        assert sorted(numbers_left) == [n for n in added[uin] if n not in gone], "every entry leaves exactly once"
        if uin:
            assert numbers_left == sorted(numbers_left)


class Counted(Waiting):
    """Counts how often a lane looks at it (it asks for `void` each time)."""

    looks = 0

    @property
    def void(self) -> bool:
        Counted.looks += 1
        return False

    @void.setter
    def void(self, value: bool) -> None:
        pass


@pytest.mark.parametrize("uin", [0, 7])
def test_a_long_line_costs_each_entry_a_bounded_number_of_looks(uin: int) -> None:
    lane: Lane[Waiting] = Lane(LaneLimits(items=100, size=10**6, delay_s=0.5, eager=1, in_flight=4))
    for number in range(10_000):
        lane.add(Counted(number, uin))
    Counted.looks = 0
    seen: list[int] = []
    under_way: list[list[Waiting]] = []
    while len(seen) < 10_000:
        while (batch := lane.next_batch(0.0, flush=True)) is not None:
            seen += [entry.number for entry in batch]
            under_way.append(batch)
        lane.resolved(under_way.pop())
    assert seen == list(range(10_000))
    assert Counted.looks < 3 * 10_000
