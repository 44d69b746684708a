"""A histogram of durations with logarithmic buckets: constant memory, a few percent of error, any percentile. Pure."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

#: Each power of two is split into so many buckets: the width of one is at most 1/16 of its value.
SUB_BUCKETS = 16
_SUB_BITS = 4
_MAX_BITS = 40  # about 12 days in microseconds; anything longer is counted in the last bucket
_BUCKETS = (_MAX_BITS - _SUB_BITS + 1) * SUB_BUCKETS

PERCENTILES = (0.5, 0.9, 0.99, 0.999)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the printed histogram: `count` durations in [low_us, high_us)."""

    low_us: int
    high_us: int
    count: int


class Histogram:
    """Counts durations in microseconds.

    Log-linear buckets as in HdrHistogram: values below 16 have a bucket of their own, above it each power of two has
    sixteen of equal width.
    """

    __slots__ = ("_counts", "count", "max_us", "min_us", "total_us")

    def __init__(self) -> None:
        self._counts = array("Q", bytes(8 * _BUCKETS))
        self.count = 0
        self.total_us = 0
        self.min_us = 0
        self.max_us = 0

    def record(self, seconds: float, times: int = 1) -> None:
        """Count a duration, `times` times (a batch of items shares one)."""
        value = int(seconds * 1e6)
        value = max(value, 0)
        if not self.count or value < self.min_us:
            self.min_us = value
        if value > self.max_us:
            self.max_us = value
        self.count += times
        self.total_us += value * times
        self._counts[_bucket(value)] += times

    def merge(self, other: Histogram) -> None:
        """Add what another one counted."""
        if not other.count:
            return
        self.min_us = min(self.min_us, other.min_us) if self.count else other.min_us
        self.max_us = max(self.max_us, other.max_us)
        self.count += other.count
        self.total_us += other.total_us
        for index, count in enumerate(other._counts):
            if count:
                self._counts[index] += count

    @property
    def mean_us(self) -> float:
        return self.total_us / self.count if self.count else 0.0

    def percentile(self, fraction: float) -> int:
        """Return the duration (µs) that `fraction` of all stay below: the upper end of its bucket, never above max."""
        wanted = fraction * self.count
        seen = 0
        for index, count in enumerate(self._counts):
            seen += count
            if count and seen >= wanted:
                return min(_low(index + 1), self.max_us)
        return self.max_us

    def rows(self) -> list[Row]:
        """Return the counts in powers of two, from the first to the last that has any."""
        sums: dict[int, int] = {}
        for index, count in enumerate(self._counts):
            if count:
                power = _low(index).bit_length()
                sums[power] = sums.get(power, 0) + count
        if not sums:
            return []
        return [Row((1 << power) >> 1, 1 << power, sums.get(power, 0)) for power in range(min(sums), max(sums) + 1)]


def _bucket(value: int) -> int:
    shift = value.bit_length() - _SUB_BITS - 1
    if shift <= 0:
        return value
    return min((shift << _SUB_BITS) + (value >> shift), _BUCKETS - 1)


def _low(index: int) -> int:
    """The smallest value of a bucket: the inverse of `_bucket`."""
    if index < 2 * SUB_BUCKETS:
        return index
    shift = (index >> _SUB_BITS) - 1
    return (index - (shift << _SUB_BITS)) << shift


def duration(microseconds: float) -> str:
    """Return a duration for people, with three digits that matter: 840 µs, 2.31 ms, 1.04 s."""
    if microseconds < 1000:
        return f"{microseconds:.0f} µs"
    value, unit = (microseconds / 1e3, "ms") if microseconds < 1e6 else (microseconds / 1e6, "s")
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f} {unit}"


def render(histogram: Histogram, width: int = 40) -> list[str]:
    """Return the lines to print: percentiles, then one bar per power of two."""
    if not histogram.count:
        return ["latency: nothing was measured"]
    shares = "  ".join(f"p{100 * fraction:g} {duration(histogram.percentile(fraction))}" for fraction in PERCENTILES)
    lines = [f"latency: mean {duration(histogram.mean_us)}  {shares}  max {duration(histogram.max_us)}"]
    most = max(row.count for row in histogram.rows())
    for row in histogram.rows():
        bar = "█" * max(round(width * row.count / most), 1 if row.count else 0)
        lines.append(
            f"  {duration(row.low_us):>8} to {duration(row.high_us):<8} {row.count:>10,} "
            f"{100 * row.count / histogram.count:5.1f} %  {bar}".rstrip()
        )
    return lines
