"""What a replicated role does in which order: up, down, after a start that failed half-way, and at a reload."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from phxqueue.config import Cluster, ConfigError, LockGroup, LockNode, NodeAddress, ReplicaSet, Topic
from phxqueue.daemon import replica_role
from phxqueue.daemon.replica_role import ReplicaKind, ReplicaRole
from phxqueue.daemon.role_service import ExpectedFailure
from phxqueue.net.endpoints import ListenError
from phxqueue.net.identity import Role
from phxqueue.net.service import RpcService
from phxqueue.proto.status_pb2 import JournalStatus, NodeStatusRequest, NodeStatusResponse
from phxqueue.replica.errors import ReplicaStartError

NO_CONTEXT: Any = None


class Diary:
    """Records what happens, and hands out what a role is made of."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.drained: Deferred[Any] = Deferred()
        self.start_error: Exception | None = None
        self.listen_error: Exception | None = None

    def note(self, line: str) -> None:
        self.lines.append(line)


class FakeHost:
    groups: ClassVar[dict[int, Any]] = {}
    incarnation = 7
    accepting = True

    def __init__(self, diary: Diary) -> None:
        self._diary = diary

    async def start(self, fail: Any) -> None:
        self._diary.note("host starts")
        if self._diary.start_error is not None:
            raise self._diary.start_error

    def serve_operators(self, service: RpcService) -> None:
        self._diary.note("host serves operators")

    def journal_status(self) -> JournalStatus:
        return JournalStatus(commits=3)

    def notices(self) -> list[str]:
        return ["a notice"]

    def reconfigure(self, replica_set: ReplicaSet) -> None:
        self._diary.note("host reconfigured")

    async def hand_over(self) -> None:
        self._diary.note("masterships handed over")

    async def stop(self) -> None:
        self._diary.note("host stopped")


class FakeService:
    def __init__(self, diary: Diary) -> None:
        self._diary = diary

    def register(self, service: RpcService) -> None:
        self._diary.note("service registered")

    def drain(self) -> Deferred[Any]:
        self._diary.note("service drains")
        return self._diary.drained

    def close(self) -> None:
        self._diary.note("service closed")


class FakeListener:
    def __init__(self, diary: Diary) -> None:
        self._diary = diary

    async def close(self) -> None:
        self._diary.note("port closed")


class FakeKind(ReplicaKind[LockNode, FakeService]):
    role = Role.LOCK
    command_version = 1

    def __init__(self, diary: Diary) -> None:
        self._diary = diary
        self.broken: ConfigError | None = None

    def load(self, path: Path) -> LockNode:
        if self.broken is not None:
            raise self.broken
        return lock_node()

    def replica_set(self, node: LockNode) -> LockGroup:
        return node.lock

    def set_id(self, node: LockNode) -> int:
        return node.lock.lock_id

    def state_machine(self, node: LockNode) -> Any:
        raise AssertionError("the host makes no groups here")

    def service(self, node: LockNode, host: Any, clock: Any, alarms: Any) -> FakeService:
        self._diary.note("service made")
        return FakeService(self._diary)

    def reconfigure(self, service: FakeService, node: LockNode) -> None:
        self._diary.note("service reconfigured")

    def glance(self, service: FakeService, node: LockNode, status: NodeStatusResponse) -> None:
        status.lock_id = node.lock.lock_id

    def describe(self, service: FakeService, node: LockNode, status: NodeStatusResponse) -> None:
        self.glance(service, node, status)


def lock_node() -> LockNode:
    group = LockGroup(lock_id=3, nodes=(NodeAddress(1, "127.0.0.1", 7000, 7100),))
    topic = Topic(topic_id=1, topic_name="test", locks=(group,))
    return LockNode(
        cluster=Cluster(topics=(topic,)), topic=topic, lock=group, node=group.nodes[0], data_dir=Path(__file__).parent
    )


@pytest.fixture
def diary(monkeypatch: pytest.MonkeyPatch) -> Diary:
    diary = Diary()

    async def listen(*arguments: Any, **settings: Any) -> FakeListener:
        diary.note("port opens")
        if diary.listen_error is not None:
            raise diary.listen_error
        return FakeListener(diary)

    monkeypatch.setattr(replica_role, "ReplicaHost", lambda *arguments, **settings: FakeHost(diary))
    monkeypatch.setattr(replica_role, "listen", listen)
    return diary


