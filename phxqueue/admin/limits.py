"""``phxqueue limits``, ``pause`` and ``resume``: how fast consumers handle, changed while they run.

The settings are kept by the topic's first store: replicated and durable. Consumers follow them within seconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import click

from phxqueue.admin.calling import with_caller
from phxqueue.admin.context import ClusterContext, cluster_command
from phxqueue.admin.errors import AdminError
from phxqueue.admin.groups import read as read_groups
from phxqueue.admin.table import table
from phxqueue.config import Topic
from phxqueue.consumer.limits import Limit, limits_of_files
from phxqueue.consumer.settings_watch import settings_route, settings_store
from phxqueue.consumer.throttle_settings import limit_key, pause_key, read_throttle
from phxqueue.net.routing import Caller
from phxqueue.proto.methods import GET_SETTINGS, SET_SETTING
from phxqueue.proto.store_pb2 import GetSettingsRequest, SetSettingRequest, SettingChange

#: Longest a command looks for a master and waits for its answer, in seconds.
DEADLINE_S = 10.0
AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True, slots=True)
class TopicSettingsClient:
    """Reads and changes the settings of a topic."""

    topic: Topic
    caller: Caller

    async def read(self, deadline_s: float = DEADLINE_S) -> dict[str, bytes]:
        """All of them."""
        topic = self.topic
        request = GetSettingsRequest(topic_id=topic.topic_id, store_id=settings_store(topic).store_id)
        response = await self.caller.call(settings_route(topic), GET_SETTINGS, request, deadline_s)
        return dict(response.settings)

    async def set(self, key: str, value: bytes | None) -> None:
        """Set one, or take it out (None)."""
        topic = self.topic
        request = SetSettingRequest(topic_id=topic.topic_id, store_id=settings_store(topic).store_id)
        request.change.CopyFrom(SettingChange(key=key, value=value))
        await self.caller.call(settings_route(topic), SET_SETTING, request, DEADLINE_S)

    async def pubs_by_group(self, limit: Limit) -> dict[int, frozenset[int]]:
        """What consumer groups read, those of run time included: these are asked for only when the limit needs them."""
        pubs: dict[int, set[int]] = {group.consumer_group_id: set() for group in self.topic.consumer_groups}
        for pub in self.topic.pubs:
            for group in pub.consumer_group_ids:
                pubs[group].add(pub.pub_id)
        wanted = pubs.get(limit.consumer_group_id)
        if limit.consumer_group_id != -1 and (wanted is None or limit.pub_id not in (-1, *wanted)):
            for one in await read_groups(self.caller, self.topic):
                pubs.setdefault(one.consumer_group_id, set()).update(one.run_time_pubs)
        return {group: frozenset(read) for group, read in pubs.items()}


def with_settings(
    context: ClusterContext, use: Callable[[TopicSettingsClient], Coroutine[Any, Any, AnswerT]]
) -> tuple[Topic, AnswerT]:
    """Run a coroutine with the settings of the topic that the options name."""
    topic = context.topic_of(context.load())
    return topic, with_caller(context, topic, lambda caller: use(TopicSettingsClient(topic, caller)))


@click.group()
def limits() -> None:
    """Show and change speed limits of consumers.

    A limit counts all items that it matches together, over all consumers of the topic; each consumer group by itself.
    """


def _matching(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--all", "everything", is_flag=True, help="All items: without any of the other options."),
        click.option(
            "--queue-info", "queue_info_id", type=int, default=-1, help="Only in the queues of this queue_info."
        ),
        click.option("--handle", "handle_id", type=int, default=-1, help="Only items of this handle_id."),
        click.option("--group", "consumer_group_id", type=int, default=-1, help="Only for this consumer group."),
        click.option("--pub", "pub_id", type=int, default=-1, help="Only items of this pub."),
    ):
        function = option(function)
    return function


@limits.command("set")
@_matching
@click.option(
    "--per-minute", type=click.IntRange(0, 2**31 - 1), required=True, help="Items per minute; 0: no limit at all."
)
@cluster_command
def set_limit(context: ClusterContext, per_minute: int, everything: bool, **ids: int) -> None:
    """Set a limit, in place of one of the files that is about the same items. Consumers keep to it within seconds."""
    limit = Limit(per_minute=per_minute, **ids)
    _check_meant(limit, everything)

    async def use(settings: TopicSettingsClient) -> None:
        check_ids(settings.topic, limit, await settings.pubs_by_group(limit))
        await settings.set(limit_key(limit), str(per_minute).encode())

    with_settings(context, use)
    click.echo(f"{describe(limit)}: {rate(per_minute)}")


@limits.command("unset")
@_matching
@cluster_command
def unset_limit(context: ClusterContext, everything: bool, **ids: int) -> None:
    """Take out a limit that was set; what the files say of the same items is in force again."""
    limit = Limit(**ids)
    _check_meant(limit, everything)

    async def use(settings: TopicSettingsClient) -> bool:
        there = limit_key(limit) in await settings.read()
        if there:
            await settings.set(limit_key(limit), None)
        return there

    topic, there = with_settings(context, use)
    if not there:
        raise AdminError(f"{describe(limit)}: no such limit was set (`phxqueue limits list` shows them)")
    [of_files] = [other for other in limits_of_files(topic) if other == limit] or [replace(limit, per_minute=0)]
    click.echo(f"{describe(limit)}: {rate(of_files.per_minute)} (topicconfig.conf)")


@limits.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@cluster_command
def list_limits(context: ClusterContext, as_json: bool) -> None:
    """Show all limits, and what is paused."""
    topic, settings = with_settings(context, lambda settings: settings.read())
    document = as_document(topic, settings)
    click.echo(json.dumps(document, indent=2) if as_json else "\n".join(as_text(document)))


@click.command()
@click.option("--group", "consumer_group_id", type=int, required=True, help="The consumer group.")
@click.option("--pub", "pub_id", type=int, required=True, help="The pub.")
@cluster_command
def pause(context: ClusterContext, consumer_group_id: int, pub_id: int) -> None:
    """Have a consumer group handle no more items of a pub until `phxqueue resume`. Nothing is lost meanwhile.

    Consumers ask every settings_interval_s (in their files) what is set; handlers at work then finish their items.
    """
    _pause(context, consumer_group_id, pub_id, b"1")
    click.echo(f"group {consumer_group_id} pauses with pub {pub_id} when its consumers hear of it, in seconds")


@click.command()
@click.option("--group", "consumer_group_id", type=int, required=True, help="The consumer group.")
@click.option("--pub", "pub_id", type=int, required=True, help="The pub.")
@cluster_command
def resume(context: ClusterContext, consumer_group_id: int, pub_id: int) -> None:
    """Have a consumer group go on with a pub."""
    _pause(context, consumer_group_id, pub_id, None)
    click.echo(f"group {consumer_group_id} goes on with pub {pub_id}")


def _check_meant(limit: Limit, everything: bool) -> None:
    """Raises AdminError unless it was said which items are meant: forgetting it must not hold back a whole topic."""
    unspecific = limit == Limit()
    if unspecific and not everything:
        raise AdminError("say which items: by --pub, --group, --handle, --queue-info, or --all for everything together")
    if everything and not unspecific:
        raise AdminError(f"--all is about everything, and you named {describe(limit)}: which do you mean?")


def _pause(context: ClusterContext, consumer_group_id: int, pub_id: int, value: bytes | None) -> None:
    async def use(settings: TopicSettingsClient) -> None:
        if value is not None:
            limit = Limit(pub_id, consumer_group_id)
            check_ids(settings.topic, limit, await settings.pubs_by_group(limit))
        await settings.set(pause_key(consumer_group_id, pub_id), value)

    with_settings(context, use)


def check_ids(topic: Topic, limit: Limit, pubs_by_group: Mapping[int, Collection[int]]) -> None:
    """Raises UnknownIdError or AdminError for what the topic does not have: the limit would match nothing."""
    if limit.pub_id != -1:
        topic.pub(limit.pub_id)
    if limit.consumer_group_id != -1:
        pubs = pubs_by_group.get(limit.consumer_group_id)
        if pubs is None:
            raise AdminError(
                f"no consumer group {limit.consumer_group_id}: `phxqueue groups list` shows those there are"
            )
        if limit.pub_id not in (-1, *pubs):
            read = ", ".join(map(str, sorted(pubs))) or "none"
            raise AdminError(
                f"consumer group {limit.consumer_group_id} does not read pub {limit.pub_id}; it reads {read}"
            )
    if limit.queue_info_id != -1:
        topic.queue_info(limit.queue_info_id)
    if limit.handle_id not in (-1, *topic.handle_ids):
        known = ", ".join(map(str, topic.handle_ids))
        raise AdminError(f"topic {topic.topic_name} has no handle_id {limit.handle_id}; there are: {known}")


def as_document(topic: Topic, settings: Mapping[str, bytes]) -> dict[str, Any]:
    """Return limits and pauses as plain values."""
    throttle, wrong = read_throttle(settings)
    rows = [(limit, "topicconfig.conf", limit not in throttle.limits) for limit in limits_of_files(topic)]
    rows += [(limit, "set", True) for limit in throttle.limits]
    return {
        "limits": [
            {
                "pub_id": limit.pub_id,
                "consumer_group_id": limit.consumer_group_id,
                "handle_id": limit.handle_id,
                "queue_info_id": limit.queue_info_id,
                "per_minute": limit.per_minute,
                "source": source,
                "in_force": in_force,
            }
            for limit, source, in_force in sorted(rows, key=lambda row: (row[0], row[1]))
        ],
        "paused": [{"consumer_group_id": group_id, "pub_id": pub_id} for group_id, pub_id in sorted(throttle.paused)],
        "not_understood": wrong,
    }


def as_text(document: Mapping[str, Any]) -> list[str]:
    """Return them as a table."""
    rows = [
        (
            *(_any(each[name]) for name in ("pub_id", "consumer_group_id", "handle_id", "queue_info_id")),
            rate(each["per_minute"]),
            each["source"] if each["in_force"] else f"{each['source']}: replaced by what was set",
        )
        for each in document["limits"]
    ]
    lines = table(("PUB", "GROUP", "HANDLE", "QUEUE INFO", "LIMIT", "FROM"), rows, left=6) if rows else ["  no limits"]
    lines += [f"  paused: group {each['consumer_group_id']} with pub {each['pub_id']}" for each in document["paused"]]
    return lines + [f"  not understood: setting {key}" for key in document["not_understood"]]


def describe(limit: Limit) -> str:
    """Return what a limit is about, in words."""
    parts = [
        f"{name} {number}"
        for name, number in (
            ("pub", limit.pub_id),
            ("group", limit.consumer_group_id),
            ("handle_id", limit.handle_id),
            ("queue_info", limit.queue_info_id),
        )
        if number != -1
    ]
    return ", ".join(parts) or "everything"


def rate(per_minute: int) -> str:
    """Return a rate in words."""
    return f"{per_minute} a minute ({per_minute / 60:.3g} a second)" if per_minute else "no limit"


def _any(number: int) -> str:
    return "any" if number == -1 else str(number)
