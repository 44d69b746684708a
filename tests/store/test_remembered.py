"""Rows that are found by key and forgotten by age: in memory, and through checkpoints."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phxqueue.replica.portions import at_once
from phxqueue.store.columns import ColumnReader, ColumnWriter, CorruptCheckpoint
from phxqueue.store.remembered import Remembered

BIG = 1 << 100


def make() -> Remembered:
    return Remembered(b"x", 4, segment_rows=4)


def whole(rows: Remembered) -> bytes:
    out = ColumnWriter(b"")
    rows.write_whole(out)
    return out.finish()


def restarted(rows: Remembered, blobs: dict[bytes, bytes]) -> Remembered:
    """Save it, with its new blobs and without the dead ones, and read it back."""
    for key, blob in rows.seal():
        assert key not in blobs, "a blob is written once"
        blobs[key] = blob
    for key in rows.take_dead():
        del blobs[key]
    out = ColumnWriter(b"")
    rows.write(out)
    source = ColumnReader(b"", out.finish(), "rows")
    copy = make()
    at_once(copy.reading(source, blobs))
    source.finish()
    return copy


def test_a_row_is_found_by_its_key_until_it_is_too_old() -> None:
    rows = make()
    rows.add(10, BIG + 1, [7])
    rows.add(20, BIG + 2, [8])
    assert (rows.find(BIG + 1), rows.find(BIG + 2), rows.find(1)) == ((10, (7,)), (20, (8,)), None)
    rows.forget(10)
    assert (rows.find(BIG + 1), rows.find(BIG + 2), len(rows)) == (None, (20, (8,)), 1)
    assert rows.newest(5) == [(20, BIG + 2, (8,))]


def test_only_so_many_are_kept_when_that_is_asked_for() -> None:
    rows = make()
    for number in range(10):
        rows.add(number, number, [number])
    rows.forget(-1, most=3)
    assert [key for _, key, _ in rows.newest(10)] == [9, 8, 7]
    assert [key for _, key, _ in rows.newest(2)] == [9, 8]


def test_whole_segments_are_written_once_and_deleted_when_nothing_of_them_is_known() -> None:
    rows, blobs = make(), dict[bytes, bytes]()
    for number in range(10):
        rows.add(number, number, [number])
    restarted(rows, blobs)
    first = dict(blobs)
    assert len(first) == 2
    rows.add(10, 10, [10])
    restarted(rows, blobs)
    assert blobs == first
    rows.forget(3)
    restarted(rows, blobs)
    assert len(blobs) == 1


def test_a_missing_or_damaged_segment_is_told() -> None:
    rows, blobs = make(), dict[bytes, bytes]()
    for number in range(9):
        rows.add(number, number, [number])
    restarted(rows, blobs)
    for damaged in ({}, {key: blob[:-1] + b"\x00" for key, blob in blobs.items()}, dict.fromkeys(blobs, b"")):
        out = ColumnWriter(b"")
        rows.write(out)
        with pytest.raises(CorruptCheckpoint):
            at_once(make().reading(ColumnReader(b"", out.finish(), "rows"), damaged))


@settings(max_examples=200)
@given(st.lists(st.one_of(st.just("add"), st.just("save"), st.integers(0, 12)), max_size=60))
def test_it_is_what_a_list_would_be(steps: list[str | int]) -> None:
    rows, blobs, model = make(), dict[bytes, bytes](), list[tuple[int, int]]()
    for now, step in enumerate(steps, 1):
        if step == "add":
            rows.add(now, now * 3, [now])
            model.append((now, now * 3))
        elif step == "save":
            copy = restarted(rows, blobs)
            assert whole(copy) == whole(rows)
            rows = copy
        else:
            assert isinstance(step, int)
            rows.forget(now - step)
            model = [row for row in model if row[0] > now - step]
        assert [(time_ms, key) for time_ms, key, _ in reversed(rows.newest(1000))] == model
        assert len(rows) == len(model)
        assert all(rows.find(key) == (time_ms, (time_ms,)) for time_ms, key in model)
