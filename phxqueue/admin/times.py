"""Points of time as people write them. Pure."""

from __future__ import annotations

import re
from datetime import datetime, timezone

from phxqueue.admin.errors import AdminError

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


_AGE = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


def is_age(text: str) -> bool:
    """Whether it says how long ago, so that it means another time whenever it is read."""
    return _AGE.fullmatch(text) is not None


def parse_time(text: str, now: float) -> int:
    """Return Unix milliseconds: of ISO 8601 (UTC unless it says otherwise), Unix seconds, or an age such as 15m.

    Raises:
        AdminError: it is none of these.
    """
    age = _AGE.fullmatch(text)
    if age is not None:
        return round(max(now - float(age[1]) * _UNITS[age[2]], 0.0) * 1000)  # longer ago than 1970: everything
    if re.fullmatch(r"\d{9,12}(\.\d+)?", text):
        return round(float(text) * 1000)
    try:
        # Before Python 3.11 the letter for UTC is not read.
        when = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text))
    except ValueError:
        raise AdminError(
            f"{text!r} is no time: write 2026-01-31T12:00:00Z, Unix seconds, or an age such as 90s, 15m, 2h, 3d"
        ) from None
    return round(max((when if when.tzinfo else when.replace(tzinfo=timezone.utc)).timestamp(), 0.0) * 1000)
