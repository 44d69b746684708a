"""What the process of every replicated role does alike: start, serve clients, reload, hand over, drain, stop.

A store and a lock node differ in their state machine, in the service around it and in their configuration; that is
what a :class:`ReplicaKind` says. The order in which things come up and go down is here, once:

    up      certificates; journal, recovery and peers (ReplicaHost); the service; the client port last
    down    masterships to others; no more requests, an outcome for everything taken; client port; checkpoint; journal
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from prometheus_client.metrics_core import Metric
from twisted.internet.defer import Deferred
from twisted.logger import Logger

import phxqueue
from phxqueue.config import LockNode, ReplicaSet, StoreNode
from phxqueue.console.conditions import Condition
from phxqueue.console.console import Console
from phxqueue.console.desk import AlarmSink, alarm_statuses
from phxqueue.console.replica_conditions import ReplicaConditions
from phxqueue.console.replica_families import replica_families
from phxqueue.daemon.memory import resident_bytes
from phxqueue.daemon.role_service import ExpectedFailure
from phxqueue.net.access import authorize
from phxqueue.net.address import Address
from phxqueue.net.endpoints import ListenError, RpcListener, listen
from phxqueue.net.identity import Identity, Role
from phxqueue.net.service import CallContext, RpcService
from phxqueue.net.settings import RpcSettings, configured
from phxqueue.net.tls import ClientTls, ServerTls, TlsError, client_tls, server_tls
from phxqueue.net.turn import TurnClock
from phxqueue.proto import methods
from phxqueue.proto.status_pb2 import (
    ClearAlarmRequest,
    ClearAlarmResponse,
    NodeStatusRequest,
    NodeStatusResponse,
)
from phxqueue.replica.errors import ReplicaStartError
from phxqueue.replica.host import ReplicaHost, ReplicaPlace
from phxqueue.replica.interfaces import IStateMachine


class ReplicaService(Protocol):
    """What answers the clients of a replicated role."""

    def register(self, service: RpcService) -> None:
        """Answer its calls on this port."""

    def drain(self) -> Deferred[Any]:
        """Take no more requests; fire when everything taken before has its outcome, however long that takes."""

    def close(self) -> None:
        """End all timers and refuse what still waits."""


NodeT = TypeVar("NodeT", bound=StoreNode | LockNode)
ServiceT = TypeVar("ServiceT", bound=ReplicaService)


class ReplicaKind(ABC, Generic[NodeT, ServiceT]):
    """What makes a replicated role a store or a lock group.

    Attributes:
        role: its name in certificates and logs.
        command_version: the newest commands that its state machine knows.
    """

    role: ClassVar[Role]
    command_version: ClassVar[int]

    @abstractmethod
    def load(self, path: Path) -> NodeT:
        """Read a node's file and its cluster; raises ConfigError."""

    @abstractmethod
    def replica_set(self, node: NodeT) -> ReplicaSet:
        """The store or lock group that the node belongs to."""

    @abstractmethod
    def set_id(self, node: NodeT) -> int:
        """The number of that store or lock group."""

    @abstractmethod
    def state_machine(self, node: NodeT) -> IStateMachine:
        """Make the state machine of one Paxos group, empty."""

    @abstractmethod
    def service(self, node: NodeT, host: ReplicaHost, clock: Any, alarms: AlarmSink) -> ServiceT:
        """Make what answers clients, on Paxos groups that have recovered."""

    def reconfigure(self, service: ServiceT, node: NodeT) -> None:
        """Take over what the files say now, as far as the role follows them while it runs."""

    def pubs_of_queues(self, node: NodeT) -> Mapping[int, tuple[int, ...]]:
        """By queue id, the pubs whose items may be in it."""
        return {}

    @abstractmethod
    def glance(self, service: ServiceT, node: NodeT, status: NodeStatusResponse) -> None:
        """Add what is looked at every few seconds, and has to be cheap."""

    @abstractmethod
    def describe(self, service: ServiceT, node: NodeT, status: NodeStatusResponse) -> None:
        """Add what only this role has to tell an operator."""


