"""Group commit: what is one transaction, in which order it is told, what is synchronous."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet import reactor, task
from twisted.internet.defer import Deferred

from phxqueue.journal import batch, database
from phxqueue.journal.errors import JournalClosed, JournalFailed, JournalOverloaded, Unusable
from phxqueue.journal.records import DeleteBlob, PutBlob, PutChosen, PutPromise
from tests.journal.rig import Faults, Rig, durable, entry


@pytest_twisted.ensureDeferred
async def test_every_done_follows_a_flush_of_the_log(each_rig: Rig) -> None:
    journal = each_rig.open()
    for instance in range(3):
        before = journal._database.log_syncs()
        await durable(journal, entry(instance))
        assert journal._database.log_syncs() > before
    before = journal._database.log_syncs()
    await durable(journal, entry(3), entry(4))
    assert journal._database.log_syncs() > before


@pytest_twisted.ensureDeferred
async def test_one_entry_is_one_call(rig: Rig, faults: Faults) -> None:
    journal = rig.open(binding=faults)
    await durable(journal, PutPromise(0, 1))
    faults.calls.clear()
    await durable(journal, entry(1), PutChosen(0, 0))
    assert [call for call in faults.calls if call not in ("log_stat", "memp_trickle")] == ["put"]


@pytest_twisted.ensureDeferred
async def test_what_comes_during_a_commit_goes_into_the_next_one(rig: Rig, faults: Faults) -> None:
    journal = rig.open(binding=faults)
    await durable(journal, PutPromise(0, 1))
    commits = journal.stats.commits
    go_on = faults.hold("put")
    faults.calls.clear()
    told: list[int] = []
    journal.submit([entry(0)], lambda: told.append(0))
    while "put" not in faults.calls:
        await task.deferLater(reactor, 0)
    for number in range(1, 20):
        journal.submit([entry(number), PutBlob("t", b"%d" % number, b"x")], lambda number=number: told.append(number))  # type: ignore[misc]
    last = durable(journal, entry(20))
    assert told == []
    go_on.set()
    await last
    assert told == list(range(20))
    assert journal.stats.commits - commits == 2


@pytest_twisted.ensureDeferred
async def test_transactions_are_bounded(rig: Rig, faults: Faults) -> None:
    journal = rig.open(binding=faults, commit_bytes=64 << 10, commit_writes=10)
    await durable(journal, PutPromise(0, 1))
    faults.calls.clear()
    dones = [durable(journal, entry(n)) for n in range(25)]
    dones += [durable(journal, entry(30 + n, bytes(60_000))) for n in range(3)]
    dones += [durable(journal, *(entry(40 + n) for n in range(20)))]
    for done in dones:
        await done
    calls = [call for call in faults.calls if call in ("txn_begin", "put")]
    transactions = [part.count("put") for part in ",".join(calls).split("txn_begin")]
    assert max(transactions[:-1]) <= 10
    assert transactions[-1] == 20  # one that is larger by itself travels alone
    assert journal.stats.commits >= 1 + 3 + 2 + 1


@pytest_twisted.ensureDeferred
async def test_done_is_told_in_order_and_never_from_within_submit(rig: Rig) -> None:
    journal = rig.open()
    told: list[int] = []
    submitting = True

    def done(number: int) -> None:
        assert not submitting
        told.append(number)

    for number in range(200):
        journal.submit([entry(number)], lambda number=number: done(number))  # type: ignore[misc]
    submitting = False
    await durable(journal, entry(200))
    assert told == list(range(200))


@pytest_twisted.ensureDeferred
async def test_done_may_submit_and_close(rig: Rig) -> None:
    journal = rig.open()
    closed: Deferred[None] = Deferred()

    def second() -> None:
        rig.journals.remove(journal)
        journal.close().chainDeferred(closed)

    journal.submit([entry(0)], lambda: journal.submit([entry(1)], second))
    await closed
    assert [i for i, _ in rig.open().load_group(0).entries] == [0, 1]


@pytest_twisted.ensureDeferred
async def test_a_done_that_raises_does_not_hold_up_the_others(rig: Rig, logged_errors) -> None:  # type: ignore[no-untyped-def]
    journal = rig.open()
    journal.submit([entry(0)], lambda: 1 / 0)  # type: ignore[arg-type, func-returns-value]
    await durable(journal, entry(1))
    assert len(logged_errors.flush(ZeroDivisionError)) == 1


@pytest_twisted.ensureDeferred
async def test_a_chosen_mark_alone_waits_for_company(rig: Rig, faults: Faults) -> None:
    journal = rig.open(binding=faults, lazy_commit_delay_ms=60_000)
    await durable(journal, entry(0))
    commits = journal.stats.commits
    journal.submit([PutChosen(0, 0)])
    await task.deferLater(reactor, 0.05)
    assert journal.stats.commits == commits
    await durable(journal, entry(1))
    assert journal.stats.commits == commits + 1
    journal = await rig.reopen(journal)
    assert journal.load_group(0).chosen == 0


@pytest_twisted.ensureDeferred
async def test_a_chosen_mark_without_company_is_written_after_a_while_and_without_a_flush(rig: Rig) -> None:
    journal = rig.open(lazy_commit_delay_ms=1)
    await durable(journal, entry(0), entry(1))
    syncs, commits = journal._database.log_syncs(), journal.stats.commits
    journal.submit([PutChosen(0, 0)])
    journal.submit([PutChosen(0, 1)])
    while journal.stats.commits == commits:
        await task.deferLater(reactor, 0.001)
    assert journal.stats.commits == commits + 1
    assert journal._database.log_syncs() == syncs
    # The same mark with `done` adds nothing, but has to be durable.
    await durable(journal, PutChosen(0, 1))
    assert journal._database.log_syncs() > syncs


@pytest_twisted.ensureDeferred
async def test_overload_is_shown_and_then_refused(rig: Rig, faults: Faults) -> None:
    journal = rig.open(binding=faults, max_pending_bytes=1 << 20)
    await durable(journal, PutPromise(0, 1))
    go_on = faults.hold("put")
    last = durable(journal, entry(0, bytes(900_000)))
    assert not journal.overloaded
    last = durable(journal, entry(1, bytes(900_000)))
    assert journal.overloaded
    with pytest.raises(JournalOverloaded, match="wait for the disk"):
        journal.submit([entry(2, bytes(900_000))])
    go_on.set()
    await last
    assert not journal.overloaded
    assert journal.pending_bytes == 0
    await durable(journal, entry(2, bytes(3_000_000)))  # one that is large by itself is taken when nothing waits


@pytest_twisted.ensureDeferred
async def test_a_bad_write_is_refused_alone(rig: Rig) -> None:
    journal = rig.open()
    with pytest.raises(ValueError, match="group 70000"):
        journal.submit([entry(0), entry(1, group=70_000)])
    await durable(journal, entry(2))
    assert [i for i, _ in journal.load_group(0).entries] == [2]


@pytest_twisted.ensureDeferred
async def test_close_drains(each_rig: Rig) -> None:
    journal = each_rig.open()
    told: list[int] = []
    for number in range(100):
        journal.submit([entry(number, bytes(2000))], lambda number=number: told.append(number))  # type: ignore[misc]
    journal.submit([PutChosen(0, 99)])
    closing = each_rig.close(journal)
    deferred = Deferred.fromCoroutine(closing)
    with pytest.raises(JournalClosed):
        journal.submit([entry(100)])
    await deferred
    assert told == list(range(100))
    journal = each_rig.open()
    assert journal.load_group(0).chosen == 99
    assert journal.load_group(0).entries == []


@pytest_twisted.ensureDeferred
async def test_closing_twice_or_using_it_afterwards_is_an_error(rig: Rig) -> None:
    journal = rig.open()
    await rig.close(journal)
    with pytest.raises(JournalClosed):
        await journal.close()
    with pytest.raises(JournalClosed):
        await journal.read_instances(0, [1])
    with pytest.raises(JournalClosed):
        await journal.delete_entries(0, 0)


@pytest_twisted.ensureDeferred
async def test_a_disk_that_does_not_answer_ends_closing(rig: Rig, faults: Faults) -> None:
    journal = rig.open(binding=faults, close_timeout_s=0.1)
    await durable(journal, PutPromise(0, 1))
    go_on = faults.hold("put")
    told: list[int] = []
    journal.submit([entry(0)], lambda: told.append(0))
    with pytest.raises(JournalFailed, match="does not answer"):
        await rig.close(journal)
    go_on.set()
    assert "does not answer" in await rig.died
    assert told == []


@pytest_twisted.ensureDeferred
async def test_the_lock_table_holds_the_largest_submission(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scaled down; every value has a page of its own, so every write holds as many locks as it can."""
    most = 2000
    monkeypatch.setattr(database, "MAX_SUBMISSION_WRITES", most)
    monkeypatch.setattr(batch, "MAX_SUBMISSION_WRITES", most)
    journal = rig.open(cache_bytes=32 << 20, max_locks=1000)
    scattered = [(n * 40_503) % (1 << 16) for n in range(most)]
    assert len(set(scattered)) == most
    await durable(journal, *(PutBlob("t", b"%08d" % n, bytes(1000)) for n in scattered))
    await durable(journal, *(PutBlob("t", b"%08d" % n, bytes(900)) for n in reversed(scattered)))
    await durable(journal, *(DeleteBlob("t", b"%08d" % n) for n in scattered))
    locks = journal._database._env.lock_stat()
    assert most // 4 < locks["maxnlocks"] < locks["maxlocks"] <= 2 * most
    assert list(journal.load_blobs("t")) == []
    assert rig.fatal == []


def test_losing_acknowledged_items_has_to_be_asked_for(rig: Rig) -> None:
    with pytest.raises(Unusable, match="i_accept_loss"):
        rig.open(sync="interval")


@pytest_twisted.ensureDeferred
async def test_interval_mode_flushes_in_its_own_time(rig: Rig) -> None:
    journal = rig.open(sync="interval", i_accept_loss=True, sync_interval_ms=1)
    syncs = journal._database.log_syncs()
    await durable(journal, PutPromise(0, 1))
    await durable(journal, entry(0))
    while journal._database.log_syncs() == syncs:
        await task.deferLater(reactor, 0.001)
    assert rig.fatal == []
