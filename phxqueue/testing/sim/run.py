"""One simulated run, from its seed to its verdict."""

from __future__ import annotations

import gc
import traceback
from dataclasses import dataclass, field, replace
from itertools import count
from random import Random

from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from zope.interface import implementer

from phxqueue.journal.errors import JournalFailed
from phxqueue.store.queues import COMMAND_VERSION
from phxqueue.testing.sim.books import Books
from phxqueue.testing.sim.chains.chain import Chain
from phxqueue.testing.sim.checkers import Violation
from phxqueue.testing.sim.cluster import Cluster, ClusterShape
from phxqueue.testing.sim.consumers import LedgerConsumer
from phxqueue.testing.sim.delayers import Delayer
from phxqueue.testing.sim.ending import expect_recovery
from phxqueue.testing.sim.faults import FaultInjector
from phxqueue.testing.sim.founders import Founder
from phxqueue.testing.sim.leavers import Leaver
from phxqueue.testing.sim.producers import Lane, LedgerProducer
from phxqueue.testing.sim.profiles import CALM, PROFILES, Profile
from phxqueue.testing.sim.promisers import Promisers
from phxqueue.testing.sim.replayers import Replayer
from phxqueue.testing.sim.stores import StoreFactory
from phxqueue.testing.sim.watch import Watch
from phxqueue.testing.sim.workload import Workload, draw
from phxqueue.testing.sim.world import WallClocks, World

SAFETY_SECONDS = 4.0
DELAYED = 0.3
"""Share of the seeds in which clients enqueue delayed batches."""
CHAINS, CHAIN_SALT = 0.12, 0x5EED
"""Share of the seeds in which items walk an attempt chain."""
REPEATING, REPEAT_SALT = 0.15, 0xEC40
"""Share of the seeds in which producers repeat what has long been answered."""
REPLAYED, REPLAY_SALT = 0.25, 0x7E
"""Share of the seeds without chains in which groups are made to read again."""
PROMISED, PROMISE_SALT = 0.15, 0xA70
"""Share of the seeds in which there are clients of half messages, idempotency keys and atomic batches."""
CLEANING, CLEAN_SALT, SMALL_LOG = 0.2, 0xC1EA, 2000
"""Share of the seeds in which old items that keep the log are written again, from so many bytes of log on."""
REPORTING, REPORT_SALT = 0.25, 0xB00C
"""Share of the seeds in which producers report what was confirmed to them."""
FOUNDED, FOUND_SALT = 0.2, 0xF0
"""Share of the seeds without chains and half messages in which a consumer group is created."""
LEFT, LEAVE_SALT = 0.4, 0x1EAE
"""Share of the seeds with several groups, and only plain producers, in which one leaves the files for a while."""
FAULTS_BEGIN = 0.3
OUTAGE = 0.4
"""How many of the runs end with an outage of all nodes."""


@dataclass(slots=True)
class Outcome:
    """What a run did. `violation` says what was broken; "" when every check held."""

    seed: int
    profile: str
    items: int = 0
    steps: int = 0
    seconds: float = 0.0  # simulated
    masterships: int = 0
    recovery: float = 0.0  # seconds from healing to the first acknowledgement in every group
    digest: int = 0  # of the whole history
    injected: dict[str, int] = field(default_factory=dict)
    violation: str = ""
    traceback: str = ""

    @property
    def replay(self) -> str:
        """The command that repeats the run."""
        return f"python -m phxqueue.testing.sim --seed {self.seed}"

    def __str__(self) -> str:
        faults = ", ".join(f"{count} {name}" for name, count in sorted(self.injected.items())) or "no single faults"
        verdict = self.violation or "ok"
        return (
            f"seed {self.seed} ({self.profile}): {self.items} items, {self.steps} steps, {self.seconds:.1f} s "
            f"simulated, {self.masterships} masterships, {faults}, history {self.digest:016x}: {verdict}"
        )


