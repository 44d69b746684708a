"""What this store may take and give, by its configuration: an immutable snapshot with everything looked up in advance.

Configuration decides here, at the edge, and nowhere deeper: entries that are in the log mean the same on every replica
whatever its files say. A reload makes a new snapshot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from phxqueue.config import (
    MAX_CONSUMER_GROUP_ID,
    Pub,
    Reconcile,
    Store,
    Topic,
    dead_letter_queue,
    group_bit,
)
from phxqueue.proto.store_pb2 import KeyBounds
from phxqueue.store.group_table import GroupTable
from phxqueue.store.half_schedule import HalfPolicy
from phxqueue.store.retention import RetentionPolicy

ALL_GROUPS = (1 << MAX_CONSUMER_GROUP_ID) - 1


@dataclass(frozen=True, slots=True)
class ServedQueue:
    """One queue id of this store.

    Attributes:
        pubs: pub id -> mask of the pub's consumer groups, for the pubs whose items may be added here.
        readers: mask of the consumer groups that may read.
        delay_ms: how long an item rests here before it is delivered.
        by_mask: deliver an item only to the groups of its mask. Not so in a dead-letter queue: whoever looks after
            dead letters sees all of them.
        reconcile: what becomes of an acknowledgement that is wrong; of several pubs the strictest counts.
        retention: how long it keeps what everybody has acknowledged; of several pubs the longest counts.
    """

    pubs: dict[int, int]
    readers: int
    delay_ms: int
    by_mask: bool
    retention: RetentionPolicy
    reconcile: Reconcile = "alarm"


class ServedQueues:
    """All queues a store serves: those of its pubs' attempt chains, and each pub's dead-letter queue."""

    def __init__(self, topic: Topic, store: Store) -> None:
        self.topic_id = topic.topic_id
        self.topic_name = topic.topic_name
        self.store_id = store.store_id
        self.paxos_groups = store.paxos_groups
        self.max_batch_bytes = topic.settings.items_byte_size_limit
        self.max_batch_items = topic.settings.batch_limit
        # All batches of one request travel in one entry, which has to fit into a message between the nodes.
        self.max_request_bytes = max(store.max_message_bytes, self.max_batch_bytes)
        self.ledger_settle_s = topic.settings.ledger_settle_s
        self._pub_ids = sorted(pub.pub_id for pub in topic.pubs_of_store(store.store_id))
        self._queues = _queues(topic, store)
        self.key_bounds = {
            pub.pub_id: KeyBounds(
                pub_id=pub.pub_id, window_ms=round(pub.idempotency_window_s * 1000), most=pub.idempotency_keys
            )
            for pub in topic.pubs_of_store(store.store_id)
        }
        self._half_policies = {pub.pub_id: _half_policy(pub) for pub in topic.pubs_of_store(store.store_id)}
        # One flat dictionary for the hot path: (queue id << 32 | pub id) -> mask of the pub's groups.
        self.masks = {
            queue_id << 32 | pub_id: mask
            for queue_id, queue in self._queues.items()
            for pub_id, mask in queue.pubs.items()
        }

    def queue(self, queue_id: int) -> ServedQueue | None:
        """Return what is served of a queue, or None."""
        return self._queues.get(queue_id)

    def queues_of(self, pub_id: int, paxos_group: int) -> list[int]:
        """The queues of a pub's attempt chain that live in a Paxos group, sorted; without dead letters."""
        return sorted(
            queue_id
            for queue_id, queue in self._queues.items()
            if queue.by_mask and pub_id in queue.pubs and queue_id % self.paxos_groups == paxos_group
        )

    def pubs_of(self, queue_id: int) -> list[int]:
        """The pubs whose items may be in a queue."""
        queue = self._queues.get(queue_id)
        return [] if queue is None else sorted(queue.pubs)

    def half_policy(self, pub_id: int) -> HalfPolicy:
        """What is done about undecided half messages of a pub; of one that is configured no more, what is usual."""
        return self._half_policies.get(pub_id, _USUAL_HALVES)

    def groups(self) -> set[int]:
        """The consumer groups of this store's pubs, by the files."""
        return {group for queue in self._queues.values() if queue.by_mask for group in _groups(queue.readers)}

    def mask_of_readers(self, queue_id: int, groups: GroupTable) -> int:
        """The consumer groups that may read a queue: all of them when it holds dead letters, or no file knows it."""
        queue = self._queues.get(queue_id)
        if queue is None or not queue.by_mask:
            return ALL_GROUPS
        mask = queue.readers
        for pub_id in queue.pubs if groups.extra else ():
            mask |= groups.extra.get(pub_id, 0)
        return mask

    def expected_readers(self, queue_id: int, groups: GroupTable) -> set[int]:
        """The consumer groups that have to read a queue; none for dead letters, which anybody may look after."""
        queue = self._queues.get(queue_id)
        if queue is None or not queue.by_mask:
            return set()
        return set(_groups(queue.readers)) | groups.reading(queue.pubs)

    def why_not(self, queue_id: int, pub_id: int | None = None) -> str:
        """Say why a queue (as a target of a pub) is not served here."""
        pubs = f"pubs {_listed(self._pub_ids)} of topic {self.topic_name}" if self._pub_ids else "no pub at all"
        if pub_id is not None and pub_id not in self._pub_ids:
            return (
                f"pub {pub_id} is not served by store {self.store_id}, which serves {pubs}: see pub_ids in storeconfig"
            )
        queue = self._queues.get(queue_id)
        if queue is None:
            return (
                f"queue {queue_id} is not served by store {self.store_id}: it is in no queue_info of the {pubs} "
                "it serves, nor a dead-letter queue of them"
            )
        return f"queue {queue_id} belongs to pub {_listed(sorted(queue.pubs))}, not to pub {pub_id}"


