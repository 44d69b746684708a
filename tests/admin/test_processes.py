"""Daemons seen from outside, with small real processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from phxqueue.admin.demo.daemons import remove_stale_pid_files, running_daemons
from phxqueue.admin.demo.follow import LogFollower
from phxqueue.admin.processes.child import Child, StartError, log_tail
from phxqueue.admin.processes.notify import NotifySocket
from phxqueue.admin.processes.ports import PortReservation
from phxqueue.admin.processes.watch import command_line, is_running, read_pid_file, send_signal, when_ended
from phxqueue.daemon.readiness import notify

PREAMBLE = "import os, signal, sys, time; from phxqueue.daemon.readiness import notify; pid = str(os.getpid())\n"
READY = "notify({'READY': '1', 'STATUS': 'serving', 'MAINPID': pid, 'X_PHXQUEUE_NAME': 'store 1 node 0'})\n"
FAILED = "notify({'STATUS': 'port 5100 is in use', 'ERRNO': '1', 'MAINPID': pid}); sys.exit(1)\n"
WAIT = "time.sleep(60)\n"


@pytest_twisted.async_yield_fixture
async def notify_socket() -> AsyncIterator[NotifySocket]:
    listening = NotifySocket()
    listening.listen(reactor)
    yield listening
    await listening.close()


def child_of(notify_socket: NotifySocket, directory: Path, script: str) -> Child:
    command = [sys.executable, "-c", PREAMBLE + script]
    child = Child(reactor, "store.0", command, directory / "store.0.log", notify_socket)
    child.spawn()
    return child


@pytest_twisted.ensureDeferred
async def test_a_daemon_that_gets_ready_and_stops(notify_socket: NotifySocket, tmp_path: Path) -> None:
    child = child_of(notify_socket, tmp_path, READY + WAIT)
    await child.ready(10)
    assert (child.state.name, child.state.status) == ("store 1 node 0", "serving")
    assert is_running(child.pid)
    assert await child.stop(10)
    assert child.outcome == "SIGTERM"
    assert not is_running(child.pid)
    await child.ended()


@pytest_twisted.ensureDeferred
async def test_a_daemon_that_says_why_it_cannot(notify_socket: NotifySocket, tmp_path: Path) -> None:
    child = child_of(notify_socket, tmp_path, "print('a line of the log')\n" + FAILED)
    with pytest.raises(StartError, match="port 5100 is in use") as caught:
        await child.ready(10)
    assert "a line of the log" in str(caught.value)
    assert child.outcome == "status 1"


@pytest_twisted.ensureDeferred
async def test_a_daemon_that_ends_without_a_word(notify_socket: NotifySocket, tmp_path: Path) -> None:
    child = child_of(notify_socket, tmp_path, "sys.exit(3)\n")
    with pytest.raises(StartError, match="it ended with status 3"):
        await child.ready(10)


@pytest_twisted.ensureDeferred
async def test_a_daemon_that_takes_too_long(notify_socket: NotifySocket, tmp_path: Path) -> None:
    child = child_of(notify_socket, tmp_path, WAIT)
    with pytest.raises(StartError, match=r"not ready within 0\.05 s"):
        await child.ready(0.05)
    await child.kill()
    assert child.outcome == "SIGKILL"


@pytest_twisted.ensureDeferred
async def test_a_daemon_that_does_not_heed_sigterm(notify_socket: NotifySocket, tmp_path: Path) -> None:
    child = child_of(notify_socket, tmp_path, "signal.signal(15, signal.SIG_IGN)\n" + READY + WAIT)
    await child.ready(10)
    assert not await child.stop(0.05)
    assert child.outcome == "SIGKILL"


@pytest_twisted.ensureDeferred
async def test_our_daemons_speak_to_our_socket(notify_socket: NotifySocket) -> None:
    assert notify({"READY": "1", "MAINPID": "4711"}, notify_socket.environment)
    assert (await notify_socket.when_settled(4711)).ready
    assert notify({"READY": "1"}, notify_socket.environment)  # from nobody: dropped
    assert notify({"STATUS": "disk failed", "ERRNO": "1", "MAINPID": "4712"}, notify_socket.environment)
    state = await notify_socket.when_settled(4712)
    assert (state.ready, state.failed, state.status) == (False, True, "disk failed")


@pytest_twisted.ensureDeferred
async def test_what_a_daemon_said_last_counts_although_its_end_is_heard_of_first(notify_socket: NotifySocket) -> None:
    assert notify({"STATUS": "disk failed", "ERRNO": "1", "MAINPID": "4713"}, notify_socket.environment)
    assert notify({"READY": "1", "MAINPID": "4714"}, notify_socket.environment)
    for pid in (4713, 4714):
        notify_socket.ended(pid)  # the reactor has not turned yet
    assert (await notify_socket.when_settled(4713)).status == "disk failed"
    assert (await notify_socket.when_settled(4714)).ready


# ---- other people's processes ------------------------------------------------------------------


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


@pytest_twisted.ensureDeferred
async def test_the_end_of_a_process_is_an_event(sleeper: subprocess.Popen[bytes]) -> None:
    ended = when_ended(reactor, sleeper.pid)
    assert not ended.called
    assert send_signal(sleeper.pid, signal.SIGKILL)
    await ended
    assert not is_running(sleeper.pid)  # though nobody has collected it yet


@pytest_twisted.ensureDeferred
async def test_watching_can_be_given_up(sleeper: subprocess.Popen[bytes]) -> None:
    ended = when_ended(reactor, sleeper.pid)
    ended.addErrback(lambda _: None)
    ended.cancel()
    await ended
    assert is_running(sleeper.pid)


@pytest_twisted.ensureDeferred
async def test_a_process_that_is_gone(sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.kill()
    sleeper.wait()
    await when_ended(reactor, sleeper.pid)
    assert not is_running(sleeper.pid)
    assert not send_signal(sleeper.pid, signal.SIGTERM)
    assert command_line(sleeper.pid) == []


@pytest.mark.parametrize(("content", "pid"), [("123\n", 123), ("", None), ("abc", None), ("0", None), ("-5", None)])
def test_pid_files(tmp_path: Path, content: str, pid: int | None) -> None:
    (tmp_path / "x.pid").write_text(content)
    assert read_pid_file(tmp_path / "x.pid") == pid
    assert read_pid_file(tmp_path / "none.pid") is None


def test_only_daemons_of_this_directory_are_ours(tmp_path: Path) -> None:
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    (here / "run").mkdir(parents=True)
    elsewhere.mkdir()
    arguments = [sys.executable, "-c", "import time; time.sleep(60)", "--pidfile", "run/store.0.pid"]
    processes = [
        subprocess.Popen([*arguments, "phxqueue-store"], cwd=here),
        subprocess.Popen([*arguments, "phxqueue-store"], cwd=elsewhere),
        subprocess.Popen([*arguments, "another-plugin"], cwd=here),
    ]
    try:
        (here / "run" / "store.0.pid").write_text("1")  # wrong: what runs counts, not what a file says
        (here / "run" / "store.1.pid").write_text(str(os.getpid()))
        running = running_daemons(here)
        assert [(daemon.name, daemon.pid) for daemon in running] == [("store.0", processes[0].pid)]
        remove_stale_pid_files(here, running)
        assert [path.name for path in (here / "run").iterdir()] == ["store.0.pid"]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert running_daemons(here) == []


def test_reserved_ports_go_to_who_asks_for_them_and_to_nobody_else() -> None:
    reservation = PortReservation(3)
    assert len(set(reservation.ports)) == 3
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", reservation.ports[0]))
        server.listen()
        with socket.create_connection(("127.0.0.1", reservation.ports[0])):
            pass
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", reservation.ports[1]))
    reservation.close()
    with socket.socket() as other:
        other.bind(("127.0.0.1", reservation.ports[1]))


# ---- logs ---------------------------------------------------------------------------------------


def test_the_tail_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("".join(f"line {number}\n" for number in range(100)))
    assert log_tail(log, 2) == "line 98\nline 99"
    assert "there is no" in log_tail(tmp_path / "none.log")
    log.write_text("")
    assert "is empty" in log_tail(log)


@pytest_twisted.ensureDeferred
async def test_following_logs(tmp_path: Path) -> None:
    first, second = tmp_path / "first.log", tmp_path / "second.log"
    first.write_text("succeeded long ago\n")
    follower = LogFollower(reactor, [first, second])
    try:
        waiting: Deferred[tuple[Path, str]] = follower.line(lambda line: "succeeded" in line)
        assert not waiting.called
        second.write_text("not this\nsucceed")
        with second.open("a") as log:
            log.write("ed now\nand more\nsucceeded again\n")
        assert await waiting == (second, "succeeded now")
        assert await follower.line(lambda line: "again" in line) == (second, "succeeded again")
        waiting = follower.line(lambda line: "more" in line)  # passed over already
        assert not waiting.called
        waiting.addErrback(lambda _: None)
        waiting.cancel()
    finally:
        follower.close()
