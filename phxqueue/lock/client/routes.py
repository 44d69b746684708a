"""From a key to those who may be asked about it. Pure; built from one snapshot of the configuration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from phxqueue.config import LockGroup, Topic
from phxqueue.lock.client.errors import InvalidRequest, NoLockGroup
from phxqueue.lock.placement import Placement, paxos_group
from phxqueue.net.address import Address
from phxqueue.net.routing import Route
from phxqueue.proto.lock_pb2 import LockShare


@dataclass(frozen=True, slots=True)
class Place:
    """Where a key lives."""

    topic_id: int
    lock_id: int
    group: int
    route: Route


class LockRoutes:
    """The lock groups of a topic, with their shares of the keys: by the configuration, until a lock group knows better.

    Attributes:
        generation: of the shares that a lock group has told; 0: none has.
    """

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.generation = 0
        self._placement = Placement((lock.lock_id, lock.scale) for lock in topic.locks)
        self._groups = {lock.lock_id: lock.paxos_groups for lock in topic.locks}
        self._places = {
            (lock.lock_id, group): _place(topic, lock, group)
            for lock in topic.locks
            for group in range(lock.paxos_groups)
        }

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
        return self._places[lock_id, paxos_group(key, self._groups[lock_id])]

    def learn(self, share: LockShare) -> bool:
        """Take over what a lock group says of the shares; False: it is not newer, or has keys where we know nobody."""
        weights = [(one.lock_id, one.scale) for one in share.weights]
        known = all(lock_id in self._groups for lock_id, scale in weights if scale)
        if share.generation <= self.generation or not known:
            return False
        self.generation = share.generation
        self._placement = Placement(weights)
        return True

    def everywhere(self) -> Iterator[Place]:
        """Every Paxos group of every lock group."""
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
