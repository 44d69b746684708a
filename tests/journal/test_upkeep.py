"""Checkpoints, log files, free space."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor, task
from twisted.internet.defer import Deferred

from phxqueue.config.settings import JournalSettings
from phxqueue.journal import logfiles
from phxqueue.journal.journal import Journal
from phxqueue.journal.records import PutChosen
from phxqueue.journal.upkeep import SpaceWatch
from tests.journal.rig import Faults, Rig, durable, entry

FAST = 0.01


def log_numbers(rig: Rig) -> list[int]:
    return sorted(int(path.suffix[1:]) for path in rig.database.glob("log.*"))


async def until(condition: Any) -> None:
    while not condition():
        await task.deferLater(reactor, 0.002)


@pytest_twisted.ensureDeferred
async def test_old_log_files_go_after_a_checkpoint_only(each_rig: Rig) -> None:
    faults = Faults(each_rig.binding)
    journal = each_rig.open(
        binding=faults, checkpoint_interval_s=3600, checkpoint_bytes=3 << 20, trickle_interval_s=FAST
    )
    instance = 0
    while journal._checkpointer.checkpoints == 0:
        before = log_numbers(each_rig)
        await durable(journal, entry(instance, bytes(60_000)))
        if journal._checkpointer.checkpoints == 0 and "txn_checkpoint" not in faults.calls:
            assert before[0] == 1
        instance += 1
    assert log_numbers(each_rig)[0] > 1
    assert faults.calls.index("txn_checkpoint") < faults.calls.index("log_archive")
    journal = await each_rig.reopen(journal)
    assert len(journal.load_group(0).entries) == instance


@pytest_twisted.ensureDeferred
async def test_an_idle_journal_takes_no_checkpoints(rig: Rig, faults: Faults) -> None:
    journal = rig.open(binding=faults, checkpoint_interval_s=0.1, trickle_interval_s=FAST)
    await durable(journal, entry(0))
    await until(lambda: journal._checkpointer.checkpoints == 1)
    calls = len(faults.calls)
    await task.deferLater(reactor, 0.25)
    assert faults.calls[calls:] == []


@pytest_twisted.ensureDeferred
async def test_the_next_log_file_is_prepared(each_rig: Rig) -> None:
    journal = each_rig.open(trickle_interval_s=FAST, prepare_max_rate=64 << 30)
    assert log_numbers(each_rig) == [1]
    await durable(journal, entry(0, bytes(100_000)))
    await task.deferLater(reactor, 5 * FAST)
    assert log_numbers(each_rig) == [1]  # not yet: an idle node prepares nothing
    await durable(journal, entry(1, bytes(300_000)))
    second = each_rig.database / "log.0000000002"
    await until(second.exists)
    assert second.stat().st_blocks * 512 >= 1 << 20  # really there, not sparse
    made = second.stat().st_ino
    for n in range(2, 5):
        await durable(journal, entry(n, bytes(300_000)))
    assert journal._database.log_position()[0] == 2
    assert second.stat().st_ino == made
    assert second.read_bytes()[:100] != bytes(100)


@pytest_twisted.ensureDeferred
async def test_nothing_is_prepared_under_a_flood(rig: Rig) -> None:
    journal = rig.open(trickle_interval_s=FAST, prepare_max_rate=1)
    for n in range(4):
        await durable(journal, entry(n, bytes(150_000)))
        await task.deferLater(reactor, 2 * FAST)
    assert log_numbers(rig) == [1]


@pytest_twisted.ensureDeferred
async def test_a_log_file_that_cannot_be_prepared_is_no_failure(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def no(path: Path, size: int, stop: object = None) -> bool:
        tried.append(path)
        raise OSError(28, "No space left on device")

    tried: list[Path] = []
    journal = rig.open(trickle_interval_s=FAST, prepare_max_rate=64 << 30)
    monkeypatch.setattr(logfiles, "fill_with_zeros", no)
    await durable(journal, entry(0, bytes(400_000)))
    await until(lambda: tried)
    for n in range(1, 5):
        await durable(journal, entry(n, bytes(400_000)))
    assert rig.fatal == []


def test_a_preparation_can_be_given_up(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    assert not logfiles.fill_with_zeros(tmp_path / "log", 8 << 20, stop)
    assert (tmp_path / "log").stat().st_size == logfiles.PIECE_BYTES


class Disk:
    """A file system with as many free bytes as it is told."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.broken = False

    def statvfs(self, path: Path) -> Any:
        if self.broken:
            raise OSError(5, "Input/output error")
        return SimpleNamespace(f_bavail=self.free, f_frsize=1)


