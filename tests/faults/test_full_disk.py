"""A file system that is really full: a small one in memory, mounted for the test (as root; skipped otherwise)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.child import Child
from tests.faults.writer import FATAL, REFUSED

SIZE_MIB = 12
NOTHING: dict[str, str] = {}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "tmpfs", str(place)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill_up(place: Path, leave: int = 0) -> Path:
    """Take all space but `leave` bytes."""
    ballast = place / "ballast"
    with ballast.open("ab") as file:
        try:
            while True:
                os.write(file.fileno(), bytes(64 * 1024))
        except OSError:
            pass
        file.truncate(max(0, file.seek(0, os.SEEK_END) - leave))
    return ballast


def check_restart(directory: Path, before: Child, **settings: int) -> None:
    with Child(directory, NOTHING, first=100_000, **settings) as again:
        again.confirm(10)
        assert again.refused is None
        assert again.holds[0] == 0
        assert again.holds[1] >= max(before.confirmed)
        assert again.incarnation == before.incarnation


@pytest.mark.parametrize("checkpoint_interval_s", [0.1, 60])
def test_full_while_storing(small_disk: Path, checkpoint_interval_s: float) -> None:
    """At a commit or at a checkpoint: the node stops, and starts again when there is room."""
    settings = {"checkpoint_interval_s": checkpoint_interval_s, "size": 3000}
    with Child(small_disk / "node", NOTHING, **settings) as child:
        child.confirm(100)
        ballast = fill_up(small_disk)
        assert child.ended() == FATAL
    assert child.fatal is not None
    assert "the disk is full" in child.fatal
    ballast.unlink()
    check_restart(small_disk / "node", child, size=3000)


def test_full_during_recovery(small_disk: Path) -> None:
    """Never taken for damage: a directory that is only short of space is not to be emptied."""
    with Child(small_disk / "node", NOTHING, checkpoint_interval_s=60, size=3000) as child:
        child.confirm(300)
        child.kill()
    ballast = fill_up(small_disk)
    with Child(small_disk / "node", NOTHING) as struck:
        assert struck.ended() == REFUSED
    assert struck.refused is not None
    assert struck.refused.startswith("Unusable")
    assert "the disk is full" in struck.refused
    assert "empty" not in struck.refused
    ballast.unlink()
    check_restart(small_disk / "node", child, size=3000)


def test_full_while_a_directory_is_made(small_disk: Path) -> None:
    ballast = fill_up(small_disk, leave=300_000)
    with Child(small_disk / "node", NOTHING) as struck:
        struck.ended()
    assert struck.refused is None or struck.refused.startswith("Unusable"), struck.refused
    assert struck.fatal is None or "the disk is full" in struck.fatal
    ballast.unlink()
    with Child(small_disk / "node", NOTHING, first=100_000) as again:
        again.confirm(10)
        assert again.refused is None
