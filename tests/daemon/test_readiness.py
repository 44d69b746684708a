"""What the service manager hears, on a real datagram socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from phxqueue.daemon.readiness import notify
from tests.conftest import LoggedErrors


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(path)
        listening.settimeout(5)
        yield path, listening


def test_states_arrive_as_one_message(manager: tuple[str, socket.socket]) -> None:
    path, listening = manager
    assert notify({"READY": "1", "STATUS": "serving"}, {"NOTIFY_SOCKET": path})
    assert listening.recv(1000) == b"READY=1\nSTATUS=serving"


def test_an_abstract_socket() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("")  # the kernel chooses an abstract name
        listening.settimeout(5)
        name = listening.getsockname()
        assert notify({"STOPPING": "1"}, {"NOTIFY_SOCKET": "@" + name[1:].decode()})
        assert listening.recv(1000) == b"STOPPING=1"


def test_nobody_asked() -> None:
    assert not notify({"READY": "1"}, {})
    assert not notify({"READY": "1"}, {"NOTIFY_SOCKET": ""})


def test_a_manager_that_is_gone_is_no_error(tmp_path: Path, logged_errors: LoggedErrors) -> None:
    assert not notify({"READY": "1"}, {"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    assert logged_errors.events == []


def test_a_manager_that_does_not_listen_cannot_block(manager: tuple[str, socket.socket]) -> None:
    path, _ = manager
    sent = [notify({"STATUS": "x" * 1000}, {"NOTIFY_SOCKET": path}) for _ in range(2000)]
    assert sent[0]
    assert not sent[-1]  # its buffer is full: dropped, not waited for
