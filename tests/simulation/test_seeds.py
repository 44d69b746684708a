"""A thousand seeds: whatever goes wrong in them, nothing acknowledged is lost, invented, moved or out of order.

A failure names the seed and the command that repeats it. More seeds: ``python -m phxqueue.testing.sim --minutes 10``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from phxqueue.journal.errors import JournalFailed
from phxqueue.testing.sim.profiles import PROFILES
from phxqueue.testing.sim.run import plan, run
from tests.simulation.batches import none_fails, simulate

ROOT = Path(__file__).resolve().parents[2]
SEEDS = 1000
PER_TEST = 25

pytestmark = pytest.mark.usefixtures("no_collection")


@pytest.fixture(autouse=True)
def expected_logs(logged_errors: Any) -> Iterator[None]:
    """Nodes whose disk fails say so, and so do those that meet a command they do not know. All else fails the seed."""
    yield
    logged_errors.flush(JournalFailed)
    logged_errors.flush_critical("stopped applying")


@pytest.mark.parametrize("first", range(0, SEEDS, PER_TEST))
def test_seeds(first: int) -> None:
    none_fails(run, range(first, first + PER_TEST))


def test_everything_is_tried_in_them() -> None:
    plans = [plan(seed) for seed in range(SEEDS)]
    profiles = Counter(drawn.profile for drawn in plans)
    assert set(profiles) == set(PROFILES)
    assert min(profiles.values()) > SEEDS / len(PROFILES) / 2
    assert {drawn.shape.nodes for drawn in plans} == {3, 5}
    assert {drawn.shape.paxos_groups for drawn in plans} == {1, 2}
    assert len({drawn.workload for drawn in plans}) > 10


@pytest.mark.parametrize("seed", [3, 8, 21])
def test_a_seed_decides_everything(seed: int) -> None:
    first, second = simulate(run, seed), simulate(run, seed)
    assert first == second
    assert first.digest != simulate(run, seed + 1).digest


def test_a_seed_decides_everything_in_another_process_too() -> None:
    told = [
        subprocess.run(
            [sys.executable, "-m", "phxqueue.testing.sim", "--seed", "5"],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert told[0] == told[1]
    assert f"history {simulate(run, 5).digest:016x}" in told[0]
