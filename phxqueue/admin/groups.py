"""``phxqueue groups``: consumer groups that are created and deleted at run time, and ones that have left the files.

The files say which groups a topic has; what is made here is known to the stores alone. Each Paxos group of every store
of the pubs is told by itself, and being told twice changes nothing: a command that broke off is given again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from phxqueue.admin.calling import with_caller
from phxqueue.admin.context import ClusterContext, cluster_command
from phxqueue.admin.errors import AdminError
from phxqueue.admin.group_view import Found, as_documents, as_text
from phxqueue.admin.times import parse_time

if TYPE_CHECKING:
    from phxqueue.config import Topic
    from phxqueue.net.routing import Caller

DEADLINE_S = 10.0
EARLIEST, LATEST = 0, 1

Place = tuple[int, int]
"""(store id, Paxos group)"""


@click.group()
def groups() -> None:
    """Show, create and delete consumer groups while the stores run."""


@groups.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@cluster_command
def list_command(settings: ClusterContext, as_json: bool) -> None:
    """Show all consumer groups: those of the files, those created at run time, those that are leaving.

    Exit status 1 when files and stores disagree, or some store does not know what others do.
    """
    _show(settings, None, as_json)


@groups.command()
@click.argument("consumer_group_id", metavar="GROUP", type=click.IntRange(1, 64))
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@cluster_command
def show(settings: ClusterContext, consumer_group_id: int, as_json: bool) -> None:
    """Show one consumer group."""
    _show(settings, consumer_group_id, as_json)


def _show(settings: ClusterContext, group: int | None, as_json: bool) -> None:
    topic = settings.topic_of(settings.load())
    found = with_caller(settings, topic, lambda caller: read(caller, topic))
    shown = [one for one in found if group in (None, one.consumer_group_id)]
    if group is not None and not shown:
        raise AdminError(f"no consumer group {group}: `phxqueue groups list` shows those there are")
    if as_json:
        click.echo(json.dumps(as_documents(shown), indent=2))
    else:
        click.echo("\n".join(as_text(shown, time.time())))
    if any(one.problems for one in shown):
        raise click.exceptions.Exit(1)


@groups.command()
@click.argument("consumer_group_id", metavar="GROUP", type=click.IntRange(1, 64))
@click.option("--pub", "pub_ids", type=int, multiple=True, required=True, help="A pub it reads (may be given again).")
@click.option(
    "--start",
    default="latest",
    show_default=True,
    metavar="WHERE",
    help="`earliest`: everything that is retained; `latest`: what is enqueued from now on; or a time: ISO 8601, Unix "
    "seconds, or an age such as 15m, 2h, 3d.",
)
@cluster_command
def create(settings: ClusterContext, consumer_group_id: int, pub_ids: Sequence[int], start: str) -> None:
    """Create a consumer group. Consumers take part that name it in `run_time_group_ids` of consumerconfig.conf."""
    from phxqueue.proto.methods import CREATE_GROUP
    from phxqueue.proto.store_pb2 import CreateGroup, CreateGroupRequest

    topic = settings.topic_of(settings.load())
    in_files = {group.consumer_group_id for group in topic.consumer_groups}
    if consumer_group_id in in_files:
        raise AdminError(f"consumer group {consumer_group_id} is one of topicconfig.conf: add it to its pubs there")
    wanted = CreateGroup(pub_ids=sorted(set(pub_ids)), start_ms=_start_ms(start))
    places = places_of_pubs(topic, wanted.pub_ids)

    async def main(caller: Caller) -> int:
        changed = 0
        if wanted.start_ms not in (EARLIEST, LATEST):
            known = [one for one in await read(caller, topic) if one.consumer_group_id == consumer_group_id]
            if known and known[0].created_ms and list(known[0].pub_ids) == list(wanted.pub_ids):
                wanted.start_ms = known[0].start_ms  # it is being finished: an age means another time by now
        for place in places:
            request = CreateGroupRequest(
                topic_id=topic.topic_id, store_id=place[0], paxos_group=place[1],
                consumer_group_id=consumer_group_id, create=wanted,
            )  # fmt: skip
            changed += not (await _call(caller, topic, place, CREATE_GROUP, request)).unchanged
        return changed

    changed = with_caller(settings, topic, main)
    what = "is created" if changed else "was there already"
    group_s = "group" if len(places) == 1 else "groups"
    click.echo(f"consumer group {consumer_group_id} {what}, in {len(places)} Paxos {group_s}")


@groups.command()
@click.argument("consumer_group_id", metavar="GROUP", type=click.IntRange(1, 64))
@click.option("--yes", is_flag=True, help="Do not ask.")
@cluster_command
def delete(settings: ClusterContext, consumer_group_id: int, yes: bool) -> None:
    """Delete a consumer group that was created at run time, or give up one that has left the files, at once.

    What is stored for it alone may go then.
    """
    from phxqueue.proto.methods import DELETE_GROUP
    from phxqueue.proto.store_pb2 import DeleteGroupRequest

    topic = settings.topic_of(settings.load())
    if consumer_group_id in {group.consumer_group_id for group in topic.consumer_groups}:
        raise AdminError(f"consumer group {consumer_group_id} is one of topicconfig.conf: take it out there first")
    if not yes:
        question = f"give up all positions of consumer group {consumer_group_id}, and what is kept for it?"
        click.confirm(question, abort=True)

    async def main(caller: Caller) -> int:
        changed = 0
        for place in all_places(topic):
            request = DeleteGroupRequest(
                topic_id=topic.topic_id, store_id=place[0], paxos_group=place[1], consumer_group_id=consumer_group_id
            )
            changed += not (await _call(caller, topic, place, DELETE_GROUP, request)).unchanged
        return changed

    if with_caller(settings, topic, main):
        click.echo(f"consumer group {consumer_group_id} is deleted")
    else:
        click.echo(f"there was no consumer group {consumer_group_id}", err=True)


def _start_ms(text: str) -> int:
    if text in ("earliest", "latest"):
        return EARLIEST if text == "earliest" else LATEST
    now = time.time()
    start_ms = parse_time(text, now)
    if start_ms > now * 1000:
        raise AdminError(f"{text!r} is in the future: a group cannot begin there; `latest` is from now on")
    return start_ms


def all_places(topic: Topic) -> list[Place]:
    """Every Paxos group of every store."""
    return [(store.store_id, group) for store in topic.stores for group in range(store.paxos_groups)]


def places_of_pubs(topic: Topic, pub_ids: Sequence[int]) -> list[Place]:
    """Every Paxos group of the stores of these pubs. Raises ConfigError for a pub that is not there."""
    for pub_id in pub_ids:
        topic.pub(pub_id)
    stores = {store.store_id for pub_id in pub_ids for store in topic.stores_of_pub(pub_id)}
    return [place for place in all_places(topic) if place[0] in stores]


async def read(caller: Caller, topic: Topic) -> list[Found]:
    """What all stores say of consumer groups, by id. Raises RpcError."""
    from phxqueue.proto.methods import LIST_GROUPS
    from phxqueue.proto.store_pb2 import ListGroupsRequest

    in_files = {
        group.consumer_group_id: [pub.pub_id for pub in topic.pubs if group.consumer_group_id in pub.consumer_group_ids]
        for group in topic.consumer_groups
    }
    found = {group: Found(group, in_files=True, pub_ids=tuple(pubs)) for group, pubs in in_files.items()}
    for place in all_places(topic):
        request = ListGroupsRequest(topic_id=topic.topic_id, store_id=place[0], paxos_group=place[1])
        for state in (await _call(caller, topic, place, LIST_GROUPS, request)).groups:
            one = found.setdefault(state.consumer_group_id, Found(state.consumer_group_id, in_files=False))
            one.add(place, state)
    for one in found.values():
        if one.created_ms:
            one.expected = frozenset(places_of_pubs(topic, [pub for pub in one.run_time_pubs if _has(topic, pub)]))
    return [found[group] for group in sorted(found)]


def _has(topic: Topic, pub_id: int) -> bool:
    return any(pub.pub_id == pub_id for pub in topic.pubs)


def _call(caller: Caller, topic: Topic, place: Place, method: Any, request: Any) -> Any:
    from phxqueue.producer.routes import store_route

    return caller.call(store_route(topic, *place), method, request, DEADLINE_S, try_timeout_s=DEADLINE_S / 4)
