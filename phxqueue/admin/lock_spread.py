"""``phxqueue locks spread``: which share of the keys each lock group has, and how that is changed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from phxqueue.admin import edge
from phxqueue.admin.context import ClusterContext, cluster_command
from phxqueue.admin.errors import AdminError
from phxqueue.admin.table import table
from phxqueue.config import Topic
from phxqueue.net.routing import MasterClient, RoutingSettings
from phxqueue.net.settings import configured

if TYPE_CHECKING:
    from phxqueue.lock.client.spreading import Standing


@click.command("spread", short_help="Give the lock groups their shares of the keys.")
@click.argument("shares", nargs=-1, metavar="[LOCK_ID=SCALE]...")
@click.option("--show", is_flag=True, help="Only show what the lock groups know.")
@click.option("--abandon", is_flag=True, help="Give up a change that was begun and cannot be finished.")
@cluster_command
def spread(settings: ClusterContext, shares: Sequence[str], show: bool, abandon: bool) -> None:
    """Give the lock groups their shares of the keys: those of lockconfig.conf, or the ones named.

    Needed once for a topic with several lock groups, and to add or drain a group while all of them serve. Locks stay
    held and fencing tokens keep rising; keys that move rest for a moment. If it is interrupted, run it again.
    """
    from phxqueue.lock.client.connecting import lock_pool
    from phxqueue.lock.client.spreading import SpreadError, Spreading

    cluster = settings.load()
    topic = settings.topic_of(cluster)
    tls = settings.tls_of(cluster)
    if not topic.locks:
        raise AdminError(f"topic {topic.topic_name} has no lock groups")
    weights = _weights(topic, shares)

    async def main(reactor: Any) -> list[Standing]:
        pool = lock_pool(reactor, cluster, topic, tls)
        try:
            caller = MasterClient(pool, reactor, random.Random(), settings=configured(RoutingSettings, cluster.net))
            spreading = Spreading(caller, topic, click.echo)
            if abandon:
                await spreading.abandon()
            elif not show:
                await spreading.run(weights)
            return await spreading.look()
        except SpreadError as error:
            raise AdminError(str(error)) from error
        finally:
            await pool.close()

    click.echo("\n".join(_table(edge.run(main))))


def _weights(topic: Topic, shares: Sequence[str]) -> dict[int, int]:
    weights = {lock.lock_id: lock.scale for lock in topic.locks}
    for text in shares:
        lock_id, equals, scale = text.partition("=")
        if not (equals and lock_id.isdecimal() and scale.isdecimal()):
            raise click.UsageError(f"{text!r} is not LOCK_ID=SCALE, two whole numbers")
        weights[int(lock_id)] = int(scale)
    return weights


def _table(standings: Sequence[Standing]) -> list[str]:
    rows = [
        (
            f"lock {one.place.lock_id} group {one.place.group}",
            "none" if one.share is None else one.share.generation,
            "" if one.share is None else one.share,
            "" if one.moving is None else f"moving to {one.moving}",
        )
        for one in standings
    ]
    return table(("PAXOS GROUP", "GENERATION", "SHARES", ""), rows, left=1)
