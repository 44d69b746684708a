"""The shim does what its control file says, and nothing else."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.disk import DiskFaults

WRITE = """
import os, sys
for path in sys.argv[1:]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    for n in range(4):
        try:
            written = os.pwrite(fd, b"%d" % n * 10, 10 * n)
            os.fdatasync(fd)
            print(written)
        except OSError as error:
            print(error.errno)
    os.ftruncate(fd, 45)
    os.close(fd)
"""


def run(faults: DiskFaults, shim: Path, *paths: Path, power_loss: bool = False) -> list[str]:
    environment = {**os.environ, **faults.environment(shim, power_loss=power_loss)}
    command = [sys.executable, "-c", WRITE, *map(str, paths)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()


def test_rules_strike_what_they_name_so_often_as_they_say(shim: Path, tmp_path: Path) -> None:
    faults = DiskFaults.make(tmp_path, tmp_path / "node")
    struck = tmp_path / "node" / "log.1"
    assert run(faults, shim, struck) == ["10"] * 4
    slot = faults.fail("write", errno.ENOSPC, name="log.*", skip=1, times=2)
    assert run(faults, shim, struck) == ["10", str(errno.ENOSPC), str(errno.ENOSPC), "10"]
    assert faults.struck(slot) == 2
    faults.clear()
    slot = faults.fail("sync", errno.EIO, name="*.db")
    assert run(faults, shim, struck, tmp_path / "elsewhere.db") == ["10"] * 8
    assert faults.struck(slot) == 0


def test_dropped_writes_and_delays(shim: Path, tmp_path: Path) -> None:
    faults = DiskFaults.make(tmp_path, tmp_path / "node")
    path = tmp_path / "node" / "file"
    faults.drop("write", skip=1, times=1)
    slot = faults.delay("sync", 0.05)
    began = time.monotonic()
    assert run(faults, shim, path) == ["10"] * 4
    assert time.monotonic() - began >= 4 * 0.05
    assert faults.struck(slot) == 4
    assert path.read_bytes() == b"0" * 10 + bytes(10) + b"2" * 10 + b"3" * 10 + bytes(5)


@pytest.mark.parametrize("dropped", [0, 1, 2, 4])
def test_a_power_failure_leaves_what_was_really_flushed(shim: Path, tmp_path: Path, dropped: int) -> None:
    faults = DiskFaults.make(tmp_path, tmp_path / "node")
    path = tmp_path / "node" / "file"
    path.write_bytes(b"x" * 60)
    faults.drop("sync", skip=4 - dropped)
    assert run(faults, shim, path, power_loss=True) == ["10"] * 4
    assert path.stat().st_size == 45
    assert faults.lose_unsynced() > 0
    written = b"".join(b"%d" % n * 10 for n in range(4 - dropped))
    assert path.read_bytes() == written + b"x" * (60 - len(written))
