"""The liveness phase: after all faults have healed everything is sent, acknowledged and delivered, in bounded time.

Then the power fails once more, at all nodes: what was there is there still.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from phxqueue.testing.sim.books import Books
from phxqueue.testing.sim.chains.chain import Chain
from phxqueue.testing.sim.checkers import Violation
from phxqueue.testing.sim.cluster import Cluster
from phxqueue.testing.sim.consumers import Auditor, LedgerConsumer, Newcomer
from phxqueue.testing.sim.delayers import Delayer
from phxqueue.testing.sim.founders import Founder
from phxqueue.testing.sim.leavers import Leaver
from phxqueue.testing.sim.producers import Lane, LedgerProducer
from phxqueue.testing.sim.promisers import Promisers
from phxqueue.testing.sim.replayers import Replayer
from phxqueue.testing.sim.workload import STORE_ID
from phxqueue.testing.sim.world import World

RECOVERY_SECONDS = 3.0
"""From healing to the first acknowledged Add of a client that knows nothing, in every Paxos group."""
LIVENESS_SECONDS = 30.0
"""From healing to the end of everything else: clients pause, wait for answers that were lost, and for delays."""


def expect_recovery(
    world: World,
    cluster: Cluster,
    books: Books,
    producers: Sequence[LedgerProducer],
    consumers: Sequence[LedgerConsumer],
    delayers: Sequence[Delayer],
    chain: Chain,
    promisers: Promisers,
    replayers: Sequence[Replayer],
    founders: Sequence[Founder],
    leavers: Sequence[Leaver],
    producer_ids: Iterator[int],
    outage: bool,
) -> float:
    """Run to the end, with an `outage` of all nodes or without; raise Violation for what does not happen in time.

    Return how long the groups took to recover.
    """
    healed = world.now

    def expect(what: str, happened: Callable[[], bool], seconds: float = LIVENESS_SECONDS) -> None:
        if not world.run_until(healed + seconds, happened):
            raise Violation(f"{seconds} s after all faults healed still not done: {what}")

    probes = _probe(cluster, books, producer_ids)
    expect("a first Add acknowledged in every group", lambda: all(probe.done for probe in probes), RECOVERY_SECONDS)
    recovery = world.now - healed
    expect("all groups are in the files again", lambda: all(leaver.done for leaver in leavers))
    expect("everything sent", lambda: all(producer.done for producer in producers))
    expect("all delayed batches sent and cancelled", lambda: all(delayer.done for delayer in delayers))
    expect("the new group is created, or deleted", lambda: all(founder.done for founder in founders))
    expect("all replays have an outcome", lambda: all(replayer.done for replayer in replayers))
    expect("all delayed batches have fired", lambda: not books.reference.delayed)
    chain.finish(expect)
    promisers.finish(expect)
    contents = _audit(cluster, books, expect)
    books.timers.check_contents(contents)
    promisers.check_contents(contents)
    readers = [reader for founder in founders for reader in founder.readers]
    if founders:
        expect(
            "the new group has read its queues to the end",
            lambda: all(reader.finished(len(contents[reader.queue_id])) for reader in readers),
        )
        books.founding.check_contents(contents)
    _collect(books, consumers, contents, expect)
    if not books.workload.retention_bytes:
        expect("what everybody has acknowledged is gone", lambda: _all_trimmed(cluster, books))
    expect("the replicas have caught up with each other", cluster.level)
    cluster.compare_states()
    everybody = [*producers, *probes]
    expect("everything confirmed is reported", lambda: all(producer.reported for producer in everybody))
    expect("the replicas have caught up with the reports", cluster.level)
    _check_ledgers(cluster, books, everybody)
    if outage:
        _go_through_outage(cluster, books, consumers, expect)
    books.recording.check(books.reference.queues)
    return recovery


def _all_trimmed(cluster: Cluster, books: Books) -> bool:
    """Whether nothing is kept, on the masters, of queues that keep nothing that is acknowledged."""
    for queue_id in books.workload.queues:
        group_id = queue_id % cluster.shape.paxos_groups
        master = cluster.master(group_id)
        group = None if master is None else cluster.group(master, group_id)
        machine: Any = None if group is None else group.state_machine
        if machine is None or machine.first_cursor(queue_id) < machine.end_cursor(queue_id):
            return False
    return True


def _check_ledgers(cluster: Cluster, books: Books, producers: Sequence[LedgerProducer]) -> None:
    """The ledgers of all replicas say what our own books say."""
    died = {reporter.producer_id for producer in producers for reporter in producer.reporters if reporter.dead}
    unheard = {one: items for producer in producers for one, items in producer.unheard.items()}
    machines: list[tuple[int, Any]] = [
        (group_id, group.state_machine)
        for process in cluster.processes.values()
        for group_id, group in process.node.groups.items()
    ]
    for group_id, machine in machines:
        level = max(other.applied for other_id, other in machines if other_id == group_id)
        if machine.applied == level:  # else it is no member any more
            workload = books.workload
            plain, reporting = not workload.promisers, workload.reporting
            books.keeping.check(
                group_id,
                machine.ledger,
                books.reference,
                plain=plain,
                reporting=reporting,
                died=died,
                unheard=unheard,
                undecided=machine.halves.undecided,
            )


def _probe(cluster: Cluster, books: Books, producer_ids: Iterator[int]) -> list[LedgerProducer]:
    groups = cluster.shape.paxos_groups
    probes = []
    for group_id in range(groups):
        queue_id = next((queue for queue in books.workload.queues if queue % groups == group_id), None)
        if queue_id is not None:
            probe = LedgerProducer(cluster, books, producer_ids)
            probe.lanes.append(Lane(probe, 0, queue_id, batches=1))
            probe.lanes[0].start()
            probes.append(probe)
    return probes


def _go_through_outage(
    cluster: Cluster,
    books: Books,
    consumers: Sequence[LedgerConsumer],
    expect: Callable[[str, Callable[[], bool]], None],
) -> None:
    """All processes die at once and come back: with the same state, and every group stands where it stood."""
    for node_id in list(cluster.processes):
        cluster.crash(node_id, noticed=False)
    for node_id in cluster.node_ids:
        cluster.start(node_id)
    newcomers = [Newcomer(cluster, books, consumer.key) for consumer in consumers]
    for newcomer in newcomers:
        newcomer.ask()
    expect("every group told where it stands", lambda: all(newcomer.told is not None for newcomer in newcomers))
    for newcomer, consumer in zip(newcomers, consumers, strict=True):
        if newcomer.told != consumer.position:
            raise Violation(
                f"queue {newcomer.key[0]} group {newcomer.key[1]}: everything up to {consumer.position} was "
                f"acknowledged; after all nodes have restarted it stands at {newcomer.told}"
            )
    expect("the replicas have caught up with each other again", cluster.level)
    cluster.compare_states()


def _audit(cluster: Cluster, books: Books, expect: Callable[[str, Callable[[], bool]], None]) -> dict[int, list[bytes]]:
    """Read all queues whole and hold them against what producers were told."""
    auditors = [Auditor(cluster, books, queue_id) for queue_id in books.workload.queues]
    for auditor in auditors:
        auditor.start()
    expect("all queues read from their beginning", lambda: all(auditor.done for auditor in auditors))
    contents = {auditor.queue_id: auditor.items for auditor in auditors}
    books.ledger.check_contents({(STORE_ID, queue_id): items for queue_id, items in contents.items()})
    return contents


def _collect(
    books: Books,
    consumers: Sequence[LedgerConsumer],
    contents: dict[int, list[bytes]],
    expect: Callable[[str, Callable[[], bool]], None],
) -> None:
    """Wait until every consumer group has got, and acknowledged, what is in its queues."""

    def delivered() -> bool:
        return all(consumer.position >= len(contents[consumer.key[0]]) for consumer in consumers)

    expect("every consumer group has read its queues to the end", delivered)
    for consumer in consumers:
        consumer.stop()
    expect("all consumers have acknowledged what they got", lambda: all(consumer.stopped for consumer in consumers))
    for consumer in consumers:
        queue_id, group = consumer.key
        passed_over = books.replays.passed_over(consumer.key)
        books.ledger.check_delivered(
            (STORE_ID, queue_id), 1 << (group - 1), contents[queue_id], consumer.received, passed_over
        )
        stored = books.reference.queues.get(queue_id, ())
        wanted = [cursor for cursor, item in enumerate(stored) if item.mask >> (group - 1) & 1]
        books.replays.check_delivered(consumer.key, wanted)

    def replicated() -> bool:
        return all(books.cursors.settled(consumer.key, consumer.position) for consumer in consumers)

    expect("acknowledged cursors are replicated", replicated)
