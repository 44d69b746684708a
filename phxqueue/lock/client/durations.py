"""The times that applications give with their calls, checked: leases and waits, in seconds."""

from __future__ import annotations

import math

from phxqueue.lock.client.errors import InvalidRequest

#: A lease longer than this (in ms) is a mistake that the wire could not even carry.
_MOST_MS = 1 << 53


def checked_lease(lease: float | None) -> int:
    """A lease in milliseconds, 0 for one without an end; the server knows its limits. Raises InvalidRequest."""
    if lease is None:
        return 0
    if not 1 <= lease * 1000 <= _MOST_MS:
        raise InvalidRequest(f"lease: {lease!r}; it must be seconds, at least 0.001, or None for one without an end")
    return round(lease * 1000)


def checked_wait(wait: float | None) -> float | None:
    """Raises InvalidRequest."""
    if wait is None:
        return None
    if not wait >= 0:  # not a number is not, either
        raise InvalidRequest(f"wait: {wait!r}; it must be seconds, at least 0, or None for as long as it takes")
    return None if wait == math.inf else float(wait)
