"""The cluster of one round: machines with their own networks and disks where permitted, else plain processes."""

from __future__ import annotations

import random
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from phxqueue.admin.gather import gather
from phxqueue.admin.lock_status import LockReport, ask_lock_nodes
from phxqueue.admin.mastership import ReplicaSet
from phxqueue.admin.member_changes import MemberChanges
from phxqueue.admin.memberships import Picture
from phxqueue.admin.node_status import NodeReport, ask_all, master_of
from phxqueue.admin.processes.child import Child, StartError, log_tail
from phxqueue.admin.processes.files import STORE_ID
from phxqueue.admin.processes.notify import NotifySocket
from phxqueue.lock.client.connecting import lock_pool
from phxqueue.net.pool import ConnectionPool
from phxqueue.paxos.config import MemberKind
from tests.chaos.disks import Disk
from tests.chaos.network import Network
from tests.chaos.spec import DISK_BYTES, NODES, spec_for
from tests.integration.cluster import REPOSITORY, TestedCluster

#: Processes that take locks and write down what they believe (tests/chaos/holder.py).
HOLDERS = 2
#: Longest a node may take to recover and serve on a machine with other things to do.
START_TIMEOUT_S = 180.0
#: A change of members may take so long once everybody is well: a copy of a small store, and some elections.
CHANGE_TIMEOUT_S = 90.0


