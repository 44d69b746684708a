"""The store role: one node of a store, put together from its configuration. ``twistd phxqueue-store -c FILE``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.application.service import MultiService
from twisted.logger import Logger

import phxqueue
from phxqueue.config import StoreNode, load_store_node
from phxqueue.daemon.memory import resident_bytes
from phxqueue.daemon.options import NodeOptions
from phxqueue.daemon.role_service import ExpectedFailure, RoleService, prepare_process
from phxqueue.net.address import Address
from phxqueue.net.endpoints import ListenError, RpcListener, listen
from phxqueue.net.identity import Identity, Role
from phxqueue.net.service import CallContext, RpcService
from phxqueue.net.settings import RpcSettings, configured
from phxqueue.net.tls import ClientTls, ServerTls, TlsError, client_tls, server_tls
from phxqueue.net.turn import TurnClock
from phxqueue.proto import methods
from phxqueue.proto.status_pb2 import NodeStatusRequest, NodeStatusResponse
from phxqueue.replica.errors import ReplicaStartError
from phxqueue.replica.host import ReplicaHost, ReplicaPlace
from phxqueue.store.queues import COMMAND_VERSION, StoreQueues
from phxqueue.store.service import StoreService


class StoreRole:
    """One store node: a replica whose state machine are queues, and the port that serves clients."""

    def __init__(self, node: StoreNode, reactor: Any) -> None:
        self.name = f"store {node.store.store_id} node {node.node.node_id}"
        self.node = node
        self._reactor = reactor
        self._started_at = time.monotonic()
        self._host: ReplicaHost | None = None
        self._service: StoreService | None = None
        self._listener: RpcListener | None = None
        self._server_tls: ServerTls | None = None
        self._client_tls: ClientTls | None = None
        self._log = Logger(namespace="phxqueue.store")

    async def start(self, fail: Callable[[str], None]) -> None:
        """Recover, join the other nodes, open the client port. Raises ExpectedFailure with what to do."""
        node = self.node
        try:
            if node.tls is not None:
                self._server_tls, self._client_tls = server_tls(node.tls), client_tls(node.tls)
                self._server_tls.require(Identity.store(node.store.store_id, node.node.node_id))
            self._host = ReplicaHost(
                self._reactor,
                ReplicaPlace(
                    cluster=node.cluster.name,
                    role=Role.STORE,
                    set_id=node.store.store_id,
                    node_id=node.node.node_id,
                    data_dir=node.data_dir,
                    listen_paxos=Address.parse(node.listen_paxos_address),
                ),
                node.store,
                lambda group_id: StoreQueues(node.limits.index_segment_rows),
                command_version=COMMAND_VERSION,
                server_tls=self._server_tls,
                client_tls=self._client_tls,
                journal_settings=node.journal,
                replica_settings=node.replica,
                cache_bytes=node.limits.cache_bytes,
            )
            await self._host.start(fail)
            host = self._host
            self._service = StoreService(node, host.groups, TurnClock(self._reactor), accepting=lambda: host.accepting)
            service = RpcService(self.name)
            self._service.register(service)
            service.register(methods.NODE_STATUS, self.status)
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
        node = load_store_node(self.node.path)
        for tls in (self._server_tls, self._client_tls):
            if tls is not None:
                tls.reload()
        if self._service is not None:
            self._service.reconfigure(node)
        if self._host is not None:
            self._host.reconfigure(node.store)

    def status(self, request: NodeStatusRequest, context: CallContext) -> NodeStatusResponse:
        """Tell an operator about this node."""
        node, host = self.node, self._host
        response = NodeStatusResponse(
            store_id=node.store.store_id,
            node_id=node.node.node_id,
            version=phxqueue.__version__,
            uptime_s=time.monotonic() - self._started_at,
            resident_bytes=resident_bytes(),
        )
        if host is not None and self._service is not None:
            response.incarnation = host.incarnation
            response.accepting = host.accepting
            response.groups.extend(group.status(state_hash=request.state_hash) for group in host.groups.values())
            response.notices.extend([*host.notices(), *self._service.notices()])
            response.passed_on.extend(self._service.passed_on())
            response.queues.extend(self._service.queue_statuses())
            usage = os.statvfs(node.data_dir)
            response.disk_free_bytes = usage.f_bavail * usage.f_frsize
        return response

    def _not_drained(self, result: object, timeout: float) -> None:
        self._log.warn(
            "{name}: some requests had no outcome within {timeout} s (no majority?); their clients will retry",
            name=self.name,
            timeout=timeout,
        )


def _rpc_settings(node: StoreNode) -> RpcSettings:
    return configured(
        RpcSettings,
        node.net,
        max_frame_bytes=node.limits.max_frame,
        max_connections=node.limits.max_connections,
        max_in_flight_calls=node.limits.max_in_flight_requests,
        overload_retry_after_ms=node.limits.retry_after_ms,
    )


class Options(NodeOptions):
    """``twistd phxqueue-store``: its options."""

    role = "store"

    def load(self, path: Path) -> StoreNode:
        """Return the node's configuration; raises ConfigError."""
        return load_store_node(path)


def makeService(options: Options) -> MultiService:
    """Build the Twisted service of one store node."""
    from twisted.internet import reactor

    service = RoleService(StoreRole(options.node, reactor), reactor)
    prepare_process(reactor, [service])
    parent = MultiService()
    service.setServiceParent(parent)  # type: ignore[no-untyped-call]
    return parent
