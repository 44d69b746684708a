"""``phxqueue peek``: look at a stretch of one queue, moving nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from phxqueue.admin.calling import with_caller
from phxqueue.admin.consume import parse_queue
from phxqueue.admin.context import ClusterContext, cluster_command
from phxqueue.admin.decoding import DECODERS, Decoder, decoder
from phxqueue.admin.errors import AdminError
from phxqueue.admin.rendering import Place, readable, utc_time

if TYPE_CHECKING:
    from phxqueue.net.routing import Caller, Route
    from phxqueue.proto.item_pb2 import QItem
    from phxqueue.proto.store_pb2 import GetBatch, GetResponse

FETCH_ITEMS = 1000
FETCH_BYTES = 1 << 20
DEADLINE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is looked for. `start` None: the oldest item there is. `scan`: items looked at before giving up."""

    topic_id: int
    store_id: int
    queue_id: int
    start: int | None = None
    count: int = 10
    uin: int | None = None
    scan: int = 100_000


@dataclass(frozen=True, slots=True)
class Found:
    """An item of the queue, and when the store took it (Unix milliseconds)."""

    place: Place
    item: QItem
    mask: int
    stored_ms: int


@dataclass(slots=True)
class Scan:
    """How far a search came: items looked at, where it stands, and where the queue ends."""

    seen: int = 0
    position: int = 0
    end: int = 0


@click.command()
@click.option("--queue", required=True, metavar="[STORE:]QUEUE", help="The queue; dead letters too.")
@click.option("--from", "start", type=click.IntRange(0), help="First cursor [default: the oldest item].")
@click.option("--count", default=10, show_default=True, type=click.IntRange(1), help="Show so many items.")
@click.option("--uin", type=int, help="Only items with this ordering key.")
@click.option("--scan", default=100_000, show_default=True, type=click.IntRange(1), help="Look at so many at most.")
@click.option(
    "--decode", default="text", show_default=True, metavar="|".join((*DECODERS, "proto:module.Message")),
    help="How to print the messages.",
)  # fmt: skip
@cluster_command
def peek(
    settings: ClusterContext, queue: str, start: int | None, count: int, uin: int | None, scan: int, decode: str
) -> None:
    """Show items of a queue with everything they carry. Nothing is acknowledged, and no cursor moves."""
    show = decoder(decode)
    cluster = settings.load()
    topic = settings.topic_of(cluster)
    places = sorted(set(parse_queue(topic, queue)))
    if len(places) > 1:
        stores = ", ".join(f"{store_id}:{queue_id}" for store_id, queue_id in places)
        raise AdminError(f"several stores have a queue {queue}: write one of {stores}")
    [(store_id, queue_id)] = places
    search = Search(
        topic_id=topic.topic_id, store_id=store_id, queue_id=queue_id, start=start, count=count, uin=uin, scan=scan
    )

    async def main(caller: Caller) -> None:
        from phxqueue.producer.routes import store_route

        route = store_route(topic, store_id, topic.store(store_id).group_of_queue(queue_id))
        progress = Scan()
        shown = 0
        async for found in find(caller, route, search, progress):
            shown += 1
            click.echo("\n".join(describe(found, show)))
        click.echo(closing_line(search, progress, shown), err=True)

    with_caller(settings, topic, main)


async def find(caller: Caller, route: Route, search: Search, progress: Scan) -> AsyncIterator[Found]:
    """Yield what a search finds, in order; `progress` is kept up to date.

    Raises:
        RpcError: as the store answers; OUT_OF_RANGE names the cursors there are.
    """
    position, shown = search.start, 0
    while shown < search.count and progress.seen < search.scan:
        response = await _fetch(caller, route, search, position, search.scan - progress.seen)
        progress.end = response.end_cursor
        for found in _items(response, search, position):
            progress.seen += 1
            progress.position = found.place.cursor + 1
            if search.uin is None or found.item.meta.uin == search.uin:
                shown += 1
                yield found
                if shown == search.count:
                    return
            if progress.seen == search.scan:
                return
        position = progress.position = response.next_cursor
        if not response.batches or position >= response.end_cursor:
            return


async def _fetch(caller: Caller, route: Route, search: Search, position: int | None, limit: int) -> GetResponse:
    from phxqueue.proto.methods import GET
    from phxqueue.proto.store_pb2 import GetRequest

    wanted = limit if search.uin is not None else min(limit, search.count)
    request = GetRequest(
        topic_id=search.topic_id,
        store_id=search.store_id,
        queue_id=search.queue_id,
        limit=min(wanted, FETCH_ITEMS),
        limit_bytes=FETCH_BYTES,
        random=True,
    )
    if position is not None:
        request.next_cursor = position
    response: GetResponse = await caller.call(route, GET, request, DEADLINE_S, try_timeout_s=DEADLINE_S / 2)
    return response


def _items(response: GetResponse, search: Search, position: int | None) -> Iterator[Found]:
    for batch in response.batches:
        yield from _items_of(batch, search, position)


def _items_of(batch: GetBatch, search: Search, position: int | None) -> Iterator[Found]:
    """The items of a batch; it may begin before the cursor asked for."""
    from phxqueue.proto.item_pb2 import QItems

    for cursor, item in enumerate(QItems.FromString(batch.items).items, batch.first_cursor):
        if position is None or cursor >= position:
            mask = item.consumer_group_ids or batch.header.consumer_group_ids
            yield Found(Place(search.store_id, search.queue_id, cursor), item, mask, batch.timestamp_ms)


def describe(found: Found, show: Decoder) -> list[str]:
    """Return the lines that tell a person about an item."""
    item, meta, place = found.item, found.item.meta, found.place
    groups = ",".join(str(bit + 1) for bit in range(64) if found.mask >> bit & 1)
    head = (
        f"cursor {place.cursor}  stored {utc_time(found.stored_ms)}  {len(item.buffer)} B  uin {meta.uin}  "
        f"handle_id {meta.handle_id}  pub {item.pub_id or meta.pub_id}  groups {groups}  attempt {item.count + 1}  "
        f"item {meta.producer_id:x}-{meta.number}"
    )
    lines = [head]
    if meta.client_id:
        lines.append(f"    client_id {meta.client_id}")
    for kind, cookies in (("cookie", meta.user_cookies), ("note", item.sys_cookies)):
        lines += [f"    {kind} {cookie.key}: {readable(cookie.value)}" for cookie in cookies.cookies]
    return lines + [f"    {line}" for line in show(item.buffer)]


def closing_line(search: Search, progress: Scan, shown: int) -> str:
    """Return the last line: what was seen, and how to go on."""
    where = f"queue {search.store_id}:{search.queue_id}"
    if progress.position >= progress.end:
        return f"{shown} items shown; that is the end of {where} (cursor {progress.end})"
    if progress.seen >= search.scan and shown < search.count:
        return f"{shown} items shown, {progress.seen} looked at (--scan); go on with --from {progress.position}"
    return f"{shown} items shown; {where} ends at cursor {progress.end}, go on with --from {progress.position}"
