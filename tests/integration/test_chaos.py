"""The chaos tool itself (tests/chaos), for a moment: that it runs, treats a cluster badly and judges it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest_twisted
from twisted.internet import reactor

from tests.integration.cluster import REPOSITORY, run_command

#: One of each sort; those that need namespaces are left out by the tool where there are none.
FAULTS = ("kill_master", "pause_master", "isolate_master")


@pytest_twisted.ensureDeferred
async def test_a_moment_of_chaos(tmp_path: Path) -> None:
    only = [argument for fault in FAULTS for argument in ("--only", fault)]
    place = tmp_path / "run"
    command = [sys.executable, "-m", "tests.chaos", "--minutes", "0.05", "--seed", "1", *only]
    status, output, errors = await run_command(reactor, [*command, "--directory", str(place)], REPOSITORY)
    assert status == 0, output + errors
    assert "findings: 0" in output
    assert "linearizable" in output
    assert "| kill_master |" in output or "| pause_master |" in output or "| isolate_master |" in output
    assert [path.name for path in place.iterdir()] == ["log.txt"], "a round that found nothing leaves nothing"


@pytest_twisted.ensureDeferred
async def test_without_namespaces_what_needs_them_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.chaos", "--no-sandbox", "--only", "isolate_master", "--directory"]
    status, _, errors = await run_command(reactor, [*command, str(tmp_path / "run")], REPOSITORY)
    assert status == 1
    assert "no networks were cut" in errors
