"""What logs give away."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.logger import Logger, globalLogPublisher, textFileLogObserver

from phxqueue.console.alarms import Alarm, Alarms
from phxqueue.console.desk import AlarmDesk
from phxqueue.console.events import EventRing
from phxqueue.console.scheduler_conditions import scheduler_conditions
from tests.chaos.verdict import alarms_in_logs, defects_in_logs


def logged(path: Path, write: Any) -> Any:
    """A process with a log into which `write` has written as daemons do."""
    with path.open("w") as file:
        observer = textFileLogObserver(file)
        globalLogPublisher.addObserver(observer)
        try:
            write()
        finally:
            globalLogPublisher.removeObserver(observer)
    return SimpleNamespace(name="store.0", output=path)


def test_an_alarm_is_a_finding(tmp_path: Path) -> None:
    alarm = Alarm(kind="mismatch", subject=(("queue", 7),), cause="3 items were lost", remedy="look")
    desk = AlarmDesk(Alarms(most=1, repeat_s=1.0, hold_s=1.0), EventRing(10), lambda: 0.0, lambda: 0.0)
    child = logged(tmp_path / "log", lambda: desk.raise_alarm(alarm))
    [found] = alarms_in_logs([child])
    assert "store.0: 1 alarms" in found
    assert "3 items were lost" in found
    assert defects_in_logs([child]) == []


def test_that_somebody_was_away_for_long_is_no_finding(tmp_path: Path) -> None:
    """On a busy machine consumers may take longer to start than a scheduler waits before it raises an alarm."""
    [condition] = scheduler_conditions("test", True, "", ["a", "b"], {}, 1.0)
    desk = AlarmDesk(Alarms(most=1, repeat_s=1.0, hold_s=1.0), EventRing(10), lambda: 0.0, lambda: 0.0)
    child = logged(tmp_path / "log", lambda: desk.raise_alarm(condition.alarm))
    assert "ALARM no-consumer" in child.output.read_text()
    assert alarms_in_logs([child]) == []


def test_what_is_no_alarm_is_none(tmp_path: Path) -> None:
    child = logged(tmp_path / "log", lambda: Logger(namespace="phxqueue").warn("the disk is full"))
    assert alarms_in_logs([child]) == []
