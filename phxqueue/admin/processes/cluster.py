"""A small cluster of real processes in a directory of its own: for benchmarks and for tests."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phxqueue.admin.certificates import leaves, make_missing
from phxqueue.admin.gather import gather
from phxqueue.admin.processes.child import Child, twistd
from phxqueue.admin.processes.files import ClusterSpec, write_files
from phxqueue.admin.processes.notify import NotifySocket
from phxqueue.admin.processes.ports import PortReservation
from phxqueue.config import Cluster, Topic, load_cluster

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0
#: Where machines have networks of their own: for clients and for the other nodes, of a store and of a lock node; and
#: of the first scheduler.
STORE_PORTS, LOCK_PORTS, SCHEDULER_PORT = (5100, 5101), (5200, 5201), 5300


class ProcessCluster:
    """Writes a cluster's files, and starts, kills, pauses and stops its daemons, which are our children.

    Args:
        directory: gets etc/, data/ and logs/.
        environment: for the daemons, beside our own.
        notify: where the daemons tell their state; None: a socket of our network namespace.

    Attributes:
        start_timeout_s, stop_timeout_s: how long a daemon may take to be ready, and to end.
    """

    start_timeout_s = START_TIMEOUT_S
    stop_timeout_s = STOP_TIMEOUT_S

    def __init__(
        self,
        reactor: Any,
        directory: Path,
        spec: ClusterSpec | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        notify: NotifySocket | None = None,
    ) -> None:
        self.spec = spec or ClusterSpec()
        self.directory = directory
        self.notify = notify or NotifySocket()
        self._reactor = reactor
        self._environment = dict(environment or {})
        # Whatever has a network of its own has all ports of it to itself.
        self._ports = PortReservation(0 if self.spec.hosts else self.spec.ports_needed)
        self.config = write_files(directory, self.spec, self._ports.ports or _own_ports(self.spec))
        self.cluster: Cluster = load_cluster(self.config)
        if self.cluster.certificates is not None:
            make_missing(self.cluster.certificates, leaves(self.cluster))
        self.stores = [self._child("store", number) for number in range(self.spec.nodes)]
        self.locks = [self._child("lock", number) for number in range(self.spec.locks)]
        self.schedulers = [self._child("scheduler", number) for number in range(self.spec.schedulers)]
        self.consumers = [self._child("consumer", number) for number in range(self.spec.consumers)]
        self.notify.listen(reactor)

    @property
    def topic(self) -> Topic:
        return self.cluster.topics[0]

    def node_file(self, role: str, number: int) -> Path:
        return self.directory / "etc" / f"{role}.{number}.conf"

    def _child(self, role: str, number: int) -> Child:
        return self.child(f"{role}.{number}", role, self.node_file(role, number))

    def child(self, name: str, role: str, node_file: Path) -> Child:
        """Return a daemon of this cluster that is not started yet, for a node file of one's own."""
        arguments = [*twistd(), "--nodaemon", "--pidfile=", f"phxqueue-{role}", "-c", str(node_file)]
        return Child(
            self._reactor,
            name,
            arguments,
            self.directory / "logs" / f"{name}.log",
            self.notify,
            directory=self.directory,
            environment=self._environment,
        )

    async def start(self) -> None:
        """Start every daemon and wait until all are ready.

        Raises:
            StartError: of the first that did not come up.
        """
        await self.start_these(*self.stores, *self.locks, *self.schedulers, *self.consumers)

    async def start_these(self, *children: Child) -> None:
        """Start some daemons at once and wait until all are ready."""
        for child in children:
            child.spawn()
        await gather(child.ready(self.start_timeout_s) for child in children)

    async def kill(self, *children: Child) -> None:
        """SIGKILL, all at the same moment, and wait until they are gone."""
        for child in children:
            child.signal(signal.SIGKILL)
        for child in children:
            await child.ended()

    async def stop(self, *children: Child) -> list[Child]:
        """SIGTERM (to all when none is named); returns those that had to be killed."""
        chosen = children or (*self.consumers, *self.schedulers, *self.locks, *self.stores)
        heeded = await gather(child.stop(self.stop_timeout_s) for child in chosen)
        return [child for child, stopped in zip(chosen, heeded, strict=True) if not stopped]

    async def close(self) -> None:
        """Leave nothing running, whatever state it is in."""
        everything = [*self.consumers, *self.schedulers, *self.locks, *self.stores]
        for child in everything:
            child.signal(signal.SIGCONT)
        await self.kill(*everything)
        await self.notify.close()
        self._ports.close()


def _own_ports(spec: ClusterSpec) -> list[int]:
    schedulers = range(SCHEDULER_PORT, SCHEDULER_PORT + spec.schedulers)
    return [*STORE_PORTS * spec.nodes, *LOCK_PORTS * spec.locks, *schedulers]
