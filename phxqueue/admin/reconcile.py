"""``phxqueue reconcile``: whether what went in came out, from the ledgers of all stores."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from phxqueue.admin import edge
from phxqueue.admin.context import ClusterContext, cluster_command
from phxqueue.admin.errors import AdminError

if TYPE_CHECKING:
    from phxqueue.admin.ledgers import Wanted
    from phxqueue.config import Topic
    from phxqueue.reconcile.rows import Picture

TIMEOUT_S = 5.0


@click.group(invoke_without_command=True)
@click.option("--since", metavar="TIME", help="Only items stored from then on: 2026-01-31T12:00, or an age such as 1h.")
@click.option("--pub", type=int, default=0, help="Only this pub.")
@click.option("--group", type=int, default=0, help="Only this consumer group.")
@click.option("--minutes", is_flag=True, help="A line for every minute.")
@click.option("--watch", type=click.FloatRange(0.1), metavar="SECONDS", help="Show it again and again, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Everything the ledgers say, for programs.")
@click.option("--timeout", default=TIMEOUT_S, show_default=True, help="Seconds to wait for a store.")
@cluster_command
@click.pass_context
def reconcile(
    context: click.Context,
    settings: ClusterContext,
    since: str | None,
    pub: int,
    group: int,
    minutes: bool,
    watch: float | None,
    as_json: bool,
    timeout: float,
) -> None:
    """Show, by pub and consumer group, what was produced, stored, delivered and finished. The last column is zero
    when all is well.

    Exit status: 0, the ledgers balance; 1, they do not; 2, nobody can tell, for a part of them is missing.
    """
    if context.invoked_subcommand is not None:
        return
    from phxqueue.admin.ledger_view import as_document, as_text
    from phxqueue.admin.ledgers import Wanted

    def show(picture: Picture) -> None:
        click.echo(json.dumps(as_document(picture)) if as_json else "\n".join(as_text(picture, minutes=minutes)))

    topic = settings.topic_of(settings.load())
    wanted = Wanted(_since_minute(since), pub, group)
    picture = _run(settings, topic, wanted, timeout, watch, show)
    if picture.difference:
        raise click.exceptions.Exit(1)
    if picture.missing:
        raise click.exceptions.Exit(2)


def _since_minute(since: str | None) -> int:
    from phxqueue.admin.times import parse_time

    return 0 if since is None else parse_time(since, time.time()) // 60_000


def _run(
    settings: ClusterContext,
    topic: Topic,
    wanted: Wanted,
    timeout: float,
    watch: float | None,
    show: Callable[[Picture], None],
) -> Picture:
    from phxqueue.admin.ledgers import ask_ledgers

    cluster = settings.load()

    async def main(reactor: Any) -> Picture:
        from twisted.internet.task import deferLater

        from phxqueue.admin.clients import open_master_client, open_pool

        pool = open_pool(reactor, cluster, topic, settings.tls_of(cluster))
        try:
            caller = open_master_client(reactor, cluster, topic, pool)
            while True:
                picture = await ask_ledgers(caller, topic, wanted, timeout)
                if watch is not None:
                    click.echo(time.strftime("%H:%M:%S"), err=True)
                show(picture)
                if watch is None:
                    return picture
                await deferLater(reactor, watch)
        finally:
            await pool.close()

    return edge.run(main)


@reconcile.command("verify")
@click.option("--store", type=int, required=True, help="The store.")
@click.option("--queue", type=int, required=True, help="The queue.")
@click.option("--from", "start", type=click.IntRange(0), default=0, help="First cursor [default: the oldest there is].")
@click.option("--to", "stop", type=click.IntRange(0), default=0, help="One past the last cursor [default: the end].")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--timeout", default=30.0, show_default=True, help="Seconds to wait for one answer of a node.")
@cluster_command
def verify_command(
    settings: ClusterContext, store: int, queue: int, start: int, stop: int, as_json: bool, timeout: float
) -> None:
    """Recompute the digests of what every replica has of a queue, from the bytes in its log.

    Exit status: 0, all replicas agree with their index and with each other; 1, one does not; 2, one did not answer.
    """
    from phxqueue.admin.verifying import verdict_of, verified

    cluster = settings.load()
    topic = settings.topic_of(cluster)
    if store not in {one.store_id for one in topic.stores}:
        raise AdminError(f"topic {topic.topic_name} has no store {store}")

    async def main(reactor: Any) -> Any:
        from phxqueue.admin.clients import open_pool

        pool = open_pool(reactor, cluster, topic, settings.tls_of(cluster))
        try:
            return await verified(pool, topic, topic.store(store), queue, start, stop, timeout)
        finally:
            await pool.close()

    reports = edge.run(main)
    lines, exit_status = verdict_of(reports)
    click.echo(json.dumps([report.as_document() for report in reports]) if as_json else "\n".join(lines))
    if exit_status:
        raise click.exceptions.Exit(exit_status)
