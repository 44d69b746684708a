"""What the schedulers of a topic say of themselves and of the consumers. Pure but for `ask_schedulers`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from phxqueue.admin.gather import gather
from phxqueue.admin.table import age, table
from phxqueue.config import NodeAddress, Topic
from phxqueue.config.reporters import reporters
from phxqueue.net.address import Address
from phxqueue.net.pool import ConnectionPool
from phxqueue.net.status import RpcError
from phxqueue.proto.methods import SCHEDULER_STATUS
from phxqueue.proto.scheduler_pb2 import ConsumerStatus, SchedulerStatusRequest, SchedulerStatusResponse


@dataclass(frozen=True, slots=True)
class SchedulerReport:
    """One scheduler's answer, or why there is none."""

    node: NodeAddress
    answer: SchedulerStatusResponse | None
    reason: str = ""


async def ask_schedulers(pool: ConnectionPool, topic: Topic, timeout_s: float) -> list[SchedulerReport]:
    """Ask every scheduler of a topic at the same time."""
    return await gather(_ask(pool, topic, node, timeout_s) for node in topic.scheduler)


async def _ask(pool: ConnectionPool, topic: Topic, node: NodeAddress, timeout_s: float) -> SchedulerReport:
    try:
        connection = await pool.connection(Address(node.ip, node.port))
        answer = await connection.call(SCHEDULER_STATUS, SchedulerStatusRequest(topic_id=topic.topic_id), timeout_s)
    except RpcError as error:
        return SchedulerReport(node, None, error.message or str(error))
    return SchedulerReport(node, answer)


def scheduler_master(reports: Sequence[SchedulerReport]) -> SchedulerReport | None:
    """Who says it is the master; of two (one has not noticed yet) the newer one."""
    claims = {report.answer.term: report for report in reports if report.answer is not None and report.answer.is_master}
    return claims[max(claims)] if claims else None


def scheduler_lines(topic: Topic, reports: Sequence[SchedulerReport]) -> list[str]:
    """The picture as tables; nothing when the topic has no schedulers."""
    if not reports:
        return []
    if all(report.answer is None for report in reports):
        count = len(reports)
        return ["", f"schedulers: not running (none of {count} answers); consumers keep the queues that they have"]
    master = scheduler_master(reports)
    rows: list[tuple[object, ...]] = []
    for report in reports:
        answer = report.answer
        if answer is None:
            rows.append((f"scheduler {report.node.address}", "DOWN", "", "", report.reason))
        else:
            role = "master" if report is master else "stands by"
            since = age(answer.master_s) if report is master else ""
            rows.append((f"scheduler {report.node.address}", role, age(answer.uptime_s), since, ""))
    lines = ["", *table(("NODE", "ROLE", "UPTIME", "MASTER FOR", ""), rows, left=2)]
    if master is None or master.answer is None:
        return [*lines, "", "no scheduler is the master yet: consumers keep the queues they have"]
    static = {one.address for one in topic.consumers} - {one.address for one in reporters(topic)}
    if not master.answer.version and any(one.consumer not in static for one in master.answer.consumers):
        lines += ["", "the master has not heard all consumers yet: weights follow"]
    lines += ["", *_consumers(master.answer.consumers, static)]
    if static:
        lines += [
            "",
            "  static: its groups have use_dynamic_scale: 0; it has queues by its SCALE, and reports to no scheduler",
        ]
    return lines


def _consumers(consumers: Sequence[ConsumerStatus], static: Collection[str]) -> list[str]:
    rows: list[tuple[object, ...]] = []
    for one in consumers:
        if one.consumer in static and not one.alive:
            rows.append((one.consumer, "static", one.scale, "", "", "", "", ""))
            continue
        if not one.HasField("silent_s"):
            rows.append((one.consumer, "not heard", one.scale, one.weight, "", "", "", ""))
            continue
        state = "alive" if one.alive else f"silent for {age(one.silent_s)}"
        load = f"{one.load:.0f} %" if one.HasField("load") else ""
        told = (load, f"{one.slots:.0f} %", one.queues, one.backlog) if one.alive else ("", "", "", "")
        rows.append((one.consumer, state, one.scale, one.weight, *told))
    return table(("CONSUMER", "STATE", "SCALE", "WEIGHT", "LOAD", "SLOTS", "QUEUES", "BEHIND"), rows, left=2)


def scheduler_documents(reports: Sequence[SchedulerReport]) -> list[dict[str, Any]]:
    """The same as plain values, ready for JSON: one per scheduler."""
    return [_document(report) for report in reports]


def _document(report: SchedulerReport) -> dict[str, Any]:
    answer = report.answer
    document: dict[str, Any] = {"address": report.node.address, "up": answer is not None}
    if answer is None:
        return {**document, "reason": report.reason}
    document |= {"is_master": answer.is_master, "uptime_s": answer.uptime_s}
    if not answer.is_master:
        return document
    return {
        **document,
        "term": answer.term,
        "version": answer.version,
        "master_s": answer.master_s,
        "limits": answer.limits,
        "consumers": [
            {
                "consumer": one.consumer,
                "scale": one.scale,
                "weight": one.weight,
                "alive": one.alive,
                "load": one.load if one.HasField("load") else None,
                "slots": one.slots,
                "queues": one.queues,
                "backlog": one.backlog,
                "silent_s": one.silent_s if one.HasField("silent_s") else None,
            }
            for one in answer.consumers
        ],
    }
