"""The idempotence window: what it remembers, what it forgets, and that all replicas forget alike."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phxqueue.replica.portions import at_once
from phxqueue.store.columns import ColumnReader, ColumnWriter, CorruptCheckpoint
from phxqueue.store.idempotence import Idempotence
from phxqueue.store.outcome_chunks import OutcomeChunks, chunk_key


def remember(window: Idempotence, producer_id: int, sequence: int, now_ms: int = 0, cursor: int = 7) -> None:
    window.begin(now_ms)
    window.remember(window.producer(producer_id, now_ms), sequence, cursor, 3 << 32 | 5, now_ms)


class Saved:
    """A window and its chunks, as they lie on disk."""

    def __init__(self) -> None:
        self.chunks = OutcomeChunks()
        self.blobs: dict[bytes, bytes] = {}

    def restarted(self, window: Idempotence) -> Idempotence:
        """Seal, save and read back; what must not differ does not."""
        self.blobs.update(self.chunks.seal(window))
        for key in self.chunks.take_dead(window):
            del self.blobs[key]
        assert len(self.chunks) == len(self.blobs)
        return self.read(window, self.blobs)

    def read(self, window: Idempotence, blobs: dict[bytes, bytes]) -> Idempotence:
        """Read back what is written of the window, with these blobs."""
        out = ColumnWriter(b"")
        window.write(out)
        self.chunks.write(out)
        source = ColumnReader(b"", out.finish(), "window")
        copy, chunks = window.emptied(), OutcomeChunks()
        counts = copy.read(source)
        at_once(chunks.reading(source, copy, blobs))
        self.chunks = chunks
        source.finish()
        assert at_once(copy.settling()) == counts
        assert whole(copy) == whole(window)
        assert len(copy) == len(window)
        return copy


def whole(window: Idempotence) -> bytes:
    out = ColumnWriter(b"")
    window.write_whole(out)
    return out.finish()


def test_a_batch_is_known_by_producer_and_sequence() -> None:
    window = Idempotence()
    remember(window, 1, 10, cursor=40)
    assert window.known(1, 10) == (3, 40, 5)
    assert window.known(1, 9) is None
    assert window.known(1, 11) is None
    assert window.known(2, 10) is None
    assert (len(window), window.producers) == (1, 1)


def test_sequences_may_arrive_in_any_order() -> None:
    window = Idempotence()
    for sequence in (5, 2, 9, 1, 7):
        remember(window, 1, sequence, cursor=sequence * 100)
    for sequence in (1, 2, 5, 7, 9):
        assert window.known(1, sequence) == (3, sequence * 100, 5)
    assert [window.known(1, sequence) for sequence in (3, 4, 6, 8)] == [None] * 4
    assert window.floor(1) == 0


def test_a_producer_has_so_many_outcomes_and_the_lowest_sequence_goes_first() -> None:
    window = Idempotence(producer_outcomes=3)
    for sequence in (1, 3, 2, 4, 5):
        remember(window, 1, sequence)
    assert [window.known(1, sequence) is not None for sequence in range(1, 6)] == [False, False, True, True, True]
    assert window.floor(1) == 2
    assert len(window) == 3


def test_an_outcome_is_forgotten_after_the_window() -> None:
    window = Idempotence(window_ms=1000)
    remember(window, 1, 1, now_ms=0)
    remember(window, 1, 2, now_ms=600)
    remember(window, 1, 3, now_ms=1000)
    assert window.known(1, 1) is None
    assert window.floor(1) == 1
    assert window.known(1, 2) is not None


def test_a_producer_silent_for_the_window_is_forgotten_with_its_floor() -> None:
    window = Idempotence(window_ms=1000, producer_outcomes=1)
    remember(window, 1, 1)
    remember(window, 1, 2)
    remember(window, 2, 1, now_ms=999)
    assert (window.floor(1), window.producers) == (1, 2)
    window.begin(1000)
    assert (window.floor(1), window.producers, len(window)) == (0, 1, 1)


def test_producers_share_the_memory_of_the_group() -> None:
    window = Idempotence(total_outcomes=100, producer_outcomes=80)
    for sequence in range(1, 81):
        remember(window, 1, sequence)
    assert len(window) == 80
    remember(window, 2, 1)
    remember(window, 1, 81)  # two producers: fifty each
    assert window.floor(1) == 31
    assert len(window) == 51


def test_the_producer_silent_longest_goes_when_there_are_too_many() -> None:
    window = Idempotence(max_producers=2)
    remember(window, 1, 1)
    remember(window, 2, 1)
    remember(window, 1, 2)
    remember(window, 3, 1)
    assert [window.known(producer, 1) is not None for producer in (1, 2, 3)] == [True, False, True]


def test_the_memory_of_all_producers_together_is_bounded() -> None:
    window = Idempotence(total_outcomes=64, producer_outcomes=64)
    for producer in range(1, 40):
        for sequence in range(1, 80):
            remember(window, producer, sequence)
            assert len(window) <= 128
    assert len(window) == sum(len(one) for one in window._producers.values())


OPERATIONS = st.lists(
    st.tuples(st.integers(1, 4), st.integers(1, 30), st.integers(0, 400)),
    max_size=60,
)


@settings(max_examples=200)
@given(OPERATIONS, st.sets(st.integers(0, 60)))
def test_agrees_with_a_plain_dictionary_and_survives_checkpoints_anywhere(
    operations: list[tuple[int, int, int]], checkpoints: set[int]
) -> None:
    bounds: dict[str, Any] = {"window_ms": 1000, "producer_outcomes": 8, "total_outcomes": 20, "max_producers": 3}
    window, now_ms, cursor, saved = Idempotence(**bounds), 0, 0, Saved()
    model: dict[tuple[int, int], tuple[int, int]] = {}  # (producer, sequence) -> cursor, time
    for number, (producer_id, sequence, later_ms) in enumerate(operations):
        if number in checkpoints:
            window = saved.restarted(window)
        now_ms += later_ms
        window.begin(now_ms)
        known = window.known(producer_id, sequence)
        if known is not None:
            assert known[1] == model[producer_id, sequence][0]
        elif sequence > window.floor(producer_id):
            # Never stored, or its whole producer was forgotten: it was silent too long, or one of too many.
            cursor += 1
            remember(window, producer_id, sequence, now_ms, cursor)
            model[producer_id, sequence] = cursor, now_ms
    saved.restarted(window)


def test_a_chunk_goes_when_nothing_of_it_is_known_any_more() -> None:
    window, saved = Idempotence(producer_outcomes=4), Saved()
    for sequence in range(1, 20):
        remember(window, 1, sequence)
        window = saved.restarted(window)
    assert len(saved.blobs) == 4
    window.begin(10**9)
    saved.restarted(window)
    assert saved.blobs == {}


def test_an_outcome_that_came_late_is_in_a_chunk_too() -> None:
    window, saved = Idempotence(), Saved()
    for sequence in (5, 9):
        remember(window, 1, sequence)
    window = saved.restarted(window)
    remember(window, 1, 7, cursor=70)
    window = saved.restarted(window)
    assert window.known(1, 7) == (3, 70, 5)
    remember(window, 1, 8, cursor=80)
    assert saved.restarted(window).known(1, 8) == (3, 80, 5)


def test_what_a_forgotten_window_of_a_producer_knew_does_not_come_back() -> None:
    window, saved = Idempotence(window_ms=1000), Saved()
    remember(window, 1, 5)
    remember(window, 2, 1, now_ms=900)
    window = saved.restarted(window)
    window.begin(1000)
    remember(window, 1, 3, now_ms=1000)
    window = saved.restarted(window)
    assert window.known(1, 5) is None
    assert window.known(1, 3) is not None


def test_a_missing_or_swapped_chunk_is_told() -> None:
    window, saved = Idempotence(), Saved()
    for sequence in (1, 2):
        remember(window, 1, sequence)
        window = saved.restarted(window)
    good = dict(saved.blobs)
    for blobs, complaint in (
        ({chunk_key(0): good[chunk_key(0)]}, "outcome chunk 1 is missing"),
        ({**good, chunk_key(1): good[chunk_key(0)]}, "another chunk's key"),
        ({**good, chunk_key(1): good[chunk_key(1)][:-1]}, "outcome chunk 1: its checksum"),
    ):
        with pytest.raises(CorruptCheckpoint, match=complaint):
            saved.read(window, blobs)
