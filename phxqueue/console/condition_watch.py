"""Looks at the conditions of a process every few seconds, and raises and clears their alarms."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from phxqueue.console.conditions import Condition, Conditions
from phxqueue.console.desk import AlarmSink

#: Seconds between two looks.
LOOK_S = 5.0

Look = Callable[[float], Iterable[Condition]]
"""look(now): what holds now."""


class ConditionWatch:
    """Of one process.

    Attributes:
        looks: each is asked what holds.
    """

    log = Logger(namespace="phxqueue.alarm")

    def __init__(self, clock: IReactorTime, desk: AlarmSink) -> None:
        self.looks: list[Look] = []
        self._clock = clock
        self._desk = desk
        self._conditions = Conditions()
        self._timer: IDelayedCall | None = None

    def start(self) -> None:
        """Begin to look, if there is anything to look at."""
        if self.looks and self._timer is None:
            self._timer = self._clock.callLater(LOOK_S, self._turn)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _turn(self) -> None:
        self._timer = self._clock.callLater(LOOK_S, self._turn)
        now = self._clock.seconds()
        present: list[Condition] = []
        for look in self.looks:
            try:
                present += look(now)
            except Exception:
                self.log.failure("a defect: the conditions of this process could not be looked at")
        raised, over = self._conditions.look(now, present)
        for alarm in raised:
            self._desk.raise_alarm(alarm)
        for name in over:
            self._desk.clear(name, "it is so no more")
        self._desk.look()
