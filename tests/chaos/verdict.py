"""What must hold once everything is healed: the books, the replicas, the histories, the logs, the ends."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from phxqueue.admin.clients import open_master_client
from phxqueue.admin.node_status import NodeReport
from phxqueue.admin.processes.child import Child, log_tail
from phxqueue.producer import Receipt
from phxqueue.producer.routes import store_route
from phxqueue.testing.linearizability import Operation, Verdict, check_history, write_history
from tests.chaos.cluster import NODES, ChaosCluster
from tests.chaos.historian import read_whole_queue
from tests.integration.ledger import Books, Entry, HandledLog, check

#: The consumers may be silent so long, with something left to do, before that counts as lost.
DRAIN_SILENCE_S = 45.0
EQUAL_TIMEOUT_S = 60.0
HISTORY_STATES = 300_000
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
    """Every confirmed item stands where its producer was told, in a queue without gaps."""
    wanted: dict[int, dict[int, Entry]] = {}
    found: list[str] = []
    for entry, receipt in receipts.items():
        other = wanted.setdefault(receipt.queue_id, {}).setdefault(receipt.cursor, entry)
        if other != entry:
            found.append(f"{entry} and {other} were both told queue {receipt.queue_id}, cursor {receipt.cursor}")
    for queue_id, entries in sorted(wanted.items()):
        client = open_master_client(cluster.reactor, cluster.cluster, cluster.topic, cluster.pool)
        route = store_route(cluster.topic, 1, cluster.topic.store(1).group_of_queue(queue_id))
        content = await read_whole_queue(client, route, cluster, queue_id)
        cursors = [cursor for cursor, _ in content]
        if cursors != list(range(cursors[0], cursors[0] + len(cursors))):
            found.append(f"queue {queue_id}: its cursors have gaps or repeat")
        numbers = {cursor: int(buffer.partition(b" ")[0]) for cursor, buffer in content}
        for cursor, (uin, number) in entries.items():
            if cursor >= cursors[0] and numbers.get(cursor) != number:
                found.append(f"queue {queue_id}, cursor {cursor}: {uin} {number} was told, {numbers.get(cursor)} is")
    return found[:20]


async def equal_replicas(cluster: ChaosCluster) -> list[str]:
    """Every group has the same state, by its hash, on all nodes, as soon as they have applied the same."""
    deadline = cluster.reactor.seconds() + EQUAL_TIMEOUT_S
    while True:
        reports = await cluster.hashed_reports()
        waiting, different = compare_replicas(reports, cluster.topic.stores[0].paxos_groups)
        if different or not waiting:
            return different
        if cluster.reactor.seconds() > deadline:
            return [f"not all nodes have applied the same after {EQUAL_TIMEOUT_S:g} s: {waiting}"]
        await _pause(cluster.reactor)


def compare_replicas(reports: Iterable[NodeReport], groups: int) -> tuple[dict[int, list[int]], list[str]]:
    """Return which groups have not applied the same yet (instances by group), and which have and yet differ."""
    reports = list(reports)
    waiting: dict[int, list[int]] = {}
    different = []
    for group_id in range(groups):
        states = [group for report in reports if (group := report.group(group_id)) is not None]
        applied = [group.applied for group in states]
        if len(states) < NODES or len(set(applied)) > 1:
            waiting[group_id] = applied
            continue
        hashes = [group.state_hash for group in states]
        if len(set(hashes)) > 1:
            shown = ", ".join(f"{value:016x}" for value in hashes)
            different.append(f"group {group_id}: replicas differ at instance {applied[0]}: {shown}")
    return waiting, different


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


def ended_badly(children: Iterable[Child]) -> list[str]:
    """Processes that ended although nobody ended them."""
    return [f"{child.name} ended by itself ({child.outcome}):\n{log_tail(child.output)}" for child in children]


def _pause(reactor: Any) -> Deferred[None]:
    return deferLater(reactor, 0.1, lambda: None)
