"""Lanes: equal uin one after another, in order; everybody else side by side."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phxqueue.consumer.lanes import Lanes


def take_all(lanes: Lanes[str]) -> list[str]:
    taken = []
    while lanes.ready:
        taken.append(lanes.take())
    return taken


def test_equal_uins_wait_for_each_other_and_uin_0_for_nobody() -> None:
    lanes: Lanes[str] = Lanes()
    for uin, item in ((1, "a1"), (1, "a2"), (0, "x"), (2, "b1"), (0, "y"), (1, "a3")):
        lanes.add(uin, item)
    assert take_all(lanes) == ["a1", "x", "b1", "y"]
    lanes.done(0)
    lanes.done(2)
    assert take_all(lanes) == []
    lanes.done(1)
    assert take_all(lanes) == ["a2"]
    lanes.add(2, "b2")
    assert take_all(lanes) == ["b2"], "its lane was empty"
    lanes.done(1)
    assert take_all(lanes) == ["a3"]
    with pytest.raises(IndexError):
        lanes.take()


def test_drop_takes_what_is_not_in_work_and_keeps_the_order_of_the_rest() -> None:
    lanes: Lanes[str] = Lanes()
    for uin, item in ((1, "a1"), (1, "a2-"), (1, "a3"), (2, "b1-"), (2, "b2"), (0, "x-"), (0, "y")):
        lanes.add(uin, item)
    assert lanes.take() == "a1"
    assert sorted(lanes.drop(lambda item: item.endswith("-"))) == ["a2-", "b1-", "x-"]
    assert sorted(take_all(lanes)) == ["b2", "y"]
    lanes.done(1)
    assert take_all(lanes) == ["a3"]


@given(st.integers(0, 2**32))
def test_never_two_of_a_uin_at_once_and_always_in_order(seed: int) -> None:
    rng = random.Random(seed)
    lanes: Lanes[tuple[int, int]] = Lanes()
    at_work: list[tuple[int, int]] = []
    started: dict[int, list[int]] = defaultdict(list)
    added: dict[int, list[int]] = defaultdict(list)
    for number in range(200):
        if rng.random() < 0.5:
            uin = rng.choice((0, 1, 2, 3))
            lanes.add(uin, (uin, number))
            added[uin].append(number)
        if lanes.ready and rng.random() < 0.6:
            item = lanes.take()
            assert not item[0] or item[0] not in [uin for uin, _ in at_work]
            started[item[0]].append(item[1])
            at_work.append(item)
        if at_work and rng.random() < 0.5:
            lanes.done(at_work.pop(rng.randrange(len(at_work)))[0])
        if rng.random() < 0.03:
            for uin, dropped in lanes.drop(lambda item: item[1] % 3 == 0):
                added[uin].remove(dropped)
    while lanes.ready or at_work:
        if lanes.ready:
            item = lanes.take()
            started[item[0]].append(item[1])
            at_work.append(item)
        else:
            lanes.done(at_work.pop()[0])
    assert started == {uin: numbers for uin, numbers in added.items() if numbers}
