"""A replica set in the simulated world: processes that start, crash, pause and come back on the same disks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from phxqueue.journal.records import NodeIdentity
from phxqueue.paxos.config import GroupConfig, Member
from phxqueue.replica.interfaces import IStateMachine
from phxqueue.replica.node import ReplicaNode, ReplicaSettings
from phxqueue.testing.sim.checkers import Violation
from phxqueue.testing.sim.checkers.durable_majority import DurableMajority
from phxqueue.testing.sim.checkers.one_value import OneValue
from phxqueue.testing.sim.checkers.promises import PromisesOnlyRise
from phxqueue.testing.sim.checkers.single_leaseholder import SingleLeaseholder
from phxqueue.testing.sim.checkers.state_hash import StateHash
from phxqueue.testing.sim.disk import Disk, SimJournal
from phxqueue.testing.sim.network import Network, SimTransport, frame_receiver
from phxqueue.testing.sim.world import ProcessClock, World

HASH_EVERY = 16  # instances between two comparisons of whole states


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterShape:
    """How large the simulated replica set is, and how it is tuned."""

    nodes: int = 3
    paxos_groups: int = 1
    clock_drift: float = 0.02  # relative: rates are within 1 ± drift / 2
    checkpoint_interval: float = 1.0
    checkpoint_entries: int = 50
    cache_bytes: int = 20_000  # small, so that cold reads happen
    max_message_bytes: int = 4000
    window: int = 16


@dataclass(slots=True)
class Process:
    """One running process of a node."""

    clock: ProcessClock
    journal: SimJournal
    node: ReplicaNode
    service: Any
    recovered: bool = False


class Cluster:
    """All nodes of one replica set, and the checkers that watch them.

    Args:
        make_state_machine: as for ReplicaNode.
        make_service: builds what serves clients on a recovered node; None leaves the node without.
    """

    def __init__(
        self,
        world: World,
        shape: ClusterShape,
        make_state_machine: Callable[[int], IStateMachine],
        make_service: Callable[[int, ReplicaNode, ProcessClock], Any],
    ) -> None:
        self.world = world
        self.shape = shape
        self.network = Network(world)
        self.node_ids = list(range(shape.nodes))
        self.disks = {
            node_id: Disk(NodeIdentity("sim", 1, node_id, world.random.getrandbits(62))) for node_id in self.node_ids
        }
        self.processes: dict[int, Process] = {}
        self.one_value = OneValue()
        self.state_hash = StateHash()
        self._durable_majority = DurableMajority(self.disks, shape.nodes)
        self._leaseholder = SingleLeaseholder()
        self._promises = PromisesOnlyRise()
        self._make_state_machine = make_state_machine
        self._make_service = make_service
        self._failures: list[Failure] = []
        world.after_each_step.append(self._check)

    # ---- life of processes -----------------------------------------------------------------

    def start(self, node_id: int) -> None:
        """Start a node on its disk."""
        random = self.world.random
        drift = self.shape.clock_drift / 2
        clock = ProcessClock(self.world, random.uniform(1 - drift, 1 + drift), random.uniform(0, 1e6))
        journal = SimJournal(self.world, clock, self.disks[node_id])
        node = ReplicaNode(
            [self._group_config(node_id, group_id) for group_id in range(self.shape.paxos_groups)],
            self._make_state_machine,
            journal,
            SimTransport(self.network, node_id, self.node_ids),
            clock,
            seed=random.getrandbits(32),
            settings=ReplicaSettings(
                checkpoint_interval=self.shape.checkpoint_interval,
                checkpoint_entries=self.shape.checkpoint_entries,
                cache_bytes=self.shape.cache_bytes,
                replay_bytes=2000,
            ),
            describe_members=lambda reachable: f"{len(reachable) + 1} of {self.shape.nodes} nodes reachable",
            fail=self._node_failed,
        )
        process = Process(clock, journal, node, None)
        self.processes[node_id] = process
        self.network.attach(node_id, clock, frame_receiver(node_id, node.receive))
        starting = Deferred.fromCoroutine(node.start())
        starting.addCallback(lambda _: self._recovered(node_id, process))
        starting.addErrback(self._failures.append)

    def crash(self, node_id: int) -> None:
        """Kill a process (SIGKILL, or the power fails): what was not synced is gone."""
        process = self.processes.pop(node_id)
        self.network.detach(node_id)
        process.clock.kill()
        process.journal.crash()
        for peer_id, peer in self.processes.items():
            if self.world.random.random() < 0.5:  # its connections are refused, or just silent
                peer.clock.callLater(self.network.delay(), self._notice_death, peer_id, node_id)

    def pause(self, node_id: int, duration: float) -> None:
        """Stop a process for a while (SIGSTOP); it notices nothing but the time."""
        self.processes[node_id].clock.pause(duration)

    def serving(self, group_id: int) -> int | None:
        """Return the node that serves a group right now."""
        for node_id, process in self.processes.items():
            group = process.node.groups.get(group_id)
            if process.recovered and group is not None and group.serving():
                return node_id
        return None

    def _recovered(self, node_id: int, process: Process) -> None:
        if self.processes.get(node_id) is not process:
            return
        for group_id, group in process.node.groups.items():
            self.one_value.started(node_id, group_id, group.state_machine.applied)
            self._compare_state(node_id, group_id, group.state_machine)
            group.on_applied.append(self._watch(node_id, group_id, group.state_machine))
        process.service = self._make_service(node_id, process.node, process.clock)
        process.recovered = True

    def _notice_death(self, peer_id: int, dead_id: int) -> None:
        if dead_id not in self.processes and peer_id in self.processes:
            self.processes[peer_id].node.peer_unreachable(dead_id)

    def _group_config(self, node_id: int, group_id: int) -> GroupConfig:
        return GroupConfig(
            group_id=group_id,
            node_id=node_id,
            members=tuple(Member(member) for member in self.node_ids),
            max_clock_drift=0.02,
            window=self.shape.window,
            window_bytes=64_000,
            accept_ahead=4 * self.shape.window,
            accept_ahead_bytes=256_000,
            max_message_bytes=self.shape.max_message_bytes,
        )

    def report(self, failure: Failure) -> None:
        """Note something that must not happen; it ends the run at the next step."""
        self._failures.append(failure)

    def _node_failed(self, reason: str) -> None:
        self._failures.append(Failure(Violation(f"a node stopped itself: {reason}")))

    # ---- what is watched ---------------------------------------------------------------------

    def _watch(self, node_id: int, group_id: int, state_machine: IStateMachine) -> Callable[[int, bytes], None]:
        def applied(instance: int, payload: bytes) -> None:
            self.one_value.applied(node_id, group_id, instance, payload)
            self._durable_majority.applied(group_id, instance, payload)
            if instance % HASH_EVERY == 0:
                self._compare_state(node_id, group_id, state_machine)

        return applied

    def _compare_state(self, node_id: int, group_id: int, state_machine: IStateMachine) -> None:
        if state_machine.applied >= 0:
            self.state_hash.seen(node_id, group_id, state_machine.applied, state_machine.state_hash())

    def compare_states(self) -> None:
        """Hold the whole states of all running nodes against each other."""
        for node_id, process in self.processes.items():
            for group_id, group in process.node.groups.items():
                self._compare_state(node_id, group_id, group.state_machine)

    def _check(self) -> None:
        if self._failures:
            self._failures[0].raiseException()
        self._leaseholder.check({node_id: process.node for node_id, process in self.processes.items()})
        if self.world.steps % 20 == 0:
            self._promises.check(self.disks)
