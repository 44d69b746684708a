"""One simulated run of the lock service, from its seed to its verdict."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from twisted.logger import globalLogPublisher

from phxqueue.proto.lock_pb2 import LockCommand
from phxqueue.testing.sim.checkers import Violation
from phxqueue.testing.sim.cluster import Cluster, ClusterShape
from phxqueue.testing.sim.faults import FaultInjector
from phxqueue.testing.sim.locks.books import LockBooks
from phxqueue.testing.sim.locks.contenders import FORCED, Contender
from phxqueue.testing.sim.locks.nodes import LockFactory
from phxqueue.testing.sim.locks.readers import Reader, StringUser
from phxqueue.testing.sim.locks.unknown_holders import FENCE, LEASE, RESTORED, believe
from phxqueue.testing.sim.profiles import CALM, PROFILES, Profile
from phxqueue.testing.sim.run import LogWatch, Outcome
from phxqueue.testing.sim.watch import Watch
from phxqueue.testing.sim.world import WallClocks, World

SAFETY_SECONDS = 4.0
FAULTS_BEGIN = 0.3
RECOVERY_SECONDS = 3.0
"""From healing to the first lock that a client who knows nothing gets, in every Paxos group."""
LIVENESS_SECONDS = 90.0
"""From healing to the end of everything else: every contender has had its turns, one behind the other."""
RESTORED_SHARE, RESTORE_SALT = 0.15, 0x45B
"""Share of the seeds in which the group was restored from a backup, while others hold locks that are not in it."""
_LOCK_PROFILES = tuple(profile for profile in PROFILES if not profile.upgrade_every)  # there is one command version


@dataclass(slots=True)
class LockOutcome(Outcome):
    """What a run did; `items` are acquisitions."""

    @property
    def replay(self) -> str:
        """The command that repeats the run."""
        return f"python -m phxqueue.testing.sim.locks --seed {self.seed}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a seed decides before anything has happened."""

    profile: Profile
    shape: ClusterShape
    locks: int
    contenders: int
    turns: int
    restored: bool


def plan(seed: int) -> Plan:
    """Draw a run."""
    random = Random(seed)
    profile = random.choice(_LOCK_PROFILES)
    shape = ClusterShape(
        nodes=random.choice((3, 3, 3, 5)),
        paxos_groups=random.choice((1, 1, 2)),
        time_scale=profile.time_scale,
    )
    if profile.leave_every:  # it is about trimming
        shape = replace(shape, checkpoint_interval=0.2, checkpoint_entries=20)
    restored = Random(seed ^ RESTORE_SALT).random() < RESTORED_SHARE
    return Plan(profile, shape, random.choice((1, 2, 3)), random.choice((2, 4, 8)), random.choice((3, 6)), restored)


def run(seed: int) -> LockOutcome:
    """Run one seed; everything about the run follows from it."""
    return LockSimulation(seed, plan(seed)).run()


class LockSimulation:
    """A lock group with its clients, its faults and its checkers."""

    def __init__(self, seed: int, drawn: Plan) -> None:
        shape = drawn.shape
        self.outcome = LockOutcome(seed, drawn.profile.name)
        self.world = World(seed)
        self.books = LockBooks(self.world, shape.paxos_groups, FENCE if drawn.restored else 0)
        factory = LockFactory(self.world, shape, RESTORED if drawn.restored else None)
        self.watch = Watch(self.books, shape.nodes, drawn.profile is CALM, _version_of)
        self.cluster = Cluster(self.world, shape, self.watch, factory.state_machine, factory.service)
        walls = WallClocks(self.world, shape.nodes, 1.0)
        self.injector = FaultInjector(self.cluster, drawn.profile, walls, SAFETY_SECONDS)
        locks = [f"lock {number}" for number in range(drawn.locks)]
        names = [*locks, FORCED]
        self._quarantine = LEASE if drawn.restored else 0.0
        if drawn.restored:
            believe(self.books.exclusion, locks, Random(~seed))
        self.contenders = [
            Contender(self.cluster, self.books, number, names, drawn.turns) for number in range(drawn.contenders)
        ]
        self.readers = [Reader(self.cluster, self.books, names) for _ in range(2)]
        self.users = [StringUser(self.cluster, self.books, number, "string", 15) for number in range(3)]

    def run(self) -> LockOutcome:
        """Run both phases; whatever goes wrong is the seed's verdict."""
        outcome = self.outcome
        log_watch = LogWatch(self.world, self.cluster)
        globalLogPublisher.addObserver(log_watch)
        try:
            self._safety_phase()
            outcome.recovery = self._expect_recovery()
        except Exception as violation:
            outcome.violation = f"{type(violation).__name__}: {violation}"
            outcome.traceback = traceback.format_exc()
        finally:
            globalLogPublisher.removeObserver(log_watch)
        outcome.items = self.books.exclusion.granted
        outcome.steps = self.world.steps
        outcome.seconds = self.world.now
        outcome.masterships = self.watch.masterships
        outcome.injected = dict(self.world.faults)
        outcome.digest = self.books.digest
        return outcome

    def _safety_phase(self) -> None:
        world = self.world
        for node_id in self.cluster.node_ids:
            world.call_later(world.random.uniform(0, 0.2), self.cluster.start, node_id)
        starts = [contender.start for contender in self.contenders]
        starts += [reader.start for reader in self.readers]
        starts += [user.start for user in self.users]
        for start in starts:
            world.call_later(world.random.uniform(0, 1.0), start)
        world.call_later(FAULTS_BEGIN, self.injector.start)
        world.run_until(SAFETY_SECONDS)
        self.injector.heal()

    def _expect_recovery(self) -> float:
        """Run to the end; raise Violation for what does not happen in time."""
        world, cluster, healed = self.world, self.cluster, self.world.now

        def expect(what: str, happened: Callable[[], bool], seconds: float = LIVENESS_SECONDS) -> None:
            if not world.run_until(healed + seconds, happened):
                raise Violation(f"{seconds} s after all faults healed still not done: {what}")

        probes = [Contender(cluster, self.books, 1000 + number, [f"probe {number}"], 1) for number in range(4)]
        for probe in probes:
            probe.start()
        soon = RECOVERY_SECONDS + self._quarantine
        expect("a first lock in every group", lambda: all(probe.has_held for probe in probes), soon)
        recovery = world.now - healed
        expect("every contender has had its turns", lambda: all(one.done for one in (*self.contenders, *probes)))
        expect("strings are read and written", lambda: all(user.done for user in self.users))
        for reader in self.readers:
            reader.stopped = True
        expect("the replicas have caught up with each other", cluster.level)
        cluster.compare_states()
        self.books.check_strings()
        return recovery


def _version_of(payload: bytes) -> int:
    return LockCommand.FromString(payload).version
