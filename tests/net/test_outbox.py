from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phxqueue.net.outbox import Outbox


@given(st.lists(st.binary(max_size=50)), st.integers(1, 60))
def test_what_goes_in_comes_out_in_order_and_in_chunks(pieces: list[bytes], limit: int) -> None:
    outbox = Outbox()
    for piece in pieces:
        outbox.put(piece)
    chunks = []
    while outbox.size:
        left = outbox.size
        chunk = outbox.take(limit)
        assert len(chunk) == min(left, limit)
        assert outbox.size == left - len(chunk)
        chunks.append(chunk)
    assert b"".join(chunks) == b"".join(pieces)


@pytest.mark.parametrize("size", [1 << 24])
def test_a_large_piece_is_cut_without_copying_the_rest_each_time(size: int) -> None:
    outbox = Outbox()
    outbox.put(bytes(size))
    taken = 0
    while outbox.size:
        taken += len(outbox.take(1 << 10))
    assert taken == size


def test_clear() -> None:
    outbox = Outbox()
    outbox.put(b"abc")
    outbox.clear()
    assert outbox.size == 0
    assert outbox.take(10) == b""
