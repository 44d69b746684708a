"""The consumer role, put together from its configuration. ``twistd phxqueue-consumer -c FILE``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from math import ceil
from pathlib import Path
from random import Random
from typing import Any

from prometheus_client.metrics_core import Metric
from twisted.application.service import MultiService

from phxqueue.config import ConsumerNode, load_consumer_node
from phxqueue.config.reporters import asks_scheduler
from phxqueue.console.conditions import Condition
from phxqueue.console.console import Console
from phxqueue.console.consumer_conditions import ConsumerConditions, QueueState
from phxqueue.console.consumer_families import QueueProgress, consumer_families
from phxqueue.consumer.handlers import Handler, HandlerError, load_handlers
from phxqueue.consumer.pool import ProcessPool
from phxqueue.consumer.run_time_groups import RunTimeGroups
from phxqueue.consumer.service import ConsumerService
from phxqueue.consumer.settings_watch import SettingsWatch
from phxqueue.consumer.shares import Shares
from phxqueue.consumer.usage import UsageMeter
from phxqueue.consumer.weights import Weights
from phxqueue.daemon.options import NodeOptions
from phxqueue.daemon.role_service import ExpectedFailure, process_of
from phxqueue.lock.client import LockClient, LockClientSettings
from phxqueue.net.address import Address
from phxqueue.net.cluster_pool import cluster_pool
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
        self._locks: LockClient | None = None
        self._schedulers: ConnectionPool | None = None
        self._weights: Weights | None = None
        self._shares: Shares | None = None
        self._settings: SettingsWatch | None = None
        self._groups: RunTimeGroups | None = None
        self.console = Console(self.name, node.admin, node.tls, reactor)
        self.console.collectors.append(self._families)
        self._conditions = ConsumerConditions(node.consumer.address, node.handler_timeout_s)
        self.console.watch.looks.append(self._look)

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
        await self._connect_locks()
        weighted = asks_scheduler(node.topic, node.consumer_group_ids)
        self._service = ConsumerService(
            node, caller, self._producer, handlers, self._reactor, locks=self._locks, weighted=weighted
        )
        self._service.startService()
        self._settings = SettingsWatch(
            node.topic, caller, self._reactor, self._service.take_settings, node.settings_interval_s
        )
        self._settings.start()
        if node.topic.scheduler:
            self._follow_scheduler(self._service, weighted=weighted)
        self._groups = RunTimeGroups(node, caller, self._reactor, self._take, node.settings_interval_s)
        self._groups.start()

    async def _connect_locks(self) -> None:
        """A lock client, if queues are owned through locks."""
        node = self.node
        groups = [node.topic.consumer_group(group_id) for group_id in node.consumer_group_ids]
        locked = node.consumer.run_time_group_ids or not all(group.skip_lock for group in groups)
        if node.topic.locks and locked:
            self._locks = await LockClient.connect(
                node.cluster,
                node.topic.topic_name,
                self._tls,
                settings=lock_settings(node),
                name=node.consumer.address,
                reactor=self._reactor,
            )

    def _follow_scheduler(self, service: ConsumerService, *, weighted: bool) -> None:
        """Own what the scheduler's weights say, if they count for any group, and keep to its parts of speed limits."""
        node, topic = self.node, self.node.topic
        expected = {Address(one.ip, one.port): Identity(Role.SCHEDULER, one.name) for one in topic.scheduler}
        self._schedulers = cluster_pool(self._reactor, node.cluster, expected, self._tls, node.net)
        caller = MasterClient(self._schedulers, self._reactor, Random(), settings=routing_settings(node.net, topic))
        address = node.consumer.address
        self._shares = Shares(topic, address, caller, self._reactor, service.speed, service.share_of_queues)
        service.set_share(self._shares.share)
        self._shares.start()
        if not weighted:
            return
        meter = UsageMeter(
            lambda: service.handlers_at_work / node.nhandler,
            service.lag,
            lambda: [] if self._processes is None else self._processes.pids,
        )
        weights = self._weights = Weights(
            topic,
            address,
            caller,
            self._reactor,
            meter.read,
            lambda: service.set_weights(weights.current),
            patience_s=float(topic.settings.scheduler_warm_up_s + topic.settings.scheduler_get_scale_interval_s),
        )
        weights.start()

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
        if self._groups is not None:
            self._groups.stop()
        if self._shares is not None:
            self._shares.stop()
        if self._weights is not None:
            await self._weights.stop()
        if self._settings is not None:
            self._settings.stop()
        if self._service is not None and self._service.running:
            await self._service.stopService()
        if self._processes is not None:
            await self._processes.close()
        if self._producer is not None:
            await self._producer.close()
        if self._locks is not None:
            await self._locks.close()
        for pool in (self._schedulers, self._pool):
            if pool is not None:
                await pool.close()

    def _families(self) -> Iterable[Metric]:
        service = self._service
        if service is None:
            return ()
        return consumer_families(
            asdict(service.stats),
            [
                QueueProgress(
                    consumer_group_id=group, store_id=store, queue_id=queue, items=lag.items, oldest_s=lag.oldest_s
                )
                for (group, store, queue), lag in sorted(service.lag().items())
            ],
            slots=self.node.nhandler,
            slots_used=service.handlers_at_work,
            held_bytes=service.held_bytes,
        )

    def _look(self, now: float) -> Iterable[Condition]:
        service = self._service
        if service is None:
            return ()
        queues = [
            QueueState(
                consumer_group_id=group,
                store_id=store,
                queue_id=queue,
                position=lag.position,
                resting=lag.resting,
                unreachable=lag.unreachable,
            )
            for (group, store, queue), lag in sorted(service.lag().items())
        ]
        return self._conditions.look(now, asdict(service.stats), queues, service.held_bytes, self.node.prefetch_bytes)

    def reload(self) -> None:
        """Read certificates and the cluster's files again; queues are given up and taken over accordingly."""
        node = load_consumer_node(self.node.path)
        if self._tls is not None:
            self._tls.reload()
        if self._groups is not None:
            self._groups.reconfigure(node)
            node = self._groups.node
        self._take(node)

    def _take(self, node: ConsumerNode) -> None:
        """Go on by this configuration."""
        if self._producer is not None:
            self._producer.reconfigure(node.topic)
        if self._weights is not None:
            self._weights.reconfigure(node.topic)
        if self._shares is not None:
            self._shares.reconfigure(node.topic)
        if self._service is not None:
            self._service.reconfigure(node)
        if self._settings is not None:
            self._settings.reconfigure(node.topic)
        self.node = node


def lock_settings(node: ConsumerNode) -> LockClientSettings:
    """A lock for each queue, renewed every `consumer_lock_interval_s`."""
    settings = node.topic.settings
    renewals = settings.consumer_lock_lease_time_s / settings.consumer_lock_interval_s
    queues = sum(len(list(node.topic.queues_of_group(group_id))) for group_id in node.consumer_group_ids)
    base = LockClientSettings.from_topic(settings)
    return replace(base, renewals_per_lease=max(2, ceil(renewals)), max_locks=max(base.max_locks, queues))


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

    return process_of(ConsumerRole(options.node, reactor), reactor)
