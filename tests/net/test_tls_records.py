from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from phxqueue.net.tls_records import MAX_LENGTH, RecordCounter


def record(length: int) -> bytes:
    return b"\x17\x03\x03" + length.to_bytes(2, "big") + bytes(length)


@given(st.lists(st.integers(0, 300), max_size=20), st.lists(st.integers(0, 4000)))
def test_every_record_counts_once_in_the_chunk_that_ends_it(lengths: list[int], points: list[int]) -> None:
    data = b"".join(map(record, lengths))
    ends = set(itertools.accumulate(5 + length for length in lengths))
    edges = sorted({0, len(data), *(point % (len(data) + 1) for point in points)})
    counter = RecordCounter()
    for begin, end in itertools.pairwise(edges):
        assert counter.feed(data[begin:end]) == len([place for place in ends if begin < place <= end])


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_garbage_is_counted_without_complaint(chunks: list[bytes]) -> None:
    counter = RecordCounter()
    total = sum(map(counter.feed, chunks))
    assert total <= sum(map(len, chunks)) // 5 + 1


def test_an_impossible_length_is_shown_to_openssl_at_once() -> None:
    assert RecordCounter().feed(b"\x17\x03\x03" + (MAX_LENGTH + 1).to_bytes(2, "big")) == 1
    assert RecordCounter().feed(b"\x17\x03\x03" + MAX_LENGTH.to_bytes(2, "big")) == 0
