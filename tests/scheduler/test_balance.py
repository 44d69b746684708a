"""Who carries too much gives work away; nobody else is disturbed; nobody is starved."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from phxqueue.scheduler.balance import STEP, BalanceRule, Share, most, next_weights, overloaded

RULE = BalanceRule()
LOADS = st.one_of(st.none(), st.floats(0, 400))
SHARES = st.dictionaries(
    st.sampled_from("abcdefgh"),
    st.builds(lambda scale, part, load: Share(scale, max(1, scale * part // 100), load), st.integers(1, 5000),
              st.integers(10, 200), LOADS),
    min_size=1,
)  # fmt: skip


def test_while_nobody_is_overloaded_nothing_moves() -> None:
    shares = {"a": Share(1000, 1000, 79.0), "b": Share(1000, 400, 1.0)}
    assert overloaded(shares, RULE) == []
    assert next_weights(shares, RULE) == {"a": 1000, "b": 400}


def test_when_all_are_busy_alike_nothing_moves() -> None:
    shares = {"a": Share(1000, 1000, 99.0), "b": Share(1000, 1000, 95.0)}
    assert next_weights(shares, RULE) == {"a": 1000, "b": 1000}


def test_among_busy_ones_the_busiest_is_overloaded() -> None:
    """One and a half times the mean would be more than the whole core."""
    shares = {"a": Share(1000, 1000, 100.0), "b": Share(1000, 1000, 70.0), "c": Share(1000, 1000, 70.0)}
    assert overloaded(shares, RULE) == ["a"]


def test_work_goes_from_the_busy_to_the_idle() -> None:
    shares = {"a": Share(1000, 1000, 100.0), "b": Share(1000, 1000, 20.0), "c": Share(1000, 1000, 0.0)}
    weights = next_weights(shares, RULE)
    assert weights["a"] < 1000 < weights["b"] <= weights["c"]


def test_an_idle_consumer_gains() -> None:
    """The original gave a consumer without load the weight 0, and so no load ever."""
    shares = {"a": Share(1000, 1000, 100.0), "b": Share(1000, 100, 0.0)}
    assert next_weights(shares, RULE)["b"] == 200


def test_whoever_has_no_load_yet_keeps_its_weight() -> None:
    shares = {"a": Share(1000, 1000, 100.0), "b": Share(1000, 1000, 0.0), "new": Share(1000, 700, None)}
    assert next_weights(shares, RULE)["new"] == 700


def test_one_that_cannot_give_more_does_not_keep_the_others_moving() -> None:
    shares = {"a": Share(1000, 100, 100.0), "b": Share(1000, 1000, 20.0), "c": Share(1000, 1000, 30.0)}
    assert overloaded(shares, RULE) == []
    assert next_weights(shares, RULE) == {"a": 100, "b": 1000, "c": 1000}


def test_small_changes_are_not_made() -> None:
    shares = {"a": Share(1000, 1000, 100.0), "b": Share(1000, 1000, 49.0), "c": Share(1000, 1000, 20.0)}
    assert next_weights(shares, RULE)["b"] == 1000
    assert next_weights(shares, BalanceRule(sticky=0))["b"] != 1000


@given(SHARES)
def test_weights_stay_within_their_bounds_and_move_by_steps(shares: dict[str, Share]) -> None:
    weights = next_weights(shares, RULE)
    assert weights.keys() == shares.keys()
    for name, weight in weights.items():
        share = shares[name]
        if weight != share.weight:
            assert max(1, round(share.scale / 10)) <= weight <= most(share.scale, RULE)
            assert share.weight / STEP - 1 <= weight <= share.weight * STEP + 1


@given(SHARES)
def test_no_overloaded_consumer_gains(shares: dict[str, Share]) -> None:
    weights = next_weights(shares, RULE)
    assert all(weights[name] <= shares[name].weight for name in overloaded(shares, RULE))
