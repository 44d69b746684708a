"""One simulated run, from its seed to its verdict."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from random import Random

from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from zope.interface import implementer

from phxqueue.testing.sim.checkers import Violation
from phxqueue.testing.sim.checkers.ledger import Ledger
from phxqueue.testing.sim.clients import STORE_ID, LedgerConsumer, LedgerProducer
from phxqueue.testing.sim.cluster import Cluster, ClusterShape
from phxqueue.testing.sim.faults import PROFILES, FaultInjector, Profile
from phxqueue.testing.sim.stores import QUEUE_IDS, StoreFactory
from phxqueue.testing.sim.world import World

SAFETY_SECONDS = 4.0
LIVENESS_SECONDS = 30.0


@dataclass(slots=True)
class Outcome:
    """What a run did. `violation` says what was broken; "" when every check held."""

    seed: int
    profile: str
    items: int = 0
    steps: int = 0
    seconds: float = 0.0  # simulated
    injected: dict[str, int] = field(default_factory=dict)
    violation: str = ""
    traceback: str = ""

    def __str__(self) -> str:
        faults = ", ".join(f"{count} {name}" for name, count in sorted(self.injected.items())) or "no single faults"
        verdict = self.violation or "ok"
        return (
            f"seed {self.seed} ({self.profile}): {self.items} items, {self.steps} steps, "
            f"{self.seconds:.1f} s simulated, {faults}: {verdict}"
        )


@implementer(ILogObserver)
class _LogWatch:
    """Turns what the code under test logs as an unexpected failure into the run's failure."""

    def __init__(self) -> None:
        self.failure: str | None = None

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_level") is LogLevel.critical and self.failure is None:
            failure = event.get("log_failure")
            self.failure = failure.getTraceback() if failure is not None else event.get("log_format", "")


def run(seed: int) -> Outcome:
    """Run one seed; everything about the run follows from it."""
    random = Random(seed)
    profile = random.choice(PROFILES)
    shape = ClusterShape(nodes=random.choice((3, 3, 3, 5)), paxos_groups=random.choice((1, 1, 2)))
    outcome = Outcome(seed, profile.name)
    watch = _LogWatch()
    globalLogPublisher.addObserver(watch)
    try:
        _run(seed, profile, shape, outcome, watch)
    except Exception as violation:  # whatever goes wrong is this seed's verdict, told with the seed
        outcome.violation = f"{type(violation).__name__}: {violation}"
        outcome.traceback = traceback.format_exc()
    finally:
        globalLogPublisher.removeObserver(watch)
    return outcome


def _run(seed: int, profile: Profile, shape: ClusterShape, outcome: Outcome, watch: _LogWatch) -> None:
    world = World(seed)
    factory = StoreFactory(world, shape)
    cluster = Cluster(world, shape, factory.state_machine, factory.service)
    ledger = Ledger()
    producers = [
        LedgerProducer(
            cluster, ledger, producer_id, QUEUE_IDS[producer_id % len(QUEUE_IDS)], world.random.choice((100, 400))
        )
        for producer_id in range(1, 5)
    ]
    consumers = [LedgerConsumer(cluster, ledger, queue_id) for queue_id in QUEUE_IDS]
    injector = FaultInjector(cluster, profile)

    def watch_log() -> None:
        if watch.failure is not None:
            raise Violation(f"something unexpected was logged: {watch.failure}")

    world.after_each_step.append(watch_log)
    try:
        for node_id in cluster.node_ids:
            world.call_later(world.random.uniform(0, 0.2), cluster.start, node_id)
        for start in [client.start for client in producers] + [client.start for client in consumers]:
            world.call_later(world.random.uniform(0, 1.0), start)
        world.call_later(0.3, injector.start)
        world.run_until(SAFETY_SECONDS)
        injector.heal()
        _expect_recovery(world, cluster, ledger, producers, consumers)
    finally:
        outcome.items = len(ledger.acknowledged)
        outcome.steps = world.steps
        outcome.seconds = world.now
        outcome.injected = injector.injected


def _expect_recovery(
    world: World,
    cluster: Cluster,
    ledger: Ledger,
    producers: list[LedgerProducer],
    consumers: list[LedgerConsumer],
) -> None:
    """After all faults have healed: everything is sent, acknowledged and delivered, and the replicas agree."""
    deadline = world.now + LIVENESS_SECONDS

    def sent() -> bool:
        return all(producer.unfinished <= 0 for producer in producers)

    if not world.run_until(deadline, sent):
        raise Violation(f"{LIVENESS_SECONDS} s after all faults healed some producers are still not done")

    def delivered() -> bool:
        wanted = len(ledger.acknowledged)
        return sum(len(consumer.received) for consumer in consumers) >= wanted

    if not world.run_until(deadline, delivered):
        missing = len(ledger.acknowledged) - sum(len(consumer.received) for consumer in consumers)
        raise Violation(f"{missing} acknowledged items were not delivered within {LIVENESS_SECONDS} s after healing")

    def level() -> bool:
        applied = {
            tuple(group.state_machine.applied for group in process.node.groups.values())
            for process in cluster.processes.values()
            if process.recovered
        }
        return len(applied) == 1 and all(process.recovered for process in cluster.processes.values())

    for consumer in consumers:
        consumer.stop()
    if not world.run_until(deadline, level):
        raise Violation(f"the replicas have not caught up with each other within {LIVENESS_SECONDS} s after healing")
    cluster.compare_states()
    ledger.check_complete({(STORE_ID, c.queue_id): sorted(c.received.items()) for c in consumers})
