"""What may start next: lanes, gates and batches together."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phxqueue.consumer.lineup import Lineup
from phxqueue.consumer.slots import Slot
from phxqueue.proto.item_pb2 import Meta, QItem


class Tokens:
    """A gate with so many tokens."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def admit(self) -> bool:
        if self.tokens <= 0:
            return False
        self.tokens -= 1
        return True


def slot(cursor: int, uin: int = 0, handle_id: int = 1) -> Slot:
    return Slot(cursor, QItem(meta=Meta(handle_id=handle_id, uin=uin)), uin, 0, 1, 1)


def cursors(slots: list[Slot]) -> list[int]:
    return [each.cursor for each in slots]


def take_all(lineup: Lineup) -> list[list[int]]:
    taken = []
    while lineup.ready():
        taken.append(cursors(lineup.take()))
    return taken


def test_single_items_come_one_by_one_and_a_uin_waits() -> None:
    lineup = Lineup()
    first, second = slot(0, uin=7), slot(1, uin=7)
    for each in (first, second, slot(2)):
        lineup.add(each)
    assert take_all(lineup) == [[0], [2]]
    lineup.done(first)
    assert take_all(lineup) == [[1]]
    with pytest.raises(IndexError):
        lineup.take()


def test_an_item_that_comes_again_comes_before_the_others_of_its_uin() -> None:
    lineup = Lineup()
    first = slot(0, uin=7)
    for each in (first, slot(1, uin=7), slot(2, uin=8)):
        lineup.add(each)
    assert take_all(lineup) == [[0], [2]]
    lineup.again(first)
    assert take_all(lineup) == [[0]]
    lineup.done(first)
    assert take_all(lineup) == [[1]]


def test_a_batch_starts_at_once_when_none_is_at_work_else_when_it_is_full() -> None:
    lineup = Lineup(lambda handle_id: 3 if handle_id == 1 else 0)
    lineup.add(slot(0))
    lineup.add(slot(1))
    lineup.add(slot(2, handle_id=2))
    assert take_all(lineup) == [[2], [0, 1]]
    lineup.add(slot(3))
    assert not lineup.ready(), "it waits for company while another is at work"
    lineup.add(slot(4))
    lineup.add(slot(5))
    lineup.add(slot(6))
    assert take_all(lineup) == [[3, 4, 5]]
    lineup.batch_done(1)
    assert not lineup.ready()
    lineup.batch_done(1)
    assert take_all(lineup) == [[6]]


def test_no_batch_holds_two_items_of_one_uin() -> None:
    lineup = Lineup(lambda handle_id: 10)
    slots = [slot(0, uin=1), slot(1, uin=1), slot(2, uin=2), slot(3), slot(4)]
    for each in slots:
        lineup.add(each)
    assert take_all(lineup) == [[0, 2, 3, 4]]
    lineup.batch_done(1)
    lineup.done(slots[0])
    assert take_all(lineup) == [[1]]


def test_a_gate_holds_back_its_own_items_and_their_uins_only() -> None:
    gate = Tokens(1)
    lineup = Lineup(gate=lambda each: gate if each.message.meta.handle_id == 2 else None)
    for each in (
        slot(0, handle_id=2),
        slot(1, uin=5, handle_id=2),
        slot(2, uin=5),
        slot(3, uin=6),
        slot(4, handle_id=2),
    ):
        lineup.add(each)
    assert take_all(lineup) == [[0], [3]]
    assert lineup.held == 2
    gate.tokens = 5
    assert take_all(lineup) == [[1], [4]]
    assert gate.tokens == 3
    assert lineup.held == 0


def test_what_is_dropped_frees_its_lane() -> None:
    gate = Tokens(0)
    lineup = Lineup(
        lambda handle_id: 5 if handle_id == 3 else 0, lambda each: gate if each.message.meta.handle_id == 2 else None
    )
    everything = [
        slot(0, uin=1, handle_id=2), slot(1, uin=1), slot(2, uin=2, handle_id=3), slot(3, uin=2), slot(4),
        slot(5, uin=1),
    ]  # fmt: skip
    for each in everything:
        lineup.add(each)
    assert lineup.ready()  # item 4 is found already, and not taken
    assert sorted(cursors(lineup.drop(lambda each: each.cursor in (0, 2, 4, 5)))) == [0, 2, 4, 5]
    assert take_all(lineup) == [[1], [3]]
    assert lineup.held == 0


@given(st.integers(0, 2**32))
def test_everything_comes_once_in_the_order_of_its_uin(seed: int) -> None:
    rng = random.Random(seed)
    gates = {1: Tokens(0), 2: Tokens(0)}
    lineup = Lineup(lambda handle_id: (0, 0, 0, 3, 5)[handle_id], lambda each: gates.get(each.message.meta.handle_id))
    at_work: list[list[Slot]] = []
    order: dict[int, list[int]] = defaultdict(list)
    seen: list[int] = []
    for cursor in range(60):
        lineup.add(slot(cursor, uin=rng.randrange(4), handle_id=rng.randint(1, 4)))
    for _ in range(2000):
        rng.choice(list(gates.values())).tokens += rng.randrange(2)
        if rng.random() < 0.6 and lineup.ready():
            job = lineup.take()
            keys = [each.uin for each in job if each.uin]
            busy = [each.uin for other in at_work for each in other]
            assert len(keys) == len(set(keys))
            assert not set(keys) & set(busy)
            at_work.append(job)
        elif at_work:
            job = at_work.pop(rng.randrange(len(at_work)))
            handle_id = job[0].message.meta.handle_id
            if handle_id > 2:
                lineup.batch_done(handle_id)
            for each in job:
                if rng.random() < 0.2:
                    lineup.again(each)
                else:
                    lineup.done(each)
                    seen.append(each.cursor)
                    order[each.uin].append(each.cursor)
        if len(seen) == 60:
            break
    assert sorted(seen) == list(range(60))
    assert all(numbers == sorted(numbers) for uin, numbers in order.items() if uin)
