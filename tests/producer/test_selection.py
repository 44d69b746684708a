"""Store and queue of a key: shares, and how little moves."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from phxqueue.producer.selection import StoreChoice, choose_queue

WEIGHTS = st.dictionaries(st.integers(1, 50), st.integers(0, 1000), min_size=1, max_size=6)
KEYS = range(0, 2**64, 2**64 // 300)


def test_known_places_do_not_change_between_versions() -> None:
    """These may never change: uins would move to other queues and lose their order."""
    choice = StoreChoice([(1, 100), (2, 100), (3, 50)])
    assert [choice.choose(key) for key in (0, 1, 2, 3, 123, 5564925, 2**64 - 1)] == [3, 3, 3, 2, 2, 3, 1]
    assert [choose_queue(range(10), key) for key in (0, 1, 2, 3, 123, 5564925, 2**64 - 1)] == [2, 6, 6, 7, 1, 8, 2]


def test_every_store_gets_its_share() -> None:
    choice = StoreChoice([(1, 100), (2, 300), (3, 0)])
    counts = Counter(choice.choose(key) for key in range(20_000))
    assert set(counts) == {1, 2}
    assert 0.24 < counts[1] / 20_000 < 0.26


def test_store_and_queue_are_chosen_independently() -> None:
    choice = StoreChoice([(1, 1), (2, 1)])
    counts = Counter((choice.choose(key), choose_queue((0, 1), key)) for key in range(8000))
    assert all(1800 < count < 2200 for count in counts.values())
    assert len(counts) == 4


@given(WEIGHTS, st.integers(1, 50), st.integers(0, 1000))
def test_a_change_of_one_weight_moves_keys_to_or_from_that_store_only(
    weights: dict[int, int], store_id: int, weight: int
) -> None:
    before = StoreChoice(list(weights.items()))
    after = StoreChoice(list({**weights, store_id: weight}.items()))
    if not before or not after:
        return
    grows = weight >= weights.get(store_id, 0)
    for key in KEYS:
        was, now = before.choose(key), after.choose(key)
        if was != now:
            assert (now if grows else was) == store_id


@given(WEIGHTS, st.sets(st.integers(1, 50)))
def test_without_some_stores_only_their_keys_move(weights: dict[int, int], avoid: set[int]) -> None:
    choice = StoreChoice(list(weights.items()))
    if not choice:
        return
    rest = choice.without(frozenset(avoid))
    assert set(rest.store_ids) == (set(choice.store_ids) - avoid or set(choice.store_ids))
    for key in KEYS:
        if choice.choose(key) in rest.store_ids:
            assert rest.choose(key) == choice.choose(key)
