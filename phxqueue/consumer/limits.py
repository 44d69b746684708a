"""Which limits and pauses there are, and what share of a limit one consumer has. Pure.

A limit counts everything that it matches together, over all consumers of the topic. Each consumer keeps to its share.
Who says what that is can be exchanged (`Share`): `OwnedQueues` needs nobody to say it, for queues have one owner each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from itertools import product

from phxqueue.config import FreqInfo, Topic, UnknownIdError

#: What an owner of nothing but later attempts has: they never stand still.
LEAST_SHARE = 0.02


@dataclass(frozen=True, slots=True, order=True)
class Limit:
    """At most so many items per minute. -1 matches anything, but a consumer group is always counted by itself."""

    pub_id: int = -1
    consumer_group_id: int = -1
    handle_id: int = -1
    queue_info_id: int = -1
    per_minute: int = field(default=0, compare=False)

    @classmethod
    def of_file(cls, info: FreqInfo) -> Limit:
        """What freq_infos[] of topicconfig.conf says."""
        return cls(info.pub_id, info.consumer_group_id, info.handle_id, info.queue_info_id, info.limit_per_min)

    def matches(self, pub_id: int, consumer_group_id: int, handle_id: int, queue_info_id: int) -> bool:
        """Whether it counts such items."""
        return (
            self.pub_id in (-1, pub_id)
            and self.consumer_group_id in (-1, consumer_group_id)
            and self.handle_id in (-1, handle_id)
            and self.queue_info_id in (-1, queue_info_id)
        )


@dataclass(frozen=True, slots=True)
class Throttle:
    """All limits of a topic, and what is paused.

    Attributes:
        limits: those with 0 per minute are no limits.
        paused: (consumer group id, pub id).
    """

    limits: tuple[Limit, ...] = ()
    paused: frozenset[tuple[int, int]] = frozenset()


Share = Callable[[Limit], float]
"""What part of a limit this consumer has, from 0 to 1."""


def limits_of_files(topic: Topic) -> tuple[Limit, ...]:
    """The limits in a topic's files."""
    return tuple(Limit.of_file(info) for info in topic.freq_infos)


def by_group(limits: Iterable[Limit], topic: Topic) -> tuple[Limit, ...]:
    """The same with a limit for each consumer group in place of one for all; the more particular one stands."""
    found: dict[Limit, Limit] = {}
    for limit in sorted(limits):  # -1 comes first
        groups = [group.consumer_group_id for group in topic.consumer_groups]
        for group_id in groups if limit.consumer_group_id == -1 else [limit.consumer_group_id]:
            own = replace(limit, consumer_group_id=group_id)
            found.pop(own, None)  # keys are equal whatever their number
            found[own] = own
    return tuple(found.values())


def combined(files: Iterable[Limit], set_later: Iterable[Limit]) -> tuple[Limit, ...]:
    """The limits in force: what was set at run time stands for what the files say of the same items."""
    found = {limit: limit for limit in files}
    for limit in set_later:
        found.pop(limit, None)  # keys are equal whatever their number
        found[limit] = limit
    return tuple(sorted(limit for limit in found.values() if limit.per_minute > 0))


Owned = tuple[int, int, int]
"""(consumer_group_id, store_id, queue_id)"""


class OwnedQueues:
    """The queues that one consumer owns, counted once for all limits: which part of a limit follows from them.

    Args:
        topic: its configuration.
        queues: that are owned.
    """

    def __init__(self, topic: Topic, queues: Collection[Owned]) -> None:
        self.topic = topic
        self.queues = queues
        self._counts = Counter(
            (group_id, store_id, queue_info_id(topic, queue_id)) for group_id, store_id, queue_id in queues
        )

    def share(self, limit: Limit) -> float:
        """The part of the queues that a limit is about which are among these: over all consumers that is the whole.

        What counts is where first attempts go, for most items are there; who owns none of those queues, but some of
        later attempts, has LEAST_SHARE.
        """
        topic = self.topic
        firsts: set[Owned] = set()  # (consumer group, store, queue_info)
        others: set[Owned] = set()
        for pub in topic.pubs:
            if limit.pub_id not in (-1, pub.pub_id):
                continue
            groups = [group_id for group_id in pub.consumer_group_ids if limit.consumer_group_id in (-1, group_id)]
            infos = [info_id for info_id in pub.all_queue_info_ids if limit.queue_info_id in (-1, info_id)]
            for store, (place, info_id) in product(topic.stores_of_pub(pub.pub_id), enumerate(infos)):
                (others if place else firsts).update((group_id, store.store_id, info_id) for group_id in groups)
        if not firsts:
            return 1.0
        all_of_them = sum(len(topic.queue_info(info_id).queue_ids) for _, _, info_id in firsts)
        share = sum(self._counts[key] for key in firsts) / all_of_them
        return share or (LEAST_SHARE if any(key in others for key in self._counts) else 0.0)


def queue_info_id(topic: Topic, queue_id: int) -> int:
    """The queue_info of a queue; 0: none (dead letters, or it is no longer configured)."""
    try:
        return topic.queue_info_of_queue(queue_id).queue_info_id
    except UnknownIdError:
        return 0
