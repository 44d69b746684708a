"""The immutable snapshot of a whole cluster's configuration, with the lookups every role needs.

A snapshot is never changed: a reload makes a new one. Lookups are dictionary reads; an id that does not exist
raises :class:`~phxqueue.config.problems.UnknownIdError`, whose text names the ids that do.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

from phxqueue.config.certificates import TlsPaths
from phxqueue.config.fields import MIB
from phxqueue.config.problems import Problem, UnknownIdError
from phxqueue.config.settings import NetSettings, TopicSettings

#: Ordinary queue ids are below; the dead-letter queue of pub P is DEAD_LETTER_BASE + P.
DEAD_LETTER_BASE = 1 << 20
#: A consumer group is one bit of an item's 64-bit mask.
MAX_CONSUMER_GROUP_ID = 64

Reconcile = Literal["off", "alarm", "strict"]
"""What becomes of an acknowledgement that what is stored contradicts, from the mildest on."""

NodeKind = Literal["voter", "witness", "learner"]
ItemT = TypeVar("ItemT")


def dead_letter_queue(pub_id: int) -> int:
    """The queue that takes the items of `pub_id` whose attempts are used up."""
    return DEAD_LETTER_BASE + pub_id


def group_bit(consumer_group_id: int) -> int:
    """The bit of a consumer group (1..64) in an item's mask."""
    return 1 << (consumer_group_id - 1)


