"""The topic's routes as a producer needs them: from pub and key to a target. Pure.

Built from one snapshot of the configuration; a reload makes a new table.
"""

from __future__ import annotations

from collections.abc import Collection

from phxqueue.config import Pub, QueueInfo, Topic, dead_letter_queue, group_bit
from phxqueue.net.address import Address
from phxqueue.net.routing import Route
from phxqueue.producer.entries import Target
from phxqueue.producer.errors import UnknownGroup, UnknownHandle, UnknownPub
from phxqueue.producer.selection import StoreChoice, choose_queue
from phxqueue.proto.origin import Origin

#: Targets remembered; when there are more, all are forgotten (they are cheap to make).
MAX_TARGETS = 100_000


def store_route(topic: Topic, store_id: int, group: int) -> Route:
    """Whom to ask about the queues of one Paxos group of a store."""
    nodes = topic.store(store_id).nodes
    return Route(
        key=f"store:{topic.topic_id}:{store_id}:{group}",
        candidates=tuple(Address(node.ip, node.port) for node in nodes if node.kind != "witness"),
        what=f"store {store_id}",
    )


class PubRoutes:
    """One pub: its masks, and where its items go."""

    def __init__(self, topic: Topic, pub: Pub) -> None:
        self.pub_id = pub.pub_id
        self.full_mask = topic.groups_mask(pub.pub_id)
        self.groups = frozenset(pub.consumer_group_ids)
        self.first_info = topic.attempt_queue_info(pub.pub_id, 0)
        self.priorities = tuple(topic.queue_info(info_id) for info_id in pub.priority_queue_info_ids)
        self._topic = topic
        self._choice = StoreChoice([(store.store_id, store.scale) for store in topic.stores_of_pub(pub.pub_id)])
        self._targets: dict[tuple[int, int, int, int], Target] = {}

    def mask(self, consumer_group_ids: Collection[int] | None) -> int:
        """The mask of these groups; None: all of the pub's.

        Raises:
            UnknownGroup: naming the group and those there are.
        """
        if consumer_group_ids is None:
            return self.full_mask
        wrong = sorted(group for group in set(consumer_group_ids) if group not in self.groups)
        if wrong or not consumer_group_ids:
            what = (
                f"consumer groups {wrong} do not read"
                if wrong
                else "consumer_group_ids is empty: nobody would read from"
            )
            raise UnknownGroup(
                f"{what} pub {self.pub_id}; its groups are {sorted(self.groups)}; leave it out for all of them"
            )
        return sum(group_bit(group) for group in set(consumer_group_ids))

    def target(
        self,
        info: QueueInfo | None,
        key: int,
        mask: int,
        avoid: frozenset[int] = frozenset(),
        origin: Origin = Origin.NEW,
    ) -> Target:
        """Where an item with this key goes; `info` None: to the pub's dead letters.

        Raises:
            UnknownPub: when no store serves the pub.
        """
        choice = self._choice.without(avoid) if avoid else self._choice
        if not choice:
            raise UnknownPub(
                f"no store with a scale above 0 serves pub {self.pub_id} of topic {self._topic.topic_name}: "
                "see pub_ids and scale in storeconfig.conf"
            )
        store_id = choice.choose(key)
        queue_id = dead_letter_queue(self.pub_id) if info is None else choose_queue(info.queue_ids, key)
        return self._target(store_id, queue_id, mask, origin)

    def _target(self, store_id: int, queue_id: int, mask: int, origin: Origin) -> Target:
        found = self._targets.get((store_id, queue_id, mask, origin))
        if found is None:
            if len(self._targets) >= MAX_TARGETS:
                self._targets.clear()
            group = self._topic.store(store_id).group_of_queue(queue_id)
            # What is counted by consumer group must not share a batch with what is another's.
            batch = (queue_id, self.pub_id, mask, origin) if origin else (queue_id, self.pub_id)
            found = Target(store_id, queue_id, self.pub_id, mask, (store_id, group), batch, origin)
            self._targets[store_id, queue_id, mask, origin] = found
        return found

    def target_in_store(self, info: QueueInfo, key: int, mask: int, store_id: int) -> Target | None:
        """The same in a given store; None: it does not serve the pub."""
        if store_id not in self._choice.store_ids:
            return None
        return self._target(store_id, choose_queue(info.queue_ids, key), mask, Origin.NEW)

    def target_in_group(self, info: QueueInfo, key: int, mask: int, store_id: int, group: int) -> Target | None:
        """The same in a given Paxos group of a store; None: no queue of the queue_info is there."""
        if store_id not in self._choice.store_ids:
            return None
        store = self._topic.store(store_id)
        queue_ids = [queue_id for queue_id in info.queue_ids if store.group_of_queue(queue_id) == group]
        return self._target(store_id, choose_queue(queue_ids, key), mask, Origin.NEW) if queue_ids else None


class RouteTable:
    """All pubs of a topic."""

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self._pubs = {pub.pub_id: PubRoutes(topic, pub) for pub in topic.pubs}
        self._handle_ids = frozenset(topic.handle_ids)

    def pub(self, pub_id: int) -> PubRoutes:
        """Raises UnknownPub, naming the pubs there are."""
        found = self._pubs.get(pub_id)
        if found is None:
            raise UnknownPub(f"topic {self.topic.topic_name} has no pub {pub_id!r}; its pubs are {sorted(self._pubs)}")
        return found

    def check_handle(self, handle_id: int) -> None:
        """Raises UnknownHandle, naming the handle_ids there are."""
        if handle_id not in self._handle_ids:
            raise UnknownHandle(
                f"topic {self.topic.topic_name} has no handle_id {handle_id!r}; its handle_ids are "
                f"{sorted(self._handle_ids)} (handle_ids in topicconfig.conf)"
            )