class ChaosCluster(TestedCluster):
    """A cluster, and everything that can be done to it.

    Attributes:
        network: None where it could not be had.
        disks: of the machines; empty where they could not be had, or when the round runs on the machine's own disk.
        doomed: nodes that may end by themselves just now (their disk is full).
        holders: processes that take locks.
        belief: the file in which these write what they believe.
        voters: numbers of the store nodes that have a vote, as far as the faults have changed that.
    """

    def __init__(
        self, reactor: Any, directory: Path, rng: random.Random, network: Network | None, *, small_disks: bool
    ) -> None:
        self.network = network
        # An abstract socket is not seen from other networks; the path of this one has to be short.
        notify = NotifySocket(directory.with_suffix(".sock"))
        super().__init__(reactor, directory, spec_for(rng, () if network is None else network.hosts), notify=notify)
        self.disks: list[Disk] = []
        self.doomed: set[Child] = set()
        self.voters = {node.node_id for node in self.topic.stores[0].voters}
        self.belief = directory / "belief.txt"
        self.holders = [self._holder(number, rng.random()) for number in range(HOLDERS)]
        self._lock_pool: ConnectionPool | None = None
        if small_disks:
            self._give_disks()

    def _give_disks(self) -> None:
        for machine in range(NODES):
            self.disks.append(Disk(self.directory / "disks" / str(machine), DISK_BYTES))
        for child in (*self.stores, *self.locks):
            self.change(f"{child.name}.conf", data_dir=str(self._data(child)))

    def _data(self, child: Child) -> Path:
        place = f"disks/{self.number(child)}" if self.disks else "data"
        return self.directory / place / child.name

    def child(self, name: str, role: str, node_file: Path) -> Child:
        child = super().child(name, role, node_file)
        if role in ("store", "lock") and self.network is not None:
            child.arguments = [*self.network.enter(int(name.rpartition(".")[2])), *child.arguments]
        return child

    def _holder(self, number: int, seed: float) -> Child:
        name = f"holder.{number}"
        arguments = [sys.executable, "-m", "tests.chaos.holder", str(self.config), str(self.belief), f"{seed}"]
        return Child(
            self.reactor,
            name,
            arguments,
            self.directory / "logs" / f"{name}.log",
            self.notify,
            directory=self.directory,
            environment={"PYTHONPATH": str(REPOSITORY)},
        )

    # ---- who is who ----------------------------------------------------------------------------------

    @property
    def everybody(self) -> list[Child]:
        """All processes, those first that others need."""
        return [*self.stores, *self.locks, *self.schedulers, *self.consumers, *self.holders]

    def number(self, child: Child) -> int:
        """The node id of a store or lock node, which is also the number of its machine."""
        return self.stores.index(child) if child in self.stores else self.locks.index(child)

    def on_machine(self, machine: int) -> list[Child]:
        """The nodes on one machine."""
        return [*self.stores[machine : machine + 1], *self.locks[machine : machine + 1]]

    async def looked_up_master(self, group_id: int = 0) -> Child | None:
        """The store node that says it is master; None when nobody does within a moment."""
        for _ in range(5):
            report = master_of(await self.reports(0.5), STORE_ID, group_id)
            if report is not None:
                return self.stores[report.node.node_id]
            await self.pause()
        return None

    async def looked_up_lock_master(self, group_id: int = 0) -> Child | None:
        """The lock node that says it is master; None when nobody does within a moment."""
        for _ in range(5):
            claims = {
                group.ballot: report.node.node_id
                for report in await self.lock_reports(0.5)
                if (group := report.group(group_id)) is not None and group.is_master
            }
            if claims:
                return self.locks[claims[max(claims)]]
            await self.pause()
        return None

    async def lock_reports(self, timeout_s: float = 2.0, *, state_hash: bool = False) -> list[LockReport]:
        """What every lock node says."""
        if self._lock_pool is None:
            self._lock_pool = lock_pool(self.reactor, self.cluster, self.topic)
        return await ask_lock_nodes(self._lock_pool, self.topic, timeout_s, state_hash=state_hash)

    async def hashed_reports(self) -> list[NodeReport]:
        """What every store node says, with the hash of its state."""
        return await ask_all(self.pool, self.topic, 20.0, state_hash=True)

    # ---- members -------------------------------------------------------------------------------------

    def changes(self, replica_set: ReplicaSet, say: Callable[[str], None]) -> MemberChanges:
        """What ``phxqueue members`` works with."""
        return MemberChanges(self.reactor, self.pool, replica_set, CHANGE_TIMEOUT_S, say)

    def take_over(self, picture: Picture) -> None:
        """The members of the store have changed."""
        group = picture.view(0)
        assert group is not None
        self.voters = {member.node_id for member in group.members if member.kind == MemberKind.VOTER}

    def empty_disk(self, child: Child) -> None:
        """Remove all that a node has ever known. It must not run."""
        assert not child.running, child.name
        shutil.rmtree(self._data(child))

    # ---- up and down -----------------------------------------------------------------------------------

    async def start(self) -> None:
        await super().start()
        await self.start_these(*self.holders)

    async def start_these(self, *children: Child) -> None:
        for child in children:
            child.spawn()
        for child in children:
            await child.ready(START_TIMEOUT_S)

    def fell(self) -> list[Child]:
        """Processes that are not running although nobody ended them."""
        return [child for child in self.everybody if not child.running and child not in self.doomed]

    def undo(self) -> None:
        """Heal the network, free the disks, let everybody go on."""
        if self.network is not None:
            self.network.heal()
        for disk in self.disks:
            disk.clear()
        for child in self.everybody:
            child.signal(signal.SIGCONT)

    async def revive(self) -> None:
        """Undo everything and start whoever is down. Raises StartError."""
        self.undo()
        await gather(self._settled(child) for child in self.doomed)
        await self.start_these(*[child for child in self.everybody if not child.running])
        self.doomed.clear()

    async def _settled(self, child: Child) -> None:
        """Wait until a node whose disk was full has ended, or serves and takes everything again."""
        deadline = self.reactor.seconds() + START_TIMEOUT_S
        while child.running:
            reports: Sequence[NodeReport | LockReport]
            reports = await (self.reports(0.5) if child in self.stores else self.lock_reports(0.5))
            answer = reports[self.number(child)].answer
            if answer is not None and answer.accepting and not child.state.stopping:
                return
            if self.reactor.seconds() > deadline:
                raise StartError(child.name, "it neither ends nor serves after a full disk", log_tail(child.output))
            await self.pause()

    async def close(self) -> None:
        self.undo()
        await self.kill(*self.holders)
        if self._lock_pool is not None:
            await self._lock_pool.close()
        await super().close()

    def discard(self) -> None:
        """Remove every trace of the round."""
        for disk in self.disks:
            disk.unmount()
        self.disks.clear()
        shutil.rmtree(self.directory)
