"""After an error of the disk nothing is acknowledged any more, and nothing is tried again."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet import reactor, task
from twisted.internet.defer import Deferred

from phxqueue.journal import bdb
from phxqueue.journal.database import Database
from phxqueue.journal.errors import JournalFailed
from phxqueue.journal.records import PutPromise
from tests.journal.rig import Faults, Rig, durable, entry, fill

ERRORS = bdb.load()
FSYNC_FAILED = ERRORS.DBError(5, "Input/output error -- BDB0151 fsync: Input/output error")
DISK_FULL = ERRORS.DBNoSpaceError(28, "No space left on device -- BDB0150 write: No space left on device")


@pytest.mark.parametrize(
    ("call", "error", "writes", "reason"),
    [
        ("put", FSYNC_FAILED, 1, "fsync: Input/output error"),
        ("commit", FSYNC_FAILED, 2, "fsync: Input/output error"),
        ("put", DISK_FULL, 2, "the disk is full"),
        ("txn_begin", MemoryError("no more"), 2, "no more"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_write_error_ends_it(
    rig: Rig, faults: Faults, call: str, error: Exception, writes: int, reason: str
) -> None:
    journal = rig.open(binding=faults)
    await durable(journal, PutPromise(0, 1))
    told: list[str] = []
    go_on = faults.hold("put")
    journal.submit([entry(0)], lambda: told.append("before"))
    while faults.calls[-1] != "put":
        await task.deferLater(reactor, 0)
    faults.fail(call, error)
    journal.submit([entry(n) for n in range(1, 1 + writes)], lambda: told.append("failing"))
    trimmed = journal.delete_entries(0, 0)
    go_on.set()
    assert reason in await rig.died
    assert "failing" not in told

    with pytest.raises(JournalFailed, match=reason):
        journal.submit([entry(5)], lambda: told.append("after"))
    with pytest.raises(JournalFailed):
        await journal.read_instances(0, [0])
    with pytest.raises(JournalFailed):
        await trimmed
    calls = len(faults.calls)
    with pytest.raises(JournalFailed):
        await rig.close(journal)
    assert "failing" not in told
    assert "after" not in told
    # Closing neither flushes nor writes: what was lost in the failed flush would only seem to be there.
    assert set(faults.calls[calls:]) <= {"log_stat", "memp_trickle"}
    assert len(rig.fatal) == 1


@pytest_twisted.ensureDeferred
async def test_the_next_start_has_what_was_told_durable(rig: Rig, faults: Faults) -> None:
    journal = rig.open(binding=faults)
    await durable(journal, entry(0))
    faults.fail("put", FSYNC_FAILED)
    journal.submit([entry(1)], lambda: pytest.fail("acknowledged after a failed flush"))
    await rig.died
    with pytest.raises(JournalFailed):
        await rig.close(journal)
    assert [i for i, _ in rig.open().load_group(0).entries] == [0]


@pytest.mark.parametrize("call", ["txn_checkpoint", "memp_trickle", "log_archive", "log_stat"])
@pytest_twisted.ensureDeferred
async def test_an_error_of_the_upkeep_ends_it_too(rig: Rig, faults: Faults, call: str) -> None:
    journal = rig.open(binding=faults, checkpoint_interval_s=0.1)
    faults.fail(call, FSYNC_FAILED)
    told: list[int] = []
    journal.submit([entry(0)], lambda: told.append(0))
    assert "DBError: Input/output error" in await rig.died
    with pytest.raises(JournalFailed):
        journal.submit([entry(1)], lambda: told.append(1))
    assert told in ([], [0])


@pytest_twisted.ensureDeferred
async def test_commits_in_flight_are_not_told_once_it_has_failed(rig: Rig, faults: Faults) -> None:
    """A failed checkpoint, while a commit that began earlier succeeds."""
    journal = rig.open(binding=faults)
    await durable(journal, PutPromise(0, 1))
    told: list[int] = []
    go_on = faults.hold("put")
    journal.submit([entry(0)], lambda: told.append(0))
    journal._fail("the disk has gone")
    go_on.set()
    assert await rig.died == "the disk has gone"
    with pytest.raises(JournalFailed):
        await rig.close(journal)
    assert told == []


@pytest_twisted.ensureDeferred
async def test_a_deadlock_with_a_reader_is_no_failure(rig: Rig, faults: Faults) -> None:
    journal = rig.open(binding=faults)
    await fill(journal, 0, 9)
    faults.fail("put", faults.DBLockDeadlockError(-30993, "gave way"), times=3)
    await durable(journal, entry(10))
    faults.fail("put", faults.DBLockDeadlockError(-30993, "gave way"), times=3)
    await durable(journal, entry(11), entry(12))
    faults.fail("delete", faults.DBLockDeadlockError(-30993, "gave way"), times=3)
    await journal.delete_entries(0, 5)
    faults.fail("get", faults.DBLockDeadlockError(-30993, "gave way"), times=3)
    assert len(await journal.read_entries(0, 5, 12, 1000)) == 8
    assert rig.fatal == []


@pytest_twisted.ensureDeferred
async def test_endless_deadlocks_are_a_failure(rig: Rig, faults: Faults) -> None:
    journal = rig.open(binding=faults)
    faults.fail("put", faults.DBLockDeadlockError(-30993, "gave way"), times=1000)
    journal.submit([entry(0)], lambda: pytest.fail("acknowledged"))
    assert "DBLockDeadlockError" in await rig.died


@pytest_twisted.ensureDeferred
async def test_an_old_log_file_that_cannot_be_removed_is_told_at_once(
    rig: Rig, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = rig.open(binding=faults, close_timeout_s=60)
    await durable(journal, PutPromise(0, 1))

    def refuse(_: object) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Database, "remove_old_logs", refuse)
    with pytest.raises(JournalFailed, match="closing: PermissionError: Operation not permitted"):
        await Deferred.fromCoroutine(rig.close(journal)).addTimeout(10, reactor)


@pytest_twisted.ensureDeferred
async def test_an_error_while_closing_is_told(rig: Rig, faults: Faults) -> None:
    journal = rig.open(binding=faults)
    await durable(journal, entry(0))
    faults.fail("txn_checkpoint", FSYNC_FAILED)
    with pytest.raises(JournalFailed, match="closing: DBError: Input/output error"):
        await rig.close(journal)
    assert len(rig.fatal) == 1
    assert [i for i, _ in rig.open().load_group(0).entries] == [0]
