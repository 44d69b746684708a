"""Where the items of each consumer group are, added up over all queues. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from phxqueue.admin.node_status import NodeReport
from phxqueue.admin.table import table
from phxqueue.config import Topic, dead_letter_queue
from phxqueue.proto.status_pb2 import QueueStatus


@dataclass(slots=True)
class Sums:
    """The items in the queues of one consumer group; a later attempt of an item counts as an item of its queue.

    Attributes:
        acknowledged: finished here: handled, passed on to a later attempt or to the dead letters, expired, or not for
            this group.
        waiting: not acknowledged yet.
        delayed: kept aside until they are due.
        dead: dead letters of its pubs that it has not acknowledged (`phxqueue dlq` does when it takes them out).
    """

    consumer_group_id: int
    acknowledged: int = 0
    waiting: int = 0
    delayed: int = 0
    dead: int = 0

    @property
    def stored(self) -> int:
        """All that was ever enqueued: it is in exactly one of the three other places."""
        return self.acknowledged + self.waiting + self.delayed


def sums(topic: Topic, reports: Sequence[NodeReport]) -> list[Sums]:
    """Add up what the masters say, by consumer group."""
    queues = _newest(reports)
    found = []
    for group in sorted(group.consumer_group_id for group in topic.consumer_groups):
        one = Sums(group)
        for place in topic.queues_of_group(group):
            queue = queues.get(place)
            if queue is not None:
                acked = _acked(queue, group)
                one.acknowledged += acked
                one.waiting += queue.end_cursor - acked
                one.delayed += queue.delayed
        for pub in topic.pubs:
            if group in pub.consumer_group_ids:
                for (_, queue_id), queue in queues.items():
                    if queue_id == dead_letter_queue(pub.pub_id):
                        one.dead += queue.end_cursor - _acked(queue, group)
        found.append(one)
    return found


def _newest(reports: Sequence[NodeReport]) -> dict[tuple[int, int], QueueStatus]:
    """Every queue as its master sees it; of two masters (one has not noticed yet) the one that sees more."""
    found: dict[tuple[int, int], QueueStatus] = {}
    for report in reports:
        for queue in report.answer.queues if report.answer is not None else ():
            key = report.store.store_id, queue.queue_id
            if key not in found or queue.end_cursor > found[key].end_cursor:
                found[key] = queue
    return found


def _acked(queue: QueueStatus, consumer_group_id: int) -> int:
    """Every item below is done; what is trimmed is."""
    acked = next((group.acked for group in queue.groups if group.consumer_group_id == consumer_group_id), 0)
    return max(acked, queue.first_cursor)


def sum_lines(found: Sequence[Sums]) -> list[str]:
    """Return them as a table."""
    rows = [(one.consumer_group_id, one.stored, one.acknowledged, one.waiting, one.delayed, one.dead) for one in found]
    return table(("CONSUMER GROUP", "STORED", "= ACKNOWLEDGED", "+ WAITING", "+ DELAYED", "DEAD LETTERS"), rows)
