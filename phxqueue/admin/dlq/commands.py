"""The commands ``phxqueue dlq list|show|requeue|purge``."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

import click
from twisted.internet.defer import Deferred, succeed

from phxqueue.admin.calling import with_caller
from phxqueue.admin.context import ClusterContext, cluster_command
from phxqueue.admin.decoding import DECODERS, decoder
from phxqueue.admin.errors import AdminError
from phxqueue.admin.table import table
from phxqueue.admin.times import parse_time

if TYPE_CHECKING:
    from phxqueue.admin.dlq.letters import Filter, Letter
    from phxqueue.admin.dlq.queue import DeadLetters, Taken
    from phxqueue.config import Cluster, Topic
    from phxqueue.net.routing import Caller
    from phxqueue.producer import Producer

#: Longest text of an error in the list.
_ERROR_WIDTH = 60
_ALL = 1 << 62


@click.group()
def dlq() -> None:
    """Look after dead letters: messages that no handler could handle."""


def _filters(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which letters are meant, and hand them over as a Filter builder."""

    @wraps(function)
    def command(*args: Any, **kwargs: Any) -> Any:
        given = {name: kwargs.pop(name) for name in ("group", "handle", "uin", "reason", "error", "since", "until")}
        return function(*args, given=given, **kwargs)

    for option in (
        click.option("--until", metavar="TIME", help="Only dead before that time."),
        click.option("--since", metavar="TIME", help="Only dead since then: 2026-01-31T12:00, or an age such as 1h."),
        click.option("--error", metavar="TEXT", help="Only those whose last error has this in it."),
        click.option("--reason", metavar="TEXT", help="Only those: exhausted, DEAD, expired."),
        click.option("--uin", type=int, help="Only with this ordering key."),
        click.option("--handle", type=int, help="Only of this message type."),
        click.option("--group", type=int, help="Only of this consumer group."),
        click.option("--pub", type=int, help="Only of this pub."),
    ):
        command = option(command)
    return command


@dlq.command("list")
@click.option("--count", default=100, show_default=True, type=click.IntRange(1), help="Show so many of each queue.")
@_filters
@cluster_command
def list_command(settings: ClusterContext, pub: int | None, count: int, given: dict[str, Any]) -> None:
    """Show dead letters, oldest first. Nothing is moved."""
    wanted = _filter(given)

    async def main(cluster: Cluster, topic: Topic, caller: Caller) -> None:
        rows = []
        for queue in _queues(caller, topic, pub):
            left = count
            async for letter in queue.read():
                if wanted.fits(letter):
                    rows.append(_row(letter))
                    left -= 1
                    if not left:
                        break
        if rows:
            header = ("ID", "DEAD SINCE", "REASON", "GROUP", "HANDLE", "UIN", "ATTEMPTS", "LAST ERROR")
            click.echo("\n".join(table(header, rows, left=8, indent=0)))
        click.echo(f"{len(rows)} shown" if rows else "no dead letters", err=True)

    _run(settings, main)


@dlq.command()
@click.argument("ids", nargs=-1, required=True)
@click.option(
    "--decode", default="text", show_default=True, metavar="|".join((*DECODERS, "proto:module.Message")),
    help="How to print the messages.",
)  # fmt: skip
@cluster_command
def show(settings: ClusterContext, ids: Sequence[str], decode: str) -> None:
    """Show dead letters with everything they carry, by the ids of `dlq list`."""
    from phxqueue.admin.peek import Found, describe
    from phxqueue.admin.rendering import Place
    from phxqueue.config import dead_letter_queue

    decoded = decoder(decode)
    cursors = _parse(ids)

    async def main(cluster: Cluster, topic: Topic, caller: Caller) -> None:
        for (store_id, pub_id), wanted in cursors.items():
            missing = set(wanted)
            async for letter in _queue(caller, topic, store_id, pub_id).read():
                if letter.place.cursor in missing:
                    missing.remove(letter.place.cursor)
                    place = Place(store_id, dead_letter_queue(pub_id), letter.place.cursor)
                    found = Found(place, letter.item, 1 << (letter.group - 1), letter.stored_ms)
                    click.echo("\n".join(describe(found, decoded)))
                if not missing:
                    break
            for cursor in sorted(missing):
                raise AdminError(f"{store_id}-{pub_id}-{cursor} is no dead letter (any more): see `phxqueue dlq list`")

    _run(settings, main)


