"""Which records a group of submissions becomes."""

from __future__ import annotations

import pytest

from phxqueue.journal import layout
from phxqueue.journal.batch import RECORD_OVERHEAD, Batch, Marks, Submission, measure
from phxqueue.journal.database import MAX_SUBMISSION_WRITES, Put, Table
from phxqueue.journal.records import DeleteBlob, PutBlob, PutChosen, PutEntry, PutPromise, TrimEntries, Write
from tests.journal.rig import entry


def fold(*writes: Write, marks: Marks | None = None, damaged: frozenset[bytes] = frozenset()) -> list[Put]:
    submissions = [Submission([write], None, measure([write])) for write in writes]
    return Batch(submissions).puts(marks or Marks(), damaged)


def state(puts: list[Put]) -> dict[tuple[bytes, int], int]:
    return {
        layout.split_mark_key(put.key): layout.unpack_mark(put.value)
        for put in puts
        if put.table is Table.STATE and put.value is not None
    }


def test_one_accept_with_a_mark_is_one_record() -> None:
    marks = Marks(promised={0: 1}, chosen={0: 3}, chosen_stored={0: 3})
    [put] = fold(entry(5), PutChosen(0, 4), marks=marks)
    assert put.table is Table.ENTRIES
    assert layout.unpack_entry(put.key, put.value or b"")[1] == 4


def test_a_mark_beyond_every_entry_of_the_transaction_is_a_record() -> None:
    puts = fold(entry(3), entry(4), PutChosen(0, 4), marks=Marks(promised={0: 1}))
    assert state(puts) == {(layout.CHOSEN, 0): 5}


def test_a_mark_without_an_entry_of_its_group_is_a_record() -> None:
    puts = fold(entry(3), PutChosen(1, 8), marks=Marks(promised={0: 1}))
    assert state(puts) == {(layout.CHOSEN, 1): 9}


def test_a_mark_that_was_only_carried_so_far_can_still_be_stored() -> None:
    marks = Marks(chosen={0: 4}, chosen_stored={0: 1})
    assert state(fold(PutChosen(0, 4), marks=marks)) == {(layout.CHOSEN, 0): 5}
    assert fold(PutChosen(0, 4), marks=Marks(chosen={0: 4}, chosen_stored={0: 4})) == []


def test_an_accept_is_a_promise_of_its_ballot() -> None:
    puts = fold(entry(0, ballot=9), PutPromise(0, 8), marks=Marks(promised={0: 7}))
    assert state(puts) == {(layout.PROMISED, 0): 9}


def test_marks_never_go_down() -> None:
    marks = Marks(promised={0: 7}, chosen={0: 9}, chosen_stored={0: 9}, trimmed={0: 5})
    assert fold(PutPromise(0, 6), PutChosen(0, 3), TrimEntries(0, 4), marks=marks) == []
    assert state(fold(PutPromise(0, 9), PutPromise(0, 8))) == {(layout.PROMISED, 0): 9}


def test_of_two_writes_to_one_place_the_last_counts() -> None:
    puts = fold(
        entry(0, b"old"), entry(0, b"new", ballot=2), PutBlob("t", b"k", b"1"), DeleteBlob("t", b"k"),
        marks=Marks(promised={0: 2}),
    )  # fmt: skip
    stored, blob = puts
    assert layout.unpack_entry(stored.key, stored.value or b"")[0].payload == b"new"
    assert blob == Put(Table.BLOBS, b"t\0k", None)


def test_an_entry_on_a_damaged_page_goes_to_the_repairs() -> None:
    damaged = frozenset([layout.entry_key(0, 3)])
    tables = [put.table for put in fold(entry(3), entry(4), marks=Marks(promised={0: 1}), damaged=damaged)]
    assert tables == [Table.REPAIRS, Table.ENTRIES]


def test_trimming_stores_the_chosen_mark_too() -> None:
    """The entries that carried it may be among those that go."""
    marks = Marks(chosen={0: 9}, chosen_stored={0: 2})
    assert state(fold(TrimEntries(0, 10), marks=marks)) == {(layout.CHOSEN, 0): 10, (layout.TRIMMED, 0): 10}


def test_what_is_not_chosen_is_not_trimmed() -> None:
    with pytest.raises(ValueError, match="below 11, but is chosen up to 9"):
        fold(TrimEntries(0, 11), marks=Marks(chosen={0: 9}))


def test_settle_remembers_what_was_stored() -> None:
    marks = Marks()
    batch = Batch([Submission([entry(5, ballot=3), PutChosen(0, 4), PutChosen(1, 7), TrimEntries(1, 6)], None, 0)])
    puts = batch.puts(marks, frozenset())
    assert batch.settle(puts, marks) == [(1, 6)]
    assert marks == Marks(promised={0: 3}, chosen={0: 4, 1: 7}, chosen_stored={1: 7}, trimmed={1: 6})
    assert batch.settle(batch.puts(marks, frozenset()), marks) == []


@pytest.mark.parametrize(
    ("write", "complaint"),
    [
        (PutEntry(-1, 0, 1, 0, 0, b""), "group -1"),
        (PutEntry(1 << 16, 0, 1, 0, 0, b""), "group 65536"),
        (PutEntry(0, -1, 1, 0, 0, b""), "instance -1"),
        (PutEntry(0, 0, -1, 0, 0, b""), "ballot -1"),
        (PutEntry(0, 0, 1, 1 << 64, 0, b""), "checksum"),
        (PutEntry(0, 0, 1, 0, 256, b""), "kind 256"),
        (PutPromise(0, 1 << 64), "ballot"),
        (PutChosen(0, -2), "chosen mark"),
        (TrimEntries(0, -1), "trim mark"),
        (PutBlob("a\0b", b"", b""), "table"),
        (DeleteBlob("", b""), "table"),
    ],
)
def test_a_write_that_cannot_be_is_refused(write: Write, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        measure([write])


def test_writes_are_measured() -> None:
    writes: list[Write] = [entry(0, bytes(100)), PutBlob("t", b"key", bytes(50)), PutPromise(0, 1)]
    assert measure(writes) == 3 * RECORD_OVERHEAD + 100 + 3 + 50
    with pytest.raises(ValueError, match="at most"):
        measure([PutPromise(0, 1)] * (MAX_SUBMISSION_WRITES + 1))
