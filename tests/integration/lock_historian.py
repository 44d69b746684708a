"""Clients of a lock service that write down when each operation was called, when it returned, and with what.

What they write is checked against sequential models (phxqueue.testing.linearizability): `lock` and
`versioned-register`. Tests run it for seconds (test_lock_histories.py); whoever wants hours does the same:

    historian = LockHistorian(reactor, cluster.cluster, cluster.topic, random.Random(seed))
    historian.start()
    ...                                 # kill, stop and cut off lock nodes; `await historian.progress(100)` in between
    await historian.stop()              # every client finishes its operation; give each a master to finish it with
    report = check_history(historian.operations())
    assert report.verdict is Verdict.LINEARIZABLE and not historian.complaints, str(report)

Keys are used for so many operations only (`per_key`), then come new ones: the search for an order takes an object at a
time, and the time it takes grows with the length of the history of that object.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from phxqueue.admin.gather import gather
from phxqueue.config import Cluster, Topic
from phxqueue.lock.client import LockClient, OutcomeUnknown, Refused, VersionMismatch
from phxqueue.lock.client.connecting import lock_pool
from phxqueue.lock.client.routes import LockRoutes
from phxqueue.net.routing import MasterClient
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.lock_pb2 import (
    AcquireLockRequest,
    AcquireLockResponse,
    GetLockInfoRequest,
    ReleaseLockRequest,
    RenewLockRequest,
    RenewLocksRequest,
)
from phxqueue.proto.methods import ACQUIRE_LOCK, GET_LOCK_INFO, RELEASE_LOCK, RENEW_LOCK, RENEW_LOCKS
from phxqueue.testing.linearizability import Operation, Recorder

NOT_MINE = frozenset({Status.NOT_FOUND, Status.VERSION_MISMATCH})
LEASES_MS = (300, 1000, 4000)
WAITS_MS = (0, 200, 1000)
CALL_S = 15.0
PAUSE_S = 0.02


@dataclass
class _Acquisition:
    """What is known of one.

    Attributes:
        began: when it was asked for, by the clock of the history.
        ends: it cannot end earlier by itself. One that nobody was told of may be given back by the server at any time.
        token: of its operation in the history, while its outcome is not known; None: it is.
        returned: it surely does not hold the lock any more, by its own release.
    """

    lock: str
    client_id: str
    lease_ms: int
    began: float
    token: int | None
    ends: float = 0.0
    returned: bool = False


@dataclass
class LockHistorian:
    """Runs the clients, collects what they saw.

    Args:
        contenders, readers, writers: how many clients of locks, readers of locks and users of strings.
        keys: so many locks, and strings, are in use at the same time.
        per_key: operations on a key before another one takes its place.

    Attributes:
        complaints: what no order of operations could explain, found on the way.
        done: operations that have ended.
    """

    reactor: Any
    cluster: Cluster
    topic: Topic
    rng: random.Random
    contenders: int = 6
    readers: int = 2
    writers: int = 4
    keys: int = 2
    per_key: int = 300
    recorder: Recorder = field(default_factory=lambda: Recorder(time.monotonic))
    complaints: list[str] = field(default_factory=list)
    done: int = 0
    _acquisitions: dict[str, _Acquisition] = field(default_factory=dict)
    _seen: dict[str, int] = field(default_factory=dict)  # client id -> the version somebody saw it with
    _used: dict[int, int] = field(default_factory=dict)
    _numbers: Any = field(default_factory=lambda: count(1))
    _stopping: bool = False
    _running: Deferred[Any] | None = None
    _progress: list[tuple[int, Deferred[None]]] = field(default_factory=list)

    def start(self) -> None:
        """Begin."""
        work = [self._contend(number) for number in range(self.contenders)]
        work += [self._read(number) for number in range(self.readers)]
        work += [self._use_strings(number) for number in range(self.writers)]
        self._running = Deferred.fromCoroutine(gather(work)).addErrback(self._failed)

    def _failed(self, failure: Failure) -> Failure:
        """A client has met what it did not expect: whoever waits for progress is told."""
        waiting, self._progress = self._progress, []
        for _, reached in waiting:
            reached.errback(failure)
        return failure

    async def stop(self) -> None:
        """Let every client finish its operation."""
        self._stopping = True
        if self._running is not None:
            await self._running

    async def progress(self, operations: int) -> None:
        """Wait until so many more operations have ended."""
        reached: Deferred[None] = Deferred()
        self._progress.append((self.done + operations, reached))
        await reached

    def operations(self) -> list[Operation]:
        """The history, with what is known of acquisitions that nobody was told of, and of leases that could end."""
        for one in self._acquisitions.values():
            if one.token is not None:
                version = self._seen.get(one.client_id)
                if version is None:
                    self.recorder.refused(one.token)  # nobody can tell whether it ever was
                else:
                    self.recorder.took_effect(one.token, version=version)
                one.token = None
        return [*self.recorder.operations(), *self._expiries()]

    def _expiries(self) -> list[Operation]:
        return [
            Operation(
                object="lock",
                key=one.lock,
                client="server",
                name="expire",
                arguments={"client_id": one.client_id},
                call=max(one.began, one.ends),
                returned=None,
                result=None,
            )
            for one in self._acquisitions.values()
            if one.client_id in self._seen and not one.returned
        ]

    # ---- all of them -----------------------------------------------------------------------------

    def _client(self) -> tuple[MasterClient, Any]:
        pool = lock_pool(self.reactor, self.cluster, self.topic)
        return MasterClient(pool, self.reactor, random.Random(self.rng.random())), pool

    def _key(self, kind: str) -> str:
        slot = self.rng.randrange(self.keys)
        used = self._used[slot] = self._used.get(slot, 0) + 1
        return f"{kind} {slot}.{used // self.per_key}"

    async def _call(self, client: MasterClient, method: Any, request: Any) -> Any:
        place = LockRoutes(self.topic).place(request.lock_key)
        request.topic_id, request.lock_id = place.topic_id, place.lock_id
        if method is RENEW_LOCK and self.rng.random() < 0.5:
            return await self._renew_in_a_batch(client, place, request)
        return await client.call(place.route, method, request, CALL_S, try_timeout_s=2.0)

    async def _renew_in_a_batch(self, client: MasterClient, place: Any, renewal: RenewLockRequest) -> Any:
        request = RenewLocksRequest(topic_id=place.topic_id, lock_id=place.lock_id, paxos_group=place.group)
        request.renewals.extend([renewal, renewal])
        answer = await client.call(place.route, RENEW_LOCKS, request, CALL_S, try_timeout_s=2.0)
        for outcome in answer.renewals:
            if outcome.status:
                raise RpcError(Status.from_wire(outcome.status), outcome.message)
        return answer

    async def _pause(self, seconds: float = PAUSE_S) -> None:
        self.done += 1
        for number, reached in [*self._progress]:
            if self.done >= number:
                self._progress.remove((number, reached))
                reached.callback(None)
        await deferLater(self.reactor, self.rng.uniform(0.0, 2.0) * seconds, lambda: None)

    def _saw(self, client_id: str, version: int) -> None:
        known = self._seen.setdefault(client_id, version)
        if known != version:
            self.complaints.append(f"{client_id} was seen with versions {known} and {version}")

    # ---- locks -----------------------------------------------------------------------------------

    async def _contend(self, number: int) -> None:
        client, pool = self._client()
        name = f"contender {number}"
        while not self._stopping:
            acquisition, version = await self._acquire(client, name)
            await self._pause()
            if version is None:
                continue
            for _ in range(self.rng.randrange(4)):
                if not await self._renew(client, name, acquisition, version):
                    break
                await self._pause(acquisition.lease_ms / 3000 if self.rng.random() < 0.2 else PAUSE_S)
            if self.rng.random() < 0.8 or acquisition.lease_ms > 1000:  # else its lease has to end
                await self._release(client, name, acquisition, version)
                await self._pause()
        await pool.close()

    async def _acquire(self, client: MasterClient, name: str) -> tuple[_Acquisition, int | None]:
        key, client_id, lease_ms = self._key("lock"), f"{name}.{next(self._numbers)}", self.rng.choice(LEASES_MS)
        token = self.recorder.call("lock", key, name, "acquire", client_id=client_id)
        look = self.recorder.call("lock", key, name, "read")  # to be denied a lock is to see who holds it
        mine = _Acquisition(key, client_id, lease_ms, time.monotonic(), token)
        self._acquisitions[client_id] = mine
        wait_ms = self.rng.choice(WAITS_MS)
        request = AcquireLockRequest(lock_key=key, client_id=client_id, lease_time_ms=lease_ms, wait_ms=wait_ms)
        try:
            answer: AcquireLockResponse = await self._call(client, ACQUIRE_LOCK, request)
        except RpcError as error:
            self.recorder.refused(look)
            if not error.maybe_executed:
                self._not_acquired(mine)
            return mine, None
        info = answer.lock_info
        if info.version:
            self._saw(info.client_id, info.version)
        if answer.acquired:
            self.recorder.refused(look)
            self.recorder.returned(token, version=info.version)
            mine.token = None
            mine.ends = mine.began + lease_ms / 1000
            return mine, info.version
        # An earlier try may have been granted, and given back by the server because nobody waited for it any more.
        if info.version:
            self.recorder.returned(look, holder=info.client_id, version=info.version)
        else:
            self.recorder.refused(look)
        return mine, None

    def _not_acquired(self, mine: _Acquisition) -> None:
        assert mine.token is not None
        self.recorder.refused(mine.token)
        mine.token = None
        del self._acquisitions[mine.client_id]

    async def _renew(self, client: MasterClient, name: str, mine: _Acquisition, version: int) -> bool:
        token = self.recorder.call("lock", mine.lock, name, "renew", client_id=mine.client_id, version=version)
        sent = time.monotonic()
        request = RenewLockRequest(
            lock_key=mine.lock, client_id=mine.client_id, version=version, lease_time_ms=mine.lease_ms
        )
        try:
            await self._call(client, RENEW_LOCK, request)
        except RpcError as error:
            if error.status in NOT_MINE:
                self.recorder.returned(token, held=False)
                return False
            self.recorder.refused(token)
            return True
        self.recorder.returned(token, held=True)
        mine.ends = sent + mine.lease_ms / 1000
        return True

    async def _release(self, client: MasterClient, name: str, mine: _Acquisition, version: int) -> None:
        token = self.recorder.call("lock", mine.lock, name, "release", client_id=mine.client_id, version=version)
        request = ReleaseLockRequest(lock_key=mine.lock, client_id=mine.client_id, version=version)
        try:
            await self._call(client, RELEASE_LOCK, request)
        except RpcError as error:
            if error.status in NOT_MINE:
                self.recorder.returned(token, released=None if error.maybe_executed else False)
            elif error.maybe_executed:
                self.recorder.unknown(token)
            else:
                self.recorder.refused(token)
        else:
            self.recorder.returned(token, released=True)
            mine.returned = True

    async def _read(self, number: int) -> None:
        client, pool = self._client()
        name = f"reader {number}"
        while not self._stopping:
            key = self._key("lock")
            token = self.recorder.call("lock", key, name, "read")
            try:
                answer = await self._call(client, GET_LOCK_INFO, GetLockInfoRequest(lock_key=key))
            except RpcError as error:
                if error.status is Status.NOT_FOUND:
                    self.recorder.returned(token, holder="", version=0)
                else:
                    self.recorder.refused(token)
            else:
                info = answer.lock_info
                self._saw(info.client_id, info.version)
                self.recorder.returned(token, holder=info.client_id, version=info.version)
            await self._pause()
        await pool.close()

    # ---- strings ---------------------------------------------------------------------------------

    async def _use_strings(self, number: int) -> None:
        name = f"writer {number}"
        versions: dict[str, int] = {}
        async with await LockClient.connect(self.cluster, self.topic.topic_id) as client:
            while not self._stopping:
                key = self._key("string")
                kind = self.rng.choice(("read", "read", "write", "cas", "cas", "delete"))
                if kind == "read":
                    await self._get(client, name, key, versions)
                else:
                    await self._write(client, name, key, kind, versions)
                await self._pause()

    async def _get(self, client: LockClient, name: str, key: str, versions: dict[str, int]) -> None:
        token = self.recorder.call("versioned-register", key, name, "read")
        try:
            found = await client.get(key)
        except Refused:
            self.recorder.refused(token)
            return
        versions[key] = 0 if found is None else found.version
        value = None if found is None else found.value.decode()
        self.recorder.returned(token, value=value, version=versions[key])

    async def _write(self, client: LockClient, name: str, key: str, kind: str, versions: dict[str, int]) -> None:
        value = None if kind == "delete" else f"{name} {next(self._numbers)}"
        known = versions.get(key, 0)
        if kind == "delete" and not known:
            return
        compared = {} if kind == "write" else {"expected": known}
        token = self.recorder.call(
            "versioned-register", key, name, "write" if kind == "write" else "cas", value=value, **compared
        )
        try:
            if value is None:
                if not await client.delete(key, expected_version=known):
                    self.recorder.returned(token, version=None)
                    return
                version = 0
            else:
                expected = None if kind == "write" else known
                version = await client.set(key, value.encode(), expected_version=expected)
        except VersionMismatch:
            self.recorder.returned(token, version=None)
        except Refused:
            self.recorder.refused(token)
        except OutcomeUnknown:
            self.recorder.unknown(token)
        else:
            self.recorder.returned(token, version=version)
            versions[key] = version
