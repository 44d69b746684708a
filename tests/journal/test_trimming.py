"""Trimming: counts at once, gives space back in steps, survives a crash."""

from __future__ import annotations

import shutil

import pytest
import pytest_twisted

from phxqueue.journal import trimmer
from phxqueue.journal.errors import EntryMissing, JournalClosed
from phxqueue.journal.records import PutBlob, PutChosen, TrimEntries
from phxqueue.journal.trimmer import STEP_SECONDS, TrimShare
from tests.journal.rig import Rig, durable, entry, fill


@pytest_twisted.ensureDeferred
async def test_trimmed_entries_are_gone(each_rig: Rig) -> None:
    journal = each_rig.open()
    await fill(journal, 0, 999)
    await fill(journal, 0, 9, group=1)
    await journal.delete_entries(0, 700)
    assert journal._writer.trimmer.deleted == 700
    assert journal.load_group(0).first == 700
    assert journal.load_group(1).first == 0
    with pytest.raises(EntryMissing, match="begins at 700"):
        await journal.read_instances(0, [699])
    await journal.read_instances(0, [700])
    await journal.delete_entries(0, 300)  # long gone: at once
    journal = await each_rig.reopen(journal)
    state = journal.load_group(0)
    assert (state.first, state.chosen, state.entries) == (700, 999, [])
    await journal.delete_entries(0, 1000)
    journal = await each_rig.reopen(journal)
    state = journal.load_group(0)
    assert (state.first, state.chosen) == (1000, 999)


@pytest_twisted.ensureDeferred
async def test_the_space_is_used_again(rig: Rig) -> None:
    journal = rig.open()
    await fill(journal, 0, 19, bytes(50_000))
    await journal.delete_entries(0, 20)
    await rig.close(journal)
    size = (rig.database / "entries.db").stat().st_size
    journal = rig.open()
    await fill(journal, 20, 39, bytes(50_000))
    await rig.close(journal)
    assert (rig.database / "entries.db").stat().st_size < size * 1.2


@pytest_twisted.ensureDeferred
async def test_a_trim_counts_atomically_with_its_submission(rig: Rig) -> None:
    """As when a checkpoint of a peer is installed: everything up to it is replaced at once."""
    journal = rig.open()
    await fill(journal, 0, 4)
    await durable(journal, PutBlob("checkpoints", b"0", b"state"), PutChosen(0, 5000), TrimEntries(0, 5001))
    copy = rig.directory.with_name("copy")
    shutil.copytree(rig.directory, copy)
    await durable(journal, entry(5001))
    state = journal.load_group(0)
    assert (state.first, state.chosen, [i for i, _ in state.entries]) == (5001, 5000, [5001])
    rig.directory = copy
    state = rig.open().load_group(0)
    assert (state.first, state.chosen, state.entries) == (5001, 5000, [])


@pytest_twisted.ensureDeferred
async def test_trimming_goes_on_after_a_restart(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trimmer, "STEP_SECONDS", 0.0)  # no step ever does anything
    journal = rig.open()
    await fill(journal, 0, 99)
    trimmed = journal.delete_entries(0, 50)
    await durable(journal, entry(100))
    await rig.close(journal)
    with pytest.raises(JournalClosed, match="goes on at the next start"):
        await trimmed
    monkeypatch.undo()
    journal = rig.open()
    assert journal.load_group(0).first == 50
    await journal.delete_entries(0, 50)
    assert journal._writer.trimmer.deleted == 50


@pytest_twisted.ensureDeferred
async def test_holes_are_no_obstacle(rig: Rig) -> None:
    journal = rig.open()
    await durable(journal, *(entry(n) for n in (0, 1, 50, 51, 10_000_000)), entry(7, group=1), PutChosen(0, 10_000_000))
    await journal.delete_entries(0, 10_000_001)
    assert journal.load_group(0).first == 10_000_001
    await journal.read_instances(1, [7])


@pytest_twisted.ensureDeferred
async def test_commits_go_on_meanwhile(rig: Rig) -> None:
    journal = rig.open()
    for first in range(0, 3000, 1000):
        await fill(journal, first, first + 999, bytes(300))
    trimmed = journal.delete_entries(0, 2900)
    for n in range(50):
        await durable(journal, entry(3000 + n), PutChosen(0, 2999 + n))
    await trimmed
    assert journal._writer.trimmer.deleted == 2900


@pytest_twisted.ensureDeferred
async def test_trimming_what_is_not_chosen_ends_the_journal(rig: Rig) -> None:
    journal = rig.open()
    await durable(journal, entry(0), entry(1), PutChosen(0, 0))
    journal.submit([TrimEntries(0, 2)], lambda: pytest.fail("trimmed an entry that may not be forgotten"))
    assert "below 2, but is chosen up to 0 only" in await rig.died


def test_trimming_takes_its_share_and_no_more() -> None:
    share = TrimShare(40)
    assert not share.may_step()
    steps = 0
    for _ in range(1000):
        share.commit_took(0.001)
        if share.may_step():
            share.step_took(STEP_SECONDS)
            steps += 1
    assert steps * STEP_SECONDS / (1.0 + steps * STEP_SECONDS) == pytest.approx(0.4, rel=0.1)


def test_a_long_step_is_paid_back() -> None:
    share = TrimShare(40)
    share.commit_took(1.0)
    assert share.may_step()
    share.step_took(0.1)
    for _ in range(100):
        share.commit_took(0.001)
    assert not share.may_step()
