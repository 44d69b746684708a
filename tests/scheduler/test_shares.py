"""Sharing out one limit: what everybody ought to have, and how it gets there without ever handing out too much."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phxqueue.scheduler.shares import FLOOR, LEAST_WEIGHT, Demand, ShareBook, fill

PARTS = st.floats(0.0, 1.0)
DEMANDS = st.dictionaries(st.integers(0, 30).map(str), st.builds(Demand, PARTS, PARTS), max_size=12)


def test_what_one_does_not_want_goes_to_who_wants_it() -> None:
    shares = fill({"idle": Demand(0.0, 0.5), "busy": Demand(1.0, 0.25), "some": Demand(0.1, 0.25)})
    assert shares["some"] == pytest.approx(0.1)
    assert shares["idle"] == pytest.approx(FLOOR / 2)
    assert shares["busy"] == pytest.approx(0.9 - FLOOR / 2)


def test_who_wants_more_than_there_is_shares_by_weight() -> None:
    shares = fill({"a": Demand(1.0, 0.6), "b": Demand(1.0, 0.2), "c": Demand(0.1, 0.2)})
    assert shares == pytest.approx({"a": 0.675, "b": 0.225, "c": 0.1})


def test_what_nobody_wants_is_shared_by_weight() -> None:
    assert fill({"a": Demand(0.0, 0.75), "b": Demand(0.0, 0.25)}) == pytest.approx({"a": 0.75, "b": 0.25})


def test_who_owns_none_of_the_queues_has_nothing_unless_it_wants_something() -> None:
    assert fill({"a": Demand(0.5, 1.0), "b": Demand(0.0, 0.0)}) == pytest.approx({"a": 1.0, "b": 0.0})
    shares = fill({"a": Demand(1.0, 1.0), "b": Demand(0.5, 0.0)})
    assert shares["b"] == pytest.approx(LEAST_WEIGHT / (1 + LEAST_WEIGHT))
    assert fill({}) == {}
    assert fill({"b": Demand(0.0, 0.0)}) == {"b": 0.0}


@given(DEMANDS)
def test_the_shares_are_the_whole_and_nobody_envies_who_wants_less(demands: dict[str, Demand]) -> None:
    shares = fill(demands)
    taking_part = {name for name, demand in demands.items() if demand.wanted or demand.weight}
    assert sum(shares.values()) == pytest.approx(1.0 if taking_part else 0.0)
    weights = {name: max(demands[name].weight, LEAST_WEIGHT) for name in taking_part}
    for name in taking_part:
        assert shares[name] >= FLOOR * weights[name] / sum(weights.values()) * 0.999, "nobody starves"
        if shares[name] < demands[name].wanted - 1e-9:  # then nobody has more of what he does not need
            for other in taking_part - {name}:
                if shares[other] / weights[other] > shares[name] / weights[name] + 1e-9:
                    assert shares[other] <= max(demands[other].wanted, FLOOR) + 1e-9


@given(DEMANDS, st.integers(0, 30).map(str), PARTS)
def test_wanting_more_never_takes_away_from_oneself(demands: dict[str, Demand], name: str, more: float) -> None:
    demands[name] = demands.get(name, Demand(0.1, 0.5))
    before = fill(demands)[name]
    asked = {**demands, name: Demand(max(demands[name].wanted, more), demands[name].weight)}
    if demands[name].wanted or demands[name].weight:
        assert fill(asked)[name] >= before - 1e-9


# ---- on the way there --------------------------------------------------------------------------------------


@given(st.randoms(use_true_random=False))
def test_no_more_is_handed_out_than_there_is(choose: random.Random) -> None:
    """Whatever is asked in whatever order, and however many answers are lost or late."""
    book = ShareBook()
    keeps: dict[str, float] = {}  # what consumers really do
    for _ in range(60):
        name = choose.choice("abcd")
        kind = choose.random()
        if kind < 0.1 and name in keeps:
            del keeps[name]
            book.forget(name)
        else:
            book.ask(name, Demand(choose.choice([0.0, 0.2, 1.0]), choose.choice([0.0, 0.3, 1.0])), keeps.get(name, 0.0))
            keeps.setdefault(name, 0.0)
            book.settle(hand_out=choose.random() < 0.9)
            told = choose.choice("abcd")
            if told in keeps:
                share = book.answer(told)
                if choose.random() < 0.8:  # else the answer is lost
                    keeps[told] = share
        assert sum(keeps.values()) <= 1 + 1e-9
        assert sum(book.kept.values()) <= 1 + 1e-9
        assert all(book.kept[name] >= kept - 1e-9 for name, kept in keeps.items())


def test_what_somebody_gives_up_is_handed_on_when_he_has_said_so() -> None:
    book = ShareBook()
    book.ask("a", Demand(1.0, 0.5), 0.0)
    book.settle()
    assert book.answer("a") == 1.0
    book.ask("a", Demand(0.0, 0.5), 1.0)
    book.ask("b", Demand(1.0, 0.5), 0.0)
    book.settle()
    assert book.news("a")
    assert not book.news("b")
    assert (book.answer("a"), book.answer("b")) == pytest.approx((FLOOR / 2, 0.0))
    book.ask("a", Demand(0.0, 0.5), FLOOR / 2)  # he has heard it
    book.settle()
    assert book.news("b")
    assert book.answer("b") == pytest.approx(1 - FLOOR / 2)
    assert not book.news("b")


def test_a_new_master_takes_but_does_not_give() -> None:
    book = ShareBook()
    book.ask("a", Demand(1.0, 0.5), 0.2)
    book.ask("b", Demand(0.0, 0.5), 0.6)
    book.settle(hand_out=False)
    assert book.answer("a") == 0.2
    assert book.answer("b") < 0.01
    assert book.answer("nobody") == 0.0
    assert not book.news("nobody")
