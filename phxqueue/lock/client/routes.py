"""From a key to those who may be asked about it. Pure; built from one snapshot of the configuration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from phxqueue.config import LockGroup, Topic
from phxqueue.lock.client.errors import InvalidRequest, NoLockGroup
from phxqueue.lock.placement import Placement, paxos_group
from phxqueue.lock.shares import Share
from phxqueue.net.address import Address
from phxqueue.net.routing import Route


@dataclass(frozen=True, slots=True)
class Place:
    """Where a key lives."""

    topic_id: int
    lock_id: int
    group: int
    route: Route


class LockRoutes:
    """The lock groups of a topic.

    Attributes:
        share: the shares of the keys that a lock group has told; None: none has, and the configuration counts.
    """

    def __init__(self, topic: Topic, share: Share | None = None) -> None:
        self.topic = topic
        self.share: Share | None = None
        self._placement = Placement((lock.lock_id, lock.scale) for lock in topic.locks)
        self._groups = {lock.lock_id: lock.paxos_groups for lock in topic.locks}
        self._places = {
            (lock.lock_id, group): _place(topic, lock, group)
            for lock in sorted(topic.locks, key=lambda lock: lock.lock_id)
            for group in range(lock.paxos_groups)
        }
        if share is not None:
            self.learn(share)

    def learn(self, share: Share) -> None:
        """A lock group tells by which shares it serves: newer ones than those known so far."""
        if self.share is None or share.generation > self.share.generation:
            self.share = share
            self._placement = Placement(share.weights)

    def place(self, key: str) -> Place:
        """Where a key lives.

        Raises:
            InvalidRequest: it can be no key.
            NoLockGroup: nowhere.
        """
        check_key(key)
        lock_id = self._placement.lock_id(key)
        if lock_id is None:
            raise NoLockGroup(
                f"topic {self.topic.topic_name} has no lock group with a scale above 0: see lock_config_path in "
                "globalconfig.conf and scale in lockconfig.conf"
            )
        if lock_id not in self._groups:
            raise NoLockGroup(f"lock group {lock_id}, which has {key!r}, is not in our lockconfig.conf: add it there")
        return self._places[lock_id, paxos_group(key, self._groups[lock_id])]

    def everywhere(self) -> Iterator[Place]:
        """Every Paxos group of every lock group, by rising numbers."""
        yield from self._places.values()


def check_key(key: str) -> None:
    """Refuse what can be no key; the server knows the limits. Raises InvalidRequest."""
    if not isinstance(key, str):
        raise InvalidRequest(f"key: {key!r} is no str")
    if not key:
        raise InvalidRequest("key: it is empty")
    try:
        key.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"key: {key!r} is no valid Unicode") from None


def _place(topic: Topic, lock: LockGroup, group: int) -> Place:
    route = Route(
        key=f"lock:{topic.topic_id}:{lock.lock_id}:{group}",
        candidates=tuple(Address(node.ip, node.port) for node in lock.nodes if node.kind != "witness"),
        what=f"lock group {lock.lock_id}",
    )
    return Place(topic.topic_id, lock.lock_id, group, route)
