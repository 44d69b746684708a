"""The window: what is finished without a gap, and what every acknowledgement says."""

from __future__ import annotations

import random
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from phxqueue.consumer.cursor_window import Ack, CursorWindow


@dataclass(eq=False)
class Fetched:
    cursor: int
    digest: int = 1
    count: int = 1
    finished: bool = False


def test_only_a_prefix_without_gap_is_acknowledged() -> None:
    window: CursorWindow[Fetched] = CursorWindow(10)
    items = [Fetched(cursor, digest=cursor) for cursor in (10, 11, 13)]
    window.extend(items, 15)
    assert (window.position, window.end, len(window)) == (10, 15, 3)
    window.finish(items[1])
    assert not window.to_acknowledge
    assert window.take_ack() is None
    window.finish(items[0])
    assert window.position == 13, "12 is for other groups"
    assert window.take_ack() == Ack(10, 13, count=2, digest_sum=21)
    assert window.take_ack() is None
    window.finish(items[2])
    assert window.take_ack() == Ack(13, 15, count=1, digest_sum=13), "the invisible end belongs to it"


def test_an_answer_without_items_for_this_group_is_acknowledged_too() -> None:
    window: CursorWindow[Fetched] = CursorWindow(0)
    window.extend((), 7)
    assert window.take_ack() == Ack(0, 7, 0, 0)


def test_an_acknowledgement_that_got_lost_is_part_of_the_next() -> None:
    window: CursorWindow[Fetched] = CursorWindow(0)
    items = [Fetched(cursor, digest=2**63) for cursor in range(4)]
    window.extend(items, 4)
    window.finish(items[0])
    window.finish(items[1])
    first = window.take_ack()
    assert first == Ack(0, 2, 2, 0), "sums are modulo 2^64"
    window.finish(items[2])
    window.give_back(first)
    assert window.take_ack() == Ack(0, 3, 3, 2**63)


def test_a_lost_acknowledgement_that_a_later_one_covers_is_not_repeated() -> None:
    window: CursorWindow[Fetched] = CursorWindow(0)
    items = [Fetched(cursor) for cursor in range(3)]
    window.extend(items, 3)
    window.finish(items[0])
    first = window.take_ack()
    window.finish(items[1])
    second = window.take_ack()
    assert first is not None
    assert second is not None
    window.confirm(second)
    window.give_back(first)
    assert window.confirmed == 2
    assert not window.to_acknowledge
    window.finish(items[2])
    assert window.take_ack() == Ack(2, 3, 1, 1)


def test_advance_forgets_what_others_acknowledged() -> None:
    window: CursorWindow[Fetched] = CursorWindow(0)
    items = [Fetched(cursor) for cursor in range(6)]
    window.extend(items, 6)
    window.finish(items[1])
    assert window.advance(3) == [items[0], items[2]]
    assert (window.position, window.confirmed) == (3, 3)
    window.finish(items[0])  # came to an end after all
    window.finish(items[3])
    assert window.take_ack() == Ack(3, 4, 1, 1)
    assert window.advance(100) == [items[4], items[5]]
    assert (window.position, window.end) == (100, 100)


@given(st.integers(0, 2**32))
def test_acknowledgements_that_went_through_cover_each_item_exactly_once(seed: int) -> None:
    """Items finish in any order, acknowledgements are lost or not: those the store took are gap-free and add up."""
    rng = random.Random(seed)
    window: CursorWindow[Fetched] = CursorWindow(5)
    everything: list[Fetched] = []
    at_work: list[Fetched] = []
    acked, finished_before = 5, 0
    taken: list[Ack] = []
    end = 5
    for _ in range(100):
        action = rng.random()
        if action < 0.3:
            batch = []
            for _ in range(rng.randint(0, 4)):
                end += rng.randint(0, 2)
                batch.append(Fetched(end, rng.getrandbits(64)))
                end += 1
            window.extend(batch, end)
            everything += batch
            at_work += batch
        elif action < 0.8 and at_work:
            window.finish(at_work.pop(rng.randrange(len(at_work))))
        else:
            ack = window.take_ack()
            if ack is None:
                continue
            assert ack.start == acked
            assert all(item.finished for item in everything if item.cursor < ack.stop)
            if rng.random() < 0.6:
                window.confirm(ack)
                taken.append(ack)
                acked = ack.stop
            else:
                window.give_back(ack)
    for item in at_work:
        window.finish(item)
    last = window.take_ack()
    if last is not None:
        taken.append(last)
    assert sum(ack.count for ack in taken) == len(everything) - finished_before
    assert sum(ack.digest_sum for ack in taken) % 2**64 == sum(item.digest for item in everything) % 2**64
    assert window.position == end
    assert len(window) == 0
