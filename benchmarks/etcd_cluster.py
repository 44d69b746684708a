"""Three nodes of etcd on this machine, for comparison: its own defaults, plain TCP, fsync on."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import grpc
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.threads import deferToThread

from phxqueue.admin.errors import AdminError
from phxqueue.admin.processes.ports import PortReservation

NODES = 3
START_TIMEOUT_S = 60.0


class EtcdNode(ProcessProtocol):
    """One etcd process; what it says goes to a file."""

    def __init__(self, log: Path) -> None:
        self._log = log.open("ab")
        self._ended: Deferred[None] = Deferred()

    def start(self, reactor: Any, arguments: list[str]) -> None:
        descriptor = self._log.fileno()
        self._process = reactor.spawnProcess(
            self, arguments[0], arguments, env=None, childFDs={1: descriptor, 2: descriptor}
        )

    def processEnded(self, reason: object) -> None:
        self._log.close()
        self._ended.callback(None)

    async def kill(self) -> None:
        if not self._ended.called:
            self._process.signalProcess(signal.SIGKILL)
            await self._ended


class EtcdCluster:
    """Started by `start`, ended by `close`."""

    def __init__(self, reactor: Any, program: str, directory: Path) -> None:
        self._reactor = reactor
        self._program = program
        self._directory = directory
        self._ports = PortReservation(2 * NODES)
        self.addresses = [f"127.0.0.1:{self._ports.ports[2 * node]}" for node in range(NODES)]
        self.nodes: list[EtcdNode] = []

    async def start(self) -> None:
        """Start all nodes and wait until they have a leader."""
        self.nodes = [self._started(node) for node in range(NODES)]
        await self.leader()

    async def restart(self, node: int) -> None:
        """Start a node again that was killed, and wait until all are there."""
        self.nodes[node] = self._started(node)
        await self.leader()

    def _started(self, node: int) -> EtcdNode:
        peers = [f"http://127.0.0.1:{self._ports.ports[2 * other + 1]}" for other in range(NODES)]
        address, peer = self.addresses[node], peers[node]
        process = EtcdNode(self._directory / f"etcd.{node}.log")
        process.start(
            self._reactor,
            [
                self._program,
                f"--name=n{node}",
                f"--data-dir={self._directory / f'etcd.{node}'}",
                f"--listen-client-urls=http://{address}",
                f"--advertise-client-urls=http://{address}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster={','.join(f'n{other}={url}' for other, url in enumerate(peers))}",
                "--logger=zap",
                "--log-level=error",
            ],
        )
        return process

    async def leader(self) -> int:
        """The number of the node that leads; waits until there is one."""
        found: int = await deferToThread(self._find_leader)
        return found

    def _find_leader(self) -> int:
        from benchmarks.etcd_client import messages, services

        for node, address in enumerate(self.addresses):
            with grpc.insecure_channel(address) as channel:
                try:
                    status = services.MaintenanceStub(channel).Status(
                        messages.StatusRequest(), timeout=START_TIMEOUT_S, wait_for_ready=True
                    )
                except grpc.RpcError as error:
                    raise AdminError(f"etcd did not start: {error}; see {self._directory}") from None
            if status.leader and status.leader == status.header.member_id:
                return node
        return self._find_leader()

    async def close(self) -> None:
        for node in self.nodes:
            await node.kill()
        self._ports.close()
