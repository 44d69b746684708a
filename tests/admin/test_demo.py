"""The demo's parts that need no cluster; the whole of it is run by tests/integration/test_demo.py."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from phxqueue.admin.context import ClusterContext
from phxqueue.admin.demo import daemons as daemons_module
from phxqueue.admin.demo import story as story_module
from phxqueue.admin.demo.daemons import Launcher, RunningDaemon
from phxqueue.admin.demo.layout import DemoLayout
from phxqueue.admin.demo.owners import by_owner, locked_queues
from phxqueue.admin.demo.story import Story
from phxqueue.admin.errors import AdminError
from phxqueue.admin.node_status import NodeReport
from phxqueue.admin.processes.child import StartError
from phxqueue.admin.processes.notify import NotifySocket
from phxqueue.net.pool import ConnectionPool
from phxqueue.proto.status_pb2 import GroupStatus, NodeStatusResponse
from tests.admin.conftest import Invoke


@pytest.fixture
def layout(cluster_directory: Path, monkeypatch: pytest.MonkeyPatch) -> DemoLayout:
    monkeypatch.chdir(cluster_directory)
    return DemoLayout.load(ClusterContext(), cluster_directory)


def test_the_daemons_are_those_of_the_node_files(layout: DemoLayout) -> None:
    assert [plan.name for plan in layout.daemons] == ["store.0", "store.1", "store.2", "consumer.0", "consumer.1"]
    first = layout.stores[0]
    assert first.description == "store 1 node 0, 127.0.0.1:5100"
    assert " ".join(first.arguments) == (
        "--pidfile run/store.0.pid --logfile logs/store.0.log phxqueue-store -c etc/store.0.conf"
    )
    assert layout.store_of_node(1, 2) is layout.stores[2]
    assert layout.store_of_node(2, 0) is None


def test_locks_and_schedulers_run_as_well_when_there_are_some(
    owned_cluster_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(owned_cluster_directory)
    layout = DemoLayout.load(ClusterContext(), owned_cluster_directory)
    assert [(plan.name, plan.description) for plan in layout.daemons] == [
        ("store.0", "store 1 node 0, 127.0.0.1:5100"),
        ("lock.0", "lock 1 node 0, 127.0.0.1:7100"),
        ("scheduler.0", "scheduler 127.0.0.1:6100"),
        ("consumer.0", "consumer 127.0.0.1:8001"),
        ("consumer.1", "consumer 127.0.0.1:8002"),
    ]
    assert locked_queues(layout.topic) == [(2, 1, 0), (2, 1, 1)]


def test_no_queue_is_owned_by_a_lock_where_there_is_no_lock_service(layout: DemoLayout) -> None:
    assert locked_queues(layout.topic) == []


def test_who_owns_what() -> None:
    owned = {(1, 1, 3): "b", (1, 1, 0): "a", (1, 1, 2): "b"}
    assert by_owner(owned) == {"a": [0], "b": [2, 3]}


def test_a_cluster_without_node_files(layout: DemoLayout, cluster_directory: Path) -> None:
    for path in (cluster_directory / "etc").glob("consumer.?.conf"):
        path.unlink()
    with pytest.raises(AdminError, match=r"store\.0\.conf, consumer\.0\.conf"):
        DemoLayout.load(ClusterContext(), cluster_directory)


@pytest_twisted.ensureDeferred
async def test_a_second_demo_is_refused_by_name(layout: DemoLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(story_module, "running_daemons", lambda _: [RunningDaemon("store.1", 4711)])
    with pytest.raises(AdminError, match=r"running here already: store\.1 \(pid 4711\)\. `make demo-stop` ends it"):
        await Story(reactor, layout, lambda _: None).tell()


def test_status_and_stop_without_a_demo(invoke: Invoke) -> None:
    result = invoke("demo", "status")
    assert (result.exit_code, result.output) == (1, "no demo is running here\n")
    result = invoke("demo", "stop")
    assert (result.exit_code, result.output) == (0, "no demo is running here\n")


def test_stop_removes_stale_pid_files(invoke: Invoke) -> None:
    Path("run").mkdir()
    Path("run/store.0.pid").write_text("1")
    assert invoke("demo", "stop").exit_code == 0
    assert list(Path("run").iterdir()) == []


@pytest_twisted.ensureDeferred
async def test_a_daemon_that_refuses_its_configuration(layout: DemoLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it says on its output is what the person reads."""
    script = "import sys; sys.exit('phxqueue-store: etc/store.0.conf:3: no such field')"
    monkeypatch.setattr(daemons_module, "twistd", lambda: [sys.executable, "-c", script])
    notify = NotifySocket()
    launcher = Launcher(reactor, layout.directory, notify)
    with pytest.raises(StartError, match=r"store\.0 did not start: phxqueue-store: etc/store\.0\.conf:3"):
        await launcher.start(layout.stores[0])
    await launcher.settled()


@pytest_twisted.ensureDeferred
async def test_a_daemon_that_is_gone_before_anybody_looked(layout: DemoLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "from phxqueue.daemon.readiness import notify\n"
        "notify({'STATUS': 'the disk has failed', 'ERRNO': '1', 'MAINPID': '4711', "
        "'X_PHXQUEUE_NAME': 'store 1 node 0'})"
    )
    monkeypatch.setattr(daemons_module, "twistd", lambda: [sys.executable, "-c", script])
    notify = NotifySocket()
    notify.listen(reactor)
    try:
        with pytest.raises(StartError, match=r"store\.0 did not start: the disk has failed"):
            await Launcher(reactor, layout.directory, notify).start(layout.stores[0])
    finally:
        await notify.close()


@pytest_twisted.ensureDeferred
async def test_a_master_that_is_late_with_its_answer_is_waited_for(
    layout: DemoLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, clock = layout.topic.stores[0], Clock()
    group = GroupStatus(group_id=0, is_master=True, ballot=3)
    late = [NodeReport(store, node, None) for node in store.nodes]
    rounds = [late, late, [NodeReport(store, store.nodes[1], NodeStatusResponse(groups=[group]))]]

    async def ask_all(*_: object) -> list[NodeReport]:
        return rounds.pop(0)

    monkeypatch.setattr(story_module, "ask_all", ask_all)
    found = Deferred.fromCoroutine(Story(clock, layout, lambda _: None)._master(cast("ConnectionPool", None)))
    clock.pump([1.0] * 2)
    assert (await found).node is store.nodes[1]
