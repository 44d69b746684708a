"""What the nodes of a topic's lock groups say about themselves. Pure but for `ask_lock_nodes`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from phxqueue.admin.gather import gather
from phxqueue.admin.table import age, size, table
from phxqueue.config import LockGroup, NodeAddress, Topic
from phxqueue.net.address import Address
from phxqueue.net.pool import ConnectionPool
from phxqueue.net.status import RpcError
from phxqueue.proto.methods import NODE_STATUS
from phxqueue.proto.status_pb2 import GroupStatus, LockTableStatus, NodeStatusRequest, NodeStatusResponse


@dataclass(frozen=True, slots=True)
class LockReport:
    """One lock node's answer, or why there is none."""

    lock: LockGroup
    node: NodeAddress
    answer: NodeStatusResponse | None
    reason: str = ""

    def group(self, group_id: int) -> GroupStatus | None:
        """What the node says about one of its Paxos groups."""
        groups = self.answer.groups if self.answer is not None else ()
        return next((group for group in groups if group.group_id == group_id), None)

    def table(self, group_id: int) -> LockTableStatus | None:
        """What it says of the table, when it is the group's master."""
        tables = self.answer.lock_tables if self.answer is not None else ()
        return next((one for one in tables if one.group_id == group_id), None)


async def ask_lock_nodes(
    pool: ConnectionPool, topic: Topic, timeout_s: float, *, state_hash: bool = False
) -> list[LockReport]:
    """Ask every node of every lock group of a topic at the same time, also for the hash of its replicated state."""
    request = NodeStatusRequest(topic_id=topic.topic_id, state_hash=state_hash)
    return await gather(_ask(pool, request, lock, node, timeout_s) for lock in topic.locks for node in lock.nodes)


async def _ask(
    pool: ConnectionPool, request: NodeStatusRequest, lock: LockGroup, node: NodeAddress, timeout_s: float
) -> LockReport:
    try:
        connection = await pool.connection(Address(node.ip, node.port))
        answer = await connection.call(NODE_STATUS, request, timeout_s)
    except RpcError as error:
        return LockReport(lock, node, None, error.message or str(error))
    return LockReport(lock, node, answer)


def lock_groups_without_master(topic: Topic, reports: Sequence[LockReport]) -> list[tuple[LockGroup, int]]:
    """The Paxos groups of lock groups that stand still.

    A lock group of which no node answers is not among them: nobody has to run one, and the tables say so.
    """
    return [
        (lock, group_id)
        for lock in topic.locks
        if any(report.answer is not None for report in _of(reports, lock))
        for group_id in range(lock.paxos_groups)
        if _master(reports, lock, group_id) is None
    ]


def lock_lines(topic: Topic, reports: Sequence[LockReport]) -> list[str]:
    """The picture as tables; nothing when the topic has no lock groups."""
    lines: list[str] = []
    for lock in topic.locks:
        ours = _of(reports, lock)
        if all(report.answer is None for report in ours):
            lines += ["", f"lock group {lock.lock_id}: not running (none of its {len(ours)} nodes answers)"]
            continue
        lines += ["", *_nodes(lock, ours), "", *_replicas(lock, ours)]
    for lock, group_id in lock_groups_without_master(topic, reports):
        up = sum(report.answer is not None for report in _of(reports, lock))
        needed = len(lock.voters) // 2 + 1
        lines += [
            "",
            f"lock group {lock.lock_id} group {group_id} has no master: {up} of {len(lock.nodes)} nodes are up, "
            f"{needed} are needed" + ("; an election is running, look again" if up >= needed else ""),
        ]
    return lines


def lock_documents(reports: Sequence[LockReport]) -> list[dict[str, Any]]:
    """The same as plain values, ready for JSON: one per node."""
    return [_document(report) for report in reports]


def _document(report: LockReport) -> dict[str, Any]:
    document: dict[str, Any] = {
        "lock_id": report.lock.lock_id,
        "node_id": report.node.node_id,
        "address": report.node.address,
        "up": report.answer is not None,
    }
    if report.answer is None:
        return {**document, "reason": report.reason}
    groups = [
        {
            "group_id": group.group_id,
            "is_master": group.is_master,
            "chosen": group.chosen,
            "applied": group.applied,
            **_counts(report.table(group.group_id)),
        }
        for group in report.answer.groups
    ]
    return {**document, "version": report.answer.version, "uptime_s": report.answer.uptime_s, "groups": groups}


def _counts(of: LockTableStatus | None) -> dict[str, int]:
    if of is None:
        return {}
    return {
        "locks": of.locks,
        "strings": of.strings,
        "bytes": of.bytes,
        "waiters": of.waiters,
        "watches": of.watches,
    }


def _of(reports: Sequence[LockReport], lock: LockGroup) -> list[LockReport]:
    return [report for report in reports if report.lock.lock_id == lock.lock_id]


def _master(reports: Sequence[LockReport], lock: LockGroup, group_id: int) -> LockReport | None:
    """Who says it is master; of two (one has not noticed yet) the newer one."""
    claims = {
        group.ballot: report
        for report in _of(reports, lock)
        if (group := report.group(group_id)) is not None and group.is_master
    }
    return claims[max(claims)] if claims else None


def _nodes(lock: LockGroup, reports: Sequence[LockReport]) -> list[str]:
    rows: list[tuple[object, ...]] = []
    for report in reports:
        answer, node = report.answer, f"lock {lock.lock_id} node {report.node.node_id}"
        if answer is None:
            rows.append((node, report.node.address, "DOWN", "", "", "", report.reason))
            continue
        remark = "" if answer.accepting else "disk nearly full: nothing new is taken in"
        facts = age(answer.uptime_s), size(answer.resident_bytes), size(answer.disk_free_bytes)
        rows.append((node, report.node.address, "up", *facts, remark))
    return table(("NODE", "ADDRESS", "STATE", "UPTIME", "MEMORY", "DISK FREE", ""), rows, left=3)


def _replicas(lock: LockGroup, reports: Sequence[LockReport]) -> list[str]:
    rows: list[tuple[object, ...]] = []
    for group_id in range(lock.paxos_groups):
        master = _master(reports, lock, group_id)
        master_state = master.group(group_id) if master is not None else None
        for report in reports:
            place, state = f"lock {lock.lock_id} group {group_id}", report.group(group_id)
            if state is None:
                rows.append((place, report.node.node_id, "down", "", "", "", "", "", ""))
                continue
            role = "master" if report is master else report.node.kind if report.node.kind != "voter" else "follower"
            lag = "?" if master_state is None else max(master_state.chosen - state.applied, 0)
            has = report.table(group_id) if report is master else None
            counts = ("", "", "", "") if has is None else (has.locks, has.strings, has.waiters, has.watches)
            rows.append((place, report.node.node_id, role, state.applied, lag, *counts))
    head = ("PAXOS GROUP", "NODE", "ROLE", "APPLIED", "LAG", "LOCKS", "STRINGS", "WAITERS", "WATCHES")
    return table(head, rows, left=3)
