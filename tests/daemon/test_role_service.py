"""A role as a service: ready when it serves, drained when it is told to stop, and loud when it must end."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning

from phxqueue.daemon import role_service
from phxqueue.daemon.role_service import ExpectedFailure, RoleService
from tests.conftest import LoggedErrors

ROOT = Path(__file__).resolve().parents[2]
TWISTD = "from twisted.scripts.twistd import run; run()"


class Reactor:
    """As much of one as a service needs."""

    def __init__(self, running: bool = True) -> None:
        self.running = running
        self.stops = 0
        self.when_running: list[Callable[[], None]] = []

    def stop(self) -> None:
        self.stops += 1
        if self.stops > 1:
            raise ReactorNotRunning("Can't stop reactor that isn't running.")

    def callWhenRunning(self, call: Callable[..., None], *arguments: object) -> None:
        if self.running:
            call(*arguments)
        else:
            self.when_running.append(partial(call, *arguments))


class FakeRole:
    name = "store 1 node 0"
    console = None

    def __init__(self) -> None:
        self.starting: Deferred[None] = Deferred()
        self.stopping: Deferred[None] = Deferred()
        self.serves = False
        self.fail: Callable[[str], None] | None = None

    async def start(self, fail: Callable[[str], None]) -> None:
        self.fail = fail
        await self.starting
        self.serves = True

    async def stop(self) -> None:
        await self.stopping

    def reload(self) -> None:
        raise NotImplementedError


class Rig:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, running: bool = True) -> None:
        self.told: list[dict[str, str]] = []
        self.exits: list[str] = []
        monkeypatch.setattr(role_service, "notify", self.told.append)
        monkeypatch.setattr(role_service, "_exit_with_status", self.exits.append)
        self.reactor = Reactor(running)
        self.role = FakeRole()
        self.service = RoleService(self.role, self.reactor)


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(monkeypatch)


def test_ready_when_the_role_serves_and_not_before(rig: Rig) -> None:
    rig.service.startService()
    assert rig.told == []
    rig.role.starting.callback(None)
    assert rig.told[0]["READY"] == "1"
    assert rig.told[0]["X_PHXQUEUE_NAME"] == "store 1 node 0"
    assert rig.service.started.called
    assert rig.service.exit_status == 0


def test_ready_is_not_told_before_signals_are_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reactor takes them over when it begins to run: until then SIGTERM just ends the process."""
    rig = Rig(monkeypatch, running=False)
    rig.service.startService()
    rig.role.starting.callback(None)
    assert rig.told == []
    [announce] = rig.reactor.when_running
    announce()
    assert rig.told[0]["READY"] == "1"
    assert rig.service.started.called


def test_what_was_stopped_meanwhile_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch, running=False)
    rig.service.startService()
    rig.role.starting.callback(None)
    rig.service.stopService()
    [announce] = rig.reactor.when_running
    announce()
    assert ["READY" in told for told in rig.told] == [False]


def test_an_expected_failure_is_told_without_a_traceback(rig: Rig, logged_errors: LoggedErrors) -> None:
    rig.service.startService()
    rig.role.starting.errback(ExpectedFailure("port 5100 is in use; stop the other node"))
    assert logged_errors.flush_critical() == ["store 1 node 0: port 5100 is in use; stop the other node"]
    assert (rig.reactor.stops, rig.service.exit_status) == (1, 1)
    assert rig.exits == ["port 5100 is in use; stop the other node"]
    assert rig.told[-1]["STATUS"] == "port 5100 is in use; stop the other node"
    assert "READY" not in rig.told[-1]


def test_a_defect_at_the_start_is_told_with_its_traceback(rig: Rig, logged_errors: LoggedErrors) -> None:
    rig.service.startService()
    rig.role.starting.errback(ZeroDivisionError("oops"))
    assert len(logged_errors.flush(ZeroDivisionError)) == 1
    assert logged_errors.flush_critical("oops")
    assert rig.reactor.stops == 1


def test_a_start_that_fails_before_the_reactor_runs(
    monkeypatch: pytest.MonkeyPatch, logged_errors: LoggedErrors
) -> None:
    rig = Rig(monkeypatch, running=False)
    rig.service.startService()
    rig.role.starting.errback(ExpectedFailure("no"))
    assert rig.reactor.stops == 0
    (stop,) = rig.reactor.when_running
    stop()
    assert rig.reactor.stops == 1
    logged_errors.flush_critical()


def test_a_role_that_fails_later_ends_the_process_once(rig: Rig, logged_errors: LoggedErrors) -> None:
    rig.service.startService()
    rig.role.starting.callback(None)
    assert rig.role.fail is not None
    rig.role.fail("the disk is gone")
    rig.role.fail("and something else")
    assert logged_errors.flush_critical() == ["store 1 node 0: the disk is gone"]
    assert rig.reactor.stops == 1
    assert rig.exits == ["the disk is gone"]


def test_stopping_waits_for_the_role(rig: Rig) -> None:
    rig.service.startService()
    rig.role.starting.callback(None)
    stopped = rig.service.stopService()
    assert rig.told[-1]["STOPPING"] == "1"
    assert not stopped.called
    rig.role.stopping.callback(None)
    assert stopped.called
    assert rig.exits == []


