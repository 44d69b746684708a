"""The lock node's side of the RPC service: finds the Paxos group of a key, checks the request, hands it on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from random import SystemRandom
from typing import Any, TypeVar

from google.protobuf.message import Message
from twisted.internet.defer import Deferred, DeferredList

from phxqueue.config import LockNode
from phxqueue.lock.operations import check_key, invalid
from phxqueue.lock.paxos_group import PaxosGroup
from phxqueue.lock.placement import paxos_group
from phxqueue.net.routing import Caller
from phxqueue.net.service import CallContext, RpcService
from phxqueue.net.status import RpcError, Status
from phxqueue.proto import methods
from phxqueue.proto.lock_pb2 import (
    LOCKS,
    STRINGS,
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
            group_id: PaxosGroup(
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
        self._keyed(service, methods.GET_LOCK_INFO, "lock_key", lambda group, request: group.reading.lock_info(request))
        self._keyed(service, methods.ACQUIRE_LOCK, "lock_key", PaxosGroup.acquire_lock)
        self._keyed(service, methods.RENEW_LOCK, "lock_key", lambda group, request: group.renewing.one(request))
        self._keyed(service, methods.RELEASE_LOCK, "lock_key", PaxosGroup.release_lock)
        self._keyed(service, methods.GET_STRING, "key", lambda group, request: group.reading.string_info(request))
        self._keyed(service, methods.SET_STRING, "key", PaxosGroup.set_string)
        self._keyed(service, methods.DELETE_STRING, "key", PaxosGroup.delete_string)
        self._keyed(service, methods.WATCH, "key", lambda group, request: group.reading.watch(request))
        self._numbered(service, methods.LIST_KEYS, lambda group, request: group.reading.keys(request))
        self._numbered(service, methods.RENEW_LOCKS, lambda group, request: group.renewing.many(request))
        self._numbered(service, methods.GET_SHARE, PaxosGroup.get_share)
        self._numbered(service, methods.CHANGE_SHARE, PaxosGroup.change_share)
        self._numbered(service, methods.EXPORT_KEYS, PaxosGroup.export_keys)

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
        service: RpcService,
        method: Method[RequestT, ResponseT],
        field: str,
        handler: Callable[[PaxosGroup, RequestT], ResponseT | Deferred[ResponseT]],
    ) -> None:
        """Answer a call that is about one key."""

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

        service.register(method, answer)

    def _numbered(
        self,
        service: RpcService,
        method: Method[RequestT, ResponseT],
        handler: Callable[[PaxosGroup, RequestT], ResponseT | Deferred[ResponseT]],
    ) -> None:
        """Answer a call that is about one Paxos group."""

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

        service.register(method, answer)

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

    def _is_stopping(self, group: PaxosGroup) -> RpcError:
        refusal = group.refusal()
        if refusal.status is Status.NOT_MASTER:
            return refusal  # it says where to go
        return RpcError(Status.NO_MASTER, f"{self._name} is stopping; its groups go to another node")

    @property
    def _name(self) -> str:
        return f"node {self._node.node.node_id} of lock group {self._node.lock.lock_id}"


def _check_key_space(request: Any) -> None:
    key_space = getattr(request, "key_space", LOCKS)
    if key_space not in (LOCKS, STRINGS):
        raise invalid(f"key_space: {key_space}; allowed are LOCKS ({LOCKS}) and STRINGS ({STRINGS})")
