"""``phxqueue halves``: half messages that nobody has decided yet, and deciding by hand."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import click

from phxqueue.admin.calling import with_caller
from phxqueue.admin.context import ClusterContext, cluster_command
from phxqueue.admin.delayed import DEADLINE_S, PAGE
from phxqueue.admin.errors import AdminError
from phxqueue.admin.rendering import utc_time
from phxqueue.admin.table import age, size, table

if TYPE_CHECKING:
    from phxqueue.config import Topic
    from phxqueue.net.routing import Caller, Route
    from phxqueue.producer.halves import HalfId
    from phxqueue.proto.store_pb2 import DecideHalfResponse, HalfMessage

STATES = ("undecided", "committed", "rolled back", "rolled back by the store, because nobody decided in time")


@click.group()
def halves() -> None:
    """List half messages (prepared and not decided), show one, and commit or roll back by hand."""


@halves.command("list")
@click.option("--pub", type=int, help="Only half messages of this pub.")
@click.option("--name", help="Only half messages of producers of this name.")
@click.option("--count", default=100, show_default=True, type=click.IntRange(1), help="Show so many of each store.")
@click.option("--expired", is_flag=True, help="Those that the store rolled back because nobody decided in time.")
@cluster_command
def list_command(settings: ClusterContext, pub: int | None, name: str | None, count: int, expired: bool) -> None:
    """Show what is prepared and undecided, the oldest first, with the ids that the other commands take."""
    topic = settings.topic_of(settings.load())

    async def main(caller: Caller) -> None:
        rows: list[tuple[object, ...]] = []
        now_ms = time.time() * 1000
        for store in topic.stores:
            found: list[HalfMessage] = []
            for group in range(store.paxos_groups):
                left = count
                async for one in undecided(caller, topic, store.store_id, group, expired=expired):
                    if (pub is None or one.pub_id == pub) and (name is None or one.prepared_by == name):
                        found.append(one)
                        left -= 1
                    if not left:
                        break
            found.sort(key=lambda one: (one.prepared_at_ms, one.half_number))
            rows += [_row(store.store_id, one, now_ms, expired) for one in found[:count]]
        header = ("ID", "PREPARED", "EXPIRED" if expired else "ENDS IN", "QUEUE", "PUB", "ITEMS", "SIZE", "BY")
        if rows:
            click.echo("\n".join(table(header, rows, left=3, indent=0)))
        nothing = "no half message has expired" if expired else "no half message is undecided"
        click.echo(f"{len(rows)} shown" if rows else nothing, err=True)

    with_caller(settings, topic, main)


@halves.command()
@click.argument("half_id", metavar="ID")
@click.option("--decode", default="text", show_default=True, help="text, json, hex, or proto:module.Message.")
@cluster_command
def show(settings: ClusterContext, half_id: str, decode: str) -> None:
    """Show a half message and its item, or what became of it."""
    from phxqueue.admin.decoding import decoder
    from phxqueue.producer.halves import HalfItem
    from phxqueue.proto.methods import SHOW_HALF
    from phxqueue.proto.store_pb2 import ShowHalfRequest

    topic = settings.topic_of(settings.load())
    place = _parse(half_id)
    render = decoder(decode)

    async def main(caller: Caller) -> None:
        request = ShowHalfRequest(
            topic_id=topic.topic_id,
            store_id=place.store_id,
            queue_id=place.queue_id,
            half_number=place.half_number,
        )
        answer = await caller.call(_route(topic, place), SHOW_HALF, request, DEADLINE_S, try_timeout_s=DEADLINE_S / 2)
        one = answer.half
        click.echo(f"{half_id} is {STATES[one.state]}")
        click.echo(
            f"  pub {one.pub_id}, queue {place.store_id}:{one.queue_id}, prepared {utc_time(one.prepared_at_ms)}"
        )
        if one.state:
            where = f", as item {one.first_cursor} of its queue" if one.state == 1 else ""
            click.echo(f"  decided {utc_time(one.ends_at_ms)}{where}")
            return
        click.echo(f"  by producers named {one.prepared_by!r}; rolled back by the store {utc_time(one.ends_at_ms)}")
        item = HalfItem.read(one.items)
        if item is not None:
            click.echo(f"  handle_id {item.handle_id}, uin {item.uin}, client_id {item.client_id!r}")
            for key, value in (item.user_cookies or {}).items():
                click.echo(f"  cookie {key} = {value!r}")
            for line in render(item.buffer):
                click.echo(f"  {line}")

    with_caller(settings, topic, main)


@halves.command()
@click.argument("ids", nargs=-1, required=True)
@cluster_command
def commit(settings: ClusterContext, ids: tuple[str, ...]) -> None:
    """Put half messages into their queues.

    Exit status 1 when one of them was rolled back before.
    """
    _decide(settings, ids, 1)


@halves.command()
@click.argument("ids", nargs=-1, required=True)
@cluster_command
def rollback(settings: ClusterContext, ids: tuple[str, ...]) -> None:
    """Drop half messages: nobody will ever see them.

    Exit status 1 when one of them was committed before.
    """
    _decide(settings, ids, 2)


def _decide(settings: ClusterContext, ids: tuple[str, ...], wanted: int) -> None:
    topic = settings.topic_of(settings.load())
    places = [(text, _parse(text)) for text in ids]
    other = []

    async def main(caller: Caller) -> None:
        for text, place in places:
            answer = await decided(caller, topic, place, wanted)
            same = (answer.state == 1) == (wanted == 1)
            where = f", as item {answer.first_cursor} of queue {answer.queue_id}" if answer.state == 1 else ""
            click.echo(f"{text} is {STATES[answer.state]}{where}", err=not same)
            if not same:
                other.append(text)

    with_caller(settings, topic, main)
    if other:
        raise click.exceptions.Exit(1)


async def undecided(
    caller: Caller, topic: Topic, store_id: int, group: int, *, expired: bool = False
) -> AsyncIterator[HalfMessage]:
    """Yield the half messages of a Paxos group that nobody has decided, in the order of their numbers.

    Raises:
        RpcError: as the store answers.
    """
    from phxqueue.producer.routes import store_route
    from phxqueue.proto.methods import LIST_HALVES
    from phxqueue.proto.store_pb2 import ListHalvesRequest

    request = ListHalvesRequest(topic_id=topic.topic_id, store_id=store_id, queue_id=group, limit=PAGE, expired=expired)
    while True:
        route = store_route(topic, store_id, group)
        page = await caller.call(route, LIST_HALVES, request, DEADLINE_S, try_timeout_s=DEADLINE_S / 2)
        for one in page.halves:
            yield one
        if not page.more:
            return
        request.after_number = page.halves[-1].half_number


async def decided(caller: Caller, topic: Topic, place: HalfId, wanted: int) -> DecideHalfResponse:
    """Decide one; the answer says what it is then.

    Raises:
        RpcError: as the store answers.
    """
    from phxqueue.proto.methods import DECIDE_HALF
    from phxqueue.proto.store_pb2 import DecideHalfRequest, HalfState

    request = DecideHalfRequest(
        topic_id=topic.topic_id,
        store_id=place.store_id,
        queue_id=place.queue_id,
        half_number=place.half_number,
        decision=HalfState.ValueType(wanted),
    )
    route = _route(topic, place)
    answer: DecideHalfResponse = await caller.call(
        route, DECIDE_HALF, request, DEADLINE_S, try_timeout_s=DEADLINE_S / 2
    )
    return answer


def _route(topic: Topic, place: HalfId) -> Route:
    from phxqueue.config import UnknownIdError
    from phxqueue.producer.routes import store_route

    try:
        return store_route(topic, place.store_id, topic.store(place.store_id).group_of_queue(place.queue_id))
    except UnknownIdError as error:
        raise AdminError(str(error)) from None


def _parse(text: str) -> HalfId:
    from phxqueue.producer.halves import HalfId

    try:
        return HalfId.parse(text)
    except ValueError as error:
        raise AdminError(f"{error}; `phxqueue halves list` shows the ids") from None


def _row(store_id: int, one: HalfMessage, now_ms: float, expired: bool) -> tuple[object, ...]:
    left_s = (one.ends_at_ms - now_ms) / 1000
    return (
        f"{store_id}-{one.queue_id}-{one.half_number}",
        utc_time(one.prepared_at_ms),
        utc_time(one.ends_at_ms) if expired else age(left_s) if left_s > 0 else "now",
        f"{store_id}:{one.queue_id}",
        one.pub_id,
        one.count,
        "-" if expired else size(one.size),
        one.prepared_by or "-",
    )
