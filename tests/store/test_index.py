"""The index of one queue against a plain list of items."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phxqueue.replica.portions import at_once
from phxqueue.store.columns import ColumnReader, ColumnWriter, CorruptCheckpoint
from phxqueue.store.index import SOLE, UNIFORM, QueueIndex

U64 = 2**64


@dataclass(frozen=True)
class Row:
    count: int
    mask: int
    size: int
    digest: int
    flags: int
    later_ms: int
    instances: int
    refers: int  # to an entry so many instances back; 0: not


ROWS = st.lists(
    st.builds(
        Row,
        count=st.integers(1, 600),
        mask=st.integers(0, U64 - 1),
        size=st.integers(0, 2**33),
        digest=st.integers(0, U64 - 1),
        flags=st.integers(0, SOLE | UNIFORM),
        later_ms=st.integers(0, 50),
        instances=st.integers(1, 5),
        refers=st.one_of(st.just(0), st.integers(0, 20)),
    ),
    max_size=30,
)


def built(rows: list[Row]) -> tuple[QueueIndex, list[int]]:
    """The index, and for every item the number of its row."""
    index, items = QueueIndex(5), []
    instance, now = -1, 1000
    for number, row in enumerate(rows):
        instance += row.instances
        now += row.later_ms
        if row.refers:
            index.append_reference(
                max(instance - row.refers, 0), (number, 1), row.count, row.mask, now, row.size, row.digest
            )
        else:
            index.append(instance, row.count, row.mask, now, row.size, row.digest, row.flags)
        items += [number] * row.count
    return index, items


@given(ROWS)
def test_finds_the_row_of_every_cursor(rows: list[Row]) -> None:
    index, items = built(rows)
    assert index.end_cursor == len(items)
    assert [index.find(cursor) for cursor in range(len(items))] == items
    assert index.find(len(items)) == index.find(len(items) + 1000) == len(rows)


@given(ROWS)
def test_rows_join_without_gap_and_keep_their_digests(rows: list[Row]) -> None:
    index, _ = built(rows)
    cursor = total = 0
    for number, row in enumerate(rows):
        assert index.firsts[number] == cursor
        cursor += row.count
        assert index.row_end(number) == cursor
        assert index.row_digest(number) == row.digest
        assert index.digests[number] == total
        total = (total + row.digest) % U64
    assert index.end_digest == total


@given(ROWS, st.integers(900, 3000))
def test_finds_the_first_row_stored_at_or_after_a_time(rows: list[Row], at_ms: int) -> None:
    index, _ = built(rows)
    expected = [row for row in range(len(index)) if index.timestamps[row] >= at_ms]
    assert index.find_time(at_ms) == (expected[0] if expected else len(rows))


@given(ROWS, st.data())
def test_runs_of_rows_survive_writing_and_reading(rows: list[Row], data: st.DataObject) -> None:
    index, _ = built(rows)
    cut = data.draw(st.integers(0, len(rows)))
    out = ColumnWriter(b"")
    for first, last in ((0, cut), (cut, len(rows))):
        index.write_rows(out, first, last, references=True)
    source = ColumnReader(b"", out.finish(), "rows")
    copy = QueueIndex(5)
    copy.end_cursor, copy.end_digest = index.end_cursor, index.end_digest
    for _ in range(2):
        assert source.u32() == 5
        copy.read_rows(source, source.u32(), references=True)
    source.finish()
    at_once(copy.checking(len(rows)))
    assert not rows or copy.lowest_instance == index.lowest_instance == min(index.instances)
    for name in QueueIndex.__slots__:
        assert getattr(copy, name) == getattr(index, name), name


@given(ROWS, st.data())
def test_rows_of_delayed_batches_say_which_also_after_trimming(rows: list[Row], data: st.DataObject) -> None:
    index, _ = built(rows)
    index.drop(gone := data.draw(st.integers(0, len(rows))))
    left = rows[gone:]
    referring = [(place, gone + place) for place, row in enumerate(left) if row.refers]
    assert [(place, index.reference(place)[0]) for place, _ in referring] == referring
    assert index.has_references == bool(referring)
    if left:
        assert index.lowest_instance == min(index.instances)


class Unread(array):  # type: ignore[type-arg]
    """A column that may grow, but not be gone through."""

    def __iter__(self) -> Any:
        raise AssertionError("all rows are looked at")


def test_items_that_come_due_do_not_have_all_rows_looked_at() -> None:
    index = QueueIndex(1)
    for instance in (3, 4, 5):
        index.append(instance, 1, 1, 0, 10, 0, 0)
    index.instances = Unread("Q", index.instances)
    for instance, lowest in ((4, 3), (1, 1), (2, 1)):
        index.append_reference(instance, (0, 1), 1, 1, 0, 10, 0)
        assert index.lowest_instance == lowest
    index.append(6, 1, 1, 0, 10, 0, 0)
    index.instances = Unread("Q", index.instances)
    assert index.lowest_instance == 1


@given(ROWS, st.data())
def test_the_lowest_instance_is_right_whatever_happened(rows: list[Row], data: st.DataObject) -> None:
    index = QueueIndex(1)
    instance = 0
    for row in rows:
        instance += row.instances
        if row.refers:
            index.append_reference(max(instance - row.refers, 0), (0, 1), 1, 1, 0, 1, 0)
        else:
            index.append(instance, 1, 1, 0, 1, 0, 0)
        if data.draw(st.booleans()):
            assert index.lowest_instance == min(index.instances)
        what = data.draw(st.sampled_from(["drop", "relocate", ""]))
        if what == "drop":
            index.drop(data.draw(st.integers(0, len(index))))
        elif what == "relocate" and len(index):
            place = data.draw(st.integers(0, len(index) - 1))
            instance += 1
            index.relocate(index.firsts[place], index.instances[place], (instance, 0, 1))
        if len(index):
            assert index.lowest_instance == min(index.instances)


def test_a_row_says_at_most_4_gib_of_itself() -> None:
    index = QueueIndex(1)
    index.append(0, 1, 1, 0, 2**40, 0, 0)
    assert index.sizes[0] == 2**32 - 1


def test_first_cursor_of_an_empty_queue_is_its_end() -> None:
    index = QueueIndex(1)
    index.end_cursor = 17
    assert index.first_cursor == 17


@pytest.mark.parametrize(
    ("column", "row", "value", "complaint"),
    [
        ("firsts", 1, 0, "cursors of the index do not rise"),
        ("instances", 2, 1, "instances of the index do not rise"),
        ("firsts", 2, 30, "begins beyond the end"),
    ],
)
def test_check_refuses_rows_that_cannot_be(column: str, row: int, value: int, complaint: str) -> None:
    index = QueueIndex(1)
    for instance in range(3):
        index.append(instance, 10, 1, 0, 0, 0, 0)
    at_once(index.checking(3))
    getattr(index, column)[row] = value
    with pytest.raises(CorruptCheckpoint, match=complaint):
        at_once(index.checking(3))


def test_check_refuses_missing_rows() -> None:
    index = QueueIndex(1)
    index.append(0, 10, 1, 0, 0, 0, 0)
    with pytest.raises(CorruptCheckpoint, match="1 index rows instead of 2"):
        at_once(index.checking(2))


def test_a_row_costs_tens_of_bytes() -> None:
    index = QueueIndex(1)
    for instance in range(10_000):
        index.append(instance, 100, 1, instance, 10_000, 0, 0)
    columns = (index.firsts, index.instances, index.masks, index.timestamps, index.digests, index.sizes, index.flags)
    assert sum(column.__sizeof__() for column in columns) / len(index) < 60