def test_a_role_that_is_told_to_stop_before_it_serves_does_not_go_on_starting(
    rig: Rig, logged_errors: LoggedErrors
) -> None:
    rig.service.startService()
    stopped = rig.service.stopService()
    rig.role.starting.callback(None)
    rig.role.stopping.callback(None)
    assert stopped.called
    assert not rig.role.serves
    assert not any("READY" in told for told in rig.told)
    assert (rig.exits, rig.service.exit_status, logged_errors.flush_critical()) == ([], 0, [])


def test_a_role_that_cannot_stop_cleanly_is_loud_and_stops(rig: Rig, logged_errors: LoggedErrors) -> None:
    rig.service.startService()
    rig.role.starting.callback(None)
    stopped = rig.service.stopService()
    rig.role.stopping.errback(OSError("disk"))
    assert stopped.called
    assert len(logged_errors.flush(OSError)) == 1
    assert rig.exits == ["disk"]


# ---- real processes ---------------------------------------------------------------------------------------------

APPLICATION = """
import os
import time
from twisted.application.service import Application, Service
from twisted.internet import reactor
from twisted.internet.task import deferLater
from phxqueue.daemon.role_service import ExpectedFailure, RoleService, prepare_process

class Role:
    name = "store 1 node 0"
    console = None

    async def start(self, fail):
        if os.environ["BEHAVIOUR"] == "at once":
            return
        await deferLater(reactor, 0)
        if os.environ["BEHAVIOUR"] == "start fails":
            raise ExpectedFailure("port 5100 is in use")
        if os.environ["BEHAVIOUR"] == "fails later":
            reactor.callLater(0.01, fail, "the disk is gone")

    async def stop(self):
        print("drained", flush=True)

    def reload(self):
        self.reloads = getattr(self, "reloads", 0) + 1
        if self.reloads == 1:
            raise ValueError("certificate unreadable")

application = Application("test")
service = RoleService(Role(), reactor)
service.setServiceParent(application)
prepare_process(reactor, [service])

class Slow(Service):
    def startService(self):
        time.sleep(0.5 * (os.environ["BEHAVIOUR"] == "at once"))

Slow().setServiceParent(application)
"""


class Daemon:
    """A real twistd in the foreground, and the service manager that watches it."""

    def __init__(self, directory: Path, behaviour: str) -> None:
        (directory / "test.tac").write_text(APPLICATION)
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(directory / "notify"))
        self.process = subprocess.Popen(
            [sys.executable, "-c", TWISTD, "-n", "-y", "test.tac"],
            cwd=directory,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "NOTIFY_SOCKET": str(directory / "notify"),
                "BEHAVIOUR": behaviour,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_for(self, state: str) -> dict[str, str]:
        """Wait until the manager is told a state."""
        while self.process.poll() is None or select.select([self.manager], [], [], 0)[0]:
            if select.select([self.manager], [], [], 0.1)[0]:
                told = dict(line.split("=", 1) for line in self.manager.recv(4096).decode().splitlines())
                if state in told:
                    return told
        raise AssertionError(f"the process ended and never told {state}: {self.end()}")

    def wait_for_line(self, text: str) -> None:
        """Wait until something is logged."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if text in line:
                return
        raise AssertionError(f"the process ended and never said {text!r}")

    def end(self) -> tuple[int, str]:
        """Wait for the end: exit status and output."""
        output, _ = self.process.communicate(timeout=100)
        return self.process.returncode, output

    def close(self) -> None:
        self.manager.close()
        self.process.kill()
        self.process.communicate()


StartDaemon = Callable[[str], Daemon]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartDaemon]:
    started: list[Daemon] = []

    def _start(behaviour: str) -> Daemon:
        started.append(Daemon(tmp_path, behaviour))
        return started[-1]

    yield _start
    for daemon in started:
        daemon.close()


def test_a_process_says_ready_reloads_and_drains(start: StartDaemon) -> None:
    daemon = start("works")
    assert daemon.wait_for("READY")["MAINPID"] == str(daemon.process.pid)
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for_line("the previous state stays in use")
    daemon.wait_for_line("ValueError: certificate unreadable")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for_line("store 1 node 0: reloaded")
    daemon.process.send_signal(signal.SIGTERM)
    daemon.wait_for("STOPPING")
    status, output = daemon.end()
    assert status == -signal.SIGTERM  # twistd passes it on in the end; for systemd that is success
    assert "drained" in output


@pytest.mark.parametrize(
    ("behaviour", "reason"), [("start fails", "port 5100 is in use"), ("fails later", "the disk is gone")]
)
def test_a_process_whose_role_fails_drains_and_fails(start: StartDaemon, behaviour: str, reason: str) -> None:
    daemon = start(behaviour)
    assert daemon.wait_for("ERRNO")["STATUS"] == reason
    status, output = daemon.end()
    assert status == 1
    assert f"store 1 node 0: {reason}" in output
    assert "drained" in output
    assert "Traceback" not in output


def test_a_process_that_is_stopped_as_soon_as_it_is_ready_drains(start: StartDaemon) -> None:
    """Also one whose role serves before the reactor runs, and something else takes a while meanwhile."""
    daemon = start("at once")
    daemon.wait_for("READY")
    daemon.process.send_signal(signal.SIGTERM)
    status, output = daemon.end()
    assert status == -signal.SIGTERM
    assert "drained" in output, output


def test_several_roles_of_one_process_may_fail(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, logged_errors: LoggedErrors
) -> None:
    second = RoleService(rig.role, rig.reactor)
    rig.service.fail("first")
    second.fail("second")
    assert len(logged_errors.flush_critical()) == 2
    assert (rig.service.exit_status, second.exit_status) == (1, 1)
