"""What the lock service's tests share: a lock node on virtual time."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock

from phxqueue.config import Cluster, LockGroup, LockLimits, LockNode, NodeAddress, Topic
from phxqueue.lock.service import LockService
from phxqueue.lock.table import COMMAND_VERSION, LockTable
from phxqueue.net.service import RpcService
from phxqueue.proto import methods
from phxqueue.proto.lock_pb2 import (
    AcquireLockRequest,
    DeleteStringRequest,
    GetLockInfoRequest,
    GetStringRequest,
    ListKeysRequest,
    LockCommand,
    ReleaseLockRequest,
    RenewLockRequest,
    SetStringRequest,
    WatchRequest,
)
from tests.stand_ins import NO_CONTEXT, Call, FakeGroup


class LockTableGroup(FakeGroup):
    """One whose entries are commands of a lock table.

    Attributes:
        lowest_version: the newest command that every member knows.
    """

    state_machine: LockTable

    def __init__(self, group_id: int = 0, *, auto: bool = True, master: int | None = 0) -> None:
        super().__init__(group_id, LockTable(), whose="lock group 1", auto=auto, master=master)
        self.lowest_version = COMMAND_VERSION

    def commands(self) -> list[LockCommand]:
        """What is in the log but the beginnings of terms."""
        commands = [LockCommand.FromString(payload) for payload in self.log]
        return [command for command in commands if not command.begins_term]


def topic(*scales: int) -> Topic:
    """One lock group, or one per scale."""
    return Topic(
        topic_id=1000,
        topic_name="test",
        locks=tuple(
            LockGroup(
                lock_id=lock_id,
                scale=scale,
                nodes=tuple(
                    NodeAddress(node, "127.0.0.1", 7000 + 10 * lock_id + node, 7100 + 10 * lock_id + node)
                    for node in range(3)
                ),
            )
            for lock_id, scale in enumerate(scales or (100,), 1)
        ),
    )


def lock_node(limits: LockLimits | None = None, of: Topic | None = None) -> LockNode:
    """Node 0 of lock group 1."""
    of = of or topic()
    return LockNode(
        cluster=Cluster(topics=(of,)),
        topic=of,
        lock=of.locks[0],
        node=of.locks[0].nodes[0],
        data_dir=Path("data/lock.0"),
        limits=limits or LockLimits(),
    )


class LockUnderTest:
    """One node's lock service on a fake group and virtual time.

    Attributes:
        disk_ok: what `accepting` says.
    """

    def __init__(
        self,
        limits: LockLimits | None = None,
        *,
        auto: bool = True,
        master: int | None = 0,
        of: Topic | None = None,
    ) -> None:
        self.clock = Clock()
        self.disk_ok = True
        self.group = LockTableGroup(auto=auto, master=master)
        self.node = lock_node(limits, of)
        numbers = count(1)
        self.service = LockService(
            self.node,
            {0: self.group},
            self.clock,
            accepting=lambda: self.disk_ok,
            number=lambda: next(numbers),
        )
        self._rpc = RpcService("lock 1 node 0")
        self.service.register(self._rpc)

    @property
    def table(self) -> LockTable:
        return self.group.state_machine

    def call(self, method: Any, request: Any, **fields: Any) -> Call:
        """Call a handler; `fields` are the request's."""
        made = request(**{"topic_id": 1000, "lock_id": 1, **fields})
        call = Call(lambda: self._rpc.table[method.number].handler(made, NO_CONTEXT))
        self.clock.advance(0)
        return call

    def acquire(self, client_id: str = "me", key: str = "a", lease_time_ms: int = 10_000, **fields: Any) -> Call:
        if fields.get("infinite"):
            lease_time_ms = 0
        return self.call(
            methods.ACQUIRE_LOCK,
            AcquireLockRequest,
            lock_key=key,
            client_id=client_id,
            lease_time_ms=lease_time_ms,
            **fields,
        )

    def version(self, client_id: str = "me", key: str = "a", **fields: Any) -> int:
        """Acquire, and return the fencing token."""
        answer = self.acquire(client_id, key, **fields).answer
        assert answer.acquired
        return int(answer.lock_info.version)

    def renew(
        self, version: int, client_id: str = "me", key: str = "a", lease_time_ms: int = 10_000, **fields: Any
    ) -> Call:
        return self.call(
            methods.RENEW_LOCK,
            RenewLockRequest,
            lock_key=key,
            client_id=client_id,
            lease_time_ms=lease_time_ms,
            version=version,
            **fields,
        )

    def release(self, version: int, client_id: str = "me", key: str = "a", **fields: Any) -> Call:
        return self.call(
            methods.RELEASE_LOCK, ReleaseLockRequest, lock_key=key, client_id=client_id, version=version, **fields
        )

    def info(self, key: str = "a") -> Call:
        return self.call(methods.GET_LOCK_INFO, GetLockInfoRequest, lock_key=key)

    def holder(self, key: str = "a") -> str | None:
        """Who holds a lock, by the table."""
        lock = self.table.locks.get(key)
        return None if lock is None else lock.client_id

    def set(self, value: bytes = b"x", key: str = "s", **fields: Any) -> Call:
        return self.call(methods.SET_STRING, SetStringRequest, key=key, value=value, **fields)

    def get(self, key: str = "s") -> Call:
        return self.call(methods.GET_STRING, GetStringRequest, key=key)

    def delete(self, key: str = "s", **fields: Any) -> Call:
        return self.call(methods.DELETE_STRING, DeleteStringRequest, key=key, **fields)

    def watch(self, key: str = "a", **fields: Any) -> Call:
        return self.call(methods.WATCH, WatchRequest, key=key, **fields)

    def list(self, **fields: Any) -> Call:
        return self.call(methods.LIST_KEYS, ListKeysRequest, **fields)
