"""Consumer groups that were created at run time (`phxqueue groups create`): what they read, the stores tell a consumer.

A consumer names such groups in `run_time_group_ids` of its entry in consumerconfig.conf. It begins without them, asks
every now and then, and takes part as soon as the stores know a group; when it is deleted, its queues are given up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from phxqueue.config import ConsumerGroup, ConsumerNode, Topic
from phxqueue.consumer.asking import Asking
from phxqueue.net.routing import Caller
from phxqueue.producer.routes import store_route
from phxqueue.proto.methods import LIST_GROUPS
from phxqueue.proto.store_pb2 import ListGroupsRequest

#: Longest one question takes, in seconds.
DEADLINE_S = 5.0

Groups = Mapping[int, Collection[int]]
"""Consumer group id -> the pubs it reads."""


def with_groups(topic: Topic, groups: Groups) -> Topic:
    """A topic with groups that its files do not name; those they do name are as they say."""
    known = {group.consumer_group_id for group in topic.consumer_groups}
    added = {group: set(pubs) for group, pubs in groups.items() if group not in known}
    if not added:
        return topic
    pubs = tuple(
        replace(
            pub,
            consumer_group_ids=(
                *pub.consumer_group_ids,
                *sorted(group for group, read in added.items() if pub.pub_id in read),
            ),
        )
        for pub in topic.pubs
    )
    more = tuple(ConsumerGroup(consumer_group_id=group, run_time=True) for group in sorted(added))
    return replace(topic, pubs=pubs, consumer_groups=(*topic.consumer_groups, *more))


def with_run_time_groups(node: ConsumerNode, groups: Groups) -> ConsumerNode:
    """A consumer that takes part in those of the groups that it names."""
    mine = {group: pubs for group, pubs in groups.items() if group in node.consumer.run_time_group_ids}
    ignored = node.topic.settings.consumer_ignore_consumer_group_ids
    ids = {*node.consumer_group_ids, *(group for group in mine if group not in ignored)}
    return replace(node, topic=with_groups(node.topic, mine), consumer_group_ids=tuple(sorted(ids)))


async def ask_for_groups(topic: Topic, caller: Caller) -> dict[int, set[int]]:
    """What the stores know of groups created at run time. Raises RpcError."""
    found: dict[int, set[int]] = {}
    for store in topic.stores:
        request = ListGroupsRequest(topic_id=topic.topic_id, store_id=store.store_id)
        response = await caller.call(store_route(topic, store.store_id, 0), LIST_GROUPS, request, DEADLINE_S)
        for state in response.groups:
            if state.created_ms:
                found.setdefault(state.consumer_group_id, set()).update(state.pub_ids)
    return found


class RunTimeGroups:
    """Follows the groups that a consumer names.

    Args:
        node: the consumer by its files.
        changed: told the consumer as it is with them, after every change.
        interval_s: between two questions.
    """

    log = Logger()

    def __init__(
        self,
        node: ConsumerNode,
        caller: Caller,
        clock: IReactorTime,
        changed: Callable[[ConsumerNode], None],
        interval_s: float,
    ) -> None:
        self._node = node
        self._caller = caller
        self._changed = changed
        self._known: dict[int, set[int]] = {}
        self._asking = Asking(clock, self._ask, self._answered, "the groups created at run time", interval_s)

    @property
    def node(self) -> ConsumerNode:
        """The consumer with the groups that are known."""
        return with_run_time_groups(self._node, self._known)

    def start(self) -> None:
        """Ask now, and again and again, if it names any."""
        self._asking.start()

    def reconfigure(self, node: ConsumerNode) -> None:
        """Go on with another configuration."""
        self._node = node

    def stop(self) -> None:
        """Ask no more."""
        self._asking.stop()

    def _ask(self) -> Deferred[dict[int, set[int]]] | None:
        if not self._node.consumer.run_time_group_ids:
            return None
        return Deferred.fromCoroutine(ask_for_groups(self._node.topic, self._caller))

    def _answered(self, groups: dict[int, set[int]]) -> None:
        if groups == self._known:
            return
        self._known = groups
        for group in self._node.consumer.run_time_group_ids:
            if group not in groups:
                self.log.warn(
                    "consumer group {group} (run_time_group_ids) is not known to the stores: `phxqueue groups create`",
                    group=group,
                )
        self._changed(self.node)
