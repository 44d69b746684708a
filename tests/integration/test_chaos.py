"""The chaos tool itself (tests/chaos), for a moment: that it runs, treats a cluster badly and judges it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
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


@pytest.mark.timeout(START_TIMEOUT_S)
def test_interrupted_it_says_so_in_one_line_and_leaves_nothing() -> None:
    command = [sys.executable, "-m", "tests.chaos", "--minutes", "5", "--seed", "1", "--only", "kill_master"]
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:  # short: there are sockets in it
        place = Path(name)
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": name}
        with (place / "said").open("wb") as said:
            process = subprocess.Popen(
                command, env=environment, cwd=REPOSITORY, stdout=said, stderr=said, start_new_session=True
            )
        try:
            while process.poll() is None and not list(place.glob("phxqueue-chaos-*/round0/logs/store.0.log")):
                time.sleep(0.05)
            os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C does: everybody hears it
            status = process.wait()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        lines = (place / "said").read_text().splitlines()
        assert status == 128 + signal.SIGINT, lines
        assert len(lines) == 2, lines
        assert "interrupted after 0 faults" in lines[1]
        assert [path.name for path in place.iterdir()] == ["said"]
        assert not [arguments for arguments in command_lines() if name in arguments]


def command_lines() -> list[str]:
    """Of all processes there are, those in namespaces of their own too."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # gone meanwhile
            found.append(entry.read_text(errors="replace"))
    return found


@pytest_twisted.ensureDeferred
async def test_without_namespaces_what_needs_them_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.chaos", "--no-sandbox", "--only", "isolate_master", "--directory"]
    status, output, errors = await run_command(reactor, [*command, str(tmp_path / "run")], REPOSITORY)
    assert status == 1, output + errors
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
