"""``phxqueue lag``: how far behind each consumer group is, and when it will have caught up.

Stores say where queues end, what is acknowledged and how old the oldest item waiting is. Two looks, some seconds apart,
give the rates.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import click
from twisted.internet.task import deferLater

from phxqueue.admin import edge
from phxqueue.admin.clients import open_master_client, open_pool
from phxqueue.admin.context import ClusterContext, cluster_command
from phxqueue.admin.limits import TopicSettingsClient
from phxqueue.admin.node_status import (
    ANSWER_TIMEOUT_S,
    Backlog,
    NodeReport,
    ask_until_told,
    backlogs,
    untold,
    without_master,
)
from phxqueue.admin.table import age, table
from phxqueue.config import DEAD_LETTER_BASE, Topic
from phxqueue.consumer.throttle_settings import read_throttle
from phxqueue.net.routing import MasterClient
from phxqueue.net.status import RpcError

Pauses = frozenset[tuple[int, int]]
"""(consumer group id, pub id) that `phxqueue pause` holds back."""


@dataclass(frozen=True, slots=True)
class Lag:
    """One queue of one consumer group, or several together (store_id and queue_id are None then).

    Attributes:
        backlog: items that are not acknowledged.
        oldest_s: age of the oldest of them, since its enqueue for this attempt; None: there is none.
        rate_in, rate_out: items per second enqueued, and acknowledged, between the two looks.
        paused: `phxqueue pause` holds all of it (all pubs that it belongs to); partly: some of it.
    """

    consumer_group_id: int
    store_id: int | None
    queue_id: int | None
    backlog: int
    oldest_s: float | None
    rate_in: float
    rate_out: float
    paused: bool = False
    partly: bool = False

    @property
    def drain_s(self) -> float | None:
        """When there will be no backlog, if rates stay as they are; None: never."""
        if not self.backlog:
            return 0.0
        gain = self.rate_out - self.rate_in
        return self.backlog / gain if gain > 1e-9 else None


@click.command()
@click.option("--group", "groups", type=int, multiple=True, help="Only this consumer group (may be given again).")
@click.option("--queue", "queues", type=int, multiple=True, help="Only queues of this number (may be given again).")
@click.option("--all", "everything", is_flag=True, help="Queues without backlog and without traffic too.")
@click.option(
    "--interval",
    default=2.0,
    show_default=True,
    type=click.FloatRange(0.1, 3600.0),
    help="Seconds between the two looks.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--timeout", default=ANSWER_TIMEOUT_S, show_default=True, help="Seconds to wait for a node.")
@cluster_command
def lag(
    settings: ClusterContext,
    groups: Sequence[int],
    queues: Sequence[int],
    everything: bool,
    interval: float,
    as_json: bool,
    timeout: float,
) -> None:
    """Show backlog, age of the oldest item, rates and time to drain, per consumer group and queue.

    Exit status 1 when a Paxos group has no master that can tell: what it holds is not counted.
    """
    cluster = settings.load()
    topic = settings.topic_of(cluster)
    tls = settings.tls_of(cluster)

    async def main(reactor: Any) -> tuple[list[NodeReport], list[NodeReport], float, Pauses | None]:
        pool = open_pool(reactor, cluster, topic, tls)
        try:
            first, began = await ask_until_told(reactor, pool, topic, timeout), reactor.seconds()
            await deferLater(reactor, interval)
            second = await ask_until_told(reactor, pool, topic, timeout)
            seconds = reactor.seconds() - began
            return (
                first,
                second,
                seconds,
                await _pauses(open_master_client(reactor, cluster, topic, pool), topic, timeout),
            )
        finally:
            await pool.close()

    first, second, seconds, pauses = edge.run(main)
    found = [
        each
        for each in with_pauses(topic, lags(backlogs(first), backlogs(second), seconds), pauses or frozenset())
        if (not groups or each.consumer_group_id in groups) and (not queues or each.queue_id in queues)
    ]
    if as_json:
        click.echo(json.dumps(as_document(topic, found), indent=2))
    else:
        click.echo("\n".join(as_text(found, everything=everything)))
    if pauses is None:
        click.echo("what is paused is not known: the store that keeps it does not answer", err=True)
    missing = left_out(topic, second)
    for line in missing:
        click.echo(line, err=True)
    if missing:
        raise click.exceptions.Exit(1)


def left_out(topic: Topic, reports: Sequence[NodeReport]) -> list[str]:
    """Say of which Paxos groups nobody has told what they hold."""
    whys = [
        *((place, "has no master") for place in without_master(topic, reports)),
        *((place, "has a master without a lease, look again") for place in untold(topic, reports)),
    ]
    return [f"store {store.store_id} group {group} {why}: its queues are missing here" for (store, group), why in whys]


async def _pauses(caller: MasterClient, topic: Topic, timeout_s: float) -> Pauses | None:
    """What is paused; None: nobody can say."""
    try:
        settings = await TopicSettingsClient(topic, caller).read(timeout_s)
    except RpcError:
        return None
    return read_throttle(settings)[0].paused


def with_pauses(topic: Topic, found: Iterable[Lag], pauses: Pauses) -> list[Lag]:
    """Note which queues are paused: of groups that only the stores know, too, as far as our files have their queues."""
    pubs_of = {pub.pub_id: frozenset(topic.queues_of_pub(pub.pub_id)) for pub in topic.pubs}
    in_files = {group.consumer_group_id for group in topic.consumer_groups}
    noted = []
    for one in found:
        group = one.consumer_group_id
        states = [
            (group, pub.pub_id) in pauses
            for pub in topic.pubs
            if one.queue_id in pubs_of[pub.pub_id] and (group in pub.consumer_group_ids or group not in in_files)
        ]
        noted.append(replace(one, paused=bool(states) and all(states), partly=any(states) and not all(states)))
    return noted


def lags(first: Iterable[Backlog], second: Iterable[Backlog], seconds: float) -> list[Lag]:
    """Compare two looks; dead letters are nobody's backlog."""
    before = {(row.store_id, row.queue_id, row.consumer_group_id): row for row in first}
    found = []
    for row in second:
        if row.queue_id >= DEAD_LETTER_BASE:
            continue
        old = before.get((row.store_id, row.queue_id, row.consumer_group_id), row)
        found.append(
            Lag(
                consumer_group_id=row.consumer_group_id,
                store_id=row.store_id,
                queue_id=row.queue_id,
                backlog=row.items,
                oldest_s=row.oldest_s if row.items else None,
                rate_in=max(0, row.end - old.end) / seconds,
                rate_out=max(0, row.acked - old.acked) / seconds,
            )
        )
    return sorted(found, key=lambda each: (each.consumer_group_id, each.store_id or 0, each.queue_id or 0))