@implementer(ILogObserver)
class LogWatch:
    """Turns what the code under test logs as an unexpected failure into the run's failure."""

    def __init__(self, world: World, cluster: Cluster) -> None:
        self._world = world
        self._cluster = cluster

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_level") is LogLevel.critical:
            failure = event.get("log_failure")
            if failure is not None and failure.check(JournalFailed):
                return  # what a node says whose disk has failed
            if self._cluster.downgraded and "stopped applying" in str(event.get("reason")):
                return  # what a node says that met a command which its program does not know
            text = failure.getTraceback() if failure is not None else event.get("log_format", "")
            self._world.report(Violation(f"something unexpected was logged: {text}"))


@dataclass(frozen=True, slots=True)
class Plan:
    """What a seed decides before anything has happened."""

    profile: Profile
    shape: ClusterShape
    workload: Workload


def plan(seed: int) -> Plan:
    """Draw a run."""
    random = Random(seed)
    profile = random.choice(PROFILES)
    shape = ClusterShape(
        nodes=random.choice((3, 3, 3, 5)),
        paxos_groups=random.choice((1, 1, 2)),
        max_message_bytes=random.choice((600, 4000)),
        time_scale=profile.time_scale,
    )
    workload = draw(random, busy=profile.time_scale < 1)
    if Random(~seed).random() < DELAYED:
        workload = replace(workload, delayers=2)
    if Random(seed ^ CHAIN_SALT).random() < CHAINS:
        workload = replace(workload, chains=2)
    if Random(seed ^ REPEAT_SALT).random() < REPEATING:
        workload = replace(workload, repeaters=True)
    if Random(seed ^ REPLAY_SALT).random() < REPLAYED and not workload.chains:
        workload = replace(workload, replayers=1)
    if Random(seed ^ PROMISE_SALT).random() < PROMISED:
        workload = replace(workload, promisers=1)
    if Random(seed ^ REPORT_SALT).random() < REPORTING:
        workload = replace(workload, reporting=True)
    if Random(seed ^ CLEAN_SALT).random() < CLEANING:
        workload = replace(workload, relocate_bytes=SMALL_LOG, retention_bytes=min(workload.retention_bytes, 500))
    if Random(seed ^ FOUND_SALT).random() < FOUNDED and not (workload.chains or workload.promisers):
        workload = replace(workload, founders=1)
    plain = len(workload.groups) > 1 and not (workload.chains or workload.promisers or workload.delayers)
    if Random(seed ^ LEAVE_SALT).random() < LEFT and plain:
        workload = replace(workload, leavers=1, wall_skew=min(workload.wall_skew, 0.2))
    if profile.leave_every or profile.upgrade_every:  # both are about trimming
        workload = replace(workload, retention_bytes=0)
        shape = replace(
            shape,
            checkpoint_interval=0.2,
            checkpoint_entries=20,
            command_version=COMMAND_VERSION - bool(profile.upgrade_every),  # the previous program, at first
        )
    if profile.member_every or profile.empty_every:
        shape = replace(shape, incarnations=True, spares=random.choice((0, 1, 2)) if profile.member_every else 0)
    return Plan(profile, shape, workload)


def run(seed: int) -> Outcome:
    """Run one seed; everything about the run follows from it."""
    drawn = plan(seed)
    return Simulation(seed, drawn.profile, drawn.shape, drawn.workload).run()


