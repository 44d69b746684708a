"""The scheduler role, put together from its configuration. ``twistd phxqueue-scheduler -c FILE``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from prometheus_client.metrics_core import Metric
from twisted.application.service import MultiService
from twisted.logger import Logger

from phxqueue.config import Consumer, SchedulerNode, Topic, load_scheduler_node
from phxqueue.config.reporters import reporters
from phxqueue.config.topic_settings import TopicSettings
from phxqueue.console.conditions import Condition
from phxqueue.console.console import Console
from phxqueue.console.scheduler_conditions import scheduler_conditions
from phxqueue.console.scheduler_families import scheduler_families
from phxqueue.daemon.options import NodeOptions
from phxqueue.daemon.role_service import ExpectedFailure, process_of
from phxqueue.lock.client import LockClient
from phxqueue.net.access import authorize
from phxqueue.net.address import Address
from phxqueue.net.endpoints import ListenError, RpcListener, listen
from phxqueue.net.identity import Identity, Role
from phxqueue.net.service import RpcService
from phxqueue.net.settings import RpcSettings, configured
from phxqueue.net.tls import ClientTls, ServerTls, TlsError, client_tls, server_tls
from phxqueue.scheduler.balance import BalanceRule
from phxqueue.scheduler.mastership import Mastership
from phxqueue.scheduler.roll import RollRule
from phxqueue.scheduler.service import SchedulerService

#: The term of a scheduler that is alone and needs no lock.
_ONLY_TERM = 1


class SchedulerRole:
    """One scheduler process: the port that consumers report to, and the lock that makes it the master."""

    def __init__(self, node: SchedulerNode, reactor: Any) -> None:
        self.name = f"scheduler {node.node.address}"
        self.node = node
        self._reactor = reactor
        self._server_tls: ServerTls | None = None
        self._client_tls: ClientTls | None = None
        self._service: SchedulerService | None = None
        self._listener: RpcListener | None = None
        self._locks: LockClient | None = None
        self._mastership: Mastership | None = None
        self._log = Logger(namespace="phxqueue.scheduler")
        self.console = Console(self.name, node.admin, node.tls, reactor)
        self.console.collectors.append(self._families)
        self.console.watch.looks.append(self._look)

    async def start(self, fail: Callable[[str], None]) -> None:
        """Open the port and stand for mastership. Raises ExpectedFailure with what to do."""
        node = self.node
        try:
            if node.tls is not None:
                self._server_tls, self._client_tls = server_tls(node.tls), client_tls(node.tls)
                self._server_tls.require(Identity(Role.SCHEDULER, node.identity_name))
            names = None if node.tls is None else self._certificate_name
            self._service = SchedulerService(
                node.topic, roll_rule(node.topic.settings), self._reactor, consumer_of=names
            )
            service = RpcService(self.name, authorize=authorize)
            self._service.register(service)
            settings = configured(RpcSettings, node.net, max_connections=node.max_connections)
            self._listener = await listen(
                self._reactor, Address.parse(node.listen_address), service, self._server_tls, settings=settings
            )
        except (TlsError, ListenError) as error:
            raise ExpectedFailure(str(error)) from error
        self._log.info("{name} hears consumers at {address}", name=self.name, address=node.listen_address)
        await self._stand(self._service)

    async def _stand(self, service: SchedulerService) -> None:
        node = self.node
        if not node.topic.locks:
            service.begin(_ONLY_TERM)  # the configuration allows this to one scheduler only
            return
        self._locks = await LockClient.connect(
            node.cluster, node.topic.topic_name, self._client_tls, reactor=self._reactor
        )
        settings = node.topic.settings
        self._mastership = Mastership(
            self._locks,
            settings.scheduler_lock_key,
            float(settings.scheduler_lock_lease_time_s),
            self._reactor,
            begin=service.begin,
            end=service.end,
            patience_s=settings.lock_patience_s,
        )
        self._mastership.start()

    async def stop(self) -> None:
        """Give mastership back, so that another one has it at once, and close the port."""
        if self._mastership is not None:
            await self._mastership.stop()
        if self._service is not None:
            self._service.end()
        if self._listener is not None:
            await self._listener.close()
        if self._locks is not None:
            await self._locks.close()

    def _families(self) -> Iterable[Metric]:
        service = self._service
        return () if service is None else scheduler_families(service.term, service.weights(), service.loads())

    def _look(self, now: float) -> Iterable[Condition]:
        service = self._service
        if service is None:
            return ()
        topic = self.node.topic
        return scheduler_conditions(
            topic.topic_name,
            bool(service.term),
            "" if self._mastership is None else self._mastership.failing,
            [consumer.address for consumer in reporters(topic) if consumer.scale],
            service.loads(),
            topic.settings.lock_patience_s,
        )

    def reload(self) -> None:
        """Read certificates and the cluster's files again; raises TlsError or ConfigError and changes nothing then."""
        node = load_scheduler_node(self.node.path)
        for tls in (self._server_tls, self._client_tls):
            if tls is not None:
                tls.reload()
        if self._service is not None:
            self._service.reconfigure(node.topic)
        self.node = node

    def _certificate_name(self, address: str) -> str:
        found = consumer_at(self.node.topic, address)
        return address if found is None else found.name


def consumer_at(topic: Topic, address: str) -> Consumer | None:
    """The consumer with that address; None: there is none."""
    return next((consumer for consumer in topic.consumers if consumer.address == address), None)


def roll_rule(settings: TopicSettings) -> RollRule:
    """What topicconfig.conf says of when consumers die and weights move."""
    return RollRule(
        keep_time=settings.scheduler_hash_keep_time_s,
        grace=settings.scheduler_restart_grace_s,
        warm_up=settings.scheduler_warm_up_s,
        balance_interval=settings.scheduler_load_balance_interval_s,
        use_init_weight=settings.scheduler_use_init_weight,
        load_sticky=settings.scheduler_load_sticky,
        use_slots=settings.scheduler_load_use_proc_used_ratio,
        balance=BalanceRule(
            max_load=settings.scheduler_max_load,
            max_mean_load=settings.scheduler_max_mean_load_percent,
            min_weight=settings.scheduler_min_init_weight_percent,
            max_weight=settings.scheduler_max_init_weight_percent,
            sticky=settings.scheduler_weight_sticky,
        ),
    )


class Options(NodeOptions):
    """``twistd phxqueue-scheduler``: its options."""

    role = "scheduler"

    def load(self, path: Path) -> SchedulerNode:
        """Return the scheduler's configuration; raises ConfigError."""
        return load_scheduler_node(path)


def makeService(options: Options) -> MultiService:
    """Build the Twisted service of one scheduler process."""
    from twisted.internet import reactor

    return process_of(SchedulerRole(options.node, reactor), reactor)
