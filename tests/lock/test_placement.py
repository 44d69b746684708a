"""Where keys belong."""

from __future__ import annotations

from collections import Counter

from phxqueue.lock.placement import Placement, paxos_group

EXPECTED = [1, 2, 2, 2, 1]
EXPECTED_GROUPS = [12, 1, 8]
KEYS = [f"key {number}" for number in range(4000)]


def test_shares_follow_the_weights() -> None:
    counts = Counter(Placement([(1, 100), (2, 300), (3, 0)]).lock_id(key) for key in KEYS)
    assert set(counts) == {1, 2}
    assert 800 < counts[1] < 1200


def test_a_new_group_takes_keys_and_moves_none_between_the_others() -> None:
    before, after = Placement([(1, 100), (2, 100)]), Placement([(1, 100), (2, 100), (3, 100)])
    moved = [key for key in KEYS if before.lock_id(key) != after.lock_id(key)]
    assert {after.lock_id(key) for key in moved} == {3}
    assert 1000 < len(moved) < 1700


def test_one_group_has_everything_and_none_nothing() -> None:
    assert Placement([(7, 1)]).lock_id("x") == 7
    assert Placement([(7, 0)]).lock_id("x") is None


def test_the_choice_is_what_other_languages_compute() -> None:
    # docs/wire-protocol.md, section 11.
    placement = Placement([(1, 100), (2, 100), (3, 50)])
    assert [placement.lock_id(key) for key in ("a", "b", "c", "queue/1/7", "\N{GREEK SMALL LETTER ALPHA}")] == EXPECTED
    assert [paxos_group(key, 16) for key in ("a", "b", "queue/1/7")] == EXPECTED_GROUPS


def test_paxos_groups_are_evenly_filled() -> None:
    counts = Counter(paxos_group(key, 8) for key in KEYS)
    assert set(counts) == set(range(8))
    assert min(counts.values()) > 400