class Simulation:
    """A cluster with its clients, its faults and its checkers."""

    def __init__(self, seed: int, profile: Profile, shape: ClusterShape, workload: Workload) -> None:
        self.outcome = Outcome(seed, profile.name)
        self.world = World(seed)
        self.books = Books(self.world, workload)
        self.walls = WallClocks(self.world, shape.nodes + shape.spares, workload.wall_skew)
        factory = StoreFactory(shape, workload, self.walls)
        self.watch = Watch(self.books, shape.nodes, calm=profile is CALM)
        self.cluster = Cluster(self.world, shape, self.watch, factory.state_machine, factory.service)
        factory.versions = self.cluster.versions
        self.watch.on_mastership.append(self._mastership)
        self.injector = FaultInjector(self.cluster, profile, self.walls, SAFETY_SECONDS)
        self.producer_ids = count(1)
        self.producers = [self._producer(workload) for _ in range(workload.producers)]
        self.consumers = [
            LedgerConsumer(self.cluster, self.books, queue_id, group)
            for queue_id in workload.queues
            for group in workload.groups
        ]

        self.chain = Chain(self.cluster, self.books, factory.topic, self.producer_ids, workload.chains)
        self.delayers = [Delayer(self.cluster, self.books, self.producer_ids) for _ in range(workload.delayers)]
        self.promisers = Promisers(self.cluster, self.books, self.producer_ids, workload.promisers)
        self.replayers = [Replayer(self.cluster, self.books, Random(~seed)) for _ in range(workload.replayers)]
        self.leavers = [Leaver(self.cluster, self.books, self._install) for _ in range(workload.leavers)]
        self._factory = factory
        self.founders = [Founder(self.cluster, self.books, Random(~seed)) for _ in range(workload.founders)]

    def _install(self, node_id: int, groups: tuple[int, ...]) -> None:
        process = self.cluster.processes.get(node_id)
        self._factory.install(node_id, groups, None if process is None else process.service)

    def _mastership(self, node_id: int, group_id: int, is_master: bool) -> None:
        if is_master:
            self.books.master_began(group_id, self.cluster.shape.paxos_groups)

    def _producer(self, workload: Workload) -> LedgerProducer:
        producer = LedgerProducer(self.cluster, self.books, self.producer_ids)
        for number in range(workload.lanes):
            queue_id = self.world.random.choice(workload.queues)
            producer.lanes.append(Lane(producer, number, queue_id, workload.batches))
        return producer

    def run(self) -> Outcome:
        """Run both phases; whatever goes wrong is the seed's verdict."""
        outcome = self.outcome
        log_watch = LogWatch(self.world, self.cluster)
        globalLogPublisher.addObserver(log_watch)
        try:
            self._safety_phase()
            outcome.recovery = expect_recovery(
                self.world,
                self.cluster,
                self.books,
                self.producers,
                self.consumers,
                self.delayers,
                self.chain,
                self.promisers,
                self.replayers,
                self.founders,
                self.leavers,
                self.producer_ids,
                outage=self.outcome.profile != CALM.name and self.world.random.random() < OUTAGE,
            )
        except Exception as violation:
            outcome.violation = f"{type(violation).__name__}: {violation}"
            outcome.traceback = traceback.format_exc()
        finally:
            globalLogPublisher.removeObserver(log_watch)
            if outcome.violation:
                # What is left of a world that ended in the middle must not be heard of in the next one.
                gc.collect()
        outcome.items = len(self.books.ledger.acknowledged)
        outcome.steps = self.world.steps
        outcome.seconds = self.world.now
        outcome.masterships = self.watch.masterships
        outcome.injected = dict(self.world.faults)
        outcome.digest = self.books.digest
        return outcome

    def start_nodes(self) -> None:
        """Start every node, one shortly after the other."""
        for node_id in self.cluster.node_ids:
            self.world.call_later(self.world.random.uniform(0, 0.2), self.cluster.start, node_id)

    def start_clients(self) -> None:
        """Start producers and consumers, one shortly after the other."""
        starts = [lane.start for producer in self.producers for lane in producer.lanes]
        starts += [consumer.start for consumer in self.consumers]
        starts += [delayer.start for delayer in self.delayers]
        starts += self.chain.starts()
        starts += self.promisers.starts()
        starts += [replayer.start for replayer in self.replayers]
        starts += [founder.start for founder in self.founders]
        starts += [leaver.start for leaver in self.leavers]
        for start in starts:
            self.world.call_later(self.world.random.uniform(0, 1.0), start)

    def _safety_phase(self) -> None:
        self.start_nodes()
        self.start_clients()
        self.world.call_later(FAULTS_BEGIN, self.injector.start)
        self.world.run_until(SAFETY_SECONDS)
        self.injector.heal()
