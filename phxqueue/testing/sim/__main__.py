"""``python -m phxqueue.testing.sim``: replay one seed, run a range, or soak for hours."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from multiprocessing import Pool
from threading import Semaphore

from twisted.logger import globalLogBeginner

from phxqueue.testing.sim.run import Outcome, run


def main(run: Callable[[int], Outcome] = run, prog: str = "python -m phxqueue.testing.sim") -> int:
    """Run what the command line asks for; the exit status is 1 when an invariant was broken."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    parser.add_argument("--seed", type=int, help="run this seed alone")
    parser.add_argument("--first", type=int, default=0, help="first seed of the range (default 0)")
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds (default 100)")
    parser.add_argument("--minutes", type=float, default=0.0, help="go on for so long, instead of --seeds")
    parser.add_argument("--hours", type=float, default=0.0, help="the same in hours")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once (default 1)")
    parser.add_argument("--failures", type=int, default=10, help="stop after so many (default 10)")
    arguments = parser.parse_args()
    # What nodes say when their disk fails is part of the simulation; what they must not say ends the run.
    globalLogBeginner.beginLoggingTo([], discardBuffer=True, redirectStandardIO=False)
    if arguments.seed is not None:
        return _report(iter([run(arguments.seed)]), every=1, enough=1)
    seconds = arguments.minutes * 60 + arguments.hours * 3600
    seeds: Iterator[int] = iter(range(arguments.first, arguments.first + arguments.seeds))
    if seconds:
        seeds = _until(time.monotonic() + seconds, arguments.first)
    # The pool would take many seeds in advance, and go on with them long after the time is over.
    ahead = Semaphore(2 * arguments.jobs)
    with Pool(arguments.jobs) as pool:
        outcomes = pool.imap_unordered(run, _while_few_wait(seeds, ahead), chunksize=1)
        return _report(_finished(outcomes, ahead), every=100, enough=arguments.failures)


def _until(moment: float, first: int) -> Iterator[int]:
    for seed in count(first):
        if time.monotonic() >= moment:
            return
        yield seed


def _while_few_wait(seeds: Iterator[int], ahead: Semaphore) -> Iterator[int]:
    ahead.acquire()
    for seed in seeds:
        yield seed
        ahead.acquire()


def _finished(outcomes: Iterator[Outcome], ahead: Semaphore) -> Iterator[Outcome]:
    for outcome in outcomes:
        ahead.release()
        yield outcome


def _report(outcomes: Iterator[Outcome], every: int, enough: int) -> int:
    runs = items = failed = masterships = 0
    slowest = 0.0
    injected: dict[str, int] = {}
    for outcome in outcomes:
        runs += 1
        items += outcome.items
        masterships += outcome.masterships
        slowest = max(slowest, outcome.recovery)
        for name, times in outcome.injected.items():
            injected[name] = injected.get(name, 0) + times
        if outcome.violation:
            failed += 1
            print(outcome)
            if every == 1:
                print(outcome.traceback)
            print(f"  replay: {outcome.replay}", flush=True)
            if failed == enough:
                break
        elif runs % every == 0:
            print(f"{runs} runs so far, last: {outcome}", flush=True)
    faults = ", ".join(f"{times} {name}" for name, times in sorted(injected.items())) or "none"
    print(
        f"{runs} runs, {items} items acknowledged, {masterships} masterships, slowest recovery {slowest:.2f} s, "
        f"faults: {faults}; {runs - failed} passed, {failed} failed"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
