"""Calls that wait for a key to change: parked per key, woken by what is applied to that key, never by scanning."""

from __future__ import annotations

from collections.abc import Callable

from phxqueue.lock.records import TableKey
from phxqueue.replica.interfaces import Clock, DelayedCall


class Watch:
    """One waiting call. `resume()` is called once, unless it is removed before; it must not raise."""

    __slots__ = ("key", "resume", "timer")

    def __init__(self, key: TableKey, resume: Callable[[], None]) -> None:
        self.key = key
        self.resume = resume
        self.timer: DelayedCall | None = None


class Watches:
    """All waiting calls of one Paxos group. How many there may be is for the caller to see to."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._watches: dict[TableKey, dict[Watch, None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def park(self, key: TableKey, wait_s: float, resume: Callable[[], None]) -> Watch:
        """Have `resume` called when the key changes, and after `wait_s` seconds at the latest."""
        watch = Watch(key, resume)
        self._watches.setdefault(key, {})[watch] = None
        self._count += 1
        watch.timer = self._clock.callLater(wait_s, self._resume, watch)
        return watch

    def remove(self, watch: Watch) -> bool:
        """Forget a call; False when it does not wait (any more)."""
        watches = self._watches.get(watch.key)
        if watches is None or watch not in watches:
            return False
        del watches[watch]
        if not watches:
            del self._watches[watch.key]
        self._count -= 1
        if watch.timer is not None and watch.timer.active():
            watch.timer.cancel()
        watch.timer = None
        return True

    def touch(self, key: TableKey) -> None:
        """A key has changed: resume whoever waits for that."""
        for watch in list(self._watches.get(key, ())):
            self._resume(watch)

    def release(self) -> None:
        """Resume everybody: mastership has changed."""
        for key in list(self._watches):
            self.touch(key)

    def _resume(self, watch: Watch) -> None:
        if self.remove(watch):
            watch.resume()
