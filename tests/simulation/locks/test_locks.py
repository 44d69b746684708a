"""The lock service under every kind of fault: hundreds of seeds, and deliberate bugs that they must catch."""

from __future__ import annotations

from collections import Counter

import pytest

from phxqueue.testing.sim.checkers import Violation
from phxqueue.testing.sim.locks.exclusion import Exclusion
from phxqueue.testing.sim.locks.run import plan, run
from phxqueue.testing.sim.profiles import PROFILES
from phxqueue.testing.sim.world import World
from tests.simulation.batches import none_fails, simulate
from tests.simulation.locks.mutants import MUTANTS, caught

SEEDS = 200
PER_TEST = 20

KNOWN: dict[str, tuple[int, ...]] = {
    "a_restored_group_gives_its_tokens_again": (2,),
    "a_restored_group_grants_after_a_restart": (4,),
    "a_restored_group_grants_at_once": (2,),
    "a_restored_group_never_grants": (2,),
    "a_restored_group_waits_for_too_short_a_time": (36,),
    "a_silence_counts_in_every_later_term": (48,),
    "renewed_in_memory_while_silent": (56,),
    "renewed_while_an_expiry_is_under_way": (78,),
    "renewed_without_a_lease": (21,),
    "served_before_the_term_has_begun": (29,),
    "silent_for_ever": (29,),
    "silent_for_longer_than_it_was": (29,),
    "terms_do_not_count": (115,),
}
"""Seeds that caught a mutant last time; for the others the first ones do."""
TRIED = SEEDS

pytestmark = pytest.mark.usefixtures("quietly")


@pytest.mark.parametrize("first", range(0, SEEDS, PER_TEST))
def test_seeds(first: int) -> None:
    none_fails(run, range(first, first + PER_TEST))


def test_every_profile_is_tried_in_them() -> None:
    profiles = Counter(plan(seed).profile for seed in range(SEEDS))
    assert {profile for profile in PROFILES if not profile.upgrade_every} == set(profiles)


def test_restored_groups_are_among_them() -> None:
    assert SEEDS // 10 < sum(plan(seed).restored for seed in range(SEEDS)) < SEEDS // 4


def test_a_seed_decides_everything() -> None:
    assert simulate(run, 3).digest == simulate(run, 3).digest


@pytest.mark.parametrize("name", MUTANTS)
def test_a_deliberate_bug_is_caught(name: str) -> None:
    seeds = (*KNOWN.get(name, ()), *range(TRIED))
    assert caught(name, seeds) is not None, f"{MUTANTS[name].__doc__} None of {len(seeds)} seeds notices"


def test_two_who_believe_at_once_are_noticed() -> None:
    world = World(0)
    exclusion = Exclusion(world)
    exclusion.holds("a", "one", 1, 0, until=1.0)
    with pytest.raises(Violation, match=r"two \(token 2\) holds it"):
        exclusion.holds("a", "two", 2, 0, until=2.0)
    exclusion.lets_go("a", "one")
    exclusion.holds("a", "three", 3, 0, until=2.0)


def test_tokens_that_do_not_rise_are_noticed() -> None:
    exclusion = Exclusion(World(0))
    exclusion.holds("a", "one", 5, 0, until=0.0)
    with pytest.raises(Violation, match="was given to one and to two"):
        exclusion.holds("a", "two", 5, 0, until=0.0)
    with pytest.raises(Violation, match="5 was out before it asked"):
        exclusion.holds("a", "three", 4, exclusion.highest_token("a"), until=0.0)
