"""Reconciliation as the nodes tell it: acknowledgements checked, and the alarms that stand. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from phxqueue.admin.lock_status import LockReport
from phxqueue.admin.node_status import NodeReport
from phxqueue.admin.table import table
from phxqueue.console.events import iso_time
from phxqueue.proto.status_pb2 import AlarmStatus

Row = tuple[str, int]
"""(pubs, consumer group id)"""


def audit_sums(reports: Sequence[NodeReport]) -> dict[Row, list[int]]:
    """By pubs and consumer group, over all nodes: agreed, disputed, refused, unclaimed, unchecked."""
    sums: dict[Row, list[int]] = {}
    for report in reports:
        for audit in report.answer.audits if report.answer is not None else ():
            row = sums.setdefault(("+".join(map(str, audit.pub_ids)), audit.consumer_group_id), [0] * 5)
            found = (audit.agreed, audit.disputed, audit.refused, audit.unclaimed, audit.unchecked)
            row[:] = map(int.__add__, row, found)
    return sums


def audit_lines(reports: Sequence[NodeReport]) -> list[str]:
    """Return them as a table."""
    sums = audit_sums(reports)
    if not sums:
        return ["  reconciliation: no acknowledgement was checked yet by the nodes that are up"]
    header = ("RECONCILED: PUB", "CONSUMER GROUP", "AGREED", "DISPUTED", "REFUSED", "UNCLAIMED", "UNCHECKED")
    return table(header, [(pub, group, *counts) for (pub, group), counts in sorted(sums.items())])


def node_name(report: NodeReport | LockReport) -> str:
    """What people call the node."""
    if isinstance(report, LockReport):
        return f"lock {report.lock.lock_id} node {report.node.node_id}"
    return f"store {report.store.store_id} node {report.node.node_id}"


def alarm_lines(reports: Sequence[NodeReport | LockReport]) -> list[str]:
    """Return the alarms that stand, each with what to do."""
    lines: list[str] = []
    for node, alarm in _alarms(reports):
        times = f"{alarm.count} times, " if alarm.count > 1 else ""
        pub = f" (pub {alarm.facts['pub']})" if "pub" in alarm.facts else ""
        lines += [
            "",
            f"ALARM of {node}: {alarm.name}{pub}, {times}last {iso_time(alarm.last)}",
            f"  {alarm.cause}.",
            f"  {alarm.remedy}.",
        ]
    return lines


def _alarms(reports: Sequence[NodeReport | LockReport]) -> Iterator[tuple[str, AlarmStatus]]:
    for report in reports:
        for alarm in report.answer.alarms if report.answer is not None else ():
            yield node_name(report), alarm
