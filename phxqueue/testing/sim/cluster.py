"""A replica set in the simulated world: processes that start, crash, pause, stop and come back on the same disks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from phxqueue.journal.errors import JournalFailed
from phxqueue.journal.records import NodeIdentity
from phxqueue.net.service import Registered
from phxqueue.paxos.config import GroupConfig, Member
from phxqueue.replica.group_runtime import GroupRuntime
from phxqueue.replica.interfaces import IStateMachine
from phxqueue.replica.node import ReplicaNode, ReplicaSettings
from phxqueue.store.queues import COMMAND_VERSION
from phxqueue.testing.sim.checkers import Violation
from phxqueue.testing.sim.disk import Disk
from phxqueue.testing.sim.hellos import Hellos
from phxqueue.testing.sim.journal import SimJournal
from phxqueue.testing.sim.network import Network, SimTransport, frame_receiver
from phxqueue.testing.sim.watch import Watch
from phxqueue.testing.sim.world import ProcessClock, World


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterShape:
    """How large the simulated replica set is, and how it is tuned. Small bounds, so that all of them are reached.

    `spares` are nodes beyond the first members. `incarnations`: nodes tell data directories apart, and form the set at
    their first start as real ones do.
    `time_scale` multiplies the times of the protocol: below 1 there are more elections in a run.
    """

    nodes: int = 3
    spares: int = 0
    incarnations: bool = False
    paxos_groups: int = 1
    clock_drift: float = 0.02  # relative: rates are within 1 ± drift / 2
    checkpoint_interval: float = 1.0
    checkpoint_entries: int = 50
    keep_entries: int = 10
    command_version: int = COMMAND_VERSION
    cache_bytes: int = 20_000
    max_message_bytes: int = 4000
    window: int = 16
    window_bytes: int = 32_000
    max_pending_bytes: int = 48_000
    time_scale: float = 1.0


class Service(Protocol):
    """What serves clients on a node."""

    @property
    def table(self) -> Mapping[int, Registered]:
        """The handlers by number of method."""

    def stop(self) -> Deferred[Any]:
        """Take no more requests; fire when everything taken has its outcome (or there is no hope for it)."""


HAND_OVER_SECONDS = 1.0
"""How long a process that stops takes at most to give its masterships away."""

Applied = Callable[[IStateMachine, int, int, int, bytes], None]
"""Called after each entry a state machine applied: (machine, applied before, instance, kind, payload)."""


@dataclass(slots=True)
class Process:
    """One running process of a node. `lost_calls`: whom to tell that its connections are gone."""

    clock: ProcessClock
    journal: SimJournal
    node: ReplicaNode
    service: Service | None = None
    stopping: bool = False
    lost_calls: dict[Callable[[], None], None] = field(default_factory=dict)

    @property
    def recovered(self) -> bool:
        """Whether it serves, as far as recovery is concerned."""
        return self.service is not None


class Cluster:
    """All nodes of one replica set.

    Args:
        watch: sees everything that happens in the nodes.
        make_state_machine: builds the state machine of one node's group, which reports what it applies.
        make_service: builds what serves clients on a recovered node.

    Attributes:
        versions: the command version of the program that is installed on each node.
        downgraded: nodes whose program is older than what the log may hold: they must halt, and say so.
    """

    def __init__(
        self,
        world: World,
        shape: ClusterShape,
        watch: Watch,
        make_state_machine: Callable[[int, int, Applied], IStateMachine],
        make_service: Callable[[int, ReplicaNode, SimJournal, ProcessClock], Service],
    ) -> None:
        self.world = world
        self.shape = shape
        self.network = Network(world)
        self.node_ids = list(range(shape.nodes + shape.spares))
        self.disks = {
            node_id: Disk(NodeIdentity("sim", 1, node_id, world.random.getrandbits(62))) for node_id in self.node_ids
        }
        self.versions = dict.fromkeys(self.node_ids, shape.command_version)
        self.downgraded: set[int] = set()
        self.processes: dict[int, Process] = {}
        self.watch = watch
        self.on_journal_failure: Callable[[int], None] | None = None
        self._started = 0
        self._make_state_machine = make_state_machine
        self._make_service = make_service
        watch.attach(self.disks, self.network, self.versions, self.downgraded)
        world.after_each_step.append(self._check_leases)

    # ---- life of processes -----------------------------------------------------------------

    def start(self, node_id: int) -> None:
        """Start a node on its disk."""
        random, shape = self.world.random, self.shape
        drift = shape.clock_drift / 2
        clock = ProcessClock(self.world, node_id, random.uniform(1 - drift, 1 + drift), random.uniform(0, 1e6))
        self.world.count("drift")
        journal = SimJournal(
            self.world,
            clock,
            self.disks[node_id],
            shape.max_pending_bytes,
            lambda reason: self._journal_failed(node_id),
        )
        transport = SimTransport(self.network, node_id, self.node_ids, clock, self.report)
        node = ReplicaNode(
            [self.group_config(node_id, group_id) for group_id in range(shape.paxos_groups)],
            lambda group_id: self._make_state_machine(node_id, group_id, self._reporter(node_id, group_id)),
            journal,
            transport,
            clock,
            seed=random.getrandbits(32),
            settings=ReplicaSettings(
                tick_interval=0.02 * shape.time_scale,
                checkpoint_interval=shape.checkpoint_interval,
                checkpoint_entries=shape.checkpoint_entries,
                keep_entries=shape.keep_entries,
                cache_bytes=shape.cache_bytes,
                replay_bytes=2000,
                fetch_bytes=1000,
                fetch_timeout=1.0,
            ),
            describe_members=lambda reachable: f"{len(reachable) + 1} of {shape.nodes} nodes reachable",
            fail=lambda reason: self._node_failed(node_id, journal, reason),
        )
        process = Process(clock, journal, node)
        self.processes[node_id] = process
        node.register(transport.calls.service)
        hellos = self._hellos(node, transport, clock)
        self.network.attach(node_id, clock, frame_receiver(node_id, node.receive, transport.calls, hellos))
        starting = Deferred.fromCoroutine(node.start())
        if hellos is not None:
            hellos.start()
        for group_id, group in node.groups.items():
            group.on_mastership.append(self._mastership_reporter(node_id, group_id))
        starting.addCallback(lambda _: self._recovered(node_id, process))
        starting.addErrback(self._ended, journal)

    def _hellos(self, node: ReplicaNode, transport: SimTransport, clock: ProcessClock) -> Hellos | None:
        if node.admission is None:
            return None
        self._started += 1
        peers = [peer for peer in self.node_ids if peer != clock.node_id]
        hellos = Hellos(clock, self._started, peers, partial(self.network.send, clock.node_id), node.admission)
        incarnation = self.disks[clock.node_id].identity.incarnation
        transport.stamp = lambda wire: hellos.stamped(wire, incarnation)
        return hellos

    def empty(self, node_id: int) -> None:
        """A node that is down loses its disk and gets an empty one."""
        lost = self.disks[node_id]
        disk = self.disks[node_id] = Disk(replace(lost.identity, incarnation=self.world.random.getrandbits(62)))
        disk.faults, disk.after_commit = lost.faults, lost.after_commit
        self.watch.emptied(lost, disk)

    def crash(self, node_id: int, noticed: bool | None = None) -> None:
        """Kill a process: what was not synced is gone.

        `noticed`: the others find its connections closed and refused (SIGKILL) or only silent (its power failed);
        None: one or the other.
        """
        process = self.processes.pop(node_id)
        self.network.detach(node_id)
        process.clock.kill()
        process.journal.crash()
        self._closed(node_id, process, noticed=self.world.random.random() < 0.5 if noticed is None else noticed)

    def stop(self, node_id: int) -> None:
        """Let a process end in good order (SIGTERM), as the store's role does."""
        process = self.processes[node_id]
        if process.service is None or process.stopping:
            return
        process.stopping = True
        process.clock.receive(self._begin_stop, node_id, process)

    def _begin_stop(self, node_id: int, process: Process) -> None:
        Deferred.fromCoroutine(self._stop(node_id, process)).addErrback(self._ended, process.journal)

    async def _stop(self, node_id: int, process: Process) -> None:
        assert process.service is not None
        await process.node.masterships.hand_over(HAND_OVER_SECONDS)
        await process.service.stop()
        await process.node.close()
        await process.journal.close()
        if self.processes.get(node_id) is process:
            del self.processes[node_id]
            self.network.detach(node_id)
            process.clock.kill()
            self._closed(node_id, process, noticed=True)

    def pause(self, node_id: int, duration: float) -> None:
        """Stop a process for a while (SIGSTOP); it notices nothing but the time."""
        self.processes[node_id].clock.pause(duration, timers_first=self.world.random.random() < 0.5)

    def refuse(self, node_id: int) -> None:
        """Have every peer believe that a node's connections are closed and refused, whether it is gone or not."""
        for peer_id, peer in self.processes.items():
            if peer_id != node_id:
                peer.clock.receive(peer.node.peer_unreachable, node_id)

    def report(self, failure: Failure) -> None:
        """Note something that must not happen; it ends the run."""
        self.world.report(failure.value or Violation("a failure without a reason"))

    def _journal_failed(self, node_id: int) -> None:
        """A sync failed: the process ends, not in the same instant."""
        process = self.processes.get(node_id)
        if process is not None:
            self.world.call_later(self.world.random.uniform(0.0, 0.02), self._end_failed, node_id, process)
            if self.on_journal_failure is not None:
                self.on_journal_failure(node_id)

    def _end_failed(self, node_id: int, process: Process) -> None:
        if self.processes.get(node_id) is process:
            self.crash(node_id, noticed=True)

    def _node_failed(self, node_id: int, journal: SimJournal, reason: str) -> None:
        """A node has stopped itself: that is right when its disk has failed, and a defect otherwise."""
        if journal.failed is None:
            self.world.report(Violation(f"node {node_id} stopped itself: {reason}"))

    def _ended(self, failure: Failure, journal: SimJournal) -> None:
        """Starting or stopping has failed."""
        if journal.failed is None or failure.check(JournalFailed) is None:
            self.report(failure)

    def _recovered(self, node_id: int, process: Process) -> None:
        if self.processes.get(node_id) is process:
            process.service = self._make_service(node_id, process.node, process.journal, process.clock)

    def _closed(self, node_id: int, process: Process, noticed: bool) -> None:
        """A process is gone; its connections are refused from now on, or (`noticed` is False) just silent."""
        self.watch.leases.gone(node_id)
        if not noticed:
            return
        for peer_id, peer in list(self.processes.items()):
            # The end of a connection comes behind what was sent on it, and a new one must have been refused.
            delay = self.network.faults.delay_max + self.network.delay()
            self.world.call_later(delay, self._notice_death, peer_id, peer, node_id)
        for lost in list(process.lost_calls):
            self.world.call_later(self.network.delay(), lost)

    def _notice_death(self, peer_id: int, peer: Process, dead_id: int) -> None:
        if dead_id not in self.processes and self.processes.get(peer_id) is peer:
            peer.clock.receive(peer.node.peer_unreachable, dead_id)

    def group_config(self, node_id: int, group_id: int) -> GroupConfig:
        """Return what a node is told about one of its groups: the times are those of a store by default, scaled."""
        shape, scale = self.shape, self.shape.time_scale
        return GroupConfig(
            group_id=group_id,
            node_id=node_id,
            members=tuple(Member(member) for member in range(shape.nodes)),
            incarnation=self.disks[node_id].identity.incarnation if shape.incarnations else 0,
            heartbeat_interval=0.1 * scale,
            lease=0.4 * scale,
            max_clock_drift=0.02 * scale,
            election_stagger=0.05 * scale,
            election_timeout=0.1 * scale,
            step_down_after=0.8 * scale,
            recovery_timeout=2.0 * scale,
            window=shape.window,
            window_bytes=shape.window_bytes,
            accept_ahead=4 * shape.window,
            accept_ahead_bytes=4 * shape.window_bytes,
            max_message_bytes=shape.max_message_bytes,
            version=self.versions[node_id],
        )

    @property
    def versions_never_mixed(self) -> bool:
        """Whether all nodes have run the current program from the beginning."""
        return self.shape.command_version == COMMAND_VERSION

    # ---- what is seen from outside ------------------------------------------------------------

    def group(self, node_id: int, group_id: int) -> GroupRuntime | None:
        """Return a group of a running node."""
        process = self.processes.get(node_id)
        return None if process is None else process.node.groups.get(group_id)

    def master(self, group_id: int) -> int | None:
        """Return the node that believes itself master of a group; the newest one if there are several."""
        ballots = {
            group.core.ballot: node_id
            for node_id in self.processes
            if (group := self.group(node_id, group_id)) is not None and group.core.is_master
        }
        return ballots[max(ballots)] if ballots else None

    def level(self) -> bool:
        """Whether every node is up and recovered, and every member has applied the same entries as the others, on the
        data directory that is on record.
        """
        if sum(process.recovered for process in self.processes.values()) < len(self.node_ids):
            return False
        return all(map(self._level, range(self.shape.paxos_groups)))

    def _level(self, group_id: int) -> bool:
        electorate = self.watch.electorate
        members = electorate.last(group_id).members
        applied = {self.processes[member.node_id].node.groups[group_id].state_machine.applied for member in members}
        return len(applied) == 1 and all(
            member.incarnation in (0, electorate.present[member.node_id]) for member in members
        )

    def compare_states(self) -> None:
        """Hold the whole states of all running nodes against each other."""
        for node_id, process in self.processes.items():
            for group_id, group in process.node.groups.items():
                self.watch.compare(node_id, group_id, group.state_machine)

    # ---- what is watched ----------------------------------------------------------------------

    def _reporter(self, node_id: int, group_id: int) -> Applied:
        def applied(machine: IStateMachine, before: int, instance: int, kind: int, payload: bytes) -> None:
            group = self.group(node_id, group_id)
            is_master = group is not None and group.core.is_master
            try:
                self.watch.applied(node_id, group_id, machine, before, instance, kind, payload, is_master)
            except Violation as violation:
                self.world.report(violation)

        return applied

    def _mastership_reporter(self, node_id: int, group_id: int) -> Callable[[bool], None]:
        def changed(is_master: bool) -> None:
            try:
                self.watch.mastership(node_id, group_id, is_master)
            except Violation as violation:
                self.world.report(violation)

        return changed

    def _check_leases(self, clock: ProcessClock | None) -> None:
        if clock is not None and not clock.dead:
            self.watch.leases.check(clock.node_id, self.processes[clock.node_id].node.groups)