class ReplicaRole(Generic[NodeT, ServiceT]):
    """One node of a replicated role: a replica, the service around its state machines, and the port for clients."""

    def __init__(self, kind: ReplicaKind[NodeT, ServiceT], node: NodeT, reactor: Any) -> None:
        self.name = f"{kind.role.value} {kind.set_id(node)} node {node.node.node_id}"
        self.node = node
        self._kind = kind
        self._reactor = reactor
        self._started_at = time.monotonic()
        self._host: ReplicaHost | None = None
        self._service: ServiceT | None = None
        self._listener: RpcListener | None = None
        self._server_tls: ServerTls | None = None
        self._client_tls: ClientTls | None = None
        self._pubs_of_queues = kind.pubs_of_queues(node)
        self._log = Logger(namespace=f"phxqueue.{kind.role.value}")
        self.console = Console(self.name, node.admin, node.tls, reactor)
        self.console.collectors.append(self._families)
        self._conditions = ReplicaConditions(node.limits if isinstance(node, LockNode) else None)
        self.console.watch.looks.append(self._look)

    async def start(self, fail: Callable[[str], None]) -> None:
        """Recover, join the other nodes, open the client port. Raises ExpectedFailure with what to do."""
        node = self.node
        try:
            if node.tls is not None:
                self._server_tls, self._client_tls = server_tls(node.tls), client_tls(node.tls)
                name = str(self._kind.set_id(node))
                self._server_tls.require(Identity.make(self._kind.role, name, node.node.node_id))
            host = self._host = self._make_host()
            await host.start(fail)
            for group in host.groups.values():
                group.on_mastership.append(partial(self._mastership_event, group.group_id))
            self._service = self._kind.service(node, host, TurnClock(self._reactor), self.console.desk)
            service = RpcService(self.name, authorize=authorize)
            self._service.register(service)
            service.register(methods.NODE_STATUS, self.status)
            service.register(methods.CLEAR_ALARM, self.clear_alarm)
            host.serve_operators(service)
            self._listener = await listen(
                self._reactor,
                Address.parse(node.listen_address),
                service,
                self._server_tls,
                settings=_rpc_settings(node),
            )
        except (TlsError, ListenError, ReplicaStartError) as error:
            raise ExpectedFailure(str(error)) from error
        self._log.info(
            "{name} serves clients at {address}, its peers at {paxos}, data in {data}",
            name=self.name,
            address=node.listen_address,
            paxos=node.listen_paxos_address,
            data=str(node.data_dir),
        )

    def _make_host(self) -> ReplicaHost:
        node, kind = self.node, self._kind
        return ReplicaHost(
            self._reactor,
            ReplicaPlace(
                cluster=node.cluster.name,
                role=kind.role,
                set_id=kind.set_id(node),
                node_id=node.node.node_id,
                data_dir=node.data_dir,
                listen_paxos=Address.parse(node.listen_paxos_address),
            ),
            kind.replica_set(node),
            lambda group_id: kind.state_machine(node),
            command_version=kind.command_version,
            server_tls=self._server_tls,
            client_tls=self._client_tls,
            journal_settings=node.journal,
            replica_settings=node.replica,
            cache_bytes=node.limits.cache_bytes,
        )

    async def stop(self) -> None:
        """Hand the masterships over, take no more requests, give everything taken its outcome, close the journal.

        Each step has its bound. Until a group is handed over it is served; from then on its clients are sent on.
        """
        if self._host is not None:
            await self._host.hand_over()
        if self._service is not None:
            drained = self._service.drain()
            drained.addTimeout(self.node.replica.drain_timeout_s, self._reactor, onTimeoutCancel=self._not_drained)
            await drained
            self._service.close()
        if self._listener is not None:
            await self._listener.close()
        if self._host is not None:
            await self._host.stop()

    def reload(self) -> None:
        """Read certificates and the cluster's files again; raises TlsError or ConfigError and changes nothing then."""
        node = self._kind.load(self.node.path)
        for tls in (self._server_tls, self._client_tls):
            if tls is not None:
                tls.reload()
        if self._service is not None:
            self._kind.reconfigure(self._service, node)
        if self._host is not None:
            self._host.reconfigure(self._kind.replica_set(node))
        self._pubs_of_queues = self._kind.pubs_of_queues(node)

    def status(self, request: NodeStatusRequest, context: CallContext) -> NodeStatusResponse:
        """Tell an operator about this node."""
        return self._status(state_hash=request.state_hash)

    def clear_alarm(self, request: ClearAlarmRequest, context: CallContext) -> ClearAlarmResponse:
        """An operator has looked after an alarm."""
        stood = request.name in self.console.alarms.standing
        self.console.desk.clear(request.name, f"cleared by {context.peer}")
        return ClearAlarmResponse(cleared=stood)

    def _families(self) -> Iterable[Metric]:
        return replica_families(self._status(), self._pubs_of_queues)

    def _look(self, now: float) -> Iterable[Condition]:
        host, service = self._host, self._service
        if host is None or service is None:
            return ()
        status = NodeStatusResponse(node_id=self.node.node.node_id, accepting=host.accepting)
        status.groups.extend(group.status() for group in host.groups.values())
        if not host.accepting:
            status.disk_free_bytes = _free_bytes(self.node)
        self._kind.glance(service, self.node, status)
        return self._conditions.look(now, status)

    def _mastership_event(self, group_id: int, is_master: bool) -> None:
        what = "is master now" if is_master else "is master no more"
        self.console.event("master", f"group {group_id}: this node {what}", group=group_id, is_master=is_master)

    def _status(self, *, state_hash: bool = False) -> NodeStatusResponse:
        node, host, service = self.node, self._host, self._service
        status = NodeStatusResponse(
            node_id=node.node.node_id,
            version=phxqueue.__version__,
            uptime_s=time.monotonic() - self._started_at,
            resident_bytes=resident_bytes(),
        )
        if host is not None and service is not None:
            status.incarnation = host.incarnation
            status.accepting = host.accepting
            status.groups.extend(group.status(state_hash=state_hash) for group in host.groups.values())
            status.notices.extend(host.notices())
            self._kind.describe(service, node, status)
            status.journal.CopyFrom(host.journal_status())
            status.alarms.extend(alarm_statuses(self.console.alarms))
            status.disk_free_bytes = _free_bytes(node)
        return status

    def _not_drained(self, result: object, timeout: float) -> None:
        self._log.warn(
            "{name}: some requests had no outcome within {timeout} s (no majority?); their clients will retry",
            name=self.name,
            timeout=timeout,
        )


def _free_bytes(node: StoreNode | LockNode) -> int:
    usage = os.statvfs(node.data_dir)
    return usage.f_bavail * usage.f_frsize


def _rpc_settings(node: StoreNode | LockNode) -> RpcSettings:
    return configured(
        RpcSettings,
        node.net,
        max_frame_bytes=node.limits.max_frame,
        max_connections=node.limits.max_connections,
        max_in_flight_calls=node.limits.max_in_flight_requests,
        overload_retry_after_ms=node.limits.retry_after_ms,
    )
