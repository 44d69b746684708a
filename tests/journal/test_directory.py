"""Whose directory it is, and who may use it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import pytest_twisted

from phxqueue.journal import database
from phxqueue.journal.directory import write_durably
from phxqueue.journal.errors import Corrupt, DirectoryLocked, Unusable, WrongIdentity
from phxqueue.journal.records import WantedIdentity
from tests.journal.rig import NODE, Rig, durable, entry


@pytest_twisted.ensureDeferred
async def test_a_directory_keeps_its_incarnation(each_rig: Rig) -> None:
    journal = each_rig.open()
    identity = journal.identity
    assert (identity.cluster, identity.store_id, identity.node_id) == ("test", 1, 0)
    assert 0 < identity.incarnation < 1 << 63
    journal = await each_rig.reopen(journal)
    assert journal.identity == identity
    await each_rig.close(journal)
    shutil.rmtree(each_rig.directory)
    assert each_rig.open().identity.incarnation != identity.incarnation


@pytest.mark.parametrize(
    "other",
    [
        WantedIdentity("prod", 1, 0, 2),
        WantedIdentity("test", 2, 0, 2),
        WantedIdentity("test", 1, 1, 2),
        WantedIdentity("test", 1, 0, 3),
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_directory_of_another_node_is_refused(rig: Rig, other: WantedIdentity) -> None:
    await rig.close(rig.open())
    with pytest.raises(WrongIdentity) as refusal:
        rig.open(wanted=other)
    for node in (NODE, other):
        groups = f"({node.paxos_groups} Paxos groups)"
        assert f"node {node.node_id} of store {node.store_id} of cluster '{node.cluster}' {groups}" in str(
            refusal.value
        )


def test_a_file_is_written_whole_however_little_is_taken_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data[:7])))
    write_durably(tmp_path / "NODE", bytes(range(100)))
    assert (tmp_path / "NODE").read_bytes() == bytes(range(100))


def test_a_second_process_is_refused(rig: Rig) -> None:
    rig.open()
    program = (
        "from pathlib import Path; from phxqueue.journal.directory import DirectoryLock\n"
        f"try: DirectoryLock(Path({str(rig.directory)!r}))\n"
        "except Exception as error: print(type(error).__name__, error.pid, error)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"DirectoryLocked {os.getpid()} ")
    assert f"in use by process {os.getpid()}: stop it" in said


@pytest_twisted.ensureDeferred
async def test_a_second_journal_in_one_process_is_refused(rig: Rig) -> None:
    journal = rig.open()
    with pytest.raises(DirectoryLocked) as refusal:
        rig.open()
    assert refusal.value.pid == os.getpid()
    await rig.reopen(journal)


@pytest_twisted.ensureDeferred
async def test_a_database_taken_away_is_noticed(rig: Rig) -> None:
    """It must not come back as the old incarnation with its promises forgotten."""
    await rig.close(rig.open())
    shutil.rmtree(rig.database)
    with pytest.raises(Corrupt, match=r"state\.db is missing"):
        rig.open()


@pytest_twisted.ensureDeferred
async def test_a_node_file_of_another_incarnation_is_noticed(rig: Rig) -> None:
    await rig.close(rig.open())
    path = rig.directory / "NODE"
    fields = json.loads(path.read_text())
    fields["incarnation"] += 1
    path.write_text(json.dumps(fields))
    with pytest.raises(Corrupt, match="another incarnation"):
        rig.open()


@pytest_twisted.ensureDeferred
async def test_a_lost_node_file_is_written_again(rig: Rig) -> None:
    """As after a crash while the directory was being made: the database is complete, the file was to come last."""
    journal = rig.open()
    identity = journal.identity
    await durable(journal, entry(0))
    await rig.close(journal)
    (rig.directory / "NODE").unlink()
    journal = rig.open()
    assert journal.identity == identity
    assert len(journal.load_group(0).entries) == 1
    assert json.loads((rig.directory / "NODE").read_text())["incarnation"] == identity.incarnation
    await rig.close(journal)
    (rig.directory / "NODE").unlink()
    with pytest.raises(WrongIdentity):
        rig.open(wanted=WantedIdentity("test", 1, 1, 2))


@pytest_twisted.ensureDeferred
async def test_a_garbled_node_file(rig: Rig) -> None:
    await rig.close(rig.open())
    for text in ("", "{}", "[1]", '{"format": 1, "cluster": "test"}', "\0\0\0"):
        (rig.directory / "NODE").write_text(text)
        with pytest.raises(Corrupt, match="does not say whose data this is"):
            rig.open()


@pytest_twisted.ensureDeferred
async def test_files_are_private(rig: Rig) -> None:
    journal = rig.open()
    await durable(journal, entry(0))
    for path in rig.directory.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


@pytest_twisted.ensureDeferred
async def test_a_recovery_without_room_is_not_called_damage(each_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Berkeley DB says "run recovery" then, and the remedy for damage, emptying the directory, would be a loss."""
    await each_rig.close(each_rig.open())
    usage = os.statvfs(each_rig.directory)
    full = os.statvfs_result([*usage[:4], 0, *usage[5:10]])
    monkeypatch.setattr(database.os, "statvfs", lambda path: full)
    error = each_rig.binding.DBRunRecoveryError(-30973, "BDB0087 DB_RUNRECOVERY")
    monkeypatch.setattr(database.Database, "_open_environment", lambda self: (_ for _ in ()).throw(error))
    with pytest.raises(Unusable, match=r"only 0 bytes are free .* make room and start again"):
        each_rig.open()
