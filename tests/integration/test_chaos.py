"""The chaos tool itself (tests/chaos), for a moment: that it runs, treats a cluster badly and judges it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from phxqueue.admin.processes.watch import is_running
from tests.chaos.cluster import START_TIMEOUT_S
from tests.chaos.round import RETURN_TIMEOUT_S
from tests.integration.cluster import REPOSITORY, run_command
from tests.integration.conftest import later

#: One of each sort; those that need namespaces are left out by the tool where there are none.
FAULTS = ("kill_master", "pause_master", "isolate_master")


#: Beyond the times after which the tool itself gives up waiting for its cluster, and says what for.
@pytest.mark.reactor_limit(START_TIMEOUT_S + RETURN_TIMEOUT_S)
@pytest.mark.timeout(START_TIMEOUT_S + RETURN_TIMEOUT_S + 10.0)
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


@pytest_twisted.ensureDeferred
async def test_a_command_that_is_waited_for_no_longer_ends_with_all_it_has_started(tmp_path: Path) -> None:
    """A test that fails because its time is over must not leave a cluster running beside the next ones."""
    shell = ["/bin/sh", "-c", "sleep 600 & echo $! > started; mv started pid; wait"]
    running = Deferred.fromCoroutine(run_command(reactor, shell, tmp_path))
    while not (tmp_path / "pid").exists():
        await later(0.01)
    pid = int((tmp_path / "pid").read_text())
    assert is_running(pid)
    running.cancel()
    with pytest.raises(CancelledError):
        await running
    while is_running(pid):
        await later(0.01)
