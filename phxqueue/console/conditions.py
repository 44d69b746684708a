"""Conditions of a process that an operator has to know of, and from when to when. Pure.

A condition is looked at every few seconds. It becomes an alarm when it has held for `after_s` without a break, and the
alarm is over when the condition has been gone for CLEAR_AFTER_S: so neither a moment of trouble nor one of relief is
told. While it lasts the alarm is raised again every AGAIN_S, as it is by then: for whoever missed it, or took it down
too early. What "it holds" means is each role's business (:mod:`~phxqueue.console.replica_conditions`,
:mod:`~phxqueue.console.scheduler_conditions`, :mod:`~phxqueue.console.consumer_conditions`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from phxqueue.console.alarms import Alarm

#: How long a condition has to be gone before its alarm is over.
CLEAR_AFTER_S = 30.0
#: How often the alarm of a condition that lasts is raised again.
AGAIN_S = 300.0
#: Conditions that are followed at the same time; others wait for room.
MOST = 1000


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that holds at this moment. `after_s`: so long it has to before it is an alarm."""

    alarm: Alarm
    after_s: float


@dataclass(slots=True)
class _Followed:
    since: float
    seen: float
    raised: float | None = None  # when last


class Conditions:
    """The conditions of one process."""

    def __init__(self) -> None:
        self._followed: dict[str, _Followed] = {}

    def look(self, now: float, present: Iterable[Condition]) -> tuple[list[Alarm], list[str]]:
        """Returns the alarms to raise, now or again, and the names of those that are over.

        Args:
            now: seconds of a clock that never goes back.
            present: what holds now.
        """
        raised: list[Alarm] = []
        holding: set[str] = set()
        for condition in present:
            name = condition.alarm.name
            holding.add(name)
            one = self._followed.get(name)
            if one is None:
                if len(self._followed) >= MOST:
                    continue
                one = self._followed[name] = _Followed(now, now)
            one.seen = now
            due = one.since + condition.after_s if one.raised is None else one.raised + AGAIN_S
            if now >= due:
                one.raised = now
                raised.append(condition.alarm)
        over: list[str] = []
        for name, one in list(self._followed.items()):
            if name in holding:
                continue
            if one.raised is None:
                del self._followed[name]
            elif now - one.seen >= CLEAR_AFTER_S:
                del self._followed[name]
                over.append(name)
        return raised, over


class Lately:
    """By how much counters have risen within the last `window_s` seconds, at least; looked at now and then."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._seen: deque[tuple[float, Mapping[str, int]]] = deque()

    def risen(self, now: float, counts: Mapping[str, int]) -> dict[str, int]:
        """Note what they are now."""
        seen = self._seen
        seen.append((now, dict(counts)))
        while len(seen) > 1 and seen[1][0] <= now - self._window_s:
            seen.popleft()
        first = seen[0][1]
        return {name: value - first.get(name, value) for name, value in counts.items()}
