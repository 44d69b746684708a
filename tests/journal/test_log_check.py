"""Damage in the middle of the log is refused; a torn last flush is not. By value, and with logs of the real journal."""

from __future__ import annotations

import random
import shutil
import struct
from pathlib import Path

import pytest
import pytest_twisted

from phxqueue.journal import log_check
from phxqueue.journal.errors import START_OVER, Corrupt
from phxqueue.journal.log_check import UNSYNCED, find_damage
from phxqueue.journal.logfiles import fill_with_zeros
from phxqueue.journal.records import PutChosen, PutPromise
from tests.journal.rig import Rig, durable, entry

COMMIT, CHECKPOINT, REGISTER, ADD, DEBUG = 10, 11, 2, 41, 47
FILE_BYTES = 8192


def slow_checksum(data: bytes) -> int:
    total = 0
    for byte in data:
        total = (total * 33 + byte) & 0xFFFFFFFF
    return total


@pytest.mark.parametrize("length", [0, 1, 7, 63, 64, 65, 500, 8191, 8192, 8193, 20_000])
def test_the_checksum(length: int) -> None:
    for data in (random.Random(length).randbytes(length), b"\xff" * length):
        assert log_check.checksum(data) == slow_checksum(data)


class Log:
    """Writes log files by value; `at` has the offset of each record by name."""

    def __init__(self) -> None:
        self.files: dict[int, bytearray] = {}
        self.at: dict[str, int] = {}
        self.number, self.last = 0, 0
        self.new_file()

    def new_file(self) -> None:
        self.number += 1
        self.files[self.number] = bytearray()
        self.put("header", 0x00040988, 19, bytes(8))

    def put(self, name: str, kind: int, transaction: int, more: bytes = bytes(40)) -> None:
        data = self.files[self.number]
        body = struct.pack("=II", kind, transaction) + more
        length = 12 + len(body)
        self.at[name] = len(data)
        check = slow_checksum(body) ^ self.last ^ length
        data += struct.pack("=III", self.last, length, check) + body
        self.last = self.at[name]

    def commit(self, transaction: int, puts: int = 2, *, synced: bool = True) -> None:
        if not synced:
            self.put(f"mark{transaction}", DEBUG, transaction, bytes(30) + UNSYNCED)
        for n in range(puts):
            self.put(f"{transaction}.{n}", ADD, transaction, bytes([transaction]) * 50)
        if not synced:
            self.put(f"marked{transaction}", DEBUG, transaction, bytes(30) + UNSYNCED)
        self.put(f"commit{transaction}", COMMIT, transaction)

    def damaged(self, *names: str, at: int = 15) -> str | None:
        """What is found when a byte of these records is another one; the files stay as they are."""
        data = bytearray(self.files[self.number])
        for name in names:
            data[self.at[name] + at] ^= 0x40
        return self.found(data)

    def zeroed(self, first: str, until: str) -> str | None:
        data = bytearray(self.files[self.number])
        start, end = self.at[first], self.at[until]
        data[start:end] = bytes(end - start)
        return self.found(data)

    def found(self, data: bytes) -> str | None:
        files = {**{n: bytes(d) for n, d in self.files.items()}, self.number: bytes(data) + bytes(FILE_BYTES)}
        return find_damage(files)


def three_commits() -> Log:
    log = Log()
    for transaction in (101, 102, 103):
        log.commit(transaction)
    return log


def test_a_whole_log_and_a_torn_one() -> None:
    log = three_commits()
    assert log.damaged() is None
    data = bytes(log.files[1])
    for cut in range(log.at["103.0"], len(data)):
        assert log.found(data[:cut]) is None
        assert find_damage({1: data[:cut]}) is None
    for name in ("103.0", "103.1", "commit103"):
        assert log.damaged(name) is None, "one flush"
        assert log.damaged(name, at=5) is None, "one flush"


@pytest.mark.parametrize("at", [1, 5, 9, 15, 30])
def test_damage_before_the_last_flush(at: int) -> None:
    log = three_commits()
    for name in ("101.0", "101.1", "commit101", "102.0", "102.1"):
        assert "file 1 is damaged at byte" in str(log.damaged(name, at=at)), name


def test_a_region_of_zeros() -> None:
    log = three_commits()
    assert "damaged" in str(log.zeroed("101.0", "102.0"))
    assert "damaged" in str(log.zeroed("101.1", "102.1"))
    assert log.zeroed("103.0", "commit103") is None


def test_a_large_transaction_may_be_torn_anywhere() -> None:
    log = three_commits()
    log.commit(104, puts=40)
    for n in range(0, 40, 7):
        assert log.damaged(f"104.{n}", at=5) is None
        assert log.damaged(f"104.{n}") is None
    assert log.zeroed("104.3", "104.20") is None


def test_commits_without_a_flush_share_the_next_one() -> None:
    log = three_commits()
    log.commit(104, synced=False)
    log.commit(105, synced=False)
    log.put("register", REGISTER, 0)
    log.commit(106)
    log.put("checkpoint", CHECKPOINT, 0, struct.pack("=QIIII", 0, 1, 0, 0, 0))
    names = [name for name in log.at if log.at["mark104"] <= log.at[name]]
    for name in names:
        for at in (5, 15):
            assert log.damaged(name, at=at) is None, name
    for first, until in zip(names, names[2:], strict=False):
        assert log.zeroed(first, until) is None, first
    log.commit(107)
    for name in ("mark104", "104.0", "marked105", "106.0"):
        assert log.damaged(name) is not None, name