def _queues(topic: Topic, store: Store) -> dict[int, ServedQueue]:
    queues: dict[int, ServedQueue] = {}
    for pub in topic.pubs_of_store(store.store_id):
        mask = sum(group_bit(group) for group in pub.consumer_group_ids)
        retention = RetentionPolicy(round(pub.retention_s * 1000), pub.retention_bytes)
        for queue_id in topic.queues_of_pub(pub.pub_id):
            earlier = queues.get(queue_id)
            queues[queue_id] = ServedQueue(
                pubs={**(earlier.pubs if earlier else {}), pub.pub_id: mask},
                readers=mask | (earlier.readers if earlier else 0),
                delay_ms=round(topic.queue_info_of_queue(queue_id).delay * 1000),
                by_mask=True,
                retention=_longest(retention, earlier.retention) if earlier else retention,
                reconcile=_strictest(pub.reconcile, earlier.reconcile) if earlier else pub.reconcile,
            )
        queues[dead_letter_queue(pub.pub_id)] = ServedQueue(
            {pub.pub_id: mask}, ALL_GROUPS, 0, by_mask=False, retention=retention, reconcile=pub.reconcile
        )
    return queues


def pubs_of_queues(topic: Topic, store: Store) -> dict[int, tuple[int, ...]]:
    """By queue id, the pubs whose items may be in it."""
    return {queue_id: tuple(sorted(queue.pubs)) for queue_id, queue in _queues(topic, store).items()}


def _half_policy(pub: Pub) -> HalfPolicy:
    return HalfPolicy(
        after_ms=round(pub.check_back_after_s * 1000),
        every_ms=max(round(pub.check_back_every_s * 1000), 1),
        checks=pub.check_backs,
        deadline_ms=round(pub.half_deadline_s * 1000),
    )


_USUAL_HALVES = _half_policy(Pub(pub_id=0, queue_info_ids=(), consumer_group_ids=()))


def _longest(one: RetentionPolicy, other: RetentionPolicy) -> RetentionPolicy:
    return RetentionPolicy(max(one.age_ms, other.age_ms), max(one.size, other.size))


def _strictest(one: Reconcile, other: Reconcile) -> Reconcile:
    return max(one, other, key=get_args(Reconcile).index)


def groups_of(mask: int) -> str:
    """A mask as the group ids in it, for messages."""
    return _listed(_groups(mask))


def _groups(mask: int) -> list[int]:
    return [group for group in range(1, MAX_CONSUMER_GROUP_ID + 1) if mask & group_bit(group)]


def _listed(ids: list[int]) -> str:
    shown = ", ".join(map(str, ids[:10]))
    return f"{shown}, ... ({len(ids)} in all)" if len(ids) > 10 else shown or "none"
