"""Which consumers get their weights from a scheduler, and so report to it."""

from __future__ import annotations

from collections.abc import Iterable

from phxqueue.config.cluster import Consumer, Topic
from phxqueue.config.loading import groups_of_consumer


def asks_scheduler(topic: Topic, consumer_group_ids: Iterable[int]) -> bool:
    """Whether one of these groups gets its weights from a scheduler (`use_dynamic_scale`), and there is one."""
    return bool(topic.scheduler) and any(
        topic.consumer_group(group_id).use_dynamic_scale for group_id in consumer_group_ids
    )


def reporters(topic: Topic) -> tuple[Consumer, ...]:
    """The configured consumers that report to a scheduler. The queues of the others follow their `scale` alone."""
    return tuple(consumer for consumer in topic.consumers if asks_scheduler(topic, groups_of_consumer(topic, consumer)))
