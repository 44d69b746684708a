"""How much of a speed limit a consumer could use: from what it let through, and what waits. Pure, time passed in."""

from __future__ import annotations

import math

#: Speeds are smoothed over about so many seconds.
SMOOTHING_S = 0.5
#: Asked for on top of the speed of late: items do not come evenly.
HEADROOM = 1.03
#: What waits is to be worked off within so many seconds.
CATCH_UP_S = 1.0
#: Items that the speed of late would have let through since the last one: it has ended.
MISSED = 4.0


class DemandMeter:
    """One limit at one consumer. It is asked every now and then, and speaks of the time since it was asked last."""

    __slots__ = ("_at", "_held", "_last_at", "_speed", "_taken")

    def __init__(self, now: float, taken: int = 0) -> None:
        self._at = self._last_at = now
        self._taken = taken
        self._held = 0
        self._speed = 0.0

    def wanted(self, now: float, taken: int, held: int, rate: float) -> float:
        """Items per second that it could use.

        Args:
            taken: let through, ever.
            held: waiting for nothing but the limit.
            rate: what it was allowed lately, items per second.
        """
        passed = now - self._at
        if passed > 0:
            if taken > self._taken or held:
                self._last_at = now
            if self._speed * (now - self._last_at) > MISSED:
                self._speed = 0.0
            self._speed += ((taken - self._taken) / passed - self._speed) * -math.expm1(-passed / SMOOTHING_S)
            self._at, self._taken = now, taken
        wanted = self._speed * HEADROOM + held / CATCH_UP_S
        if held and held >= self._held > rate * CATCH_UP_S / 10:
            # More comes than goes. There may be far more behind it than what was fetched.
            wanted = max(wanted, 2 * rate + 1)
        self._held = held
        return wanted
