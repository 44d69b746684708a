"""What the lock service's tests share: a Paxos group without Paxos, and a lock node on virtual time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from phxqueue.config import Cluster, LockGroup, LockLimits, LockNode, NodeAddress, Topic
from phxqueue.lock.service import LockService
from phxqueue.lock.table import LockTable
from phxqueue.net.service import RpcService
from phxqueue.net.status import RpcError
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
from phxqueue.replica.errors import NotServing, Overloaded

VALUE, NOOP = 0, 1
NO_CONTEXT: Any = None


class FakeGroup:
    """A Paxos group that chooses what `choose` lets through, in order.

    Attributes:
        log: payload per instance.
        proposed: proposals that wait for `choose`.
        auto: choose every proposal at once.
    """

    def __init__(self, group_id: int = 0, *, auto: bool = True, master: int | None = 0) -> None:
        self.group_id = group_id
        self.state_machine = LockTable()
        self.on_applied: list[Callable[[int, bytes], None]] = []
        self.on_mastership: list[Callable[[bool], None]] = []
        self.on_window_free: list[Callable[[], None]] = []
        self.auto = auto
        self.window = 64
        self.lease = True
        self.master = master
        self.log: list[bytes] = []
        self.proposed: list[tuple[bytes, Deferred[Any]]] = []

    @property
    def window_free(self) -> bool:
        return len(self.proposed) < self.window

    def serving(self) -> bool:
        return self.master == 0 and self.lease

    def proposing(self) -> bool:
        return self.master == 0

    def master_node(self) -> int | None:
        return self.master

    def unreachable_reason(self) -> str:
        return "no majority: 1 of 3 nodes of lock group 1 reachable"

    def propose(self, payload: bytes) -> Deferred[Any]:
        if not self.proposing():
            return fail(NotServing("not the master"))
        if not self.window_free:
            return fail(Overloaded("the window is full"))
        outcome: Deferred[Any] = Deferred()
        self.proposed.append((payload, outcome))
        if self.auto:
            self.choose()
        return outcome

    def choose(self, number: int = 1) -> None:
        """Let the oldest proposals be chosen and applied."""
        for _ in range(number):
            payload, outcome = self.proposed.pop(0)
            self.append(payload, outcome)

    def append(self, payload: bytes, outcome: Deferred[Any] | None = None) -> None:
        """An entry is chosen: ours, or another master's."""
        instance = len(self.log)
        self.log.append(payload)
        result = self.state_machine.apply(instance, VALUE, payload)
        if outcome is not None:
            outcome.callback(result)
            for freed in list(self.on_window_free):
                freed()
        for applied in list(self.on_applied):
            applied(instance, payload)

    def lose(self, error: Exception, master: int | None = None) -> None:
        """Mastership is lost with entries in flight."""
        self.master = master
        proposed, self.proposed = self.proposed, []
        for _, outcome in proposed:
            outcome.errback(error)
        for changed in list(self.on_mastership):
            changed(False)

    def become_master(self) -> None:
        self.master = 0
        for changed in list(self.on_mastership):
            changed(True)

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
        self.group = FakeGroup(auto=auto, master=master)
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


class Call:
    """A call of a handler: what it answered, when it has."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._result: Any = None
        self.deferred: Deferred[Any] | None = None
        try:
            result = make()
        except RpcError as error:
            self._result = error
            return
        if isinstance(result, Deferred):
            self.deferred = result
            result.addCallbacks(self._answered, self._failed)
        else:
            self._result = result

    def _answered(self, answer: Any) -> None:
        self._result = answer

    def _failed(self, failure: Failure) -> None:
        self._result = failure.value

    def give_up(self) -> None:
        """The caller no longer wants the answer."""
        assert self.deferred is not None
        self.deferred.cancel()

    @property
    def pending(self) -> bool:
        return self._result is None

    @property
    def failed(self) -> bool:
        return isinstance(self._result, BaseException)

    @property
    def answer(self) -> Any:
        assert not isinstance(self._result, BaseException), self._result
        assert self._result is not None, "no answer yet"
        return self._result

    @property
    def error(self) -> RpcError:
        assert isinstance(self._result, RpcError), self._result
        return self._result
