"""The consumer role: handlers are found where the process was started."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from phxqueue.consumer.daemon import import_from
from phxqueue.consumer.handlers import load_handlers


def test_handlers_are_found_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "started_here.py").write_text("def handle(context, item): ...\n")
    import_from(tmp_path)
    import_from(tmp_path)
    assert sys.path.count(str(tmp_path)) == 1
    assert callable(load_handlers({1: "started_here:handle"}, plugins=False)[1].call)