def host_port(host: str, port: int) -> str:
    """ "host:port", with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def consumer_name(ip: str, port: int) -> str:
    """The name of a consumer that was given none: "127.0.0.1-8001"."""
    return f"{ip.replace(':', '-')}-{port}"


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """One node of a store, lock group or scheduler; `node_id` is its position in `addrs` unless it says another."""

    node_id: int
    ip: str
    port: int
    paxos_port: int = 0  # 0: a scheduler, which speaks no Paxos
    region: str = ""
    kind: NodeKind = "voter"
    election_priority: int = 0  # higher comes first

    @property
    def address(self) -> str:
        return host_port(self.ip, self.port)

    @property
    def name(self) -> str:
        """What a scheduler at this address is called in its certificate: "127.0.0.1-6100"."""
        return consumer_name(self.ip, self.port)

    @property
    def paxos_address(self) -> str:
        return host_port(self.ip, self.paxos_port)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSet(ABC):
    """What a store and a lock group have in common: nodes that replicate Paxos groups, and their timing.

    Times in milliseconds of each node's monotonic clock. `master_lease_ms` covers several heartbeats; the
    master counts its lease `max_clock_drift_ms` shorter than its followers do.
    """

    nodes: tuple[NodeAddress, ...]
    scale: int = 100
    paxos_groups: int = 1
    preferred_region: str = ""
    heartbeat_interval_ms: int = 100
    master_lease_ms: int = 400
    max_clock_drift_ms: int = 20
    election_stagger_ms: int = 50
    window: int = 64
    window_bytes: int = 16 * MIB
    max_message_bytes: int = 4 * MIB

    @property
    @abstractmethod
    def title(self) -> str:
        """What people call it."""

    @property
    def voters(self) -> tuple[NodeAddress, ...]:
        """Nodes that count towards a majority: voters and witnesses."""
        return tuple(node for node in self.nodes if node.kind != "learner")

    def node(self, node_id: int) -> NodeAddress:
        for node in self.nodes:
            if node.node_id == node_id:
                return node
        raise UnknownIdError("node", node_id, [node.node_id for node in self.nodes])

    def group_of_queue(self, queue_id: int) -> int:
        """The Paxos group that a queue lives in."""
        return queue_id % self.paxos_groups

    def election_order(self, group_id: int) -> tuple[int, ...]:
        """Node ids that may be master of a Paxos group, the preferred one first.

        The preferred region comes first, then higher `election_priority`, then voter `group_id mod n` and the
        ones after it: with equal priorities the groups spread evenly.
        """
        voters = [node for node in self.nodes if node.kind == "voter"]
        turn = {node.node_id: (place - group_id) % len(voters) for place, node in enumerate(voters)}

        def rank(node: NodeAddress) -> tuple[bool, int, int]:
            elsewhere = bool(self.preferred_region) and node.region != self.preferred_region
            return elsewhere, -node.election_priority, turn[node.node_id]

        return tuple(node.node_id for node in sorted(voters, key=rank))


@dataclass(frozen=True, slots=True, kw_only=True)
class Store(ReplicaSet):
    """One replica set that holds queues. `pub_ids` empty: it serves every pub of the topic.

    `scale` is its weight among the stores of a pub; 0: no new items, what it holds is still consumed.
    """

    store_id: int
    pub_ids: tuple[int, ...] = ()

    @property
    def title(self) -> str:
        return f"store {self.store_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LockGroup(ReplicaSet):
    """One replica set that holds locks; `scale` is its share of the keys."""

    lock_id: int

    @property
    def title(self) -> str:
        return f"lock group {self.lock_id}"


@dataclass(frozen=True, kw_only=True)
class QueueInfo:
    """A set of queues with one behaviour: a link of an attempt chain."""

    queue_info_id: int
    ranges: tuple[tuple[int, int], ...]  # inclusive, sorted, disjoint
    delay: float = 0.0  # seconds an item rests here before it is delivered
    count: int = 1  # attempts this queue_info absorbs; -1: no end
    drop_all: bool = False
    handle_by_random_uin: bool = False
    weight: int = 0

    @cached_property
    def queue_ids(self) -> tuple[int, ...]:
        """All its queue ids, sorted."""
        return tuple(queue_id for first, last in self.ranges for queue_id in range(first, last + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pub:
    """A publishing route: its attempt chain and the consumer groups that get a copy of every item."""

    pub_id: int
    queue_info_ids: tuple[int, ...]
    consumer_group_ids: tuple[int, ...]
    retention_s: float = 86_400.0  # how long a queue keeps what everybody has acknowledged ...
    retention_bytes: int = 256 * MIB  # ... unless that is more than this
    reconcile: Reconcile = "alarm"
    expired: Literal["dead", "drop"] = "dead"
    idempotency_window_s: float = 3600.0
    idempotency_keys: int = 100_000
    check_back_after_s: float = 60.0
    check_back_every_s: float = 60.0
    check_backs: int = 15
    half_deadline_s: float = 3600.0
    priority_queue_info_ids: tuple[int, ...] = ()

    @property
    def all_queue_info_ids(self) -> tuple[int, ...]:
        """Those of its attempt chain, and those of its priorities."""
        return self.queue_info_ids + self.priority_queue_info_ids


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerGroup:
    """Who reads. `ordered`: a failed item is tried again in its place, see `ordered_*` of topicconfig.conf."""

    consumer_group_id: int
    use_dynamic_scale: bool = True
    skip_lock: bool = False
    ordered: bool = False
    ordered_retries: int = 10  # -1: no end
    ordered_retry_ms: int = 1000
    ordered_retry_max_ms: int = 30_000
    ordered_then: Literal["dead", "attempts"] = "dead"
    run_time: bool = False  # created at run time: in no file


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumer:
    """One consumer process; its address is its identity, nothing listens there.

    `scale` is its weight among the consumers of a group; 0: it gets no queues.
    """

    ip: str
    port: int
    scale: int = 1000
    consumer_group_ids: tuple[int, ...] = ()  # empty: all groups of the topic
    name: str = ""  # in its certificate; see consumer_name
    run_time_group_ids: tuple[int, ...] = ()  # of groups that are created at run time

    @property
    def address(self) -> str:
        return host_port(self.ip, self.port)


@dataclass(frozen=True, slots=True, kw_only=True)
class SkipInfo:
    """Items that match every given field are passed over, unhandled. -1 (`uin`: 0) matches anything."""

    uin: int = 0
    pub_id: int = -1
    consumer_group_id: int = -1
    queue_info_id: int = -1
    handle_id: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class FreqInfo:
    """A speed limit. -1 matches anything."""

    limit_per_min: int
    pub_id: int = -1
    consumer_group_id: int = -1
    handle_id: int = -1
    queue_info_id: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayInfo:
    """The original's way to ask for a replay; here it is a command and these are only kept for reading."""

    consumer_group_ids: tuple[int, ...] = ()
    pub_ids: tuple[int, ...] = ()
    cursor_id: int | None = None
    timestamp: int = 0


def _pick(index: Mapping[int, ItemT], what: str, wanted: int) -> ItemT:
    try:
        return index[wanted]
    except KeyError:
        raise UnknownIdError(what, wanted, index) from None


