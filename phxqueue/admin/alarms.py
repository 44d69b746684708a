"""``phxqueue alarms``: what stands on stores and lock groups, and clearing what has been looked after."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click
from google.protobuf.json_format import MessageToDict

from phxqueue.admin import edge
from phxqueue.admin.audits import alarm_lines, node_name
from phxqueue.admin.clients import open_pool
from phxqueue.admin.context import ClusterContext, cluster_command
from phxqueue.admin.errors import AdminError
from phxqueue.admin.gather import gather
from phxqueue.admin.lock_status import LockReport, ask_lock_nodes
from phxqueue.admin.node_status import ANSWER_TIMEOUT_S, NodeReport, ask_all
from phxqueue.config import Topic
from phxqueue.net.address import Address
from phxqueue.net.pool import ConnectionPool
from phxqueue.proto.methods import CLEAR_ALARM
from phxqueue.proto.status_pb2 import ClearAlarmRequest


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--timeout", default=ANSWER_TIMEOUT_S, show_default=True, help="Seconds to wait for a node.")
@cluster_command
@click.pass_context
def alarms(context: click.Context, settings: ClusterContext, as_json: bool, timeout: float) -> None:
    """Show the alarms that stand on the nodes of the stores and lock groups, each with what to do.

    Exit status: 0, there are none; 1, there are some; 2, none, but a node does not answer.
    """
    if context.invoked_subcommand is not None:
        return
    reports = edge.run(lambda reactor: _ask(reactor, settings, timeout))
    click.echo(json.dumps(as_document(reports), indent=2) if as_json else "\n".join(as_text(reports)))
    if any(report.answer.alarms for report in reports if report.answer is not None):
        raise click.exceptions.Exit(1)
    if any(report.answer is None for report in reports):
        raise click.exceptions.Exit(2)


@alarms.command("clear")
@click.argument("names", nargs=-1, metavar="NAME...")
@click.option("--all", "everything", is_flag=True, help="All that stand.")
@click.option("--timeout", default=ANSWER_TIMEOUT_S, show_default=True, help="Seconds to wait for a node.")
@cluster_command
def clear_command(settings: ClusterContext, names: Sequence[str], everything: bool, timeout: float) -> None:
    """Clear alarms by their names, as they are shown: "mismatch store 1 queue 0 group 2".

    What is wrong still raises its alarm again.
    """
    if everything == bool(names):
        raise click.UsageError("name alarms, or say --all")

    async def main(reactor: Any) -> list[str]:
        cluster = settings.load()
        topic = settings.topic_of(cluster)
        pool = open_pool(reactor, cluster, topic, settings.tls_of(cluster))
        try:
            cleared: list[str] = []
            for report in await ask_nodes(pool, topic, timeout):
                standing = [] if report.answer is None else [one.name for one in report.answer.alarms]
                for name in standing if everything else set(standing) & set(names):
                    connection = await pool.connection(Address(report.node.ip, report.node.port))
                    await connection.call(CLEAR_ALARM, ClearAlarmRequest(name=name), timeout)
                    cleared.append(name)
                    click.echo(f"{node_name(report)}: cleared {name}")
            return cleared
        finally:
            await pool.close()

    missing = sorted(set(names) - set(edge.run(main)))
    if missing:
        raise AdminError(f"no node that answers has such an alarm: {', '.join(missing)}")


Report = NodeReport | LockReport


async def ask_nodes(pool: ConnectionPool, topic: Topic, timeout: float) -> list[Report]:
    """Ask every node of the topic's stores and lock groups at the same time."""
    both = await gather([_stores(pool, topic, timeout), _locks(pool, topic, timeout)])
    return [report for reports in both for report in reports]


async def _stores(pool: ConnectionPool, topic: Topic, timeout: float) -> list[Report]:
    return [*await ask_all(pool, topic, timeout)]


async def _locks(pool: ConnectionPool, topic: Topic, timeout: float) -> list[Report]:
    return [*await ask_lock_nodes(pool, topic, timeout)]


async def _ask(reactor: Any, settings: ClusterContext, timeout: float) -> list[Report]:
    cluster = settings.load()
    topic = settings.topic_of(cluster)
    pool = open_pool(reactor, cluster, topic, settings.tls_of(cluster))
    try:
        return await ask_nodes(pool, topic, timeout)
    finally:
        await pool.close()


def as_document(reports: Sequence[Report]) -> dict[str, Any]:
    """All of it as plain values, ready for JSON."""
    return {
        "alarms": [
            {
                **_set_id(report),
                "node_id": report.node.node_id,
                **MessageToDict(one, preserving_proto_field_name=True),
            }
            for report in reports
            if report.answer is not None
            for one in report.answer.alarms
        ],
        "silent": [{"node": node_name(report), "reason": report.reason} for report in reports if report.answer is None],
    }


def _set_id(report: Report) -> dict[str, int]:
    if isinstance(report, LockReport):
        return {"lock_id": report.lock.lock_id}
    return {"store_id": report.store.store_id}


def as_text(reports: Sequence[Report]) -> list[str]:
    """The same for people."""
    lines = alarm_lines(reports)[1:] or ["no alarm stands"]
    return lines + [
        f"{node_name(report)} does not answer: {report.reason}" for report in reports if report.answer is None
    ]
