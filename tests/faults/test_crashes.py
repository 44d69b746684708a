"""Power failures at hundreds of moments, with any part of what was not flushed lost: no log is taken for a damaged one,
and the journal opens. Recorded once from a real process, then played by value."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

from phxqueue.config.settings import JournalSettings
from phxqueue.journal import bdb
from phxqueue.journal.log_check import find_damage
from phxqueue.journal.opening import open_directory
from phxqueue.journal.recovery import load_group
from tests.faults.child import SMALL, Child
from tests.faults.crashes import Crash, Recording
from tests.faults.disk import DiskFaults
from tests.faults.writer import NODE, payload_of

CRASHES = int(os.environ.get("PHXQUEUE_CRASHES", "60"))
"""Per kind of load."""
OPENED = int(os.environ.get("PHXQUEUE_CRASHES_OPENED", "4"))
"""Of those, so many are opened with recovery, too."""


def record(place: Path, shim: Path, size: int, trim_every: int) -> Recording:
    """Three lives of a journal, each ended by SIGKILL."""
    lives: list[DiskFaults] = []
    first = 0
    for life in range(3):
        lives.append(DiskFaults(place / "faults", place / "node", place / f"undo{life}"))
        environment = lives[-1].environment(shim, power_loss=True)
        with Child(
            place / "node", environment, first=first, size=size, trim_every=trim_every, checkpoint_interval_s=0.2
        ) as child:
            child.confirm(10 if size > 50_000 else 40)
            child.kill()
        assert child.refused is None, child.refused
        first = max([child.holds[1], *child.confirmed]) + 1
    return Recording(lives, place / "node")


def logs_of(crash: Crash) -> dict[int, bytes]:
    return {int(path.name[4:]): bytes(data) for path, data in crash.files.items() if path.name.startswith("log.0")}


@pytest.mark.parametrize(("size", "trim_every"), [(60, 1_000_000), (700, 7), (5000, 20), (100_000, 5)])
def test_a_crash_is_never_taken_for_damage(shim: Path, place: Path, size: int, trim_every: int) -> None:
    recording = record(place, shim, size, trim_every)
    random = Random(size)
    # The latest come first. While the directory is made, names matter, which are not recorded.
    opened = set(random.sample(range(CRASHES // 2), OPENED))
    for number, crash in enumerate(recording.crashes(random, CRASHES)):
        said = find_damage(logs_of(crash))
        assert said is None, f"moment {crash.moment} of {len(recording)}, {crash.kept} kept: {said}"
        if number in opened:
            crash.write_to(place / f"crash{number}", place.resolve() / "node")
            check_opens(place / f"crash{number}", size)


def check_opens(directory: Path, size: int) -> None:
    """Recovery has all entries from the first to the last, each as it was put."""
    opened = open_directory(directory, NODE, JournalSettings(**SMALL), bdb.load())
    try:
        state = load_group(opened.database, opened.marks, 0, None)
        instances = [instance for instance, _ in state.entries]
        assert instances == list(range(state.chosen + 1, state.chosen + 1 + len(instances)))
        for instance, entry in state.entries:
            assert entry.payload == payload_of(instance, size)
    finally:
        opened.database.close()
        opened.lock.release()
