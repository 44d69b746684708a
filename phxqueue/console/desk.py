"""Where alarms are raised and cleared: each becomes a log line, an event and, if wanted, a webhook's post."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from twisted.logger import Logger, LogLevel

from phxqueue.console.alarms import Alarm, Alarms, Standing
from phxqueue.console.events import EventRing, iso_time
from phxqueue.proto.status_pb2 import AlarmStatus

Tell = Callable[[str, Standing], None]
"""tell(state, alarm): "raised", "again" or "cleared"."""


class AlarmSink(Protocol):
    """What those who notice something need of a desk."""

    def raise_alarm(self, alarm: Alarm) -> None:
        """It happened (again)."""

    def clear(self, name: str, why: str) -> None:
        """It has settled."""

    def look(self) -> None:
        """Time has passed."""


class AlarmDesk:
    """The alarms of one process, told wherever they are to be told.

    Args:
        alarms: which ones stand.
        events: where they are kept for who asks later.
        now: seconds of a clock that never goes back.
        wall: Unix seconds.
        tell: further ones who want to know.
    """

    log = Logger(namespace="phxqueue.alarm")

    def __init__(
        self,
        alarms: Alarms,
        events: EventRing,
        now: Callable[[], float],
        wall: Callable[[], float],
        tell: Iterable[Tell] = (),
    ) -> None:
        self.alarms = alarms
        self.events = events
        self._now = now
        self._wall = wall
        self._tell = list(tell)

    def raise_alarm(self, alarm: Alarm) -> None:
        """It happened (again): counted in any case, told when it is new or was not told for a while."""
        told = self.alarms.raise_alarm(alarm, self._now(), self._wall())
        if told is None:
            return
        self.log.emit(
            LogLevel.warn if alarm.warning else LogLevel.error,
            "{what} {alarm}{times}: {cause}. {remedy}",
            what="WARNING" if alarm.warning else "ALARM",
            alarm=alarm.name,
            times="" if told.count == 1 else f" ({told.count} times since {iso_time(told.since)})",
            cause=alarm.cause,
            remedy=alarm.remedy,
            kind=alarm.kind,
            count=told.count,
            **{name: value for name, value in _facts(told).items() if name not in ("alarm", "cause", "remedy")},
        )
        self._say("raised" if told.count == 1 else "again", told, alarm.cause)

    def clear(self, name: str, why: str) -> None:
        """It has settled; nothing happens when it did not stand."""
        cleared = self.alarms.clear(name)
        if cleared is not None:
            self._cleared(cleared, why)

    def look(self) -> None:
        """Let go of those that nothing settles, when they did not come again for long enough."""
        for standing in self.alarms.expire(self._now()):
            self._cleared(standing, "it did not come again for alarm_hold_s")

    def _cleared(self, standing: Standing, why: str) -> None:
        self.log.info(
            "alarm {alarm} is over after {count} times: {why}",
            alarm=standing.alarm.name, count=standing.count, why=why,
        )  # fmt: skip
        self._say("cleared", standing, why)

    def _say(self, state: str, standing: Standing, message: str) -> None:
        alarm = standing.alarm
        facts = {"state": state, "severity": _severity(alarm), "alarm": alarm.name, "count": standing.count}
        facts.update(_facts(standing))
        if state != "cleared":
            facts["remedy"] = alarm.remedy
        self.events.add(self._wall(), "alarm", message, facts)
        for tell in self._tell:
            tell(state, standing)


def _facts(standing: Standing) -> dict[str, object]:
    alarm = standing.alarm
    return {**dict(alarm.subject), **alarm.labels, **alarm.facts}


def _severity(alarm: Alarm) -> str:
    return "warning" if alarm.warning else "alarm"


def document(standing: Standing, state: str = "standing") -> dict[str, object]:
    """An alarm as plain values, for JSON."""
    alarm = standing.alarm
    return {
        "number": standing.number,
        "state": state,
        "severity": _severity(alarm),
        "kind": alarm.kind,
        "name": alarm.name,
        **dict(alarm.subject),
        **alarm.labels,
        "cause": alarm.cause,
        "remedy": alarm.remedy,
        "since": iso_time(standing.since),
        "last": iso_time(standing.last),
        "count": standing.count,
        "facts": dict(alarm.facts),
        "recent": [dict(facts) for facts in standing.recent],
    }


def alarm_statuses(alarms: Alarms) -> Iterator[AlarmStatus]:
    """The alarms that stand, for NODE_STATUS."""
    for standing in alarms.standing.values():
        alarm = standing.alarm
        yield AlarmStatus(
            number=standing.number,
            kind=alarm.kind,
            name=alarm.name,
            cause=alarm.cause,
            remedy=alarm.remedy,
            since=standing.since,
            last=standing.last,
            count=standing.count,
            facts={name: str(value) for name, value in {**alarm.labels, **alarm.facts}.items()},
        )


class LogDesk(AlarmDesk):
    """A desk for those who are not observed (tests, a topic in memory): alarms are logged, and that is all."""

    def __init__(self, now: Callable[[], float], wall: Callable[[], float]) -> None:
        super().__init__(Alarms(most=1000, repeat_s=60.0, hold_s=3600.0), EventRing(100), now, wall)
