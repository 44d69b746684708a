"""The development cluster: which nodes it has, where their data goes, and in which order they stop."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_twisted
from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred

from phxqueue.admin.dev import DevCluster, Options, StoppedInTurn
from phxqueue.config import certificate_paths

CONFIG = Path("etc/globalconfig.conf")


@pytest.fixture(autouse=True)
def there(cluster_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(cluster_directory)


def test_every_node_has_its_own_settings_and_its_own_data() -> None:
    path = Path("etc/store.1.conf")
    path.write_text(json.dumps({**json.loads(path.read_text()), "limits": {"cache_bytes": 12345678}}))
    Path("etc/store.2.conf").unlink()
    found = DevCluster.load(CONFIG)
    assert [node.node.node_id for node in found.stores] == [0, 1, 2]
    assert [str(node.data_dir) for node in found.stores] == [f"data/dev/store.1.{number}" for number in range(3)]
    assert found.stores[1].limits.cache_bytes == 12345678
    assert found.stores[2].limits.cache_bytes == found.stores[0].limits.cache_bytes
    assert found.cluster.certificates is not None
    assert found.stores[2].tls == certificate_paths(found.cluster.certificates, "store", "1/2")
    assert [node.consumer.port for node in found.consumers] == [8001, 8002]


def test_locks_and_schedulers_are_nodes_too(owned_cluster_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(owned_cluster_directory)
    found = DevCluster.load(CONFIG)
    assert [str(node.data_dir) for node in found.locks] == ["data/dev/lock.1.0"]
    assert [node.node.address for node in found.schedulers] == ["127.0.0.1:6100"]
    assert found.count == 5
    Path("etc/lock.0.conf").unlink()
    Path("etc/scheduler.0.conf").unlink()
    again = DevCluster.load(CONFIG)
    assert again.locks == tuple(replace(node, path=again.locks[0].path) for node in found.locks)
    assert [node.tls for node in again.schedulers] == [node.tls for node in found.schedulers]


def test_options_make_the_certificates() -> None:
    options = Options()
    options.parseOptions([])
    assert sorted(path.stem for path in Path("etc/certs").glob("store-*.pem")) == [
        "store-1-0",
        "store-1-1",
        "store-1-2",
    ]
    before = {path: path.read_bytes() for path in Path("etc/certs").iterdir()}
    Options().parseOptions(["-c", str(CONFIG)])
    assert {path: path.read_bytes() for path in before} == before


def test_certificates_that_cannot_be_made_end_it_with_a_sentence() -> None:
    Path("etc/certs").mkdir()
    Path("etc/certs/stray.pem").write_text("x")
    with pytest.raises(SystemExit) as caught:
        Options().parseOptions([])
    assert "phxqueue-dev: " in str(caught.value)
    assert "stray.pem" in str(caught.value)


def test_in_a_directory_without_a_cluster_it_says_where_to_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    with pytest.raises(SystemExit) as caught:
        Options().parseOptions([])
    assert "phxqueue-dev: etc/globalconfig.conf does not exist: go to the directory" in str(caught.value)
    assert list(empty.iterdir()) == []


class Slow(Service):
    def __init__(self, name: str, events: list[str]) -> None:
        self.name = name
        self.events = events
        self.stopped: Deferred[None] = Deferred()

    def stopService(self) -> Deferred[None]:
        self.events.append(self.name)
        return self.stopped


@pytest_twisted.ensureDeferred
async def test_stores_listen_until_consumers_have_stopped() -> None:
    events: list[str] = []
    stores, consumers = ([Slow(f"{kind} {number}", events) for number in range(2)] for kind in ("store", "consumer"))
    everything = StoppedInTurn()
    for services in (stores, consumers):
        together = MultiService()
        for service in services:
            service.setServiceParent(together)
        together.setServiceParent(everything)
    everything.startService()
    stopped = everything.stopService()
    assert sorted(events) == ["consumer 0", "consumer 1"]
    consumers[0].stopped.callback(None)
    assert len(events) == 2
    consumers[1].stopped.callback(None)
    assert sorted(events[2:]) == ["store 0", "store 1"]
    assert not stopped.called
    for store in stores:
        store.stopped.callback(None)
    await stopped
