"""The topic's part for attempt chains, and what becomes of each item by its name. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from phxqueue.config import ConsumerGroup, Pub, QueueInfo, dead_letter_queue
from phxqueue.producer.attempts import Reason

PUB_ID = 2
FIRST_QUEUE = 10
RETRY_QUEUE = 11
QUEUES = (FIRST_QUEUE, RETRY_QUEUE)
LETTERS = dead_letter_queue(PUB_ID)
GROUPS = (30, 31)
RETRY_DELAY = 0.05
ATTEMPTS = 3

PUB = Pub(pub_id=PUB_ID, queue_info_ids=(3, 4), consumer_group_ids=GROUPS, retention_bytes=1 << 30, expired="drop")
QUEUE_INFOS = (
    QueueInfo(queue_info_id=3, ranges=((FIRST_QUEUE, FIRST_QUEUE),)),
    QueueInfo(queue_info_id=4, ranges=((RETRY_QUEUE, RETRY_QUEUE),), delay=RETRY_DELAY, count=ATTEMPTS - 1),
)
CONSUMER_GROUPS = tuple(ConsumerGroup(consumer_group_id=group) for group in GROUPS)


@dataclass(frozen=True, slots=True)
class Fate:
    """What handlers make of an item.

    fails: attempts that fail before one succeeds.
    reason: why it is a dead letter; "": it is none.
    attempts: how many it has had then.
    late: its time has passed when a handler would get it, and it is dropped.
    """

    fails: int = 0
    reason: str = ""
    attempts: int = 0
    late: bool = False


FATES = {
    b"fine": Fate(),
    b"again": Fate(fails=1),
    b"never": Fate(fails=ATTEMPTS, reason=Reason.EXHAUSTED.value, attempts=ATTEMPTS),
    b"dead": Fate(fails=1, reason=Reason.DEAD.value, attempts=1),
    b"late": Fate(late=True),
}
"""By the first word of an item."""


def fate_of(item: bytes) -> Fate:
    """What is to become of an item."""
    return FATES[item.split(b" ")[0]]
