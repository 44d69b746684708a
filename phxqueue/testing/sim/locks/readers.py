"""Clients that look at locks and watch them, and users of strings."""

from __future__ import annotations

from phxqueue.net.status import RpcError, Status
from phxqueue.proto import methods
from phxqueue.proto.lock_pb2 import (
    DeleteStringRequest,
    DeleteStringResponse,
    GetLockInfoRequest,
    GetLockInfoResponse,
    GetStringRequest,
    GetStringResponse,
    SetStringRequest,
    SetStringResponse,
    WatchRequest,
    WatchResponse,
)
from phxqueue.testing.sim.calls import Answer, Caller
from phxqueue.testing.sim.cluster import Cluster
from phxqueue.testing.sim.locks.books import LockBooks
from phxqueue.testing.sim.locks.nodes import LOCK_ID, TOPIC_ID

_ABSENT = frozenset({Status.NOT_FOUND})
_MISMATCH = frozenset({Status.NOT_FOUND, Status.VERSION_MISMATCH})


class Reader:
    """Looks at one lock after another, or waits for one to change."""

    def __init__(self, cluster: Cluster, books: LockBooks, locks: list[str]) -> None:
        self.stopped = False
        self._cluster = cluster
        self._books = books
        self._random = cluster.world.random
        self._caller = Caller(cluster, tolerated=_ABSENT)
        self._locks = locks
        self._known = dict.fromkeys(locks, 0)

    def start(self) -> None:
        """Ask once, then again after the answer."""
        if self.stopped:
            return
        name = self._random.choice(self._locks)
        floor = self._books.floor(name)

        def answered(result: Answer) -> None:
            if isinstance(result, GetLockInfoResponse | WatchResponse):
                info = result.lock_info
                self._known[name] = info.version
                self._books.told(name, floor, info.client_id, info.version)
            elif isinstance(result, RpcError) and result.status is Status.NOT_FOUND:
                self._known[name] = 0
                self._books.told(name, floor, "", 0)
            self._cluster.world.call_later(self._random.uniform(0.0, 0.1), self.start)

        if self._random.random() < 0.5:
            request = GetLockInfoRequest(topic_id=TOPIC_ID, lock_id=LOCK_ID, lock_key=name)
            self._caller.call(methods.GET_LOCK_INFO, request, answered)
        else:
            watch = WatchRequest(topic_id=TOPIC_ID, lock_id=LOCK_ID, key=name, wait_ms=500)
            watch.known_version = self._known[name]
            self._caller.call(methods.WATCH, watch, answered, self._random.choice((0.3, 1.0)))


class StringUser:
    """Reads, writes, swaps and deletes one string; each call once, whatever becomes of it."""

    def __init__(self, cluster: Cluster, books: LockBooks, number: int, key: str, calls: int) -> None:
        self.done = False
        self._cluster = cluster
        self._recorder = books.recorder
        self._random = cluster.world.random
        self._caller = Caller(cluster, tolerated=_MISMATCH)
        self._name = f"user {number}"
        self._key = key
        self._calls = calls
        self._known = 0

    def start(self) -> None:
        """Make the next call."""
        self.done = not self._calls
        if self.done:
            return
        self._calls -= 1
        self._random.choice((self._get, self._set, self._swap, self._swap, self._delete))()

    def _next(self) -> None:
        self._cluster.world.call_later(self._random.uniform(0.0, 0.1), self.start)

    def _begin(self, name: str, **arguments: object) -> int:
        return self._recorder.call("versioned-register", self._key, self._name, name, **arguments)

    def _get(self) -> None:
        token = self._begin("read")

        def answered(result: Answer) -> None:
            if isinstance(result, GetStringResponse):
                info = result.string_info
                self._known = info.version
                self._recorder.returned(token, value=info.value.decode(), version=info.version)
            elif isinstance(result, RpcError) and result.status is Status.NOT_FOUND:
                self._known = 0
                self._recorder.returned(token, value=None, version=0)
            else:
                self._recorder.refused(token)
            self._next()

        request = GetStringRequest(topic_id=TOPIC_ID, lock_id=LOCK_ID, key=self._key)
        self._caller.call(methods.GET_STRING, request, answered)

    def _set(self) -> None:
        value = f"{self._name} {self._calls}"
        request = SetStringRequest(topic_id=TOPIC_ID, lock_id=LOCK_ID, key=self._key, value=value.encode())
        self._write(self._begin("write", value=value), request)

    def _swap(self) -> None:
        value = f"{self._name} {self._calls}"
        request = SetStringRequest(topic_id=TOPIC_ID, lock_id=LOCK_ID, key=self._key, value=value.encode())
        request.expected_version = self._known
        self._write(self._begin("cas", expected=self._known, value=value), request)

    def _write(self, token: int, request: SetStringRequest) -> None:
        request.request_id = self._random.getrandbits(64) if self._random.random() < 0.5 else 0

        def answered(result: Answer) -> None:
            if isinstance(result, SetStringResponse):
                self._known = result.version
                self._recorder.returned(token, version=result.version)
            else:
                self._not_written(token, result)
            self._next()

        self._caller.call(methods.SET_STRING, request, answered)

    def _delete(self) -> None:
        if not self._known:
            self._next()
            return
        token = self._begin("cas", expected=self._known, value=None)

        def answered(result: Answer) -> None:
            if isinstance(result, DeleteStringResponse):
                self._known = 0
                self._recorder.returned(token, version=0)
            else:
                self._not_written(token, result)
            self._next()

        request = DeleteStringRequest(topic_id=TOPIC_ID, lock_id=LOCK_ID, key=self._key)
        request.expected_version = self._known
        self._caller.call(methods.DELETE_STRING, request, answered)

    def _not_written(self, token: int, result: Answer) -> None:
        if isinstance(result, RpcError) and result.status in _MISMATCH:
            self._recorder.returned(token, version=None)
        elif isinstance(result, RpcError) and not result.maybe_executed:
            self._recorder.refused(token)
        else:
            self._recorder.unknown(token)