@dataclass(frozen=True, kw_only=True)
class Topic:
    """An isolated business: its routes, queues, groups and the processes that serve them."""

    topic_id: int
    topic_name: str
    handle_ids: tuple[int, ...] = ()
    settings: TopicSettings = field(default_factory=TopicSettings)
    queue_infos: tuple[QueueInfo, ...] = ()
    pubs: tuple[Pub, ...] = ()
    consumer_groups: tuple[ConsumerGroup, ...] = ()
    stores: tuple[Store, ...] = ()
    consumers: tuple[Consumer, ...] = ()
    scheduler: tuple[NodeAddress, ...] = ()
    locks: tuple[LockGroup, ...] = ()
    skip_infos: tuple[SkipInfo, ...] = ()
    freq_infos: tuple[FreqInfo, ...] = ()
    replay_infos: tuple[ReplayInfo, ...] = ()

    @cached_property
    def _pubs(self) -> dict[int, Pub]:
        return {pub.pub_id: pub for pub in self.pubs}

    @cached_property
    def _queue_infos(self) -> dict[int, QueueInfo]:
        return {info.queue_info_id: info for info in self.queue_infos}

    @cached_property
    def _queues(self) -> dict[int, QueueInfo]:
        return {queue_id: info for info in self.queue_infos for queue_id in info.queue_ids}

    @cached_property
    def _groups(self) -> dict[int, ConsumerGroup]:
        return {group.consumer_group_id: group for group in self.consumer_groups}

    @cached_property
    def _stores(self) -> dict[int, Store]:
        return {store.store_id: store for store in self.stores}

    @cached_property
    def _masks(self) -> dict[int, int]:
        return {pub.pub_id: sum(group_bit(group) for group in pub.consumer_group_ids) for pub in self.pubs}

    def pub(self, pub_id: int) -> Pub:
        return _pick(self._pubs, f"topic {self.topic_name}: pub", pub_id)

    def queue_info(self, queue_info_id: int) -> QueueInfo:
        return _pick(self._queue_infos, f"topic {self.topic_name}: queue_info", queue_info_id)

    def queue_info_of_queue(self, queue_id: int) -> QueueInfo:
        return _pick(self._queues, f"topic {self.topic_name}: queue", queue_id)

    def consumer_group(self, consumer_group_id: int) -> ConsumerGroup:
        return _pick(self._groups, f"topic {self.topic_name}: consumer group", consumer_group_id)

    def store(self, store_id: int) -> Store:
        return _pick(self._stores, f"topic {self.topic_name}: store", store_id)

    def groups_mask(self, pub_id: int) -> int:
        """The 64-bit mask of all consumer groups of a pub."""
        return _pick(self._masks, f"topic {self.topic_name}: pub", pub_id)

    def stores_of_pub(self, pub_id: int) -> tuple[Store, ...]:
        """Stores that serve a pub, the ones with scale 0 (draining) included."""
        return tuple(store for store in self.stores if not store.pub_ids or pub_id in store.pub_ids)

    def pubs_of_store(self, store_id: int) -> tuple[Pub, ...]:
        pub_ids = self.store(store_id).pub_ids
        return tuple(pub for pub in self.pubs if not pub_ids or pub.pub_id in pub_ids)

    def queues_of_pub(self, pub_id: int) -> tuple[int, ...]:
        """Queue ids of the whole attempt chain and the priorities of a pub, sorted; without its dead-letter queue."""
        infos = [self.queue_info(info_id) for info_id in self.pub(pub_id).all_queue_info_ids]
        return tuple(sorted(queue_id for info in infos for queue_id in info.queue_ids))

    def queues_of_store(self, store_id: int) -> tuple[int, ...]:
        """Every queue id that may hold items on a store, sorted: of all its pubs, dead-letter queues included."""
        pubs = self.pubs_of_store(store_id)
        ordinary = {queue_id for pub in pubs for queue_id in self.queues_of_pub(pub.pub_id)}
        return tuple(sorted(ordinary | {dead_letter_queue(pub.pub_id) for pub in pubs}))

    def queues_of_group(self, consumer_group_id: int) -> tuple[tuple[int, int], ...]:
        """Every (store_id, queue_id) that may hold items for a group, sorted; without dead-letter queues."""
        self.consumer_group(consumer_group_id)
        found = {
            (store.store_id, queue_id)
            for store in self.stores
            for pub in self.pubs_of_store(store.store_id)
            if consumer_group_id in pub.consumer_group_ids
            for queue_id in self.queues_of_pub(pub.pub_id)
        }
        return tuple(sorted(found))

    def attempt_queue_info(self, pub_id: int, count: int) -> QueueInfo | None:
        """The queue_info that takes attempt number `count` (0 is the first); None: the chain is exhausted.

        Each queue_info of the pub's chain absorbs `QueueInfo.count` attempts, -1 all that come.
        """
        remaining = count
        for info_id in self.pub(pub_id).queue_info_ids:
            info = self.queue_info(info_id)
            if info.count < 0 or remaining < info.count:
                return info
            remaining -= info.count
        return None


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Everything globalconfig.conf and the files it names say."""

    name: str = "phxqueue"
    topics: tuple[Topic, ...] = ()
    path: Path = Path("globalconfig.conf")
    files: tuple[Path, ...] = ()  # all files read, for watching
    certificates: Path | None = None  # directory of the certificates; None: TLS is off
    tls: TlsPaths | None = None  # of a client that is told nothing else; None: TLS is off
    net: NetSettings = field(default_factory=NetSettings)
    warnings: tuple[Problem, ...] = field(default=(), compare=False)  # for the log of whoever starts with it

    def topic(self, name_or_id: str | int) -> Topic:
        for topic in self.topics:
            if name_or_id in (topic.topic_name, topic.topic_id):
                return topic
        raise UnknownIdError("topic", name_or_id, [topic.topic_name for topic in self.topics])
