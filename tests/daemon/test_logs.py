"""The log of a node, for people or for programs, at the level asked for, where twistd was told."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.logger import Logger
from twisted.python.logfile import LogFile
from twisted.python.reflect import namedAny

from phxqueue.daemon import logs


def logged(level: str, log_format: str) -> str:
    """What a stream gets of one event per level."""
    stream = io.StringIO()
    log = Logger(namespace="phxqueue.test", observer=logs.filtered_observer(stream, level, log_format))
    log.debug("fine print {number}", number=1)
    log.info("node {node} says {what}", node=0, what="hello")
    log.warn("careful")
    log.error("broken")
    return stream.getvalue()


def test_for_people() -> None:
    lines = logged("info", "human").splitlines()
    assert len(lines) == 3
    assert "[phxqueue.test#info] node 0 says hello" in lines[0]


def test_for_programs() -> None:
    events = [json.loads(line) for line in logged("info", "json").splitlines()]
    assert [event["message"] for event in events] == ["node 0 says hello", "careful", "broken"]
    assert [event["level"] for event in events] == ["info", "warn", "error"]
    assert (events[0]["node"], events[0]["what"], events[0]["logger"]) == (0, "hello", "phxqueue.test")
    assert datetime.fromisoformat(events[0]["time"]).tzinfo is not None


@pytest.mark.parametrize(("level", "lines"), [("debug", 4), ("info", 3), ("warn", 2), ("error", 1), ("critical", 0)])
def test_levels(level: str, lines: int) -> None:
    assert len(logged(level, "human").splitlines()) == lines


@pytest.mark.parametrize("log_format", ["human", "json"])
def test_a_traceback_is_written_in_both_forms(log_format: str) -> None:
    stream = io.StringIO()
    log = Logger(namespace="phxqueue.test", observer=logs.filtered_observer(stream, "info", log_format))
    try:
        raise ZeroDivisionError("by zero")
    except ZeroDivisionError:
        log.failure("it failed")
    text = stream.getvalue() if log_format == "human" else json.loads(stream.getvalue())["traceback"]
    assert "Traceback" in text
    assert "by zero" in text
    assert "test_logs.py" in text


def test_a_program_gets_one_line_per_event_whatever_is_in_it() -> None:
    stream = io.StringIO()
    log = Logger(namespace="phxqueue.test", observer=logs.filtered_observer(stream, "info", "json"))
    log.info("two\nlines of {thing}", thing=object(), name="größer")
    (line,) = stream.getvalue().splitlines()
    event = json.loads(line)
    assert event["message"].startswith("two\nlines of <object")
    assert event["name"] == "größer"
    assert "thing" not in event


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(logs, "_build", None)
    opened: list[LogFile] = []

    def remember(*arguments: Any, **more: Any) -> LogFile:
        opened.append(LogFile.fromFullPath(*arguments, **more))
        return opened[-1]

    monkeypatch.setattr(logs, "LogFile", SimpleNamespace(fromFullPath=remember))
    yield
    for file in opened:
        file.close()


def written(twistd: dict[str, Any]) -> None:
    name = logs.configure("info", "human", twistd)
    Logger(namespace="phxqueue.test", observer=namedAny(name)()).info("hello")


def test_a_file_that_is_named(configured: None, tmp_path: Path) -> None:
    written({"logfile": str(tmp_path / "store.log")})
    assert "hello" in (tmp_path / "store.log").read_text()


def test_a_daemon_writes_where_twistd_does(configured: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written({"logfile": None, "nodaemon": 0})
    assert "hello" in (tmp_path / "twistd.log").read_text()


@pytest.mark.parametrize("twistd", [{"logfile": "-"}, {"logfile": None, "nodaemon": 1}])
def test_the_terminal(configured: None, twistd: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    written(twistd)
    assert "hello" in stream.getvalue()


def test_opening_a_log_that_nobody_configured_is_a_defect(configured: None) -> None:
    with pytest.raises(RuntimeError, match="configure"):
        logs.observer()
