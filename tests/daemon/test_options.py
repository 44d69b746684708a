"""A node's command line: what is wrong with it, or with the file it names, ends twistd before anything starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.python import usage

from phxqueue.config import ConfigError
from phxqueue.config.settings import LogSettings
from phxqueue.daemon import logs
from phxqueue.daemon.options import NodeOptions

ROOT = Path(__file__).resolve().parents[2]
TWISTD = "from twisted.scripts.twistd import run; run()"


class Options(NodeOptions):
    role = "store"

    def load(self, path: Path) -> Any:
        if path.name == "bad.conf":
            raise ConfigError("bad.conf:3: port: -1; allowed: 1 to 65535\nbad.conf:4: data_dir: missing")
        return SimpleNamespace(name=path.name, log=LogSettings(level="warn", format="json"))


class Twistd(usage.Options):
    """twistd's own options, as far as they matter here."""


def parse(*arguments: str, logger: str | None = None) -> Options:
    parent = Twistd()
    parent.update({"logger": logger, "logfile": "-"})
    options = Options()
    options.parent = parent
    options.parseOptions(list(arguments))
    return options


@pytest.fixture(autouse=True)
def log_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_build", logs._build)


def test_the_file_is_read_and_its_log_settings_go_to_twistd() -> None:
    options = parse("-c", "good.conf")
    assert options.node.name == "good.conf"
    assert options.parent["logger"] == "phxqueue.daemon.logs.observer"


def test_a_logger_that_was_asked_for_stays() -> None:
    assert parse("--config", "good.conf", logger="my.observer").parent["logger"] == "my.observer"


def test_no_file() -> None:
    with pytest.raises(SystemExit) as raised:
        parse()
    assert raised.value.code == "phxqueue-store: say which node this is: -c etc/NODE.conf"


def test_every_problem_of_the_file() -> None:
    with pytest.raises(SystemExit) as raised:
        parse("-c", "bad.conf")
    assert str(raised.value.code).startswith("phxqueue-store: bad.conf:3: port: -1")
    assert "bad.conf:4: data_dir: missing" in str(raised.value.code)


@pytest.mark.parametrize("role", ["store", "consumer"])
def test_twistd_ends_with_one_report_and_no_traceback(role: str, tmp_path: Path) -> None:
    node = tmp_path / "node.conf"
    node.write_text("nonsense: 1\nmore: [\n")
    ended = subprocess.run(
        [sys.executable, "-c", TWISTD, "-n", f"phxqueue-{role}", "-c", str(node)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"phxqueue-{role}: ")
    assert "node.conf" in ended.stderr
    assert "Traceback" not in ended.stderr + ended.stdout
    assert "Usage" not in ended.stderr + ended.stdout
    assert list(tmp_path.glob("twistd.*")) == []
