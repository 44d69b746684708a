"""Commands are run by click's runner, without waiting."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import click.testing
import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from phxqueue.admin import edge
from phxqueue.admin.main import main
from phxqueue.admin.processes.files import ClusterSpec, write_files

HANDLERS = {1: "phxqueue.consumer.echo:EchoHandler", 2: "phxqueue.consumer.echo:EchoHandler"}

Invoke = Callable[..., click.testing.Result]


@pytest.fixture
def cluster_directory(tmp_path: Path) -> Path:
    """The files of a cluster that is not running."""
    write_files(
        tmp_path,
        ClusterSpec(queues=4, consumers=2, groups=(1, 2), handlers=HANDLERS),
        [5100, 5101, 5200, 5201, 5300, 5301],
    )
    return tmp_path


@pytest.fixture
def owned_cluster_directory(tmp_path: Path) -> Path:
    """The same with a lock node and a scheduler, and queues of group 2 owned by locks."""
    spec = ClusterSpec(
        nodes=1, locks=1, schedulers=1, queues=2, consumers=2, groups=(2,), group={"skip_lock": 0}, handlers=HANDLERS
    )
    directory = tmp_path / "owned"
    write_files(directory, spec, [5100, 5101, 7100, 7101, 6100])
    return directory


@pytest.fixture
def invoke(cluster_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Runs ``phxqueue ARGUMENTS`` in the directory of a cluster."""

    def run(main: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
        # A test runs inside the reactor already: with the fakes and files it uses nothing has to wait.
        outcome: list[Any] = []
        Deferred.fromCoroutine(main(reactor)).addBoth(outcome.append)
        assert outcome, "the command waits for the reactor: test it with a process of its own"
        if isinstance(outcome[0], Failure):
            outcome[0].raiseException()
        return outcome[0]

    def invoke(*arguments: str, **kwargs: Any) -> click.testing.Result:
        return click.testing.CliRunner().invoke(main, list(arguments), **kwargs)

    monkeypatch.setattr(edge, "run", run)
    monkeypatch.chdir(cluster_directory)
    monkeypatch.delenv("PHXQUEUE_CONFIG", raising=False)
    return invoke
