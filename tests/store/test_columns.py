"""Checkpoint blobs: what is written is read back, and damage never passes."""

from __future__ import annotations

from array import array

import pytest

from phxqueue.store.columns import ColumnReader, ColumnWriter, CorruptCheckpoint

MAGIC = b"testblob"


def blob() -> bytes:
    out = ColumnWriter(MAGIC)
    out.u16(7)
    out.i64(-1)
    out.column(array("Q", [1, 2**64 - 1, 3]), 1)
    out.column(array("B", [9, 8]))
    out.u64(2**63)
    out.u32(5)
    return out.finish()


def read(data: bytes) -> tuple[object, ...]:
    source = ColumnReader(MAGIC, data, "the blob")
    head = source.u16(), source.i64()
    wide, narrow = array("Q"), array("B")
    source.column(wide, 2)
    source.column(narrow, 2)
    tail = source.u64(), source.u32()
    source.finish()
    return (*head, wide.tolist(), narrow.tolist(), *tail)


def test_what_was_written_is_read_back() -> None:
    assert read(blob()) == (7, -1, [2**64 - 1, 3], [9, 8], 2**63, 5)


def test_every_flipped_bit_is_noticed() -> None:
    whole = blob()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        with pytest.raises(CorruptCheckpoint, match="the blob"):
            read(bytes(damaged))


def test_every_truncation_is_noticed() -> None:
    whole = blob()
    for length in range(len(whole)):
        with pytest.raises(CorruptCheckpoint, match="the blob"):
            read(whole[:length])


def test_bytes_left_over_are_noticed() -> None:
    out = ColumnWriter(MAGIC)
    out.u16(1)
    out.u16(2)
    source = ColumnReader(MAGIC, out.finish(), "the blob")
    assert source.u16() == 1
    with pytest.raises(CorruptCheckpoint, match="2 bytes too long"):
        source.finish()


def test_reading_beyond_the_end_never_reads_the_checksum() -> None:
    source = ColumnReader(MAGIC, ColumnWriter(MAGIC).finish(), "the blob")
    with pytest.raises(CorruptCheckpoint, match="a number was expected"):
        source.u64()
    with pytest.raises(CorruptCheckpoint, match="column of 1 numbers"):
        source.column(array("Q"), 1)
