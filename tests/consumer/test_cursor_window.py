"""The window: what is finished without a gap, and what every acknowledgement says."""

from __future__ import annotations

import random
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from phxqueue.consumer.claims import Ack, Claims
from phxqueue.consumer.cursor_window import CursorWindow
from phxqueue.proto.digest import Claim


@dataclass(eq=False)
class Fetched:
    cursor: int
    digest: int = 1
    count: int = 1
    finished: bool = False
    passed: int = 0


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
    first, second = Claim(10, 13, count=2, digest_sum=21), Claim(13, 15, count=1, digest_sum=13)
    assert window.take_ack() == Ack(13, (first,))
    assert window.take_ack() is None
    window.finish(items[2])
    assert window.take_ack() == Ack(15, (first, second)), "the invisible end belongs to it"


def test_an_answer_without_items_for_this_group_is_acknowledged_too() -> None:
    window: CursorWindow[Fetched] = CursorWindow(0)
    window.extend((), 7)
    assert window.take_ack() == Ack(7, (Claim(0, 7, 0, 0),))


def test_an_acknowledgement_that_got_lost_is_part_of_the_next() -> None:
    window: CursorWindow[Fetched] = CursorWindow(0)
    items = [Fetched(cursor, digest=2**63) for cursor in range(4)]
    window.extend(items, 4)
    window.finish(items[0])
    window.finish(items[1])
    first = window.take_ack()
    assert first == Ack(2, (Claim(0, 2, 2, 0),)), "sums are modulo 2^64"
    window.give_back(first)
    assert window.to_acknowledge
    assert window.take_ack() == first
    window.finish(items[2])
    window.give_back(first)
    assert window.take_ack() == Ack(3, (*first.claims, Claim(2, 3, 1, 2**63)))


def test_claims_are_repeated_until_the_store_has_them_for_good() -> None:
    window: CursorWindow[Fetched] = CursorWindow(0)
    items = [Fetched(cursor) for cursor in range(4)]
    window.extend(items, 4)
    acks = []
    for item in items[:3]:
        window.finish(item)
        ack = window.take_ack()
        assert ack is not None
        window.confirm(ack)
        acks.append(ack)
        window.told(acked=ack.stop, durable=1)
    assert [len(ack.claims) for ack in acks] == [1, 1, 2]
    window.told(acked=3, durable=3)
    window.finish(items[3])
    assert window.take_ack() == Ack(4, (Claim(3, 4, 1, 1),))


def test_a_new_master_that_missed_acknowledgements_gets_them_again() -> None:
    window: CursorWindow[Fetched] = CursorWindow(0)
    window.extend([Fetched(0)], 1)
    window.finish(window._items[0])
    ack = window.take_ack()
    assert ack is not None
    window.confirm(ack)
    window.told(acked=1, durable=0)
    assert not window.to_acknowledge
    window.told(acked=0, durable=0)
    assert window.to_acknowledge
    assert window.take_ack() == ack
    assert window.take_ack() is None
    window.give_back(ack)
    assert window.take_ack() == ack, "nor has it heard of this one, for all we know"


def test_many_claims_become_fewer_and_still_add_up() -> None:
    window: CursorWindow[Fetched] = CursorWindow(0)
    items = [Fetched(cursor, digest=2**62) for cursor in range(200)]
    window.extend(items, 200)
    for item in items:
        window.finish(item)
        ack = window.take_ack()
    assert ack is not None
    assert len(ack.claims) == Claims.MOST
    assert [claim.start for claim in ack.claims] == [0, *(claim.stop for claim in ack.claims[:-1])]
    assert sum(claim.count for claim in ack.claims) == 200
    assert sum(claim.digest_sum for claim in ack.claims) % 2**64 == 200 * 2**62 % 2**64


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
    window.told(acked=2, durable=2)
    window.finish(items[2])
    assert window.take_ack() == Ack(3, (Claim(2, 3, 1, 1),))


def test_advance_forgets_what_others_acknowledged() -> None:
    window: CursorWindow[Fetched] = CursorWindow(0)
    items = [Fetched(cursor) for cursor in range(6)]
    window.extend(items, 6)
    window.finish(items[1])
    assert window.advance(3) == [items[0], items[2]]
    assert (window.position, window.confirmed) == (3, 3)
    window.finish(items[0])  # came to an end after all
    window.finish(items[3])
    assert window.take_ack() == Ack(4, (Claim(3, 4, 1, 1),))
    assert window.advance(100) == [items[4], items[5]]
    assert (window.position, window.end) == (100, 100)


