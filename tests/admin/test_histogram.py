"""The histogram against a sorted list of what was recorded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phxqueue.admin.histogram import Histogram, duration, render

durations_us = st.lists(st.integers(0, 10**9), min_size=1, max_size=200)


def recorded(values_us: list[int]) -> Histogram:
    histogram = Histogram()
    for value in values_us:
        histogram.record(value / 1e6 + 1e-9)
    return histogram


@given(durations_us, st.floats(0.01, 1.0))
def test_percentile_is_at_most_a_sixteenth_above_the_true_one(values: list[int], fraction: float) -> None:
    histogram = recorded(values)
    true = next(value for place, value in enumerate(sorted(values), 1) if place >= fraction * len(values))
    found = histogram.percentile(fraction)
    assert true <= found <= true * 17 / 16 + 1


@given(durations_us, durations_us)
def test_merging_is_recording_both(first: list[int], second: list[int]) -> None:
    merged = recorded(first)
    merged.merge(recorded(second))
    both = recorded(first + second)
    assert render(merged) == render(both)
    assert (merged.count, merged.min_us, merged.max_us) == (both.count, both.min_us, both.max_us)


@given(durations_us)
def test_rows_cover_every_duration_and_lose_none(values: list[int]) -> None:
    rows = recorded(values).rows()
    assert sum(row.count for row in rows) == len(values)
    for row in rows:
        assert row.count == sum(row.low_us <= value < row.high_us for value in values)


def test_a_batch_counts_as_often_as_it_has_items() -> None:
    histogram = Histogram()
    histogram.record(0.001, times=9)
    histogram.record(0.5)
    assert histogram.count == 10
    assert histogram.percentile(0.9) < 1100
    assert histogram.mean_us == pytest.approx((9 * 1000 + 500_000) / 10, rel=0.01)


def test_nothing_recorded() -> None:
    histogram = Histogram()
    assert histogram.percentile(0.99) == 0
    assert histogram.rows() == []
    assert render(histogram) == ["latency: nothing was measured"]


def test_a_year_is_counted_in_the_last_bucket() -> None:
    histogram = Histogram()
    histogram.record(365 * 86_400)
    assert histogram.count == 1
    assert histogram.percentile(1.0) <= histogram.max_us == 365 * 86_400 * 10**6


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [(0, "0 µs"), (840, "840 µs"), (2310, "2.31 ms"), (23_100, "23.1 ms"), (231_000, "231 ms"), (1_040_000, "1.04 s")],
)
def test_durations_for_people(microseconds: int, text: str) -> None:
    assert duration(microseconds) == text
