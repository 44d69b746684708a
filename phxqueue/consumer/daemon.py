"""The consumer role, put together from its configuration. ``twistd phxqueue-consumer -c FILE``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from twisted.application.service import MultiService

from phxqueue.config import ConsumerNode, load_consumer_node
from phxqueue.consumer.handlers import Handler, HandlerError, load_handlers
from phxqueue.consumer.pool import ProcessPool
from phxqueue.consumer.service import ConsumerService
from phxqueue.daemon.options import NodeOptions
from phxqueue.daemon.role_service import ExpectedFailure, RoleService, prepare_process
from phxqueue.net.identity import Identity, Role
from phxqueue.net.pool import ConnectionPool
from phxqueue.net.routing import MasterClient
from phxqueue.net.tls import ClientTls, TlsError, client_tls
from phxqueue.producer import Producer
from phxqueue.producer.connecting import connection_pool, routing_settings
from phxqueue.proto.pool_pb2 import PoolStart


class ConsumerRole:
    """One consumer process: its handlers, the connections they live on, and a producer for later attempts."""

    def __init__(self, node: ConsumerNode, reactor: Any) -> None:
        self.name = f"consumer {node.consumer.address}"
        self.node = node
        self._reactor = reactor
        self._tls: ClientTls | None = None
        self._pool: ConnectionPool | None = None
        self._processes: ProcessPool | None = None
        self._producer: Producer | None = None
        self._service: ConsumerService | None = None

    async def start(self, fail: Callable[[str], None]) -> None:
        """Load the handlers and begin to consume. Raises ExpectedFailure with what to do."""
        node = self.node
        import_from(Path.cwd())
        try:
            handlers = await self._load_handlers()
            if node.tls is not None:
                self._tls = client_tls(node.tls)
                self._tls.require(Identity(Role.CONSUMER, node.identity_name))
        except (HandlerError, TlsError) as error:
            raise ExpectedFailure(str(error)) from error
        self._pool = connection_pool(self._reactor, node.cluster, node.topic, self._tls, node.net)
        caller = MasterClient(self._pool, self._reactor, Random(), settings=routing_settings(node.net, node.topic))
        self._producer = Producer(node.topic, caller, self._reactor, settings=None)
        self._service = ConsumerService(node, caller, self._producer, handlers, self._reactor)
        self._service.startService()

    async def _load_handlers(self) -> dict[int, Handler]:
        """Those of this process, and those of the pool, which starts. Raises HandlerError."""
        node, pooled = self.node, set(self.node.pool.handle_ids)
        here = {handle_id: name for handle_id, name in node.handlers.items() if handle_id not in pooled}
        found = load_handlers(here, middleware=node.middleware)
        if pooled:
            there = {handle_id: name for handle_id, name in node.handlers.items() if handle_id in pooled}
            start = PoolStart(handlers=there, handle_ids=sorted(pooled), middleware=node.middleware)
            self._processes = ProcessPool(self._reactor, start, node.pool, node.handler_timeout_s)
            found.update(await self._processes.start())
        return found

    async def stop(self) -> None:
        """Stop fetching, let handlers finish, acknowledge what is finished, flush later attempts, disconnect."""
        if self._service is not None and self._service.running:
            await self._service.stopService()
        if self._processes is not None:
            await self._processes.close()
        if self._producer is not None:
            await self._producer.close()
        if self._pool is not None:
            await self._pool.close()

    def reload(self) -> None:
        """Read certificates and the cluster's files again; queues are given up and taken over accordingly."""
        node = load_consumer_node(self.node.path)
        if self._tls is not None:
            self._tls.reload()
        if self._producer is not None:
            self._producer.reconfigure(node.topic)
        if self._service is not None:
            self._service.reconfigure(node)
        self.node = node


def import_from(directory: Path) -> None:
    """Let handlers be found in a directory: twistd, unlike ``python``, does not look where it was started."""
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))


class Options(NodeOptions):
    """``twistd phxqueue-consumer``: its options."""

    role = "consumer"

    def load(self, path: Path) -> ConsumerNode:
        """Return the consumer's configuration; raises ConfigError."""
        return load_consumer_node(path)


def makeService(options: Options) -> MultiService:
    """Build the Twisted service of one consumer process."""
    from twisted.internet import reactor

    service = RoleService(ConsumerRole(options.node, reactor), reactor)
    prepare_process(reactor, [service])
    parent = MultiService()
    service.setServiceParent(parent)  # type: ignore[no-untyped-call]
    return parent
