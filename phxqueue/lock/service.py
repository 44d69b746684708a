"""The lock node's side of the RPC service: finds the Paxos group of a key, checks the request, hands it on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from random import SystemRandom
from typing import Any, TypeVar

from google.protobuf.message import Message
from twisted.internet.defer import Deferred, DeferredList

from phxqueue.config import LockNode
from phxqueue.lock.client.calls import Caller
from phxqueue.lock.group import GroupService
from phxqueue.lock.operations import check_key, invalid
from phxqueue.lock.placement import paxos_group
from phxqueue.net.service import CallContext, HandlerResult, RpcService
from phxqueue.net.status import RpcError, Status
from phxqueue.proto import methods
from phxqueue.proto.lock_pb2 import (
    LOCKS,
    STRINGS,
    RenewLockRequest,
    RenewLockResponse,
    RenewLocksRequest,
    RenewLocksResponse,
)
from phxqueue.proto.methods import Method
from phxqueue.proto.status_pb2 import LockTableStatus
from phxqueue.replica.interfaces import Clock
from phxqueue.replica.served_group import ServedGroup

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)


class LockService:
    """Answers the calls of clients for the Paxos groups of one lock node.

    Args:
        node: the node's configuration.
        groups: the Paxos groups by id; their state machines are :class:`~phxqueue.lock.table.LockTable`.
        clock: monotonic seconds and timers: the reactor.
        accepting: False while the disk is below its low-water mark.
        number: gives any number of 64 bits.
        caller: finds the masters of the topic's other lock groups.
        on_close: called last.
    """

    def __init__(
        self,
        node: LockNode,
        groups: Mapping[int, ServedGroup],
        clock: Clock,
        *,
        accepting: Callable[[], bool],
        number: Callable[[], int] | None = None,
        caller: Caller | None = None,
        on_close: Callable[[], object] | None = None,
    ) -> None:
        self._on_close = on_close
        self._node = node
        self._limits = node.limits
        self._stopping = False
        draw = SystemRandom()
        self._groups = {
            group_id: GroupService(
                group,
                node,
                clock,
                accepting=accepting,
                may_wait=self._check_waiters,
                may_watch=self._may_watch,
                number=number or (lambda: draw.getrandbits(64)),
                caller=caller,
            )
            for group_id, group in groups.items()
        }

    def register(self, service: RpcService) -> None:
        """Answer the calls on this port."""
        keyed = self._keyed
        service.register(methods.GET_LOCK_INFO, keyed(methods.GET_LOCK_INFO, "lock_key", GroupService.get_lock_info))
        service.register(methods.ACQUIRE_LOCK, keyed(methods.ACQUIRE_LOCK, "lock_key", GroupService.acquire_lock))
        service.register(methods.RENEW_LOCK, keyed(methods.RENEW_LOCK, "lock_key", _renew))
        service.register(methods.RELEASE_LOCK, keyed(methods.RELEASE_LOCK, "lock_key", GroupService.release_lock))
        service.register(methods.GET_STRING, keyed(methods.GET_STRING, "key", GroupService.get_string))
        service.register(methods.SET_STRING, keyed(methods.SET_STRING, "key", GroupService.set_string))
        service.register(methods.DELETE_STRING, keyed(methods.DELETE_STRING, "key", GroupService.delete_string))
        service.register(methods.WATCH, keyed(methods.WATCH, "key", GroupService.watch))
        numbered = self._numbered
        service.register(methods.LIST_KEYS, numbered(methods.LIST_KEYS, GroupService.list_keys))
        service.register(methods.RENEW_LOCKS, numbered(methods.RENEW_LOCKS, _renew_many))
        service.register(methods.GET_SHARE, numbered(methods.GET_SHARE, GroupService.get_share))
        service.register(methods.CHANGE_SHARE, numbered(methods.CHANGE_SHARE, GroupService.change_share))
        service.register(methods.EXPORT_KEYS, numbered(methods.EXPORT_KEYS, GroupService.export_keys))

    def table_statuses(self) -> list[LockTableStatus]:
        """What is in the tables of the groups this node is master of, for NODE_STATUS."""
        return [group.status() for group in self._groups.values() if group.keeping.serving()]

    def drain(self) -> Deferred[Any]:
        """Take no more requests, send away whoever waits, and fire when everything taken before has its outcome.

        It may take as long as there is no majority: the caller sets a limit.
        """
        self._stopping = True
        for group in self._groups.values():
            group.stop_waiting(partial(self._is_stopping, group))
        return DeferredList([group.proposals.drain() for group in self._groups.values()], consumeErrors=True)

    def close(self) -> None:
        """End all timers and refuse what still waits."""
        self._stopping = True
        for group in self._groups.values():
            group.close()
        if self._on_close is not None:
            self._on_close()

    # ---- handlers ---------------------------------------------------------------------------------

    def _keyed(
        self,
        method: Method[RequestT, ResponseT],
        field: str,
        handler: Callable[[GroupService, RequestT], ResponseT | Deferred[ResponseT]],
    ) -> Callable[[RequestT, CallContext], HandlerResult[ResponseT]]:
        """The handler of a call that is about one key."""

        def answer(request: RequestT, context: CallContext) -> ResponseT | Deferred[ResponseT]:
            key: str = getattr(request, field)
            self._check_address(request)
            check_key(field, key, self._limits)
            _check_key_space(request)
            group = self._groups[paxos_group(key, self._node.lock.paxos_groups)]
            if self._stopping:
                raise self._is_stopping(group)
            group.check_place((LOCKS, key))
            return handler(group, request)

        return answer

    def _numbered(
        self,
        method: Method[RequestT, ResponseT],
        handler: Callable[[GroupService, RequestT], ResponseT | Deferred[ResponseT]],
    ) -> Callable[[RequestT, CallContext], HandlerResult[ResponseT]]:
        """The handler of a call that is about one Paxos group."""

        def answer(request: RequestT, context: CallContext) -> ResponseT | Deferred[ResponseT]:
            self._check_address(request)
            _check_key_space(request)
            number: int = request.paxos_group  # type: ignore[attr-defined]
            group = self._groups.get(number)
            if group is None:
                raise invalid(f"paxos_group: {number}; {self._name} has 0 to {len(self._groups) - 1}")
            if self._stopping:
                raise self._is_stopping(group)
            return handler(group, request)

        return answer

    def _check_address(self, request: Any) -> None:
        topic, lock = self._node.topic, self._node.lock
        if request.topic_id != topic.topic_id:
            raise invalid(f"topic_id: {request.topic_id}; {self._name} serves topic {topic.topic_id}")
        if request.lock_id != lock.lock_id:
            raise invalid(f"lock_id: {request.lock_id}; this is {self._name}")

    # ---- bounds of the node -----------------------------------------------------------------------

    def _check_waiters(self) -> None:
        waiting = sum(len(group.acquiring.waiters) for group in self._groups.values())
        if waiting >= self._limits.max_waiters:
            raise RpcError(
                Status.RESOURCE_EXHAUSTED,
                f"{self._name}: {waiting} calls wait for locks (limits.max_waiters {self._limits.max_waiters})",
                retry_after_ms=self._limits.retry_after_ms,
            )

    def _may_watch(self) -> bool:
        return sum(len(group.watches) for group in self._groups.values()) < self._limits.max_watches

    def _is_stopping(self, group: GroupService) -> RpcError:
        refusal = group.refusal()
        if refusal.status is Status.NOT_MASTER:
            return refusal  # it says where to go
        return RpcError(Status.NO_MASTER, f"{self._name} is stopping; its groups go to another node")

    @property
    def _name(self) -> str:
        return f"node {self._node.node.node_id} of lock group {self._node.lock.lock_id}"


def _renew(group: GroupService, request: RenewLockRequest) -> RenewLockResponse | Deferred[RenewLockResponse]:
    return group.renewing.one(request)


def _renew_many(group: GroupService, request: RenewLocksRequest) -> RenewLocksResponse | Deferred[RenewLocksResponse]:
    return group.renewing.many(request)


def _check_key_space(request: Any) -> None:
    key_space = getattr(request, "key_space", LOCKS)
    if key_space not in (LOCKS, STRINGS):
        raise invalid(f"key_space: {key_space}; allowed are LOCKS ({LOCKS}) and STRINGS ({STRINGS})")