def total(parts: Sequence[Lag], consumer_group_id: int) -> Lag:
    """All queues of a group together."""
    ages = [part.oldest_s for part in parts if part.oldest_s is not None]
    behind = [part for part in parts if part.backlog]
    paused = bool(behind) and all(part.paused for part in behind)
    return Lag(
        consumer_group_id=consumer_group_id,
        store_id=None,
        queue_id=None,
        backlog=sum(part.backlog for part in parts),
        oldest_s=max(ages, default=None),
        rate_in=sum(part.rate_in for part in parts),
        rate_out=sum(part.rate_out for part in parts),
        paused=paused,
        partly=not paused and any(part.paused or part.partly for part in behind),
    )


def as_document(topic: Topic, found: Sequence[Lag]) -> dict[str, Any]:
    """Return it as plain values, ready for JSON; `drain_s` null: never."""
    return {
        "topic": topic.topic_name,
        "groups": [
            {
                **_plain(total(parts, group_id)),
                "queues": [_plain(part) for part in parts],
            }
            for group_id, parts in _groups(found)
        ],
    }


def _plain(one: Lag) -> dict[str, Any]:
    shown = {name: value for name, value in asdict(one).items() if value is not None or name == "oldest_s"}
    return {**shown, "drain_s": one.drain_s}


def _groups(found: Sequence[Lag]) -> list[tuple[int, list[Lag]]]:
    ids = sorted({each.consumer_group_id for each in found})
    return [(group_id, [each for each in found if each.consumer_group_id == group_id]) for group_id in ids]


def as_text(found: Sequence[Lag], *, everything: bool = False) -> list[str]:
    """Return it as a table: each group, then its queues."""
    rows: list[tuple[object, ...]] = []
    for group_id, parts in _groups(found):
        rows.append(_row(f"group {group_id}", total(parts, group_id)))
        shown = [part for part in parts if everything or part.backlog or part.rate_in or part.rate_out]
        rows += [_row(f"  store {part.store_id} queue {part.queue_id}", part) for part in shown]
    if not rows:
        return ["  nothing has been enqueued yet"]
    return table(("GROUP / QUEUE", "BACKLOG", "OLDEST", "IN/s", "OUT/s", "DRAINED IN"), rows)


def _row(name: str, one: Lag) -> tuple[object, ...]:
    oldest = "" if one.oldest_s is None else age(one.oldest_s)
    return name, one.backlog, oldest, f"{one.rate_in:.1f}", f"{one.rate_out:.1f}", _drained(one)


def _drained(one: Lag) -> str:
    if not one.backlog:
        return ""
    if one.drain_s is not None:
        return age(one.drain_s)
    return "paused" if one.paused else "partly paused" if one.partly else "never"
