"""``phxqueue status``: nodes, masters, replicas, backlogs; locks, schedulers and consumers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click
from google.protobuf.json_format import MessageToDict
from twisted.internet.defer import Deferred

from phxqueue.admin import edge
from phxqueue.admin.audits import alarm_lines, audit_lines
from phxqueue.admin.clients import open_pool
from phxqueue.admin.context import ClusterContext, cluster_command
from phxqueue.admin.lock_status import (
    LockReport,
    ask_lock_nodes,
    lock_documents,
    lock_groups_without_master,
    lock_lines,
)
from phxqueue.admin.node_status import (
    ANSWER_TIMEOUT_S,
    Backlog,
    NodeReport,
    ask_until_told,
    backlogs,
    groups_of,
    master_of,
    untold,
    without_master,
)
from phxqueue.admin.scheduler_status import SchedulerReport, ask_schedulers, scheduler_documents, scheduler_lines
from phxqueue.admin.sums import sum_lines, sums
from phxqueue.admin.table import age, size, table
from phxqueue.config import DEAD_LETTER_BASE, Topic


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Everything the nodes say, for programs.")
@click.option("--all", "all_queues", is_flag=True, help="Queues without backlog too.")
@click.option("--timeout", default=ANSWER_TIMEOUT_S, show_default=True, help="Seconds to wait for a node.")
@cluster_command
def status(settings: ClusterContext, as_json: bool, all_queues: bool, timeout: float) -> None:
    """Ask every node how it is.

    Exit status 1 when a Paxos group has no master: its queues (or locks) stand still. Lock groups of which no node
    runs do not count.
    """
    cluster = settings.load()
    topic = settings.topic_of(cluster)
    tls = settings.tls_of(cluster)

    async def main(reactor: Any) -> tuple[list[NodeReport], list[LockReport], list[SchedulerReport]]:
        pool = open_pool(reactor, cluster, topic, tls)
        try:
            locks = Deferred.fromCoroutine(ask_lock_nodes(pool, topic, timeout))
            schedulers = Deferred.fromCoroutine(ask_schedulers(pool, topic, timeout))
            return await ask_until_told(reactor, pool, topic, timeout), await locks, await schedulers
        finally:
            await pool.close()

    reports, lock_reports, schedulers = edge.run(main)
    if as_json:
        document = {
            **as_document(topic, reports),
            "locks": lock_documents(lock_reports),
            "schedulers": scheduler_documents(schedulers),
        }
        click.echo(json.dumps(document, indent=2))
    else:
        lines = [
            *as_text(topic, reports, all_queues=all_queues),
            *lock_lines(topic, lock_reports),
            *scheduler_lines(topic, schedulers),
        ]
        click.echo("\n".join(lines))
    if without_master(topic, reports) or lock_groups_without_master(topic, lock_reports):
        raise click.exceptions.Exit(1)


def as_document(topic: Topic, reports: Sequence[NodeReport]) -> dict[str, Any]:
    """Return the whole picture as plain values, ready for JSON."""
    return {
        "topic": {"id": topic.topic_id, "name": topic.topic_name},
        "nodes": [_node_document(report) for report in reports],
        "groups": [
            {
                "store_id": store.store_id,
                "group_id": group_id,
                "master_node_id": _node_id(master_of(reports, store.store_id, group_id)),
            }
            for store, group_id in groups_of(topic)
        ],
        "queues": [
            {
                "store_id": row.store_id,
                "queue_id": row.queue_id,
                "consumer_group_id": row.consumer_group_id,
                "first_cursor": row.first,
                "end_cursor": row.end,
                "acked": row.acked,
                "delivered": row.delivered,
                "backlog": row.items,
            }
            for row in backlogs(reports)
        ],
        "sums_complete": not untold(topic, reports) and not without_master(topic, reports),
        "sums": [{**asdict(one), "finished": one.finished, "enqueued": one.enqueued} for one in sums(topic, reports)],
    }


def _node_id(report: NodeReport | None) -> int | None:
    return None if report is None else report.node.node_id


def _node_document(report: NodeReport) -> dict[str, Any]:
    document: dict[str, Any] = {
        "store_id": report.store.store_id,
        "node_id": report.node.node_id,
        "address": report.node.address,
        "up": report.up,
    }
    if report.answer is None:
        return {**document, "reason": report.reason}
    facts = MessageToDict(report.answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    for told_elsewhere in ("queues", "store_id", "node_id"):
        facts.pop(told_elsewhere, None)
    return {**document, **_with_numbers(facts)}


def _with_numbers(value: Any) -> Any:
    """Protobuf writes 64-bit integers as text in JSON; ours but the incarnation are small enough to be numbers."""
    if isinstance(value, dict):
        texts = ("version", "incarnation")
        return {name: inner if name in texts else _with_numbers(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_with_numbers(inner) for inner in value]
    if isinstance(value, str) and value.lstrip("-").isdigit():
        return int(value)
    return value


def as_text(topic: Topic, reports: Sequence[NodeReport], *, all_queues: bool = False) -> list[str]:
    """Return the picture as tables."""
    up = sum(report.up for report in reports)
    lines = [f"topic {topic.topic_name}: {up} of {len(reports)} nodes up", ""]
    lines += _nodes(reports)
    lines += ["", *_replicas(topic, reports)]
    masterless = without_master(topic, reports)
    if len(masterless) < len(list(groups_of(topic))):
        lines += ["", *_queues(backlogs(reports), all_queues)]
        lines += ["", *sum_lines(sums(topic, reports))]
        left_out = [*masterless, *untold(topic, reports)]
        if left_out:
            places = ", ".join(f"store {store.store_id} group {group_id}" for store, group_id in left_out)
            lines += [f"  backlog and sums leave out {places}: no master with a lease has told of it; ask again"]
        lines += ["", *audit_lines(reports)]
    lines += _notices(reports)
    lines += alarm_lines(reports)
    for store, group_id in masterless:
        lines += ["", _no_master(reports, store.store_id, group_id, len(store.voters))]
    return lines


def _notices(reports: Sequence[NodeReport]) -> list[str]:
    """What the nodes want an operator to know, each thing once."""
    said: dict[str, list[str]] = {}
    for report in reports:
        for notice in report.answer.notices if report.answer is not None else ():
            said.setdefault(f"store {report.store.store_id}: {notice}", []).append(str(report.node.node_id))
    return [line for notice, nodes in said.items() for line in ("", f"{notice} (says node {', '.join(nodes)})")]


def _nodes(reports: Sequence[NodeReport]) -> list[str]:
    rows = []
    for report in reports:
        answer = report.answer
        node = f"store {report.store.store_id} node {report.node.node_id}"
        if answer is None:
            rows.append((node, report.node.address, "DOWN", "", "", "", report.reason))
            continue
        remark = "" if answer.accepting else "disk nearly full: refuses enqueues"
        rows.append(
            (
                node,
                report.node.address,
                "up",
                age(answer.uptime_s),
                size(answer.resident_bytes),
                size(answer.disk_free_bytes),
                remark,
            )
        )
    return table(("NODE", "ADDRESS", "STATE", "UPTIME", "MEMORY", "DISK FREE", ""), rows, left=3)


def _replicas(topic: Topic, reports: Sequence[NodeReport]) -> list[str]:
    rows: list[tuple[object, ...]] = []
    for store, group_id in groups_of(topic):
        master = master_of(reports, store.store_id, group_id)
        master_state = master.group(group_id) if master is not None else None
        for report in reports:
            if report.store.store_id != store.store_id:
                continue
            place = f"store {store.store_id} group {group_id}"
            state = report.group(group_id)
            if state is None:
                rows.append((place, report.node.node_id, "down", "", "", "", ""))
                continue
            role = "master" if report is master else report.node.kind if report.node.kind != "voter" else "follower"
            # A follower may have heard of more by the time the master answers: that is no lag.
            lag = "?" if master_state is None else max(master_state.chosen - state.applied, 0)
            begins = f"{state.first} (older entries are being fetched)" if state.incomplete else state.first
            rows.append((place, report.node.node_id, role, state.chosen, state.applied, lag, begins))
    return table(("PAXOS GROUP", "NODE", "ROLE", "CHOSEN", "APPLIED", "LAG", "LOG FROM"), rows, left=3)


def _queues(rows: Sequence[Backlog], all_queues: bool) -> list[str]:
    shown = [row for row in rows if all_queues or row.items]
    if not shown:
        count = len({(row.store_id, row.queue_id) for row in rows})
        return [f"  no backlog: everything in the {count} queues in use has been acknowledged (--all lists them)"]
    cells = [(_queue_name(row), row.consumer_group_id, row.first, row.end, row.acked, row.items) for row in shown]
    return table(("QUEUE", "CONSUMER GROUP", "FIRST", "END", "ACKED", "BACKLOG"), cells)


def _queue_name(row: Backlog) -> str:
    if row.queue_id >= DEAD_LETTER_BASE:
        return f"store {row.store_id} dead letters of pub {row.queue_id - DEAD_LETTER_BASE}"
    return f"store {row.store_id} queue {row.queue_id}"


def _no_master(reports: Sequence[NodeReport], store_id: int, group_id: int, voters: int) -> str:
    """Say what is wrong and what to do; what counts is whether a majority of the voters is there."""
    ours = [report for report in reports if report.store.store_id == store_id and report.node.kind != "learner"]
    up = sum(report.up for report in ours)
    majority = voters // 2 + 1
    if any(notice.startswith("first start") for one in ours if one.answer for notice in one.answer.notices):
        return f"store {store_id} group {group_id} has no master yet: see above what its first start waits for"
    if up >= majority:
        return f"store {store_id} group {group_id} has no master at this moment: an election is running, look again"
    down = ", ".join(report.node.address for report in ours if not report.up)
    return (
        f"store {store_id} group {group_id} has no master: {up} of {voters} nodes are up and {majority} are needed; "
        f"start one of {down}"
    )
