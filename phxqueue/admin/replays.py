"""``phxqueue replay``: have a consumer group read again what it has been done with.

A replay concerns every Paxos group in which the pub has queues: each is a log of its own, and each carries it out once.
The command asks all of them first what would become of it, so that one that refuses (the target has been trimmed) stops
the whole; then it sends the replay to each, under one id. A command that broke off is given again with the same id:
what has happened is not repeated, the rest follows.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from phxqueue.admin.calling import with_caller
from phxqueue.admin.context import ClusterContext, cluster_command
from phxqueue.admin.errors import AdminError
from phxqueue.admin.replay_view import Progress, as_documents, as_text, merged, queue_lines
from phxqueue.admin.times import is_age, parse_time
from phxqueue.config import Topic

if TYPE_CHECKING:
    from phxqueue.net.routing import Caller
    from phxqueue.net.status import RpcError
    from phxqueue.proto.store_pb2 import ReplayRequest

DEADLINE_S = 10.0
#: Between two looks of `--wait`, in seconds.
LOOK_S = 1.0

Place = tuple[int, int]
"""(store id, Paxos group)"""


@click.group(invoke_without_command=True)
@click.option("--group", "consumer_group_id", type=int, help="The consumer group to move.")
@click.option("--pub", "pub_id", type=int, help="The pub in whose queues.")
@click.option(
    "--to-time",
    metavar="TIME",
    help="To the first item stored then or later: ISO 8601 (UTC unless it says otherwise), Unix seconds, an age "
    "such as 90s, 15m, 2h, 3d, or `earliest` for everything there is.",
)
@click.option("--to-cursor", type=click.IntRange(0), help="To this cursor; needs --queue.")
@click.option("--store", "store_id", type=int, help="Only in this store [default: all of the pub].")
@click.option("--queue", "queue_id", type=int, help="Only this queue [default: all of the pub's attempt chain].")
@click.option("--id", "replay_id", metavar="ID", help="Its id; one that was used has happened [default: a new one].")
@click.option("--skip", is_flag=True, help="Move forward as well: what lies between counts as done, unread.")
@click.option("--dry-run", is_flag=True, help="Only show what would be moved.")
@click.option("--wait", is_flag=True, help="Stay until everything was acknowledged again, showing how far it is.")
@click.pass_context
@cluster_command
def replay(settings: ClusterContext, /, *args: Any, **options: Any) -> None:
    """Have a consumer group read again: from a time, or from a cursor of one queue.

    Other groups, and what they still have to read, are not touched. Only what is retained can be read again.
    """
    context = click.get_current_context()
    if context.invoked_subcommand is not None:
        return
    order = _order(**options)
    topic = settings.topic_of(settings.load())
    places = places_of(topic, order.pub_id, options["store_id"], order.queue_id)

    async def main(caller: Caller) -> list[Progress]:
        meant = await _as_before(caller, topic, places, order) if options["replay_id"] else order
        moved = await _carry_out(caller, topic, places, meant, dry_run=options["dry_run"])
        while options["wait"] and not options["dry_run"] and any(one.left for one in moved):
            click.echo(f"{sum(one.left for one in moved)} items left", err=True)
            await _sleep(LOOK_S)
            moved = await read(caller, topic, places, order.replay_id)
        return moved

    if not options["dry_run"]:
        click.echo(f"replay {order.replay_id}", err=True)
    moved = with_caller(settings, topic, main)
    lines = queue_lines(moved, planned=options["dry_run"]) if any(one.queues for one in moved) else ["nothing to move"]
    click.echo("\n".join(lines))


@replay.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@cluster_command
def list_command(settings: ClusterContext, as_json: bool) -> None:
    """Show the replays that are remembered, and how far each has come."""
    _show(settings, "", as_json)


@replay.command()
@click.argument("replay_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@cluster_command
def show(settings: ClusterContext, replay_id: str, as_json: bool) -> None:
    """Show one replay, queue by queue."""
    _show(settings, replay_id, as_json)


def _show(settings: ClusterContext, replay_id: str, as_json: bool) -> None:
    topic = settings.topic_of(settings.load())
    places = [(store.store_id, group) for store in topic.stores for group in range(store.paxos_groups)]
    found = with_caller(settings, topic, lambda caller: read(caller, topic, places, replay_id))
    if replay_id and not found:
        raise AdminError(
            f"no store knows a replay {replay_id!r} (`phxqueue replay list` shows those that are remembered)"
        )
    if as_json:
        click.echo(json.dumps(as_documents(found), indent=2))
    else:
        click.echo("\n".join(as_text(found, each_queue=bool(replay_id))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the options ask for; `to_time_ms` 0: the earliest there is; `by_age`: said as an age."""

    replay_id: str
    consumer_group_id: int
    pub_id: int
    queue_id: int | None
    to_cursor: int | None
    to_time_ms: int
    skip: bool
    by_age: bool = False

    def request(self, topic: Topic, place: Place, *, dry_run: bool) -> ReplayRequest:
        """The part of one Paxos group."""
        from phxqueue.proto.store_pb2 import ReplayRequest

        request = ReplayRequest(
            topic_id=topic.topic_id, store_id=place[0], paxos_group=place[1], id=self.replay_id,
            consumer_group_id=self.consumer_group_id, pub_id=self.pub_id, skip=self.skip, dry_run=dry_run,
        )  # fmt: skip
        if self.queue_id is not None:
            request.queue_id = self.queue_id
        if self.to_cursor is not None:
            request.to_cursor = self.to_cursor
        elif self.to_time_ms:
            request.to_time_ms = self.to_time_ms
        else:
            request.to_earliest = True
        return request


