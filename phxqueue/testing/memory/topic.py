"""A small topic for tests whose application brings no configuration of its own."""

from __future__ import annotations

from collections.abc import Collection

from phxqueue.config import ConsumerGroup, NodeAddress, Pub, QueueInfo, Store, Topic


def small_topic(
    handle_ids: Collection[int],
    *,
    consumer_group_ids: Collection[int] = (1,),
    attempts: int = 3,
    retry_delay_s: float = 1.0,
    queues: int = 4,
) -> Topic:
    """Return a topic of one store and pub 1, which all groups read.

    Args:
        attempts: an item is handled so often before it is a dead letter.
        retry_delay_s: pause before each attempt but the first.
        queues: for each of first and later attempts.
    """
    infos = [QueueInfo(queue_info_id=1, ranges=((0, queues - 1),), count=1)]
    if attempts > 1:
        later = (queues, 2 * queues - 1)
        infos.append(QueueInfo(queue_info_id=2, ranges=(later,), count=attempts - 1, delay=retry_delay_s))
    groups = tuple(sorted(consumer_group_ids))
    return Topic(
        topic_id=1,
        topic_name="memory",
        handle_ids=tuple(sorted(handle_ids)),
        queue_infos=tuple(infos),
        pubs=(Pub(pub_id=1, queue_info_ids=tuple(info.queue_info_id for info in infos), consumer_group_ids=groups),),
        consumer_groups=tuple(ConsumerGroup(consumer_group_id=group) for group in groups),
        stores=(Store(store_id=1, nodes=(NodeAddress(0, "127.0.0.1", 0, 0),)),),
    )
