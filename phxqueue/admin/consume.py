"""``phxqueue consume``: a consumer group on the terminal, or in a pipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click
from twisted.internet.defer import CancelledError, Deferred

from phxqueue.admin import edge
from phxqueue.admin.context import ClusterContext, cluster_command
from phxqueue.admin.errors import AdminError
from phxqueue.admin.gather import gather
from phxqueue.admin.rendering import FORMATS

if TYPE_CHECKING:
    from phxqueue.admin.queue_reader import QueueReader
    from phxqueue.config import Topic

STDOUT = 1


@click.command()
@click.option("--group", required=True, type=int, help="The consumer group to read for.")
@click.option("--pub", type=int, help="Only the queues of this pub.")
@click.option(
    "--queue", "queues", multiple=True, metavar="[STORE:]QUEUE", help="Only this queue; repeatable. Dead letters too."
)
@click.option("--max", "limit", type=click.IntRange(1), help="End after so many messages.")
@click.option("--peek", is_flag=True, help="Only look: acknowledge nothing, move nothing.")
@click.option("--follow/--no-follow", default=None, help="Wait for more when nothing is left [default: unless --peek].")
@click.option("--format", "form", type=click.Choice(sorted(FORMATS)), default="text", show_default=True)
@cluster_command
def consume(
    settings: ClusterContext,
    group: int,
    pub: int | None,
    queues: Sequence[str],
    limit: int | None,
    peek: bool,
    follow: bool | None,
    form: str,
) -> None:
    """Print the messages of a consumer group, and acknowledge each once it is printed.

    The group's cursors move as with any consumer. When consumer daemons read for the same group, each message goes
    to one of you, and some to both: use a group of your own, or --peek.
    """
    cluster = settings.load()
    topic = settings.topic_of(cluster)
    in_files = group in {one.consumer_group_id for one in topic.consumer_groups}
    chosen = choose_queues(topic, group, pub, queues) if in_files else []
    tls = settings.tls_of(cluster)

    async def main(reactor: Any) -> None:
        from phxqueue.admin.clients import open_master_client, open_pool
        from phxqueue.admin.descriptors import DescriptorWriter, HangUpWatch
        from phxqueue.admin.queue_reader import Output, QueueReader, Reading
        from phxqueue.producer.routes import store_route

        reading = Reading(topic.topic_id, group, peek, follow=not peek if follow is None else follow)
        output = Output(DescriptorWriter(reactor, STDOUT).write, FORMATS[form], limit)
        pool = open_pool(reactor, cluster, topic, tls)
        client = open_master_client(reactor, cluster, topic, pool)
        readers: list[QueueReader] = []
        try:
            places = chosen or choose_queues(await known_to_stores(topic, client), group, pub, queues)
            readers += [
                QueueReader(
                    reading,
                    client,
                    store_route(topic, store_id, topic.store(store_id).group_of_queue(queue_id)),
                    store_id,
                    queue_id,
                    output,
                )
                for store_id, queue_id in places
            ]
            await read_all(readers, HangUpWatch(reactor, STDOUT).when_hung_up())
        finally:
            await pool.close()
            for reader in readers:
                if reader.resets:
                    click.echo(
                        f"{reader.name}: somebody else reads for group {group}; messages may have been printed twice",
                        err=True,
                    )

    edge.run(main)


async def known_to_stores(topic: Topic, caller: Any) -> Topic:
    """The topic with the consumer groups that were created at run time."""
    from phxqueue.consumer.run_time_groups import ask_for_groups, with_groups

    return with_groups(topic, await ask_for_groups(topic, caller))


async def read_all(readers: Sequence[QueueReader], hung_up: Deferred[None]) -> None:
    """Run all readers until they are done, enough is printed or nobody reads it; then acknowledge what was printed."""
    from phxqueue.admin.queue_reader import OutputFull

    everything = Deferred.fromCoroutine(gather(reader.run() for reader in readers))
    hung_up.addCallbacks(lambda _: everything.cancel(), lambda failure: failure.trap(CancelledError))
    try:
        await everything
    except (BrokenPipeError, CancelledError, OutputFull):
        pass  # the other readers have been cancelled, some of them in a long poll
    finally:
        hung_up.cancel()
        for reader in readers:
            await _acknowledge(reader)


async def _acknowledge(reader: QueueReader) -> None:
    from phxqueue.net.status import RpcError

    try:
        await reader.acknowledge()
    except RpcError as error:
        text = f"{reader.name}: the last messages could not be acknowledged and will come again: {error}"
        click.echo(text, err=True)


def choose_queues(topic: Topic, group: int, pub: int | None, wanted: Sequence[str]) -> list[tuple[int, int]]:
    """Return the (store_id, queue_id) to read, in order.

    Raises:
        ConfigError: no such group, pub, store or queue.
        AdminError: naming what does not fit together.
    """
    topic.consumer_group(group)
    if pub is not None and group not in topic.pub(pub).consumer_group_ids:
        groups = list(topic.pub(pub).consumer_group_ids)
        raise AdminError(f"group {group} does not read pub {pub}; its groups are {groups}")
    if wanted:
        return sorted({place for text in wanted for place in parse_queue(topic, text)})
    found = topic.queues_of_group(group)
    if pub is not None:
        of_pub = set(topic.queues_of_pub(pub))
        stores = {store.store_id for store in topic.stores_of_pub(pub)}
        found = tuple((store, queue) for store, queue in found if queue in of_pub and store in stores)
    if not found:
        raise AdminError(f"no store holds a queue for group {group}: see pubs in topicconfig.conf")
    return list(found)


def parse_queue(topic: Topic, text: str) -> Iterator[tuple[int, int]]:
    """Yield the (store_id, queue_id) that `[STORE:]QUEUE` means.

    Raises:
        ConfigError: no such store.
        AdminError: not a queue, or none that exists.
    """
    store_text, _, queue_text = text.rpartition(":")
    if not queue_text.isdecimal() or (store_text and not store_text.isdecimal()):
        raise AdminError(f"{text!r} is no queue: write its number, or STORE:QUEUE")
    stores = [topic.store(int(store_text))] if store_text else list(topic.stores)
    having = [store.store_id for store in stores if int(queue_text) in topic.queues_of_store(store.store_id)]
    if not having:
        raise AdminError(f"there is no queue {text}: `phxqueue status --all` shows the queues in use")
    for store_id in having:
        yield store_id, int(queue_text)
