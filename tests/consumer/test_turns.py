"""Whose turn it is: weights are kept, nobody starves, who is away costs nothing."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from phxqueue.consumer.turns import Turns

HIGH, LOW = 5, 6


def served(turns: Turns[str], count: int, *, again: bool = True) -> list[str]:
    """Serve so many; they come back at once."""
    order = []
    for _ in range(count):
        one, kind = turns.next()
        order.append(one)
        if again:
            turns.add(one, kind)
    return order


def test_without_weights_everybody_takes_turns() -> None:
    turns: Turns[str] = Turns()
    for name in "abc":
        turns.add(name, ord(name))
    assert "".join(served(turns, 7)) == "abcabca"


def test_kinds_share_by_weight_however_many_wait_in_each() -> None:
    turns: Turns[str] = Turns({HIGH: 300, LOW: 100})
    turns.add("high", HIGH)
    for name in "abcd":
        turns.add(name, LOW)
    order = served(turns, 400)
    assert Counter(order) == {"high": 300, "a": 25, "b": 25, "c": 25, "d": 25}
    for start in range(0, 390, 4):
        assert order[start : start + 8].count("high") in (5, 6, 7)


def test_kinds_without_a_weight_are_one_of_100() -> None:
    turns: Turns[str] = Turns({HIGH: 300})
    for name, kind in (("high", HIGH), ("a", 7), ("b", 8)):
        turns.add(name, kind)
    assert Counter(served(turns, 40)) == {"high": 30, "a": 5, "b": 5}


def test_who_is_away_costs_nothing_and_has_no_credit_when_he_is_back() -> None:
    turns: Turns[str] = Turns({HIGH: 900, LOW: 100})
    turns.add("low", LOW)
    assert set(served(turns, 500)) == {"low"}
    turns.add("high", HIGH)
    assert Counter(served(turns, 100)) == {"high": 90, "low": 10}
    turns.remove("high")
    served(turns, 50)
    turns.add("high", HIGH)
    order = served(turns, 20)
    assert 1 <= order.count("low") <= 3, "the low one is not made to wait for what the other missed"


def test_who_waits_already_keeps_his_place_and_who_left_is_not_served() -> None:
    turns: Turns[str] = Turns({HIGH: 300})
    for name in "abc":
        turns.add(name, HIGH)
    turns.add("a", LOW)
    turns.remove("b")
    turns.remove("b")
    assert (served(turns, 2, again=False), len(turns)) == (["a", "c"], 0)


@given(st.dictionaries(st.integers(1, 9), st.integers(1, 1000), min_size=2, max_size=5))
def test_shares_are_exact_within_one_turn_of_each(weights: dict[int, int]) -> None:
    turns: Turns[int] = Turns(weights)
    for kind in weights:
        turns.add(kind, kind)
    total = sum(weights.values())
    counts: Counter[int] = Counter()
    for number in range(1, 2001):
        one, kind = turns.next()
        turns.add(one, kind)
        counts[kind] += 1
        assert all(abs(counts[each] - number * weight / total) <= len(weights) for each, weight in weights.items())
