"""Spreads bytes over time. Pure: told the time, answers how long to wait."""

from __future__ import annotations

MOST_AHEAD = 0.05
"""Seconds' worth of bytes that may go at once after a rest."""


class Pace:
    """So many bytes per second on average, whoever they are for; 0: no limit."""

    def __init__(self, bytes_per_second: int) -> None:
        self._rate = bytes_per_second
        self._free_at = 0.0

    def behind(self, now: float) -> float:
        """Return the seconds after which what was taken into account so far has gone."""
        return max(self._free_at - now, 0.0)

    def wait(self, size: int, now: float) -> float:
        """Take `size` bytes into account; return the seconds after which they may go."""
        if not self._rate:
            return 0.0
        begin = max(self._free_at, now - MOST_AHEAD)
        self._free_at = begin + size / self._rate
        return max(begin - now, 0.0)