@dlq.command()
@click.argument("ids", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that fit the options (without any: all).")
@click.option("--limit", type=click.IntRange(1), help="No more than so many of each queue.")
@_filters
@cluster_command
def requeue(
    settings: ClusterContext,
    ids: Sequence[str],
    everything: bool,
    limit: int | None,
    pub: int | None,
    given: dict[str, Any],
) -> None:
    """Send dead letters on their way again, from their first attempt, for the group that could not handle them.

    Name them by IDS or by options, or say --all. Killed in between, it may have sent some that are still dead letters
    as well; it never loses one.
    """
    from phxqueue.admin.dlq.letters import revived

    async def main(cluster: Cluster, topic: Topic, caller: Caller) -> None:
        async with _producer(settings, cluster, topic) as producer:

            def send(letter: Letter) -> Deferred[Any]:
                return producer.enqueue_again(revived(letter, int(time.time() * 1000)))

            taken = await _take(_chosen(caller, topic, ids, everything, pub, given), limit, send, producer)
        click.echo(f"{taken.taken} of {taken.seen} dead letters are on their way again")
        _check_all_taken(ids, limit, taken)

    _run(settings, main)


@dlq.command()
@click.argument("ids", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that fit the options (without any: all).")
@click.option("--limit", type=click.IntRange(1), help="No more than so many of each queue.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_filters
@cluster_command
def purge(
    settings: ClusterContext,
    ids: Sequence[str],
    everything: bool,
    limit: int | None,
    yes: bool,
    pub: int | None,
    given: dict[str, Any],
) -> None:
    """Drop dead letters for good. Name them by IDS or by options, or say --all."""
    _check_chosen(ids, everything, pub, given)
    if not yes:
        click.confirm("Drop these dead letters for good?", abort=True)

    def drop(letter: Letter) -> Deferred[Any]:
        return succeed(None)  # nothing takes its place

    async def main(cluster: Cluster, topic: Topic, caller: Caller) -> None:
        async with _producer(settings, cluster, topic) as producer:
            taken = await _take(_chosen(caller, topic, ids, everything, pub, given), limit, drop, producer)
        click.echo(f"{taken.taken} of {taken.seen} dead letters are dropped")
        _check_all_taken(ids, limit, taken)

    _run(settings, main)


async def _take(
    chosen: list[tuple[DeadLetters, Filter]],
    limit: int | None,
    replace: Callable[[Letter], Deferred[Any]],
    producer: Producer,
) -> Taken:
    from phxqueue.admin.dlq.queue import Taken

    def keep(letter: Letter) -> Deferred[Any]:
        return producer.enqueue_again(letter.item, dead=True)

    total = Taken()
    for queue, wanted in chosen:
        done = await queue.take(wanted, limit or _ALL, replace, keep)
        total.seen += done.seen
        total.taken += done.taken
    return total


def _check_all_taken(ids: Sequence[str], limit: int | None, taken: Taken) -> None:
    """Raises AdminError when some of those named were not there (or did not fit the options as well)."""
    named = len(set(ids))
    if limit is None and taken.taken < named:
        raise AdminError(
            f"{named - taken.taken} of the {named} named are no dead letters (any more): see `phxqueue dlq list`; "
            "letters get new ids when others of their consumer group are taken out"
        )


def _chosen(
    caller: Caller, topic: Topic, ids: Sequence[str], everything: bool, pub: int | None, given: dict[str, Any]
) -> list[tuple[DeadLetters, Filter]]:
    """The queues to work on, and what is meant in each.

    Raises:
        AdminError: it was not said which letters.
    """
    from dataclasses import replace

    wanted = _filter(given)
    if ids:
        return [
            (_queue(caller, topic, store_id, pub_id), replace(wanted, cursors=frozenset(cursors)))
            for (store_id, pub_id), cursors in _parse(ids).items()
        ]
    _check_chosen(ids, everything, pub, given)
    return [(queue, wanted) for queue in _queues(caller, topic, pub)]


def _check_chosen(ids: Sequence[str], everything: bool, pub: int | None, given: dict[str, Any]) -> None:
    if not ids and not everything and pub is None and not any(value is not None for value in given.values()):
        raise AdminError("say which dead letters: by their ids, by options, or --all")


def _parse(ids: Sequence[str]) -> dict[tuple[int, int], list[int]]:
    """Cursors by (store, pub). Raises AdminError."""
    from phxqueue.admin.dlq.letters import LetterId

    found: dict[tuple[int, int], list[int]] = {}
    for text in ids:
        try:
            place = LetterId.parse(text)
        except ValueError as error:
            raise AdminError(f"{error}; `phxqueue dlq list` shows the ids") from None
        found.setdefault((place.store_id, place.pub_id), []).append(place.cursor)
    return found


def _filter(given: dict[str, Any]) -> Filter:
    from phxqueue.admin.dlq.letters import Filter

    return Filter(
        group=given["group"],
        handle_id=given["handle"],
        uin=given["uin"],
        reason=given["reason"],
        error=given["error"],
        after_ms=_unix_ms(given["since"]),
        before_ms=_unix_ms(given["until"]),
    )


def _unix_ms(when: str | None) -> int | None:
    return None if when is None else parse_time(when, time.time())


def _queue(caller: Caller, topic: Topic, store_id: int, pub_id: int) -> DeadLetters:
    from phxqueue.admin.dlq.queue import DeadLetters

    return DeadLetters(caller, topic, store_id, topic.pub(pub_id).pub_id)


def _queues(caller: Caller, topic: Topic, pub: int | None) -> Iterator[DeadLetters]:
    for one in topic.pubs if pub is None else [topic.pub(pub)]:
        for store in topic.stores_of_pub(one.pub_id):
            yield _queue(caller, topic, store.store_id, one.pub_id)


def _row(letter: Letter) -> tuple[object, ...]:
    from phxqueue.admin.rendering import utc_time

    meta, error = letter.item.meta, " ".join(letter.last_error.split())
    shown = error if len(error) <= _ERROR_WIDTH else f"{error[: _ERROR_WIDTH - 3]}..."
    when = utc_time(letter.stored_ms)
    return letter.place, when, letter.reason, letter.group, meta.handle_id, meta.uin, letter.attempts, shown


@asynccontextmanager
async def _producer(settings: ClusterContext, cluster: Cluster, topic: Topic) -> AsyncIterator[Producer]:
    from phxqueue.producer import Producer

    producer = await Producer.connect(cluster, topic=topic.topic_name, tls=settings.tls_of(cluster))
    try:
        yield producer
    finally:
        await producer.close()


def _run(settings: ClusterContext, main: Callable[[Cluster, Topic, Caller], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine with a client that finds masters."""
    cluster = settings.load()
    topic = settings.topic_of(cluster)
    with_caller(settings, topic, lambda caller: main(cluster, topic, caller))
