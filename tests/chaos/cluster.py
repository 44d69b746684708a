"""The cluster of one round: nodes with their own networks and disks where permitted, else plain ones."""

from __future__ import annotations

import random
import shutil
import signal
from pathlib import Path
from typing import Any

from phxqueue.admin.gather import gather
from phxqueue.admin.node_status import NodeReport, ask_all, master_of
from phxqueue.admin.processes.child import Child, StartError, log_tail
from phxqueue.admin.processes.files import STORE_ID, ClusterSpec
from phxqueue.admin.processes.notify import NotifySocket
from tests.chaos.disks import MIB, Disk
from tests.chaos.network import Network
from tests.integration.cluster import TestedCluster

NODES = 3
CONSUMERS = 2
QUEUES = 6
DISK_BYTES = 512 * MIB
LOW_WATER = 48 * MIB
#: Pubs of one queue whose every operation is recorded (tests/chaos/historian.py), and who reads them.
WATCHED_PUBS, WATCHED_GROUP = {2: 2000, 3: 2001}, 2
#: Longest a node may take to recover and serve on a machine with other things to do.
START_TIMEOUT_S = 90.0


def spec_for(rng: random.Random, network: Network | None) -> ClusterSpec:
    """A small cluster whose journal and checkpoints turn over quickly: what is rare elsewhere happens all the time."""
    return ClusterSpec(
        nodes=NODES,
        queues=QUEUES,
        consumers=CONSUMERS,
        consumer_groups=(1,),
        handlers={1: "tests.integration.handlers:record_number"},
        hosts=() if network is None else network.hosts,
        store={"paxos_groups": rng.choice((1, 2, 4))},
        store_node={
            "journal": {
                "min_free_bytes": LOW_WATER,
                "free_check_interval_s": 0.2,
                "log_file_bytes": 4 * MIB,
                "log_buffer_bytes": MIB,
                "cache_bytes": 8 * MIB,
                "checkpoint_interval_s": rng.choice((1.0, 5.0)),
                "checkpoint_bytes": 8 * MIB,
            },
            "replica": {
                "checkpoint_interval_s": rng.choice((0.5, 2.0, 10.0)),
                "checkpoint_entries": rng.choice((100, 1000, 20_000)),
            },
            "limits": {"cache_bytes": rng.choice((MIB, 16 * MIB)), "index_segment_rows": rng.choice((64, 1024))},
        },
        further={
            "queue_infos": [
                {"queue_info_id": queue, "ranges": [str(queue)], "count": -1} for queue in WATCHED_PUBS.values()
            ],
            "pubs": [
                {"pub_id": pub, "queue_info_ids": [queue], "consumer_group_ids": [WATCHED_GROUP]}
                for pub, queue in WATCHED_PUBS.items()
            ],
            "consumer_groups": [{"consumer_group_id": WATCHED_GROUP, "use_dynamic_scale": 0, "skip_lock": 1}],
        },
    )


class ChaosCluster(TestedCluster):
    """A cluster, and everything that can be done to it.

    Attributes:
        network: None where it could not be had.
        disks: of the nodes; empty where they could not be had, or when the round runs on the machine's own disk.
        doomed: nodes that may end by themselves just now (their disk is full).
    """

    def __init__(
        self, reactor: Any, directory: Path, rng: random.Random, network: Network | None, *, small_disks: bool
    ) -> None:
        self.network = network
        # An abstract socket is not seen from other networks; the path of this one has to be short.
        notify = NotifySocket(directory.with_suffix(".sock"))
        super().__init__(reactor, directory, spec_for(rng, network), notify=notify)
        self.disks: list[Disk] = []
        self.doomed: set[Child] = set()
        if small_disks:
            self._give_disks()

    def _give_disks(self) -> None:
        for number in range(NODES):
            self.disks.append(Disk(self.directory / "disks" / str(number), DISK_BYTES))
            self.change(f"store.{number}.conf", data_dir=f"disks/{number}/data")

    def child(self, name: str, role: str, node_file: Path) -> Child:
        child = super().child(name, role, node_file)
        if role == "store" and self.network is not None:
            child.arguments = [*self.network.enter(int(name.rpartition(".")[2])), *child.arguments]
        return child

    def number(self, child: Child) -> int:
        """The node id of a store node."""
        return self.stores.index(child)

    async def looked_up_master(self, group_id: int = 0) -> Child | None:
        """The node that says it is master; None when nobody does within a moment."""
        for _ in range(5):
            report = master_of(await self.reports(0.5), STORE_ID, group_id)
            if report is not None:
                return self.stores[report.node.node_id]
            await self.pause()
        return None

    async def hashed_reports(self) -> list[NodeReport]:
        """What every node says, with the hash of its state."""
        return await ask_all(self.pool, self.topic, 20.0, state_hash=True)

    def fell(self) -> list[Child]:
        """Nodes that are not running although nobody ended them."""
        return [child for child in (*self.stores, *self.consumers) if not child.running and child not in self.doomed]

    def undo(self) -> None:
        """Heal the network, free the disks, let everybody go on."""
        if self.network is not None:
            self.network.heal()
        for disk in self.disks:
            disk.clear()
        for child in (*self.stores, *self.consumers):
            child.signal(signal.SIGCONT)

    async def revive(self) -> None:
        """Undo everything and start whoever is down. Raises StartError."""
        self.undo()
        await gather(self._settled(child) for child in self.doomed)
        down = [child for child in (*self.stores, *self.consumers) if not child.running]
        for child in down:
            child.spawn()
        for child in down:
            await child.ready(START_TIMEOUT_S)
        self.doomed.clear()

    async def _settled(self, child: Child) -> None:
        """Wait until a node whose disk was full has ended, or serves and takes everything again."""
        deadline = self.reactor.seconds() + START_TIMEOUT_S
        while child.running:
            report = (await self.reports(0.5))[self.number(child)]
            if report.answer is not None and report.answer.accepting and not child.state.stopping:
                return
            if self.reactor.seconds() > deadline:
                raise StartError(child.name, "it neither ends nor serves after a full disk", log_tail(child.output))
            await self.pause()

    async def close(self) -> None:
        self.undo()
        await super().close()

    def discard(self) -> None:
        """Remove every trace of the round."""
        for disk in self.disks:
            disk.unmount()
        self.disks.clear()
        shutil.rmtree(self.directory)
