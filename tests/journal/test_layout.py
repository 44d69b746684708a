"""What lies on disk can be read back, in order, and only at its own place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phxqueue.journal import layout
from phxqueue.journal.records import MAX_GROUP, MAX_INSTANCE, StoredEntry

groups = st.integers(0, MAX_GROUP)
instances = st.integers(0, MAX_INSTANCE - 1)
numbers = st.integers(0, (1 << 64) - 1)


@given(groups, instances, numbers, numbers, st.integers(0, 255), st.binary(), st.integers(-1, MAX_INSTANCE - 1))
def test_entry_round_trip(
    group: int, instance: int, ballot: int, checksum: int, kind: int, payload: bytes, chosen: int
) -> None:
    key = layout.entry_key(group, instance)
    value = layout.pack_entry(key, ballot, checksum, kind, payload, chosen)
    assert layout.split_entry_key(key) == (group, instance)
    assert layout.unpack_entry(key, value) == (StoredEntry(ballot, checksum, kind, payload), chosen)


@given(st.tuples(groups, instances), st.tuples(groups, instances))
def test_keys_sort_as_numbers_do(one: tuple[int, int], other: tuple[int, int]) -> None:
    assert (layout.entry_key(*one) < layout.entry_key(*other)) == (one < other)


@given(st.integers(0, 28))
def test_a_changed_header_is_noticed(position: int) -> None:
    key = layout.entry_key(3, 17)
    value = bytearray(layout.pack_entry(key, 5, 6, 0, b"payload", 16))
    value[position] ^= 1
    with pytest.raises(layout.Unreadable):
        layout.unpack_entry(key, bytes(value))


def test_an_entry_at_the_wrong_place_is_noticed() -> None:
    value = layout.pack_entry(layout.entry_key(0, 7), 5, 6, 0, b"payload", 6)
    with pytest.raises(layout.Unreadable, match="crc"):
        layout.unpack_entry(layout.entry_key(0, 8), value)


def test_a_short_record_is_noticed() -> None:
    with pytest.raises(layout.Unreadable, match="3 bytes"):
        layout.unpack_entry(layout.entry_key(0, 8), b"abc")
    with pytest.raises(layout.Unreadable, match="3 bytes"):
        layout.unpack_mark(b"abc")
    with pytest.raises(layout.Unreadable, match="3 bytes"):
        layout.split_mark_key(b"abcd")
