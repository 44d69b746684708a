"""Ownership: every queue has one owner, shares follow weights, and as little as possible moves."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from phxqueue.consumer.assignment import Ring, owned

QUEUES = [(store_id, queue_id) for store_id in (1, 2) for queue_id in range(30)]
WEIGHTS = st.dictionaries(st.sampled_from([f"10.0.0.{n}:8001" for n in range(8)]), st.integers(0, 300), min_size=1)


def test_known_owners_do_not_change_between_versions() -> None:
    """Two versions of the program side by side have to agree who owns what."""
    ring = Ring({"127.0.0.1:8001": 1000, "127.0.0.1:8002": 1000, "127.0.0.1:8003": 500})
    assert [(ring.owner(1, (1, queue_id)) or "")[-1] for queue_id in range(10)] == list("3322111221")


@given(WEIGHTS, st.integers(1, 64))
def test_every_queue_has_exactly_one_owner_with_a_weight(weights: dict[str, int], group_id: int) -> None:
    ring = Ring(weights)
    shares = {name: owned(ring, name, group_id, QUEUES) for name in weights}
    if any(weights.values()):
        assert sorted(queue for share in shares.values() for queue in share) == QUEUES
    else:
        assert ring.owner(group_id, (1, 1)) is None
    assert all(not share for name, share in shares.items() if not weights[name])


@given(WEIGHTS, st.sampled_from([f"10.0.0.{n}:8001" for n in range(8)]), st.integers(0, 300))
def test_queues_move_only_to_or_from_the_consumer_that_changes(weights: dict[str, int], name: str, weight: int) -> None:
    before, after = Ring(weights), Ring({**weights, name: weight})
    grows = weight >= weights.get(name, 0)
    for queue in QUEUES:
        was, now = before.owner(1, queue), after.owner(1, queue)
        if was != now:
            assert (now if grows else was) == name


def test_shares_follow_the_weights() -> None:
    ring = Ring({"a": 1000, "b": 1000, "c": 2000})
    queues = [(1, queue_id) for queue_id in range(10_000)]
    counts = Counter(ring.owner(1, queue) for queue in queues)
    assert 0.19 < counts["a"] / 10_000 < 0.31
    assert 0.19 < counts["b"] / 10_000 < 0.31
    assert 0.43 < counts["c"] / 10_000 < 0.57


def test_groups_are_spread_independently() -> None:
    ring = Ring({"a": 1000, "b": 1000})
    same = sum(ring.owner(1, queue) == ring.owner(2, queue) for queue in QUEUES)
    assert 15 < same < 45


def test_many_consumers_share_few_queues() -> None:
    ring = Ring({f"10.0.0.{n}:8001": 1000 for n in range(100)})
    assert len({ring.owner(1, queue) for queue in QUEUES}) > 30
