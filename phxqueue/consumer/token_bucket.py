"""A token bucket: so many a second, evenly. Pure: time is passed in, in seconds of any monotonic clock."""

from __future__ import annotations

import math

#: Tokens that may gather beside one while nobody takes them, in seconds' worth: what a late timer or a pause in the
#: supply may cost is made up for, and a limit is never exceeded by more than that.
BURST_S = 0.25
#: Somebody who waits is woken when there is this many seconds' worth for him (or one token): not for each by itself.
CHUNK_S = 0.02


class TokenBucket:
    """Full at first.

    Args:
        rate: tokens per second; 0: none at all.

    Attributes:
        taken: tokens taken, ever.
    """

    __slots__ = ("_at", "_tokens", "rate", "taken")

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self.taken = 0
        self._at = now
        self._tokens = self._capacity if rate > 0 else 0.0

    @property
    def _capacity(self) -> float:
        return 1.0 + self.rate * BURST_S

    def change(self, rate: float, now: float) -> None:
        """Another rate from now on."""
        self._fill(now)
        self.rate = rate
        self._tokens = min(self._tokens, self._capacity)

    def has(self, now: float) -> bool:
        """Whether there is a token."""
        if self._tokens < 1.0:
            self._fill(now)
        return self.rate > 0 and self._tokens >= 1.0

    def take(self) -> None:
        """Take one; `has` has just said that there is one."""
        self._tokens -= 1.0
        self.taken += 1

    def wait(self, now: float) -> float:
        """Seconds until it is worth while to look again; infinite when there never will be a token."""
        if self.rate <= 0:
            return math.inf
        self._fill(now)
        wanted = min(max(1.0, self.rate * CHUNK_S), self._capacity)
        return max(0.0, (wanted - self._tokens) / self.rate)

    def _fill(self, now: float) -> None:
        if now > self._at:
            # A hair more than the truth: else rounding may keep the last token just out of reach for ever.
            self._tokens = min(self._capacity, self._tokens + (now - self._at) * self.rate + 1e-9)
            self._at = now
