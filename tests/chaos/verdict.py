"""What must hold once everything is healed: the books, the replicas, the histories, the logs, the ends."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from phxqueue.admin.clients import open_master_client
from phxqueue.admin.lock_status import LockReport
from phxqueue.admin.node_status import NodeReport, master_of
from phxqueue.admin.processes.child import Child, log_tail
from phxqueue.console.consumer_conditions import UNREACHABLE
from phxqueue.console.replica_conditions import DISK_FULL, NO_MASTER
from phxqueue.console.scheduler_conditions import NO_CONSUMER, NO_LOCK
from phxqueue.net.status import RpcError, Status
from phxqueue.producer import Receipt
from phxqueue.producer.routes import store_route
from phxqueue.testing.linearizability import Operation, Verdict, check_history, write_history
from tests.chaos.cluster import ChaosCluster
from tests.chaos.exclusion import Belief, violations
from tests.chaos.historian import read_whole_queue
from tests.integration.ledger import Books, Entry, HandledLog, check

#: The consumers may be silent so long, with something left to do, before that counts as lost.
DRAIN_SILENCE_S = 45.0
EQUAL_TIMEOUT_S = 60.0
HISTORY_STATES = 300_000
#: How a log tells of an alarm of this kind.
_ALARM = re.compile(r"\bALARM (\S+)")
#: That others are away, or a disk is full: which is what is done here, and a busy machine makes it last. Nothing that
#: is done here is a reason for any other alarm.
_TRUE = frozenset({NO_MASTER, DISK_FULL, NO_LOCK, NO_CONSUMER, UNREACHABLE})
#: What no log may contain, whatever was done to the process. Being told that its disk is full is no defect.
_DEFECT = re.compile(r"Traceback \(most recent call last\)|Unhandled error|AssertionError")


async def drained(reactor: Any, books: Books, log: HandledLog) -> list[str]:
    """Wait until all that was confirmed has been handled; what is missing after a long silence is lost."""
    last, seen = reactor.seconds(), -1
    while books.confirmed - log.look().distinct:
        if len(log.lines) != seen:
            last, seen = reactor.seconds(), len(log.lines)
        if reactor.seconds() - last > DRAIN_SILENCE_S:
            break  # the books name what is missing
        await _pause(reactor)
    return _told(lambda: check(books, log.entries))


def _told(checked: Any) -> list[str]:
    try:
        checked()
    except AssertionError as error:
        return [str(error)]
    return []


async def stored_as_told(cluster: ChaosCluster, receipts: Mapping[Entry, Receipt]) -> list[str]:
    """Every confirmed item stands where its producer was told, in a queue without gaps, unless it was trimmed."""
    wanted: dict[int, dict[int, Entry]] = {}
    found: list[str] = []
    for entry, receipt in receipts.items():
        other = wanted.setdefault(receipt.queue_id, {}).setdefault(receipt.cursor, entry)
        if other != entry:
            found.append(f"{entry} and {other} were both told queue {receipt.queue_id}, cursor {receipt.cursor}")
    for queue_id, entries in sorted(wanted.items()):
        extent, content = await _retained(cluster, queue_id)
        numbers = {cursor: int(buffer.partition(b" ")[0]) for cursor, buffer in content}
        found += compare_queue(queue_id, extent, numbers, entries)
    return found[:20]


async def _retained(cluster: ChaosCluster, queue_id: int) -> tuple[range, list[tuple[int, bytes]]]:
    """The cursors that a queue has just now by its own word, and what can be read of it."""
    client = open_master_client(cluster.reactor, cluster.cluster, cluster.topic, cluster.pool)
    route = store_route(cluster.topic, 1, cluster.topic.store(1).group_of_queue(queue_id))
    while True:
        extent = await _extent(cluster, queue_id)
        try:
            content = await read_whole_queue(client, route, cluster, queue_id, extent.start)
        except RpcError as error:
            if error.status is not Status.OUT_OF_RANGE:
                raise
        else:
            if (await _extent(cluster, queue_id)) == extent:  # else some of it was trimmed meanwhile
                return extent, content
        await _pause(cluster.reactor)


async def _extent(cluster: ChaosCluster, queue_id: int) -> range:
    """The first cursor of a queue, and the one behind its last, as the master of its group says."""
    group_id = cluster.topic.store(1).group_of_queue(queue_id)
    while True:
        reports = await cluster.reports()
        master = master_of(reports, 1, group_id)
        for queue in master.answer.queues if master is not None and master.answer is not None else ():
            if queue.queue_id == queue_id:
                return range(queue.first_cursor, queue.end_cursor)
        await _pause(cluster.reactor)


def compare_queue(queue_id: int, extent: range, numbers: Mapping[int, int], entries: Mapping[int, Entry]) -> list[str]:
    """What a queue holds (numbers by cursor, of `extent`) against what producers were told of it."""
    found = []
    if sorted(numbers) != list(extent):
        found.append(f"queue {queue_id}: it has cursors {extent.start} to {extent.stop - 1}, and {len(numbers)} items")
    for cursor, (uin, number) in sorted(entries.items()):
        if cursor >= extent.start and numbers.get(cursor) != number:
            found.append(f"queue {queue_id}, cursor {cursor}: {uin} {number} was told, {numbers.get(cursor)} is")
    return found


async def equal_replicas(cluster: ChaosCluster) -> list[str]:
    """Every group of the store and of the lock group has the same state, by its hash, on all nodes."""
    deadline = cluster.reactor.seconds() + EQUAL_TIMEOUT_S
    while True:
        stores, locks = await cluster.hashed_reports(), await cluster.lock_reports(20.0, state_hash=True)
        waiting, different = compare_replicas(stores, cluster.topic.stores[0].paxos_groups)
        lock_waiting, lock_different = compare_replicas(locks, cluster.topic.locks[0].paxos_groups)
        different += [f"lock {line}" for line in lock_different]
        if different or not (waiting or lock_waiting):
            return different
        if cluster.reactor.seconds() > deadline:
            return [f"not all have applied the same after {EQUAL_TIMEOUT_S:g} s: {waiting}, of locks {lock_waiting}"]
        await _pause(cluster.reactor)


def compare_replicas(reports: Iterable[NodeReport | LockReport], groups: int) -> tuple[dict[int, list[int]], list[str]]:
    """Return which groups have not applied the same yet (instances by group), and which have and yet differ."""
    reports = list(reports)
    waiting: dict[int, list[int]] = {}
    different = []
    for group_id in range(groups):
        states = [group for report in reports if (group := report.group(group_id)) is not None]
        applied = [group.applied for group in states]
        if len(states) < len(reports) or len(set(applied)) > 1:
            waiting[group_id] = applied
            continue
        hashes = [group.state_hash for group in states]
        if len(set(hashes)) > 1:
            shown = ", ".join(f"{value:016x}" for value in hashes)
            different.append(f"group {group_id}: replicas differ at instance {applied[0]}: {shown}")
    return waiting, different


def believed(path: Path) -> tuple[list[Belief], list[str]]:
    """What the holders of locks have written, and what of it may not be."""
    beliefs = [Belief.parse(line) for line in path.read_text().splitlines()] if path.exists() else []
    return beliefs, violations(beliefs)


def linearizable(operations: list[Operation], path: Path) -> tuple[list[str], str]:
    """Check a history and keep it; returns findings and a line about it."""
    path.write_text("".join(line + "\n" for line in write_history(operations)))
    report = check_history(operations, max_states=HISTORY_STATES)
    text = str(report)
    line = text.partition("\n")[0]
    return ([f"history {path.name}: {text}"] if report.verdict is Verdict.NOT_LINEARIZABLE else []), line


def defects_in_logs(children: Iterable[Child]) -> list[str]:
    """What the daemons said that no fault excuses."""
    found = []
    for child in children:
        text = child.output.read_text(errors="replace")
        match = _DEFECT.search(text)
        if match is not None:
            begin = text.rfind("\n", 0, max(match.start() - 1, 0)) + 1
            found.append(f"{child.name} logged:\n{text[begin : begin + 2500]}")
    return found


def alarms_in_logs(children: Iterable[Child]) -> list[str]:
    """Alarms that no fault excuses, those of reconciliation above all: as nothing was lost, false ones, or worse."""
    found = []
    for child in children:
        said = child.output.read_text(errors="replace").splitlines()
        lines = [line for line in said if (alarm := _ALARM.search(line)) is not None and alarm[1] not in _TRUE]
        if lines:
            found.append(f"{child.name}: {len(lines)} alarms, first: {lines[0]}")
    return found


async def audited(cluster: ChaosCluster) -> tuple[int, list[str]]:
    """Acknowledgements that agreed with what is stored, since the nodes' last starts; what did not agree."""
    reports = await cluster.reports()
    audits = [audit for report in reports if report.answer is not None for audit in report.answer.audits]
    agreed = sum(audit.agreed for audit in audits)
    found = [f"queue {one.queue_id}: {one.disputed} acknowledgements were disputed" for one in audits if one.disputed]
    return agreed, found if agreed else [*found, "no acknowledgement was compared with what is stored"]


def ended_badly(children: Iterable[Child]) -> list[str]:
    """Processes that ended although nobody ended them."""
    return [f"{child.name} ended by itself ({child.outcome}):\n{log_tail(child.output)}" for child in children]


def _pause(reactor: Any) -> Deferred[None]:
    return deferLater(reactor, 0.1, lambda: None)