def made(diary: Diary) -> tuple[ReplicaRole[LockNode, FakeService], FakeKind, Clock]:
    kind, clock = FakeKind(diary), Clock()
    return ReplicaRole(kind, lock_node(), clock), kind, clock


def outcome(coroutine: Any) -> Deferred[None]:
    return Deferred.fromCoroutine(coroutine)


UP = ["host starts", "service made", "service registered", "host serves operators", "port opens"]


def test_the_port_opens_last(diary: Diary) -> None:
    role, _, _ = made(diary)
    started = outcome(role.start(lambda reason: None))
    assert started.called
    assert diary.lines == UP
    assert role.name == "lock 3 node 1"


def test_a_node_hands_over_and_drains_before_it_closes_its_port_and_its_journal(diary: Diary) -> None:
    role, _, _ = made(diary)
    outcome(role.start(lambda reason: None))
    stopped = outcome(role.stop())
    assert diary.lines == [*UP, "masterships handed over", "service drains"]
    assert not stopped.called, "requests taken before wait for their outcome"
    diary.drained.callback(None)
    assert stopped.called
    assert diary.lines[len(UP) + 2 :] == ["service closed", "port closed", "host stopped"]


def test_what_does_not_drain_holds_a_stopping_node_up_for_so_long_and_no_longer(diary: Diary) -> None:
    role, _, clock = made(diary)
    outcome(role.start(lambda reason: None))
    stopped = outcome(role.stop())
    clock.advance(role.node.replica.drain_timeout_s)
    assert stopped.called
    assert diary.lines[-1] == "host stopped"


@pytest.mark.parametrize(
    ("where", "error", "left"),
    [
        ("start_error", ReplicaStartError("another node's directory"), ["host stopped"]),
        ("listen_error", ListenError("the port is taken"), ["service closed", "host stopped"]),
    ],
)
def test_a_start_that_fails_says_why_and_lets_go_of_what_it_has(
    diary: Diary, where: str, error: Exception, left: list[str]
) -> None:
    role, _, _ = made(diary)
    setattr(diary, where, error)
    failures: list[BaseException] = []
    outcome(role.start(lambda reason: None)).addErrback(lambda failure: failures.append(failure.value))
    assert [(type(failure), str(failure)) for failure in failures] == [(ExpectedFailure, str(error))]
    diary.drained = succeed(None)
    diary.lines.clear()
    assert outcome(role.stop()).called
    assert [line for line in diary.lines if line.endswith(("closed", "stopped"))] == left


def test_a_reload_that_cannot_read_the_files_changes_nothing(diary: Diary) -> None:
    role, kind, _ = made(diary)
    outcome(role.start(lambda reason: None))
    diary.lines.clear()
    role.reload()
    assert diary.lines == ["service reconfigured", "host reconfigured"]
    kind.broken = ConfigError("lockconfig.conf, line 3", None)  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        role.reload()
    assert diary.lines == ["service reconfigured", "host reconfigured"]


def test_after_a_reload_metrics_name_the_pubs_of_the_new_files(diary: Diary, monkeypatch: pytest.MonkeyPatch) -> None:
    role, kind, _ = made(diary)
    outcome(role.start(lambda reason: None))
    named: list[Any] = []
    monkeypatch.setattr(replica_role, "replica_families", lambda status, pubs: named.append(pubs) or ())
    monkeypatch.setattr(kind, "pubs_of_queues", lambda node: {5: (1, 2)})
    assert not list(role._families())
    role.reload()
    assert not list(role._families())
    assert named == [{}, {5: (1, 2)}]


def test_the_status_has_what_every_replica_tells_and_what_only_this_role_does(diary: Diary) -> None:
    role, _, _ = made(diary)
    outcome(role.start(lambda reason: None))
    status = role.status(NodeStatusRequest(), NO_CONTEXT)
    assert (status.lock_id, status.node_id, status.incarnation, status.accepting) == (3, 1, 7, True)
    assert list(status.notices) == ["a notice"]
    assert status.disk_free_bytes > 0
