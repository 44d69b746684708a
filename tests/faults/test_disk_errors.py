"""The real Berkeley DB journal, in a process of its own, on a disk that fails: it stops, and told nobody a lie."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tests.faults.child import Child
from tests.faults.disk import ENDLESS, DiskFaults
from tests.faults.writer import FATAL, REFUSED, UNCHOSEN

WITHOUT_FAULTS: dict[str, str] = {}


@pytest.fixture
def faults(place: Path) -> DiskFaults:
    return DiskFaults.make(place, place / "node")


def check_restart(directory: Path, before: Child, size: int = 500) -> None:
    """A restart on a sound disk has everything that was confirmed, as the same incarnation, and goes on."""
    with Child(directory, WITHOUT_FAULTS, first=100_000, size=size) as again:
        again.confirm(10)
        assert again.refused is None
        assert again.holds[0] == 0
        assert again.holds[1] >= max(before.confirmed)
        assert again.incarnation == before.incarnation


@pytest.mark.parametrize(
    ("call", "name", "error", "times", "reason"),
    [
        ("sync", "log.*", errno.EIO, 1, "Input/output error"),
        ("sync", "log.*", errno.EIO, ENDLESS, "Input/output error"),
        ("sync", "log.*", errno.ENOSPC, 1, "the disk is full"),
        ("write", "log.*", errno.EIO, ENDLESS, "Input/output error"),
        ("write", "log.*", errno.ENOSPC, ENDLESS, "the disk is full"),
        ("sync", "*.db", errno.EIO, 1, "Input/output error"),
        ("write", "*.db", errno.EIO, ENDLESS, "Input/output error"),
        ("write", "*.db", errno.ENOSPC, ENDLESS, "the disk is full"),
    ],
)
def test_a_failing_disk_ends_the_node_and_what_was_confirmed_is_there(
    faults: DiskFaults, shim: Path, place: Path, call: str, name: str, error: int, times: int, reason: str
) -> None:
    with Child(place / "node", faults.environment(shim, power_loss=True)) as child:
        child.confirm(50)
        slot = faults.fail(call, error, name=name, times=times)
        assert child.ended() == FATAL
    assert faults.struck(slot) >= 1
    assert child.fatal is not None
    assert reason in child.fatal
    *late, last = child.other
    assert last == f"not closed: the journal has stopped: {child.fatal}"
    # What was submitted between the failure and the end of the process.
    assert all(line.startswith("not taken: the journal has stopped: ") for line in late)
    # What a failed flush has left nobody knows: even with nothing of it, all that was confirmed is there.
    faults.lose_unsynced()
    check_restart(place / "node", child)


@pytest.mark.parametrize(
    ("call", "error", "times"),
    [
        ("write", errno.EIO, ENDLESS),
        ("write", errno.ENOSPC, ENDLESS),
        ("sync", errno.EIO, ENDLESS),
        ("sync", errno.EIO, 1),
        ("sync", errno.ENOSPC, 1),
    ],
)
def test_a_new_log_file_that_cannot_be_written(
    faults: DiskFaults, shim: Path, place: Path, call: str, error: int, times: int
) -> None:
    """Berkeley DB 5.3 reports such commits as done until its buffer is full: the journal looks for itself."""
    slot = faults.fail(call, error, name="log.0000000002", times=times)
    with Child(place / "node", faults.environment(shim, power_loss=True), checkpoint_interval_s=60) as child:
        assert child.ended() == FATAL
    assert faults.struck(slot) >= 1
    faults.lose_unsynced()
    check_restart(place / "node", child)


@pytest.mark.parametrize("name", ["log.*", "*.db"])
def test_a_write_that_succeeds_when_repeated_is_no_failure(
    faults: DiskFaults, shim: Path, place: Path, name: str
) -> None:
    """Berkeley DB repeats a failed write: that is safe, since only the flush after it counts (a flush is not)."""
    with Child(place / "node", faults.environment(shim, power_loss=True)) as child:
        child.confirm(10)
        slot = faults.fail("write", errno.ENOSPC, name=name, times=1)
        while not faults.struck(slot):
            child.confirm(10)
        child.confirm(50)
        child.kill()
    faults.lose_unsynced()
    check_restart(place / "node", child)


def test_a_disk_that_fails_during_recovery_is_refused_and_harms_nothing(
    faults: DiskFaults, shim: Path, place: Path
) -> None:
    with Child(place / "node", WITHOUT_FAULTS, checkpoint_interval_s=60) as child:
        child.confirm(200)
        child.kill()
    for call, error, said in (
        ("write", errno.ENOSPC, "the disk is full; make room and start again"),
        ("write", errno.EIO, "the disk fails"),
        ("sync", errno.EIO, "the disk fails"),
    ):
        slot = faults.fail(call, error, name="[!L]*")  # not the file LOCK
        with Child(place / "node", faults.environment(shim)) as struck:
            assert struck.ended() == REFUSED, struck.other
        assert faults.struck(slot) > 0
        assert struck.refused is not None
        assert struck.refused.startswith("Unusable"), struck.refused
        assert said in struck.refused
        faults.clear()
    check_restart(place / "node", child)


def test_a_slow_disk_only_takes_longer(faults: DiskFaults, shim: Path, place: Path) -> None:
    with Child(place / "node", faults.environment(shim)) as child:
        child.confirm(10)
        slot = faults.delay("sync", 0.2, name="log.*")
        while faults.struck(slot) < 3:
            child.confirm(1)
        assert child.stop() == 0
    assert child.fatal is None


def test_a_power_failure_loses_nothing_that_was_confirmed(faults: DiskFaults, shim: Path, place: Path) -> None:
    """Flushes are where they have to be, for every file: nothing unflushed survives, and nothing is missed."""
    with Child(place / "node", faults.environment(shim, power_loss=True), size=3000) as child:
        child.confirm(1000)  # several log files, several checkpoints
        child.kill()
    assert faults.lose_unsynced() > 0
    check_restart(place / "node", child, size=3000)


def test_lied_about_flushes_take_back_what_was_confirmed(faults: DiskFaults, shim: Path, place: Path) -> None:
    """What a disk that lies does to one node: the journal alone cannot notice a log that ends early."""
    with Child(place / "node", faults.environment(shim, power_loss=True), checkpoint_interval_s=60) as child:
        child.confirm(50)
        slot = faults.drop("sync")
        while faults.struck(slot) < 20:
            child.confirm(10)
        child.confirm(50)
        child.kill()
    faults.lose_unsynced()
    with Child(place / "node", WITHOUT_FAULTS, first=100_000) as again:
        again.confirm(1)
        assert again.holds[0] == 0
        assert 50 - UNCHOSEN <= again.holds[1] < max(child.confirmed)
