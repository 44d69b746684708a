"""``phxqueue delayed``: what waits for its time, and taking it back."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from enum import Enum
from typing import TYPE_CHECKING

import click

from phxqueue.admin.calling import with_caller
from phxqueue.admin.consume import parse_queue
from phxqueue.admin.context import ClusterContext, cluster_command
from phxqueue.admin.errors import AdminError
from phxqueue.admin.rendering import utc_time
from phxqueue.admin.table import age, size, table

if TYPE_CHECKING:
    from phxqueue.config import Topic
    from phxqueue.net.routing import Caller
    from phxqueue.producer.delayed import DelayedId
    from phxqueue.proto.store_pb2 import DelayedBatch, ListDelayedResponse

DEADLINE_S = 5.0
PAGE = 1000


class Found(Enum):
    """What was there of a message to cancel, as told."""

    WAITING = "is cancelled"
    CANCELLED = "does not wait for its time: the last number in it is that of a message that was cancelled before"
    NOWHERE = "is not there: it has been delivered, or there never was one"


@click.group()
def delayed() -> None:
    """List and cancel messages that wait for their time."""


@delayed.command("list")
@click.option("--queue", metavar="[STORE:]QUEUE", help="Only messages for this queue [default: all].")
@click.option("--pub", type=int, help="Only messages of this pub.")
@click.option("--count", default=100, show_default=True, type=click.IntRange(1), help="Show so many of each store.")
@cluster_command
def list_command(settings: ClusterContext, queue: str | None, pub: int | None, count: int) -> None:
    """Show what waits for its time, what is due first first, with the ids that `delayed cancel` takes."""
    topic = settings.topic_of(settings.load())
    places = _groups(topic) if queue is None else [(*place, True) for place in parse_queue(topic, queue)]

    async def main(caller: Caller) -> None:
        rows: list[tuple[object, ...]] = []
        shown: dict[int, int] = {}
        found: list[tuple[int, DelayedBatch]] = []
        for store_id, queue_id, only in places:
            left = count
            async for one in waiting(caller, topic, store_id, queue_id, only_queue=only):
                if pub is None or one.pub_id == pub:
                    found.append((store_id, one))
                    left -= 1
                if not left:
                    break
        now_ms = time.time() * 1000
        for store_id, one in sorted(found, key=lambda pair: (pair[1].deliver_at_ms, pair[1].timer_number)):
            if shown.get(store_id, 0) < count:
                shown[store_id] = shown.get(store_id, 0) + 1
                rows.append(_row(store_id, one, now_ms))
        if rows:
            click.echo("\n".join(table(("ID", "DUE", "IN", "QUEUE", "PUB", "ITEMS", "SIZE"), rows, left=3, indent=0)))
        click.echo(f"{len(rows)} shown" if rows else "nothing waits for its time", err=True)

    with_caller(settings, topic, main)


@delayed.command()
@click.argument("ids", nargs=-1, required=True)
@cluster_command
def cancel(settings: ClusterContext, ids: tuple[str, ...]) -> None:
    """Take messages back, by the ids of `delayed list` or of the receipts of `enqueue`.

    One that was cancelled before is told as such. Exit status 1 when one of them was delivered already.
    """
    topic = settings.topic_of(settings.load())
    late = []

    async def main(caller: Caller) -> None:
        for text in ids:
            found = await cancelled(caller, topic, text)
            click.echo(f"{text} {found.value}", err=found is Found.NOWHERE)
            if found is Found.NOWHERE:
                late.append(text)

    with_caller(settings, topic, main)
    if late:
        raise click.exceptions.Exit(1)


async def waiting(
    caller: Caller, topic: Topic, store_id: int, queue_id: int, *, only_queue: bool
) -> AsyncIterator[DelayedBatch]:
    """Yield what waits in the Paxos group of a queue (`only_queue`: for that queue), in the order of delivery.

    Raises:
        RpcError: as the store answers.
    """
    from phxqueue.producer.routes import store_route
    from phxqueue.proto.methods import LIST_DELAYED
    from phxqueue.proto.store_pb2 import ListDelayedRequest

    route = store_route(topic, store_id, topic.store(store_id).group_of_queue(queue_id))
    request = ListDelayedRequest(
        topic_id=topic.topic_id, store_id=store_id, queue_id=queue_id, only_queue=only_queue, limit=PAGE
    )
    while True:
        page = await caller.call(route, LIST_DELAYED, request, DEADLINE_S, try_timeout_s=DEADLINE_S / 2)
        for one in page.batches:
            yield one
        if not page.more:
            return
        request.after_ms, request.after_number = page.after_ms, page.after_number


async def cancelled(caller: Caller, topic: Topic, text: str) -> Found:
    """Cancel one, and say what was there.

    Raises:
        AdminError: the text is no id.
        RpcError: as the store answers.
    """
    from phxqueue.net.status import RpcError, Status
    from phxqueue.producer.delayed import DelayedId
    from phxqueue.producer.routes import store_route
    from phxqueue.proto.methods import CANCEL_DELAYED
    from phxqueue.proto.store_pb2 import CancelDelayedRequest

    try:
        name = DelayedId.parse(text)
    except ValueError as error:
        raise AdminError(f"{error}; `phxqueue delayed list` shows the ids") from None
    request = CancelDelayedRequest(
        topic_id=topic.topic_id,
        store_id=name.store_id,
        queue_id=name.queue_id,
        deliver_at_ms=name.deliver_at_ms,
        timer_number=name.timer_number,
    )
    route = store_route(topic, name.store_id, topic.store(name.store_id).group_of_queue(name.queue_id))
    waiting_there = await _look(caller, topic, name)
    if waiting_there is not None and waiting_there.queue_id != name.queue_id:
        return Found.NOWHERE  # the store would go by the rest of the id
    try:
        await caller.call(route, CANCEL_DELAYED, request, DEADLINE_S, try_timeout_s=DEADLINE_S / 2)
    except RpcError as error:
        if error.status is Status.NOT_FOUND:
            return Found.NOWHERE
        raise
    return Found.CANCELLED if waiting_there is None else Found.WAITING


async def _look(caller: Caller, topic: Topic, name: DelayedId) -> DelayedBatch | None:
    """What waits under this time and number: of what was cancelled, a store remembers the number alone."""
    from phxqueue.producer.routes import store_route
    from phxqueue.proto.methods import LIST_DELAYED
    from phxqueue.proto.store_pb2 import ListDelayedRequest

    request = ListDelayedRequest(
        topic_id=topic.topic_id, store_id=name.store_id, queue_id=name.queue_id, limit=1,
        after_ms=name.deliver_at_ms, after_number=max(name.timer_number - 1, 0),
    )  # fmt: skip
    route = store_route(topic, name.store_id, topic.store(name.store_id).group_of_queue(name.queue_id))
    page: ListDelayedResponse = await caller.call(
        route, LIST_DELAYED, request, DEADLINE_S, try_timeout_s=DEADLINE_S / 2
    )
    for one in page.batches:
        if (one.deliver_at_ms, one.timer_number) == (name.deliver_at_ms, name.timer_number):
            return one
    return None


def _groups(topic: Topic) -> list[tuple[int, int, bool]]:
    """Every Paxos group of every store, each by one number of a queue in it."""
    return [(store.store_id, group, False) for store in topic.stores for group in range(store.paxos_groups)]


def _row(store_id: int, one: DelayedBatch, now_ms: float) -> tuple[object, ...]:
    left_s = (one.deliver_at_ms - now_ms) / 1000
    return (
        f"{store_id}-{one.queue_id}-{one.deliver_at_ms}-{one.timer_number}",
        utc_time(one.deliver_at_ms),
        age(left_s) if left_s > 0 else "now",
        f"{store_id}:{one.queue_id}",
        one.pub_id,
        one.count,
        size(one.size),
    )
