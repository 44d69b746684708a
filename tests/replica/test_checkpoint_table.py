"""Checkpoints on disk: the own ones, one that comes in piece by piece, and whatever a crash leaves of them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import pytest

from phxqueue.journal.errors import JournalOverloaded
from phxqueue.journal.records import PutChosen, TrimEntries, Write
from phxqueue.replica.checkpoint_table import CheckpointTable, Gap, Incoming, Source
from phxqueue.replica.interfaces import Checkpoint
from tests.replica.fakes import KeptJournal, Words, outcome

GROUP = struct.pack(">H", 3)
FROM_1 = Source(1, 77, 0)
INCOMING = Incoming(applied=9, needed=4, state=b"9\nnew", membership=b"members", gap=Gap(4, 6), first=7)


def table(journal: KeptJournal) -> CheckpointTable:
    return CheckpointTable(journal, 3)


def with_checkpoint() -> KeptJournal:
    journal = KeptJournal()
    one = table(journal)
    assert one.write(Checkpoint(2, b"2\na\nb", [(b"s0", b"rows"), (b"s1", b"more")]), lambda: None)
    journal.commit()
    return journal


def segments(journal: KeptJournal) -> dict[tuple[str, bytes], bytes]:
    return {at: value for at, value in journal.blobs.items() if at[0].startswith("segments")}


def restored(journal: KeptJournal) -> tuple[int, set[bytes]]:
    """What a process that starts now finds: the instance of its state, the keys of its segments."""
    one, machine = table(journal.restarted()), Words()
    one.restore(machine)
    return machine.applied, one.segments


def staged(journal: KeptJournal) -> CheckpointTable:
    """A checkpoint of node 1 with segments t0 and t1 is here, not installed."""
    one = table(journal)
    one.restore(Words())
    one.begin(FROM_1)
    for key in (b"t0", b"t1"):
        one.stage(key, b"of " + key)
    journal.commit()
    return one


def test_nothing_in_an_empty_directory() -> None:
    one = table(KeptJournal())
    assert (one.epoch, one.segments, one.source, one.staged, one.gap) == (0, set(), None, set(), None)


def test_a_checkpoint_is_found_again() -> None:
    assert restored(with_checkpoint()) == (2, {b"s0", b"s1"})


def test_dropped_segments_are_gone() -> None:
    journal = with_checkpoint()
    one = table(journal)
    one.restore(Words())
    one.write(Checkpoint(5, b"5\na", [(b"s2", b"rows")], dropped=[b"s0"]), lambda: None)
    journal.commit()
    assert restored(journal) == (5, {b"s1", b"s2"})


def many(first: int, count: int) -> list[tuple[bytes, bytes]]:
    return [(b"m%03d" % number, b"rows") for number in range(first, first + count)]


def test_a_checkpoint_with_very_many_segments_takes_several_transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phxqueue.replica.checkpoint_table.MOST_WRITES", 3)
    monkeypatch.setattr("phxqueue.replica.checkpoint_table._DELETES", 2)
    journal = with_checkpoint()
    one, done = table(journal), list[str]()
    one.restore(Words())
    assert one.write(Checkpoint(5, b"5\na", many(0, 7), dropped=[b"s0", b"s1"]), lambda: done.append("done"))
    states = [(2, {b"s0", b"s1"})]
    while journal.submitted:
        assert len(journal.submitted[0][0]) <= 3 + 2, "the state and its chosen mark go with the last of them"
        journal.commit(1)
        states.append(restored(journal))
    new = {key for key, _ in many(0, 7)}
    # Whatever is there when a crash comes, a state has all segments that it rests on.
    assert [applied for applied, _ in states] == [2, 2, 2, 5, 5]
    assert all(keys >= ({b"s0", b"s1"} if applied == 2 else new) for applied, keys in states)
    assert states[-1] == (5, new)
    assert done == ["done"]


def test_what_the_journal_has_taken_of_very_many_segments_is_not_handed_over_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("phxqueue.replica.checkpoint_table.MOST_WRITES", 3)
    journal = with_checkpoint()
    one = table(journal)
    one.restore(Words())
    submit, taken = journal.submit, list[int]()

    def busy(writes: Sequence[Write], done: Callable[[], None] | None = None) -> None:
        if len(taken) == 1:
            raise JournalOverloaded("too much waits")
        submit(writes, done)
        taken.append(len(writes))

    with monkeypatch.context() as patch:
        patch.setattr(journal, "submit", busy)
        assert not one.write(Checkpoint(5, b"5\na", many(0, 7), dropped=[b"s0"]), lambda: None)
    assert one.refused
    assert one.write(Checkpoint(6, b"6\na", many(7, 1), dropped=[b"m000"]), lambda: None)
    assert not one.refused
    assert sum(len(writes) for writes, _ in journal.submitted) == 3 + 5 + 2
    while journal.submitted:
        journal.commit(1)
    assert restored(journal) == (6, {b"s1", *(key for key, _ in many(1, 7))})


def test_what_is_staged_is_looked_at_by_nobody() -> None:
    journal = with_checkpoint()
    staged(journal)
    assert restored(journal) == (2, {b"s0", b"s1"})


def test_a_restart_finds_what_was_staged_and_of_whom() -> None:
    journal = with_checkpoint()
    staged(journal)
    again = table(journal.restarted())
    assert (again.source, again.staged) == (FROM_1, {b"t0", b"t1"})
    again.begin(FROM_1)
    assert again.staged == {b"t0", b"t1"}
    assert outcome(again.read_staged(b"t1")) == b"of t1"


def test_segments_of_another_source_are_worth_nothing() -> None:
    for other in (Source(2, 77, 0), Source(1, 78, 0), Source(1, 77, 1)):
        journal = with_checkpoint()
        one = staged(journal)
        one.begin(other)
        journal.commit()
        assert table(journal.restarted()).staged == set()
        assert len(segments(journal)) == 2


def test_a_segment_counts_as_staged_when_it_is_durable() -> None:
    journal = with_checkpoint()
    one = table(journal)
    one.begin(FROM_1)
    one.stage(b"t0", b"x")
    assert one.staged == set()
    journal.commit()
    assert one.staged == {b"t0"}


def test_what_is_discarded_is_gone() -> None:
    journal = with_checkpoint()
    staged(journal).discard()
    journal.commit()
    assert table(journal.restarted()).source is None
    assert len(segments(journal)) == 2


def test_installing_is_one_transaction_with_everything_in_it() -> None:
    journal = with_checkpoint()
    one = staged(journal)
    writes = one.installing(INCOMING)
    assert PutChosen(3, 9) in writes
    assert TrimEntries(3, 4) in writes
    # Before it: the old state with the old segments.
    assert restored(journal) == (2, {b"s0", b"s1"})
    journal.submit(writes)
    journal.commit()
    # After it, whether or not anything else happens: the new with the new.
    assert restored(journal) == (9, {b"t0", b"t1"})
    assert journal.blobs["membership", GROUP] == b"members"
    assert table(journal.restarted()).gap == Gap(4, 6)


def test_the_old_segments_are_deleted_afterwards() -> None:
    journal = with_checkpoint()
    one = staged(journal)
    journal.submit(one.installing(INCOMING))
    journal.commit()
    one.installed(INCOMING)
    journal.commit()
    assert {key for _, key in segments(journal)} == {GROUP + b"t0", GROUP + b"t1"}
    assert (one.epoch, one.segments, one.source) == (1, {b"t0", b"t1"}, None)
    assert one.write(Checkpoint(12, b"12\nx", [(b"s0", b"rows")], dropped=[b"t0"]), lambda: None)
    journal.commit()
    assert restored(journal) == (12, {b"s0", b"t1"})


def test_or_at_the_next_start_if_a_crash_came_first() -> None:
    journal = with_checkpoint()
    one = staged(journal)
    journal.submit(one.installing(INCOMING))
    journal.commit()
    after = journal.restarted()
    table(after).clean()
    after.commit()
    assert {key for _, key in segments(after)} == {GROUP + b"t0", GROUP + b"t1"}


def test_segments_that_nobody_was_staging_are_deleted_at_the_next_start() -> None:
    journal = with_checkpoint()
    journal.blobs["segments.1", GROUP + b"t0"] = b"left over"
    one = table(journal)
    assert one.staged == set()
    one.clean()
    journal.commit()
    assert len(segments(journal)) == 2


def test_a_gap_that_is_filled_is_forgotten() -> None:
    journal = with_checkpoint()
    one = table(journal)
    journal.submit([one.gap_write(Gap(5, 6))])
    journal.commit()
    assert table(journal.restarted()).gap == Gap(5, 6)
    journal.submit([one.gap_write(None)])
    journal.commit()
    assert table(journal.restarted()).gap is None


def test_groups_do_not_see_each_other() -> None:
    journal = with_checkpoint()
    staged(journal)
    other = CheckpointTable(journal, 4)
    machine = Words()
    other.restore(machine)
    assert (machine.applied, other.segments, other.staged, other.source) == (-1, set(), set(), None)
