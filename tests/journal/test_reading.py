"""Cold reads: ranges, lists, what is missing or damaged, and repair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor, task

from phxqueue.journal.errors import CorruptEntry, EntryMissing, JournalError, JournalOverloaded
from phxqueue.journal.journal import Journal
from phxqueue.journal.records import PutChosen
from tests.journal.rig import Faults, Rig, durable, entry, fill, flip, length_fits


@pytest_twisted.ensureDeferred
async def test_ranges_are_bounded_by_bytes(each_rig: Rig) -> None:
    journal = each_rig.open()
    await fill(journal, 0, 19, bytes(1000))
    assert [i for i, _ in await journal.read_entries(0, 3, 19, 5000)] == [3, 4, 5, 6, 7]
    assert [i for i, _ in await journal.read_entries(0, 3, 19, 5999)] == [3, 4, 5, 6, 7]
    assert [i for i, _ in await journal.read_entries(0, 3, 5, 1 << 20)] == [3, 4, 5]
    assert [i for i, _ in await journal.read_entries(0, 3, 19, 0)] == [3]
    assert [i for i, _ in await journal.read_entries(0, 15, 99, 1 << 20)] == [15, 16, 17, 18, 19]
    assert await journal.read_entries(0, 5, 4, 1000) == []


@pytest_twisted.ensureDeferred
async def test_lists_keep_their_order(each_rig: Rig) -> None:
    journal = each_rig.open()
    await durable(journal, *(entry(n, b"%d" % n, ballot=n + 1) for n in range(10)), PutChosen(0, 9))
    got = await journal.read_instances(0, [7, 0, 7, 3])
    assert [(e.payload, e.ballot) for e in got] == [(b"7", 8), (b"0", 1), (b"7", 8), (b"3", 4)]


@pytest_twisted.ensureDeferred
async def test_what_is_missing_is_said(rig: Rig) -> None:
    journal = rig.open()
    await fill(journal, 0, 9)
    with pytest.raises(EntryMissing) as missing:
        await journal.read_instances(0, [1, 10])
    assert (missing.value.group, missing.value.instance) == (0, 10)
    with pytest.raises(EntryMissing):
        await journal.read_entries(1, 0, 5, 100)


@pytest_twisted.ensureDeferred
async def test_a_wrong_checksum_ends_the_run(rig: Rig) -> None:
    journal = rig.open(verify=length_fits)
    wrong = entry(3)
    wrong.checksum = 0
    await durable(journal, entry(0), entry(1), entry(2), wrong, entry(4), PutChosen(0, 4))
    assert [i for i, _ in await journal.read_entries(0, 0, 4, 1000)] == [0, 1, 2]
    for read in (journal.read_entries(0, 3, 4, 1000), journal.read_instances(0, [4, 3])):
        with pytest.raises(CorruptEntry, match=r"entry 3 of group 0 is corrupt.*learn it from a peer"):
            await read
    await durable(journal, entry(3))
    assert len(await journal.read_entries(0, 0, 4, 1000)) == 5


@pytest_twisted.ensureDeferred
async def test_readers_do_not_wait_for_a_commit(rig: Rig, faults: Faults) -> None:
    journal = rig.open(binding=faults)
    await fill(journal, 0, 9)
    go_on = faults.hold("commit")
    committing = durable(journal, entry(10), entry(11))
    while faults.calls[-1] != "commit":
        await task.deferLater(reactor, 0)
    assert len(await journal.read_entries(0, 5, 9, 1000)) == 5  # from the very page that the writer holds
    assert not committing.called
    go_on.set()
    await committing


@pytest_twisted.ensureDeferred
async def test_readers_beside_a_busy_writer(rig: Rig) -> None:
    journal = rig.open(read_threads=4)
    await fill(journal, 0, 99, bytes(3000))
    written = [durable(journal, entry(100 + n, bytes(n % 5000)), PutChosen(0, 99 + n)) for n in range(300)]
    reads = [journal.read_entries(0, n, n + 20, 1 << 20) for n in range(0, 80, 4) for _ in range(3)]
    trimmed: Any = None
    for n, done in enumerate(written):
        await done
        if n == 150:
            trimmed = journal.delete_entries(0, 80)
    for read in reads:
        try:
            entries = await read
        except EntryMissing:
            continue
        assert all(len(e.payload) == 3000 for _, e in entries)
    await trimmed
    assert rig.fatal == []


@pytest_twisted.ensureDeferred
async def test_reads_are_bounded(rig: Rig, faults: Faults) -> None:
    journal = rig.open(binding=faults, read_threads=1, max_pending_reads=2)
    await fill(journal, 0, 1)
    go_on = faults.hold("get")
    reads = [journal.read_instances(0, [0]) for _ in range(2)]
    with pytest.raises(JournalOverloaded, match="2 reads are waiting"):
        await journal.read_instances(0, [0])
    go_on.set()
    for read in reads:
        await read
    await journal.read_instances(0, [0])


def damage_entry(database: Path, instance: int) -> None:
    # Long enough not to be found in the unused rest of another page, where Berkeley DB leaves what was in memory.
    flip(database / "entries.db", marked(instance)[:3000])


def flip_in_first_leaf(path: Path, find: bytes) -> None:
    """Pages that were leaves before the tree grew still hold old content where it is not used."""
    data = bytearray(path.read_bytes())
    for page in range(0, len(data), 4096):
        leaf_without_predecessor = data[page + 25] == 5 and data[page + 12 : page + 16] == bytes(4)
        if leaf_without_predecessor and find in data[page : page + 4096]:
            data[data.index(find, page)] ^= 0xFF
            path.write_bytes(data)
            return
    raise AssertionError(f"{find!r} is not in the first leaf")


def marked(instance: int) -> bytes:
    return b"<%06d>" % instance * 2000  # lies on pages of its own


async def damaged_journal(rig: Rig, *instances: int, **fields: Any) -> Journal:
    journal = rig.open()
    writes = [entry(n, marked(n)) for n in range(20)]
    await durable(journal, *writes, PutChosen(0, 19))
    await rig.close(journal)
    for instance in instances:
        damage_entry(rig.database, instance)
    return rig.open(**fields)


@pytest_twisted.ensureDeferred
async def test_a_damaged_page_costs_one_entry_and_can_be_repaired(each_rig: Rig) -> None:
    journal = await damaged_journal(each_rig, 7)
    assert [i for i, _ in await journal.read_entries(0, 0, 19, 1 << 20)] == [0, 1, 2, 3, 4, 5, 6]
    for _ in range(2):
        with pytest.raises(CorruptEntry, match="page in the database is damaged"):
            await journal.read_instances(0, [7])
    assert len(await journal.read_entries(0, 8, 19, 1 << 20)) == 12
    await durable(journal, entry(20), PutChosen(0, 20))

    await durable(journal, entry(7, marked(7)))
    for _ in range(2):
        assert len(await journal.read_entries(0, 0, 20, 1 << 20)) == 21
        assert (await journal.read_instances(0, [7]))[0].payload == marked(7)
        journal = await each_rig.reopen(journal)
        assert journal.load_group(0).chosen == 20
    await journal.delete_entries(0, 10)
    journal = await each_rig.reopen(journal)
    assert journal.load_group(0).first == 10
    assert each_rig.fatal == []


@pytest_twisted.ensureDeferred
async def test_trimming_steps_over_a_damaged_page(each_rig: Rig, logged_errors: Any) -> None:
    journal = await damaged_journal(each_rig, 3, 8)
    await journal.delete_entries(0, 15)
    state = journal.load_group(0)
    assert (state.first, state.chosen) == (15, 19)
    await durable(journal, entry(20), PutChosen(0, 20))
    journal = await each_rig.reopen(journal)
    await journal.delete_entries(0, 18)
    assert len(await journal.read_entries(0, 18, 20, 1 << 20)) == 3
    assert each_rig.fatal == []


@pytest_twisted.ensureDeferred
async def test_a_damaged_page_of_keys_costs_the_entries_on_it(rig: Rig) -> None:
    """Small entries share a page; one in the chosen past is no reason not to start."""
    journal = rig.open()
    await durable(journal, *(entry(n, b"[%06d]" % n * 30) for n in range(300)), PutChosen(0, 299))
    await rig.close(journal)
    flip_in_first_leaf(rig.database / "entries.db", b"[%06d]" % 5 * 30)
    journal = rig.open()
    state = journal.load_group(0)
    assert (state.first, state.chosen, state.entries) == (0, 299, [])
    damaged = []
    for instance in range(300):
        try:
            await journal.read_instances(0, [instance])
        except CorruptEntry:
            damaged.append(instance)
    assert 5 in damaged
    assert len(damaged) < 40
    await durable(journal, *(entry(n, b"again") for n in damaged))
    assert len(await journal.read_entries(0, 0, 299, 1 << 20)) == 300
    await durable(journal, entry(300), PutChosen(0, 300))
    await journal.delete_entries(0, 100)
    journal = await rig.reopen(journal)
    assert len(await journal.read_entries(0, 100, 300, 1 << 20)) == 201
    assert rig.fatal == []


@pytest_twisted.ensureDeferred
async def test_a_disk_that_damages_everything_ends_it(rig: Rig) -> None:
    journal = await damaged_journal(rig, 3, 8, 12, max_damaged_entries=2)
    for instance in (3, 8):
        with pytest.raises(CorruptEntry):
            await journal.read_instances(0, [instance])
    with pytest.raises(JournalError, match="reading failed"):
        await journal.read_instances(0, [12])
    assert "pgin failed" in await rig.died


@pytest_twisted.ensureDeferred
async def test_any_other_error_of_a_read_ends_it(rig: Rig, faults: Faults) -> None:
    journal = rig.open(binding=faults)
    await fill(journal, 0, 1)
    faults.fail("get", faults.DBRunRecoveryError(-30973, "BDB0060 PANIC: fatal region error detected"))
    with pytest.raises(JournalError, match="PANIC"):
        await journal.read_instances(0, [0])
    assert "PANIC" in await rig.died