def _order(
    *,
    consumer_group_id: int | None,
    pub_id: int | None,
    to_time: str | None,
    to_cursor: int | None,
    queue_id: int | None,
    replay_id: str | None,
    skip: bool,
    **_: Any,
) -> Order:
    if consumer_group_id is None or pub_id is None:
        raise click.UsageError("say whom and what: --group and --pub")
    if (to_time is None) == (to_cursor is None):
        raise click.UsageError("say where to: --to-time or --to-cursor")
    if to_cursor is not None and queue_id is None:
        raise click.UsageError("a cursor means something in one queue only: give --queue, or use --to-time")
    return Order(
        replay_id=replay_id or f"{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}",
        consumer_group_id=consumer_group_id,
        pub_id=pub_id,
        queue_id=queue_id,
        to_cursor=to_cursor,
        to_time_ms=0 if to_time in (None, "earliest") else parse_time(str(to_time), time.time()),
        skip=skip,
        by_age=is_age(to_time or ""),
    )


def places_of(topic: Topic, pub_id: int, store_id: int | None, queue_id: int | None) -> list[Place]:
    """The Paxos groups that hold the queues of a pub.

    Raises:
        ConfigError: no such pub or store.
        AdminError: the queue is not the pub's, or no such store has it.
    """
    queues = topic.queues_of_pub(pub_id)
    if queue_id is not None and queue_id not in queues:
        raise AdminError(f"queue {queue_id} is not in the attempt chain of pub {pub_id}: see topicconfig.conf")
    stores = topic.stores_of_pub(pub_id)
    if store_id is not None:
        topic.store(store_id)
        stores = tuple(store for store in stores if store.store_id == store_id)
    if not stores:
        raise AdminError(f"store {store_id} does not serve pub {pub_id}: see pub_ids in storeconfig.conf")
    wanted = queues if queue_id is None else (queue_id,)
    return [
        (store.store_id, group)
        for store in stores
        for group in sorted({store.group_of_queue(queue) for queue in wanted})
    ]


async def _as_before(caller: Caller, topic: Topic, places: Sequence[Place], order: Order) -> Order:
    """The order as it was given for the first time: an age means another time by now."""
    for one in await read(caller, topic, places, order.replay_id):
        if order.to_time_ms and one.asked.WhichOneof("target") == "to_time_ms" and order.by_age:
            return replace(order, to_time_ms=one.asked.to_time_ms)
    return order


async def _carry_out(
    caller: Caller, topic: Topic, places: Sequence[Place], order: Order, *, dry_run: bool
) -> list[Progress]:
    """Ask everybody, then do it everywhere; AdminError tells what was refused, and whether anything has happened."""
    would, refused = await _send(caller, topic, places, order, dry_run=True)
    if refused:
        raise AdminError("nothing was moved: " + "; ".join(refused))
    if dry_run:
        return would
    moved, refused = await _send(caller, topic, places, order, dry_run=False)
    if refused:
        done = sum(len(one.queues) for one in moved)
        raise AdminError(
            f"{done} queues were moved, and these not: {'; '.join(refused)}. The same command with "
            f"--id {order.replay_id} goes on with the rest"
        )
    return moved


async def _send(
    caller: Caller, topic: Topic, places: Sequence[Place], order: Order, *, dry_run: bool
) -> tuple[list[Progress], list[str]]:
    from phxqueue.net.status import RpcError
    from phxqueue.proto.methods import REPLAY

    found, refused = [], []
    for place in places:
        request = order.request(topic, place, dry_run=dry_run)
        try:
            answer = await _call(caller, topic, place, REPLAY, request)
        except RpcError as error:
            refused.append(_told(place, error))
        else:
            found.append((place[0], answer.replay))
    return merged(found), refused


def _told(place: Place, error: RpcError) -> str:
    return f"store {place[0]} Paxos group {place[1]}: {error.message}"


async def read(caller: Caller, topic: Topic, places: Sequence[Place], replay_id: str) -> list[Progress]:
    """What the stores remember of a replay, or ("") of all, the oldest first. Raises RpcError."""
    from phxqueue.proto.methods import LIST_REPLAYS
    from phxqueue.proto.store_pb2 import ListReplaysRequest

    found = []
    for place in places:
        request = ListReplaysRequest(topic_id=topic.topic_id, store_id=place[0], paxos_group=place[1], id=replay_id)
        answer = await _call(caller, topic, place, LIST_REPLAYS, request)
        found += [(place[0], one) for one in answer.replays]
    return merged(found)


def _call(caller: Caller, topic: Topic, place: Place, method: Any, request: Any) -> Any:
    from phxqueue.producer.routes import store_route

    return caller.call(store_route(topic, *place), method, request, DEADLINE_S, try_timeout_s=DEADLINE_S / 4)


async def _sleep(seconds: float) -> None:
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    await deferLater(reactor, seconds)
