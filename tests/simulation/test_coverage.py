"""What the simulator can do to a cluster it really does, in seeds that CI runs."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from phxqueue.journal.errors import JournalFailed
from phxqueue.testing.sim.kinds import KINDS
from phxqueue.testing.sim.profiles import CALM, PROFILES
from phxqueue.testing.sim.run import plan, run
from phxqueue.testing.sim.world import World
from tests.simulation.test_seeds import SEEDS

KNOWN = (29, 32, 34, 36, 40, 41, 42, 51, 62, 77, 98, 151)
"""Seeds in which everything happened last time."""
PER_PROFILE = 5
"""At most, of others that are tried when these do not do any more."""


@pytest.mark.timeout(600)
def test_every_kind_of_fault_occurs(logged_errors: Any) -> None:
    assert max(KNOWN) < SEEDS
    left = Counter(dict.fromkeys(PROFILES, PER_PROFILE))
    faults: Counter[str] = Counter()
    for seed in dict.fromkeys((*KNOWN, *range(SEEDS))):
        profile = plan(seed).profile
        if set(KINDS) <= set(faults):
            break
        if seed in KNOWN or left[profile]:
            left[profile] -= seed not in KNOWN
            faults.update(run(seed).injected)
    logged_errors.flush(JournalFailed)
    logged_errors.flush_critical("stopped applying")
    assert set(faults) == set(KINDS), f"never happened: {', '.join(sorted(set(KINDS) - set(faults)))}"


def test_nothing_happens_in_peace() -> None:
    seed = next(seed for seed in range(SEEDS) if plan(seed).profile is CALM)
    # Clocks are never exact, and frames travel for between 0.1 and 1 ms.
    assert set(run(seed).injected) <= {"drift", "overtaken frame"}


def test_a_fault_without_a_name_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        World(1).count("gremlin")
