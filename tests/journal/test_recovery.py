"""What is there after a restart, and when a restart has to be refused."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import pytest_twisted

from phxqueue.journal.errors import Corrupt, FormatVersion, Unusable
from phxqueue.journal.logfiles import fill_with_zeros
from phxqueue.journal.records import DeleteBlob, PutBlob, PutChosen, PutPromise, WantedIdentity
from tests.journal.rig import SMALL, Rig, durable, entry, fill, flip, length_fits

WRITE_UNTIL_KILLED = """
import sys
from twisted.internet import reactor
from phxqueue.config.settings import JournalSettings
from phxqueue.journal.journal import Journal
from phxqueue.journal.records import PutBlob, PutChosen, PutEntry, WantedIdentity

wanted = WantedIdentity(cluster="test", store_id=1, node_id=0, paxos_groups=2)
settings = JournalSettings(**{settings})
journal = Journal.open({directory!r}, wanted, settings, reactor, sys.exit)
instances = iter(range({first}, 1_000_000))

def submit():
    instance = next(instances)
    payload = b"%d " % instance * (1 + instance % 4000)
    writes = [PutEntry(instance % 2, instance // 2, 1, len(payload), 0, payload),
              PutChosen(0, max(-1, instance // 2 - 20)),
              PutBlob("last", b"%d" % (instance % 2), b"%d" % instance)]
    def done():
        sys.stdout.write("%d\\n" % instance)
        sys.stdout.flush()
        submit()
    journal.submit(writes, done)

for _ in range(8):
    reactor.callWhenRunning(submit)
reactor.callLater(100, reactor.stop)
reactor.run()
"""


def run_and_kill(program: str, after: int) -> list[int]:
    """Kill the program once it has confirmed so many; return all that it confirmed until it was dead."""
    confirmed = []
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.endswith("\n"):
                confirmed.append(int(line))
            if len(confirmed) == after:
                os.kill(child.pid, signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    return confirmed


@pytest_twisted.ensureDeferred
async def test_what_was_told_durable_survives_sigkill(each_rig: Rig) -> None:
    confirmed: list[int] = []
    for round_length in (60, 200):
        first = max(confirmed, default=-1) + 1
        program = WRITE_UNTIL_KILLED.format(settings=SMALL, directory=str(each_rig.directory), first=first)
        confirmed += run_and_kill(program, round_length)
        journal = each_rig.open(verify=length_fits)
        last = max(confirmed)
        for group in (0, 1):
            told = [instance // 2 for instance in confirmed if instance % 2 == group]
            state = journal.load_group(group)
            assert state.first == 0
            assert state.promised == 1
            entries = await journal.read_entries(group, 0, max(told), 1 << 30)
            assert len(entries) == max(told) + 1
            for instance, stored in entries:
                number = 2 * instance + group
                assert stored.payload == b"%d " % number * (1 + number % 4000)
        assert all(int(value) >= last - 16 for _, value in journal.load_blobs("last"))
        await each_rig.close(journal)


@pytest_twisted.ensureDeferred
async def test_an_empty_group(each_rig: Rig) -> None:
    state = each_rig.open().load_group(1)
    assert (state.promised, state.chosen, state.first, state.entries) == (0, -1, 0, [])


@pytest_twisted.ensureDeferred
async def test_promises_and_accepts_come_back(each_rig: Rig) -> None:
    journal = each_rig.open()
    await durable(journal, PutPromise(0, 7), PutPromise(1, 3))
    await durable(
        journal, entry(0, b"a", ballot=7), entry(1, b"b", ballot=7), entry(3, b"d", ballot=7), PutChosen(0, 0)
    )
    await durable(journal, entry(1, b"other", ballot=9))
    journal = await each_rig.reopen(journal)
    state = journal.load_group(0)
    assert (state.promised, state.chosen, state.first) == (9, 0, 0)
    assert [(i, e.ballot, e.payload) for i, e in state.entries] == [(1, 9, b"other"), (3, 7, b"d")]
    assert journal.load_group(1).promised == 3


@pytest_twisted.ensureDeferred
async def test_a_promise_never_goes_down(rig: Rig) -> None:
    journal = rig.open()
    await durable(journal, PutPromise(0, 7))
    await durable(journal, PutPromise(0, 5), entry(0, ballot=3))
    journal = await rig.reopen(journal)
    await durable(journal, PutPromise(0, 6))
    journal = await rig.reopen(journal)
    assert journal.load_group(0).promised == 7


@pytest_twisted.ensureDeferred
async def test_the_chosen_mark_is_found_in_the_entries(rig: Rig) -> None:
    """No record of its own is written while entries flow."""
    journal = rig.open()
    for instance in range(50):
        await durable(journal, entry(instance), PutChosen(0, max(-1, instance - 2)))
    # A late one, below the end of the log, carries a higher mark than the last.
    await durable(journal, entry(49), entry(51), PutChosen(0, 47))
    await durable(journal, entry(50), PutChosen(0, 49))
    assert journal._marks.chosen_stored == {}
    journal = await rig.reopen(journal)
    state = journal.load_group(0)
    assert (state.chosen, [i for i, _ in state.entries]) == (49, [50, 51])
    # It stays known, and does not go down.
    await durable(journal, entry(52))
    journal = await rig.reopen(journal)
    assert journal.load_group(0).chosen == 49


@pytest_twisted.ensureDeferred
async def test_groups_do_not_mix(rig: Rig) -> None:
    journal = rig.open()
    await fill(journal, 0, 9, group=0)
    await durable(journal, *(entry(n, group=65_535) for n in range(5)), entry(0, group=1), PutChosen(1, 0))
    journal = await rig.reopen(journal)
    assert [i for i, _ in journal.load_group(65_535).entries] == [0, 1, 2, 3, 4]
    assert (journal.load_group(1).chosen, journal.load_group(0).chosen) == (0, 9)
    assert journal.load_group(2).first == 0


@pytest_twisted.ensureDeferred
async def test_blobs(each_rig: Rig) -> None:
    journal = each_rig.open()
    many = {b"k%05d" % n: b"%d" % n * (n % 700) for n in range(1000)}
    await durable(journal, *(PutBlob("segments", key, value) for key, value in many.items()))
    await durable(
        journal, PutBlob("seg", b"k", b"other table"), DeleteBlob("segments", b"k00007"), DeleteBlob("x", b"y")
    )
    del many[b"k00007"]
    journal = await each_rig.reopen(journal)
    assert dict(journal.load_blobs("segments")) == many
    assert list(journal.load_blobs("segments", b"k0099")) == [(k, v) for k, v in many.items() if k.startswith(b"k0099")]
    assert list(journal.load_blobs("seg")) == [(b"k", b"other table")]
    assert list(journal.load_blobs("none")) == []


@pytest_twisted.ensureDeferred
async def test_loading_blobs_does_not_hold_up_the_writer(rig: Rig) -> None:
    journal = rig.open()
    await durable(journal, *(PutBlob("t", b"%03d" % n, bytes(100)) for n in range(200)))
    reading = journal.load_blobs("t")
    next(reading)
    await durable(journal, *(PutBlob("t", b"%03d" % n, bytes(90)) for n in range(200)))
    assert len(list(reading)) == 199


@pytest.mark.parametrize("tear", ["cut", "zeros", "garbage"])
@pytest_twisted.ensureDeferred
async def test_a_torn_end_of_the_log_is_cut_off(rig: Rig, tear: str) -> None:
    """What had not reached the disk whole had not been told durable either: some beginning is there, and no more."""
    crashed = await _crash_image(rig)
    log = sorted(crashed.glob("db/log.*"))[-1]
    whole = log.read_bytes()
    end = len(whole.rstrip(b"\0"))
    rig.directory = crashed
    found = []
    for missing in (1, 30, 150, 400, 700):
        tail = {"cut": b"", "zeros": bytes(len(whole) - end + missing), "garbage": b"\xa5" * 900}[tear]
        for path in crashed.glob("db/*.db"):
            shutil.copy(rig.journals[0]._database.home / path.name, path)
        log.write_bytes(whole[: end - missing] + tail)
        journal = rig.open()
        found.append([i for i, _ in journal.load_group(0).entries])
        await durable(journal, entry(100))
        journal = await rig.reopen(journal)
        assert [i for i, _ in journal.load_group(0).entries] == [*found[-1], 100]
        await rig.close(journal)
    assert found[0] == [0, 1, 2, 3]
    for instances in found:
        assert instances == list(range(len(instances)))
    assert len(found[-1]) < 4


@pytest_twisted.ensureDeferred
async def test_a_prepared_log_file_is_no_obstacle_to_recovery(each_rig: Rig) -> None:
    crashed = await _crash_image(each_rig)
    fill_with_zeros(crashed / "db" / "log.0000000002", 1 << 20)
    each_rig.directory = crashed
    journal = each_rig.open()
    assert len(journal.load_group(0).entries) == 5
    for n in range(5, 35):  # on into the prepared file
        await durable(journal, entry(n, bytes(60_000)))
    assert journal._database.log_position()[0] > 1
    journal = await each_rig.reopen(journal)
    assert len(journal.load_group(0).entries) == 35


async def _crash_image(rig: Rig) -> Path:
    """Return a copy of a directory as it lies on disk while the journal is in use."""
    journal = rig.open()
    for n in range(5):
        await durable(journal, entry(n))
    copy = rig.directory.with_name("crashed")
    shutil.copytree(rig.directory, copy)
    return copy


@pytest_twisted.ensureDeferred
async def test_a_damaged_accept_above_the_chosen_mark_is_refused(rig: Rig) -> None:
    """Not knowing what it accepted, the node could help to choose a second value."""
    journal = rig.open()
    await durable(journal, entry(0), entry(1, b"precious" * 3000), PutChosen(0, 0))
    await rig.close(journal)
    flip(rig.database / "entries.db", b"precious" * 300)
    journal = rig.open()
    with pytest.raises(Corrupt, match="no longer knows what it has accepted"):
        journal.load_group(0)


@pytest_twisted.ensureDeferred
async def test_an_accept_that_fails_its_checksum_is_refused(rig: Rig) -> None:
    journal = rig.open()
    wrong = entry(1)
    wrong.checksum = 0
    await durable(journal, entry(0), wrong, PutChosen(0, 0))
    with pytest.raises(Corrupt, match="accepted entry 1 does not match its checksum"):
        (await rig.reopen(journal, verify=length_fits)).load_group(0)


@pytest.mark.parametrize("table", ["state", "entries"])
@pytest_twisted.ensureDeferred
async def test_a_damaged_root_page_is_refused(each_rig: Rig, table: str) -> None:
    journal = each_rig.open()
    await fill(journal, 0, 3)
    await each_rig.close(journal)
    path = each_rig.database / f"{table}.db"
    data = bytearray(path.read_bytes())
    data[40] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(Corrupt, match="new incarnation"):
        each_rig.open()


@pytest.mark.parametrize("name", ["state.db", "entries.db", "blobs.db", "repairs.db"])
@pytest_twisted.ensureDeferred
async def test_a_missing_table_is_not_made_anew(rig: Rig, name: str) -> None:
    journal = rig.open()
    await fill(journal, 0, 3)
    await rig.close(journal)
    (rig.database / name).unlink()
    with pytest.raises(Corrupt, match=f"{name} is missing"):
        rig.open()


@pytest_twisted.ensureDeferred
async def test_missing_log_files_are_noticed(rig: Rig) -> None:
    journal = rig.open()
    await fill(journal, 0, 200, bytes(5000))
    await rig.close(journal)
    for log in rig.database.glob("log.*"):
        log.unlink()
    with pytest.raises(Corrupt):
        rig.open()


@pytest_twisted.ensureDeferred
async def test_another_format_is_refused(rig: Rig) -> None:
    await rig.close(rig.open())
    (rig.directory / "NODE").write_text('{"format": 99}')
    with pytest.raises(FormatVersion, match=r"format 99.*reads format 1"):
        rig.open()


def test_a_file_in_place_of_the_directory(rig: Rig) -> None:
    rig.directory.write_text("")
    with pytest.raises(Unusable, match="cannot be used"):
        rig.open()


@pytest_twisted.ensureDeferred
async def test_a_refused_directory_is_not_left_locked(rig: Rig) -> None:
    await rig.close(rig.open())
    with pytest.raises(Exception, match="holds the data of node 0"):
        rig.open(wanted=WantedIdentity("test", 1, 1, 2))
    await rig.close(rig.open())
