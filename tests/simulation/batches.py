"""Many seeds in one test: it names all that fail, and the command that repeats each."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any, TypeVar

OutcomeT = TypeVar("OutcomeT")


def simulate(run: Callable[[int], OutcomeT], seed: int) -> OutcomeT:
    """Run a seed, and collect what it leaves behind."""
    outcome = run(seed)
    gc.collect(1)
    return outcome


def none_fails(run: Callable[[int], Any], seeds: range) -> None:
    """Run all of them, then tell of those that failed."""
    failed = [outcome for seed in seeds if (outcome := simulate(run, seed)).violation]
    told = "\n".join(f"{outcome}\n{outcome.traceback}\nreplay: {outcome.replay}\n" for outcome in failed)
    assert not failed, f"{len(failed)} of {len(seeds)} seeds failed\n\n{told}"
