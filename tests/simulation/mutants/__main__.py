"""``python -m tests.simulation.mutants``: which seeds catch each mutant."""

from __future__ import annotations

import argparse
import sys
from multiprocessing import Pool

from twisted.logger import globalLogBeginner

from phxqueue.testing.sim.run import Outcome
from tests.simulation.mutants import MUTANTS, BrokenMutant
from tests.simulation.test_seeds import SEEDS


def look(name: str, enough: int, most: int, every: bool) -> tuple[int, list[Outcome]]:
    """Look for seeds that catch a mutant; return how many were tried, and what caught it."""
    [one] = [mutant for mutant in MUTANTS if mutant.name == name]
    caught: list[Outcome] = []
    tried = 0
    for seed in range(SEEDS) if every else one.promising(SEEDS):
        if tried == most or len(caught) == enough:
            break
        tried += 1
        outcome = one.caught_by(seed)
        if outcome is not None:
            caught.append(outcome)
    return tried, caught


def main() -> int:
    """Print what was found; the exit status is 1 when a mutant escapes."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="the mutants (default: all)")
    parser.add_argument("--enough", type=int, default=2, help="how many seeds to look for (default 2)")
    parser.add_argument("--most", type=int, default=100, help="how many seeds to try (default 100)")
    parser.add_argument("--every", action="store_true", help="try all seeds in order, not only the promising ones")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once (default 2)")
    arguments = parser.parse_args()
    globalLogBeginner.beginLoggingTo([], discardBuffer=True, redirectStandardIO=False)
    names = arguments.names or [mutant.name for mutant in MUTANTS]
    escaped = 0
    with Pool(arguments.jobs) as pool:
        results = [pool.apply_async(look, (name, arguments.enough, arguments.most, arguments.every)) for name in names]
        for name, result in zip(names, results, strict=True):
            try:
                tried, caught = result.get()
            except BrokenMutant as broken:
                print(f"BROKEN: {broken}")
                escaped += 1
                continue
            print(f"{name}: {len(caught)} of {tried}: {[outcome.seed for outcome in caught]}")
            for outcome in caught[:3]:
                print(f"    {outcome.seed} ({outcome.profile}): {outcome.violation.splitlines()[-1][:150]}", flush=True)
            escaped += not caught
    print(f"{escaped} mutants escape")
    return 1 if escaped else 0


if __name__ == "__main__":
    sys.exit(main())
