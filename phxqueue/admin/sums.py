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
    """What became of the items that were enqueued for a consumer group.

    Attributes:
        waiting: not acknowledged yet, later attempts included (in a queue that other groups share, also their items).
        delayed: kept aside until they are due.
        prepared: half messages that nobody has decided yet.
        rolled_back: half messages that were, also those that nobody decided in time.
        dead: became dead letters, and were not sent on their way again.
        expired: the same, because their time had passed.
        dropped: their time had passed, too, and their pub does not keep such items.
        unread: dead letters of its pubs that it has not acknowledged (`phxqueue dlq` does when it takes them out).
        acknowledged: of all its queues; every attempt of an item counts.
        retried: attempts after the first.
        replayed: put back by replays after they were acknowledged: each goes through one of the places once more.
        skipped: passed over by replays that moved forward.
    """

    consumer_group_id: int
    waiting: int = 0
    delayed: int = 0
    prepared: int = 0
    rolled_back: int = 0
    dead: int = 0
    expired: int = 0
    dropped: int = 0
    unread: int = 0
    acknowledged: int = 0
    retried: int = 0
    replayed: int = 0
    skipped: int = 0

    @property
    def finished(self) -> int:
        """Acknowledged, and neither passed on, dropped nor skipped; what was replayed, once more. What is not for the
        group counts too.
        """
        elsewhere = self.retried + self.dead + self.expired + self.dropped + self.skipped
        return max(self.acknowledged + self.replayed - elsewhere, 0)

    @property
    def enqueued(self) -> int:
        """All that was ever enqueued: each, and each that was replayed once more, is in exactly one of these places."""
        aside = self.delayed + self.prepared + self.rolled_back
        places = self.finished + self.waiting + aside + self.dead + self.expired + self.dropped + self.skipped
        return places - self.replayed


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
                one.prepared += queue.prepared
                one.rolled_back += queue.rolled_back + queue.half_expired
        for pub in topic.pubs:
            if group in pub.consumer_group_ids:
                for (_, queue_id), queue in queues.items():
                    if queue_id == dead_letter_queue(pub.pub_id):
                        one.unread += queue.end_cursor - _acked(queue, group)
        found.append(_with_passed_on(one, _sharing(topic, group), reports))
    return found


def _sharing(topic: Topic, group: int) -> frozenset[int]:
    """The other groups whose later attempts come into queues that this one reads, too."""
    queues = set(topic.queues_of_group(group))
    others = (other.consumer_group_id for other in topic.consumer_groups if other.consumer_group_id != group)
    return frozenset(other for other in others if not queues.isdisjoint(topic.queues_of_group(other)))


def _with_passed_on(one: Sums, sharing: frozenset[int], reports: Sequence[NodeReport]) -> Sums:
    """Tell what was done with here from what went on to a later attempt or to the dead letters."""
    others = 0  # later attempts of other groups, in queues that this one passes over
    for report in reports:
        for passed in report.answer.passed_on if report.answer is not None else ():
            if passed.consumer_group_id == one.consumer_group_id:
                one.retried += passed.retried + passed.requeued
                one.dead += passed.dead - min(passed.requeued, passed.dead)
                one.expired += passed.expired - max(passed.requeued - passed.dead, 0)
                one.dropped += passed.dropped
                one.replayed += passed.replayed
                one.skipped += passed.skipped
            elif passed.consumer_group_id in sharing:
                others += passed.retried + passed.requeued
    one.acknowledged -= min(others, one.acknowledged)
    return one


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
    header = (
        "CONSUMER GROUP",
        "ENQUEUED",
        "+ REPLAYED",
        "= FINISHED",
        "+ WAITING",
        "+ DELAYED",
        "+ DEAD",
        "+ EXPIRED",
        "+ DROPPED",
        "+ SKIPPED",
        "+ PREPARED",
        "+ ROLLED BACK",
        "UNREAD",
    )
    rows = [
        (
            one.consumer_group_id, one.enqueued, one.replayed, one.finished, one.waiting, one.delayed, one.dead,
            one.expired, one.dropped, one.skipped, one.prepared, one.rolled_back, one.unread,
        )
        for one in found
    ]  # fmt: skip
    return table(header, rows)
