"""Who owns which queue, as the locks of the queues say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from phxqueue.admin.gather import gather
from phxqueue.config import Topic
from phxqueue.consumer.service import Owned, lock_name
from phxqueue.lock.client import LockClient


def locked_queues(topic: Topic) -> list[Owned]:
    """The queues that first attempts go to, of every consumer group that owns its queues by locks."""
    found = {
        (group_id, store.store_id, queue_id)
        for pub in topic.pubs
        for group_id in pub.consumer_group_ids
        if topic.locks and not topic.consumer_group(group_id).skip_lock
        for store in topic.stores_of_pub(pub.pub_id)
        for queue_id in topic.queue_info(pub.queue_info_ids[0]).queue_ids
    }
    return sorted(found)


async def owners(locks: LockClient, queues: Iterable[Owned]) -> dict[Owned, str]:
    """The owner of each queue, by the consumer's address; waits until each has one. Raises LockError."""

    async def owner(queue: Owned) -> tuple[Owned, str]:
        while True:
            state = await locks.watch_lock(lock_name(locks.topic, queue))
            if state is not None:
                return queue, state.holder

    return dict(await gather(owner(queue) for queue in queues))


async def when_owned(locks: LockClient, queue: Owned, owner: str) -> None:
    """Wait until a queue is owned by the consumer of this address. Raises LockError."""
    token = 0
    while True:
        state = await locks.watch_lock(lock_name(locks.topic, queue), token)
        if state is not None and state.holder == owner:
            return
        token = 0 if state is None else state.token


def by_owner(owned: Mapping[Owned, str]) -> dict[str, list[int]]:
    """The numbers of the queues of each owner."""
    found: dict[str, list[int]] = {}
    for (_, _, queue_id), owner in sorted(owned.items()):
        found.setdefault(owner, []).append(queue_id)
    return dict(sorted(found.items()))
