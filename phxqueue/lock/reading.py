"""GetLockInfo, GetString, ListKeys and Watch: what is in the table, told under a valid lease of the master."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from heapq import nsmallest

from twisted.internet.defer import Deferred

from phxqueue.config.settings import LockLimits
from phxqueue.lock.keeping import Keeping, not_found
from phxqueue.lock.records import LOCKS, STRINGS, Lock, Record, String, TableKey
from phxqueue.lock.watches import Watch, Watches
from phxqueue.net.status import RpcError
from phxqueue.proto.lock_pb2 import (
    GetLockInfoRequest,
    GetLockInfoResponse,
    GetStringRequest,
    GetStringResponse,
    ListKeysRequest,
    ListKeysResponse,
    WatchRequest,
    WatchResponse,
)


class Reading:
    """Answers what changes nothing, for one Paxos group.

    Args:
        watches: where calls wait for a change.
        may_watch: whether one more call may wait.
        waiters: how many wait for a lock.
        elsewhere: why a key is not served here; None: it is.
        refuse: makes the error for requests that meet a group which cannot be served here.
    """

    def __init__(
        self,
        keeping: Keeping,
        watches: Watches,
        limits: LockLimits,
        *,
        may_watch: Callable[[], bool],
        waiters: Callable[[str], int],
        elsewhere: Callable[[TableKey], RpcError | None],
        refuse: Callable[[], RpcError],
    ) -> None:
        self._keeping = keeping
        self._table = keeping.table
        self._watches = watches
        self._limits = limits
        self._may_watch = may_watch
        self._waiters = waiters
        self._elsewhere = elsewhere
        self._refuse = refuse

    def lock_info(self, request: GetLockInfoRequest) -> GetLockInfoResponse:
        """Who holds a lock."""
        lock = self._read((LOCKS, request.lock_key))
        assert isinstance(lock, Lock)
        waiters = self._waiters(request.lock_key)
        return GetLockInfoResponse(lock_info=self._keeping.lock_info(request.lock_key, lock, waiters))

    def string_info(self, request: GetStringRequest) -> GetStringResponse:
        """What a string says."""
        key = (STRINGS, request.key)
        string = self._read(key)
        assert isinstance(string, String)
        return GetStringResponse(string_info=self._keeping.string_info(key, string))

    def keys(self, request: ListKeysRequest) -> ListKeysResponse:
        """One page of the keys."""
        self._check_serving()
        limit = min(request.limit or self._limits.list_keys, self._limits.list_keys)
        records = self._table.locks if request.key_space == LOCKS else self._table.strings
        prefix, after = request.prefix, request.after
        wanted = (key for key in records if key > after and key.startswith(prefix))
        keys = nsmallest(limit + 1, wanted)
        response = ListKeysResponse(more=len(keys) > limit)
        for name in keys[:limit]:
            if request.key_space == LOCKS:
                waiters = self._waiters(name)
                response.locks.append(self._keeping.lock_info(name, self._table.locks[name], waiters))
            else:
                string = self._table.strings[name]
                response.strings.append(self._keeping.string_info((STRINGS, name), string, with_value=False))
        return response

    def watch(self, request: WatchRequest) -> WatchResponse | Deferred[WatchResponse]:
        """What is under a key, as soon as that is not what the caller knows."""
        self._check_serving()
        key = (int(request.key_space), request.key)
        record = self._table.record(key)
        known = (0 if record is None else record.version) == request.known_version
        wait_s = min(request.wait_ms, self._limits.wait_max_ms) / 1000
        if not known or not wait_s or not self._may_watch():
            return self._watched(key)
        answer: Deferred[WatchResponse] = Deferred(lambda _: self._stop_watching(watch))
        watch = self._watches.park(key, wait_s, partial(self._answer_watch, key, answer))
        return answer

    def _check_serving(self) -> None:
        if not self._keeping.serving():
            raise self._refuse()

    def _read(self, key: TableKey) -> Record:
        self._check_serving()
        record = self._table.record(key)
        if record is None:
            raise not_found(key)
        return record

    def _stop_watching(self, watch: Watch) -> None:
        self._watches.remove(watch)

    def _answer_watch(self, key: TableKey, answer: Deferred[WatchResponse]) -> None:
        moved = self._elsewhere(key)
        if moved is not None:
            answer.errback(moved)
        elif self._keeping.serving():
            answer.callback(self._watched(key))
        else:
            answer.errback(self._refuse())

    def _watched(self, key: TableKey) -> WatchResponse:
        record = self._table.record(key)
        if record is None:
            return WatchResponse(version=0)
        if isinstance(record, Lock):
            waiters = self._waiters(key[1])
            return WatchResponse(version=record.version, lock_info=self._keeping.lock_info(key[1], record, waiters))
        return WatchResponse(version=record.version, string_info=self._keeping.string_info(key, record))