def test_what_was_dropped_is_claimed_with_what_it_was_acknowledged_with() -> None:
    window: CursorWindow[Fetched] = CursorWindow(0)
    items = [Fetched(cursor) for cursor in range(8)]
    window.extend(items, 8)
    assert window.drop(items[2])
    window.drop(items[1])
    window.drop(items[6])
    window.finish(items[0])
    ack = window.take_ack()
    assert ack == Ack(3, (Claim(0, 3, 3, 3, ((1, 3),)),))
    for item in items[3:6]:
        window.finish(item)
    window.finish(items[7])
    assert window.take_ack() == Ack(8, (*ack.claims, Claim(3, 8, 5, 5, ((6, 7),))))


def test_what_others_have_acknowledged_meanwhile_is_theirs_to_count() -> None:
    window: CursorWindow[Fetched] = CursorWindow(0)
    items = [Fetched(cursor) for cursor in range(4)]
    window.extend(items, 4)
    window.drop(items[1])
    window.drop(items[3])
    window.advance(2)
    window.finish(items[2])
    assert window.take_ack() == Ack(4, (Claim(2, 4, 2, 2, ((3, 4),)),))


def test_claims_that_are_added_up_keep_what_was_dropped_and_no_more_than_so_much() -> None:
    claims = Claims()
    many = Claims.MOST + 2
    for start in range(many):
        claims.add(Claim(start, start + 1, 1, 1, ((start, start + 1),)))
    ack = claims.ack()
    assert ack is not None
    assert [one for claim in ack.claims for one in claim.dropped] == [(start, start + 1) for start in range(many)]
    claims.MOST_DROPPED = many + 1
    claims.add(Claim(many, many + 10, 10, 10, ((many, many + 1), (many + 3, many + 4))))
    ack = claims.ack()
    assert ack is not None
    assert sum(len(claim.dropped) for claim in ack.claims) == many + 1


@given(st.integers(0, 2**32))
def test_whatever_gets_lost_the_store_can_check_every_acknowledgement(seed: int) -> None:
    """Items finish in any order, acknowledgements get lost, masters forget what is not durable: the claims of each
    acknowledgement reach back to where the store stands, without a gap, and are true."""
    rng = random.Random(seed)
    window: CursorWindow[Fetched] = CursorWindow(5)
    everything: list[Fetched] = []
    at_work: list[Fetched] = []
    acked = durable = end = 5

    def take(ack: Ack) -> None:
        assert ack.claims[0].start <= acked
        assert ack.claims[-1].stop == ack.stop
        position = ack.claims[0].start
        for claim in ack.claims:
            inside = [item for item in everything if claim.start <= item.cursor < claim.stop]
            assert claim.start == position
            assert claim.count == len(inside)
            assert claim.digest_sum == sum(item.digest for item in inside) % 2**64
            assert all(item.finished for item in inside)
            position = claim.stop

    for _ in range(120):
        action = rng.random()
        if action < 0.25:
            batch = []
            for _ in range(rng.randint(0, 4)):
                end += rng.randint(0, 2)
                batch.append(Fetched(end, rng.getrandbits(64)))
                end += 1
            window.extend(batch, end)
            everything += batch
            at_work += batch
        elif action < 0.7 and at_work:
            window.finish(at_work.pop(rng.randrange(len(at_work))))
        elif action < 0.78:
            acked = durable  # another master
            window.told(acked, durable)
        else:
            ack = window.take_ack()
            if ack is None:
                continue
            take(ack)
            fate = rng.random()
            if fate < 0.8:
                acked = max(acked, ack.stop)
                if rng.random() < 0.5:
                    durable = acked
            if fate < 0.6:
                window.confirm(ack)
                window.told(acked, durable)
            else:
                window.give_back(ack)
    for item in at_work:
        window.finish(item)
    last = window.take_ack()
    if last is not None:
        take(last)
        acked = last.stop
    assert acked == window.position == end
    assert len(window) == 0


def test_a_claim_says_how_much_of_it_could_not_be_read() -> None:
    window: CursorWindow[Fetched] = CursorWindow(0)
    items = [Fetched(0), Fetched(1, count=5), Fetched(6), Fetched(7, count=3)]
    window.extend(items, 10)
    window.note_unreadable(1, 5)
    window.note_unreadable(7, 3)
    for item in items[:3]:
        window.finish(item)
    ack = window.take_ack()
    assert ack is not None
    assert [(claim.stop, claim.count, claim.unreadable) for claim in ack.claims] == [(7, 7, 5)]
    window.finish(items[3])
    ack = window.take_ack()
    assert ack is not None
    assert [(claim.stop, claim.count, claim.unreadable) for claim in ack.claims] == [(7, 7, 5), (10, 3, 3)]
