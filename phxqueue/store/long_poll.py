"""Gets that wait for items: parked per queue, woken by what is applied to that queue, never by scanning.

Their number is bounded for the whole node. Queues that got items in one reactor turn are looked at once, at its end:
a reader then gets everything that arrived in the turn in one answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from phxqueue.replica.interfaces import Clock, DelayedCall

Key = tuple[int, int]
"""(Paxos group, queue id)"""


class Parked:
    """One waiting Get. `resume()` is called once: when its queue got items, or when it has waited long enough.

    It must not raise: others wait behind it.
    """

    __slots__ = ("_timer", "key", "resume")

    def __init__(self, key: Key, resume: Callable[[], None]) -> None:
        self.key = key
        self.resume = resume
        self._timer: DelayedCall | None = None

    def start(self, timer: DelayedCall) -> None:
        self._timer = timer

    def stop(self) -> None:
        """End the timer."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None


class LongPolls:
    """All waiting Gets of a node."""

    def __init__(self, clock: Clock, max_parked: int) -> None:
        self.max_parked = max_parked
        self._clock = clock
        self._queues: dict[Key, dict[Parked, None]] = {}
        self._count = 0
        self._touched: dict[Key, None] = {}
        self._soon: DelayedCall | None = None
        self._closed = False

    def __len__(self) -> int:
        return self._count

    @property
    def full(self) -> bool:
        """Whether no further Get may wait."""
        return self._closed or self._count >= self.max_parked

    def park(self, key: Key, wait_s: float, resume: Callable[[], None]) -> Parked:
        """Let a Get wait, at most `wait_s` seconds."""
        parked = Parked(key, resume)
        self._queues.setdefault(key, {})[parked] = None
        self._count += 1
        parked.start(self._clock.callLater(wait_s, self._expire, parked))
        return parked

    def remove(self, parked: Parked) -> bool:
        """Forget a Get; False when it does not wait (any more)."""
        waiting = self._queues.get(parked.key)
        if waiting is None or parked not in waiting:
            return False
        del waiting[parked]
        if not waiting:
            del self._queues[parked.key]
        self._count -= 1
        parked.stop()
        return True

    def touch(self, group_id: int, queue_ids: Iterable[int]) -> None:
        """Queues have new items: whoever waits there is resumed at the end of this reactor turn."""
        for queue_id in queue_ids:
            key = (group_id, queue_id)
            if key in self._queues:
                self._touched[key] = None
        if self._touched and self._soon is None:
            self._soon = self._clock.callLater(0, self._resume_touched)

    def release(self, group_id: int) -> None:
        """Resume everybody who waits in a group: its mastership has changed."""
        for key in [key for key in self._queues if key[0] == group_id]:
            self._resume(key)

    def close(self) -> None:
        """Resume everybody, let nobody wait any more, and end all timers."""
        self._closed = True
        for key in list(self._queues):
            self._resume(key)
        if self._soon is not None and self._soon.active():
            self._soon.cancel()
        self._soon = None
        self._touched.clear()

    def _resume_touched(self) -> None:
        self._soon = None
        touched, self._touched = self._touched, {}
        for key in touched:
            self._resume(key)

    def _resume(self, key: Key) -> None:
        for parked in list(self._queues.get(key, ())):
            if self.remove(parked):
                parked.resume()

    def _expire(self, parked: Parked) -> None:
        if self.remove(parked):
            parked.resume()
