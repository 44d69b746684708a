"""``phxqueue echo``: one message through the whole system."""

from __future__ import annotations

import getpass
import socket
import time
from typing import TYPE_CHECKING, Any

import click

from phxqueue.admin import edge
from phxqueue.admin.context import ClusterContext, cluster_command
from phxqueue.admin.histogram import duration

if TYPE_CHECKING:
    from phxqueue.producer import Receipt

DEFAULT_MESSAGE = "hello"
#: The sample consumers print messages of this type (the original's EchoHandler).
ECHO_PUB = 1
ECHO_HANDLE = 1
#: ... and only finish messages of this one.
QUIET_HANDLE = 2


@click.command()
@click.argument("message", default=DEFAULT_MESSAGE)
@click.option("--pub", default=ECHO_PUB, show_default=True, help="Where to publish it.")
@click.option("--handle", default=ECHO_HANDLE, show_default=True, help="The message type: which handler gets it.")
@click.option("--uin", default=0, help="The ordering key.")
@cluster_command
def echo(settings: ClusterContext, message: str, pub: int, handle: int, uin: int) -> None:
    """Send MESSAGE. "Succeeded" means: on disk on a majority of the store's nodes."""
    cluster = settings.load()
    topic = settings.topic_of(cluster)
    tls = settings.tls_of(cluster)

    async def main(reactor: Any) -> tuple[Receipt, float]:
        from phxqueue.producer import Producer

        producer = await Producer.connect(cluster, topic=topic.topic_name, tls=tls)
        try:
            started = time.perf_counter()
            receipt = await producer.enqueue(
                pub_id=pub, handle_id=handle, buffer=message.encode(), uin=uin, client_id=who_asks()
            )
            return receipt, time.perf_counter() - started
        finally:
            await producer.close()

    receipt, seconds = edge.run(main)
    click.echo("produce echo succeeded!")
    click.echo(
        f"  store {receipt.store_id}, queue {receipt.queue_id}, cursor {receipt.cursor}, "
        f"in {duration(seconds * 1e6)} (connecting included)"
    )


def who_asks() -> str:
    """Return user@host, for the logs of whoever handles the message."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