def test_free_space_has_hysteresis(tmp_path: Path) -> None:
    disk = Disk(1000)
    watch = SpaceWatch(tmp_path, JournalSettings(min_free_bytes=1000), lambda accepting: None, disk.statvfs)
    seen = []
    for disk.free in (1000, 999, 1000, 1100, 1125, 1000, 999):
        watch.look()
        seen.append(watch.accepting)
    assert seen == [True, False, False, False, True, True, False]


def test_a_file_system_that_cannot_be_asked_counts_as_full(tmp_path: Path) -> None:
    disk = Disk(5000)
    watch = SpaceWatch(tmp_path, JournalSettings(min_free_bytes=1000), lambda accepting: None, disk.statvfs)
    disk.broken = True
    watch.look()
    assert not watch.accepting
    disk.broken = False
    watch.look()
    assert watch.accepting


@pytest_twisted.ensureDeferred
async def test_changes_of_free_space_are_told(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(100_000_000)
    journal = rig.open(min_free_bytes=1 << 20, free_check_interval_s=0.05, trickle_interval_s=FAST)
    journal._space._statvfs = disk.statvfs
    told: list[tuple[bool, bool]] = []
    change: Deferred[None] = Deferred()

    def changed(accepting: bool) -> None:
        told.append((accepting, journal.accepting))
        change.callback(None)

    journal.on_accepting_changed(changed)
    disk.free = 1000
    await change
    # Refusing enqueues is all it means: what is submitted is still stored.
    await durable(journal, entry(0), PutChosen(0, 0))
    await journal.read_instances(0, [0])
    await journal.delete_entries(0, 1)
    change = Deferred()
    disk.free = 100_000_000
    await change
    assert told == [(False, False), (True, True)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the privilege to mount a tmpfs (CAP_SYS_ADMIN)")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest_twisted.ensureDeferred
async def test_a_filling_disk_refuses_and_recovers_by_itself(rig: Rig, small_disk: Path) -> None:
    rig.directory = small_disk / "node"
    journal = rig.open(
        min_free_bytes=12 << 20, free_check_interval_s=0.05, checkpoint_interval_s=0.1, trickle_interval_s=FAST
    )
    assert journal.accepting
    filler = small_disk / "filler"
    filler.write_bytes(bytes(12 << 20))
    await until(lambda: not journal.accepting)
    assert 0 < journal.free_bytes < 12 << 20
    await durable(journal, entry(0), PutChosen(0, 0))
    filler.unlink()
    await until(lambda: journal.accepting)
    assert rig.fatal == []


@pytest_twisted.ensureDeferred
async def test_a_full_disk_ends_it_without_a_lie(rig: Rig, small_disk: Path) -> None:
    rig.directory = small_disk / "node"
    journal: Journal = rig.open()
    (small_disk / "filler").write_bytes(bytes(20 << 20))
    told: list[int] = []
    for n in range(100):
        journal.submit([entry(n, bytes(100_000))], lambda n=n: told.append(n))  # type: ignore[misc]
    assert "the disk is full" in await rig.died
    with pytest.raises(Exception, match="the disk is full"):
        await rig.close(journal)
    (small_disk / "filler").unlink()
    entries = rig.open().load_group(0).entries
    assert len(told) < 100
    assert [i for i, _ in entries][: len(told)] == told