def test_a_transaction_without_a_flush_may_go_on_in_the_next_file() -> None:
    log = three_commits()
    log.put("mark104", DEBUG, 104, bytes(30) + UNSYNCED)
    log.put("104.0", ADD, 104)
    log.new_file()
    for n in range(1, 4):
        log.put(f"104.{n}", ADD, 104)
    log.put("marked104", DEBUG, 104, bytes(30) + UNSYNCED)
    log.put("commit104", COMMIT, 104)
    log.commit(105)
    for name in ("104.1", "104.2", "104.3", "marked104", "commit104", "105.0"):
        assert log.damaged(name) is None, name
        assert log.damaged(name, at=5) is None, name
    assert log.zeroed("header", "104.3") is None
    log.commit(106)
    log.commit(107)
    for name in ("104.1", "104.3", "105.0"):
        assert "damaged" in str(log.damaged(name)), name


def test_a_later_file() -> None:
    log = three_commits()
    log.new_file()
    log.commit(104)
    whole = {number: bytes(data) for number, data in log.files.items()}
    assert find_damage(whole) is None
    assert find_damage({**whole, 3: bytes(FILE_BYTES)}) is None, "prepared"
    assert "file 2 is missing" in str(find_damage({1: whole[1], 3: bytes(FILE_BYTES)}))
    assert "file 2 is missing" in str(find_damage({1: whole[1], 3: whole[2]}))


def test_a_last_file_that_looks_as_if_it_had_not_been_begun() -> None:
    log = three_commits()
    log.new_file()
    log.commit(104)
    first = bytes(log.files[1])
    lost = log.at["104.1"]
    begun = bytes(lost) + bytes(log.files[2])[lost:]
    assert find_damage({1: first, 2: begun}) is None, "one flush"
    log.commit(105)
    log.commit(106)  # the first of a file may have begun, unflushed, in the one before
    begun = bytes(lost) + bytes(log.files[2])[lost:]
    assert "file 2 is damaged at byte 0" in str(find_damage({1: first, 2: begun}))


def test_what_recovery_does_not_read_does_not_matter() -> None:
    log = three_commits()
    log.new_file()
    log.put("checkpoint", CHECKPOINT, 0, struct.pack("=QIIII", 0, 2, 28, 0, 0))
    log.commit(104)
    assert find_damage({1: b"\x01" * 100, 2: bytes(log.files[2])}) is None
    assert find_damage({2: bytes(log.files[2])}) is None


# ---- the real journal ----------------------------------------------------------------------


async def crash_image(rig: Rig) -> Path:
    """Six submissions, each flushed by itself, and the directory as a crash leaves it."""
    journal = rig.open()
    await durable(journal, PutPromise(0, 7))
    for n in range(6):
        await durable(journal, entry(n, b"payload%d" % n * 20))
    copy = rig.directory.with_name("crashed")
    shutil.copytree(rig.directory, copy)
    rig.directory = copy
    return copy / "db" / "log.0000000001"


def change(log: Path, at: int, new: bytes) -> None:
    with log.open("r+b") as file:
        file.seek(at)
        file.write(new)


@pytest.mark.parametrize("width", [1, 4096])
@pytest_twisted.ensureDeferred
async def test_damage_in_the_middle_of_the_log_is_refused(each_rig: Rig, width: int) -> None:
    """Recovery would forget all that follows, which has been answered, and say nothing."""
    log = await crash_image(each_rig)
    at = log.read_bytes().index(b"payload1")
    change(log, at - (width - 1), b"\xff" if width == 1 else bytes(width))
    before = log.read_bytes()
    if width == 4096:
        # So much of the log is gone that only its end is left: still a later flush.
        assert b"payload5" in before
    for _ in range(2):
        with pytest.raises(Corrupt, match="damaged at byte") as caught:
            each_rig.open()
        assert START_OVER in str(caught.value)
        assert log.read_bytes() == before


@pytest_twisted.ensureDeferred
async def test_a_damaged_last_flush_is_cut_off_and_does_no_harm_later(rig: Rig) -> None:
    log = await crash_image(rig)
    change(log, log.read_bytes().index(b"payload5"), b"\xff")
    journal = rig.open()
    assert [i for i, _ in journal.load_group(0).entries] == [0, 1, 2, 3, 4]
    for n in range(5, 8):
        await durable(journal, entry(n), PutChosen(0, n - 3))
        copy = rig.directory.with_name(f"again{n}")
        shutil.copytree(rig.directory, copy)
        assert log_check.check_log(copy / "db") is None


@pytest_twisted.ensureDeferred
async def test_a_log_file_cut_short_or_missing_behind_which_another_follows(rig: Rig) -> None:
    journal = rig.open(checkpoint_interval_s=3600, checkpoint_bytes=1 << 30)
    for n in range(60):
        await durable(journal, entry(n, bytes(60_000)), PutChosen(0, max(-1, n - 2)))
    crashed = rig.directory.with_name("crashed")
    shutil.copytree(rig.directory, crashed)
    rig.directory, home = crashed, crashed / "db"
    logs = sorted(home.glob("log.*"))
    assert len(logs) > 3
    assert log_check.check_log(home) is None
    fill_with_zeros(home / f"log.{int(logs[-1].name[4:]) + 1:010d}", 1 << 20)
    assert log_check.check_log(home) is None
    whole = logs[1].read_bytes()
    flipped = whole[:70_000] + bytes([whole[70_000] ^ 1]) + whole[70_001:]
    for content in (whole[: len(whole) // 2], b"", bytes(len(whole)), flipped):
        logs[1].write_bytes(content)
        assert log_check.check_log(home) is None, "Berkeley DB itself will see it"
        with pytest.raises(Corrupt, match="is damaged and cannot be recovered") as caught:
            rig.open()
        assert START_OVER in str(caught.value)
    logs[1].unlink()
    with pytest.raises(Corrupt, match="log file 2 is missing"):
        rig.open()
    logs[1].write_bytes(whole)
    assert len(rig.open().load_group(0).entries) > 0
