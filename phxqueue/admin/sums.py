"""Where the items of each consumer group are, added up over all queues. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from phxqueue.admin.node_status import NodeReport
from phxqueue.admin.table import table
from phxqueue.config import Topic, dead_letter_queue
from phxqueue.proto.status_pb2 import PassedOn, QueueStatus


@dataclass(slots=True)
class Sums:
    """What became of the items that were enqueued for a consumer group.

    Attributes:
        waiting: not acknowledged yet, later attempts included (in a queue that other groups share, also their items,
            unless that would leave less than nothing finished).
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
        return max(self.done, 0)

    @property
    def done(self) -> int:
        """The same; below zero, while more was passed on (or of others) than is acknowledged."""
        elsewhere = self.retried + self.dead + self.expired + self.dropped + self.skipped
        return self.acknowledged + self.replayed - elsewhere

    @property
    def enqueued(self) -> int:
        """All that was ever enqueued: each, and each that was replayed once more, is in exactly one of these places."""
        aside = self.delayed + self.prepared + self.rolled_back
        places = self.finished + self.waiting + aside + self.dead + self.expired + self.dropped + self.skipped
        return places - self.replayed


def sums(topic: Topic, reports: Sequence[NodeReport]) -> list[Sums]:
    """Add up what the masters say, by consumer group: those of the files, and those that were created at run time."""
    queues = _newest(reports)
    pubs = {group.consumer_group_id: _pubs_in_files(topic, group.consumer_group_id) for group in topic.consumer_groups}
    for group_id, pub_ids in _pubs_at_run_time(reports):
        pubs[group_id] = pubs.get(group_id, frozenset()) | pub_ids
    places = {group: _queues_of(topic, pub_ids) for group, pub_ids in pubs.items()}
    return [_sums_of(group, topic, pubs, places, queues, reports) for group in sorted(pubs)]


def _pubs_in_files(topic: Topic, group: int) -> frozenset[int]:
    return frozenset(pub.pub_id for pub in topic.pubs if group in pub.consumer_group_ids)


def _pubs_at_run_time(reports: Sequence[NodeReport]) -> Iterator[tuple[int, frozenset[int]]]:
    for report in reports:
        for group in report.answer.run_time_groups if report.answer is not None else ():
            yield group.consumer_group_id, frozenset(group.pub_ids)


def _queues_of(topic: Topic, pub_ids: Iterable[int]) -> frozenset[tuple[int, int]]:
    """(store id, queue id) of pubs, as far as our files have them."""
    wanted = set(pub_ids)
    return frozenset(
        (store.store_id, queue_id)
        for store in topic.stores
        for pub in topic.pubs_of_store(store.store_id)
        if pub.pub_id in wanted
        for queue_id in topic.queues_of_pub(pub.pub_id)
    )


def _sums_of(
    group: int,
    topic: Topic,
    pubs: Mapping[int, frozenset[int]],
    places: Mapping[int, frozenset[tuple[int, int]]],
    queues: Mapping[tuple[int, int], QueueStatus],
    reports: Sequence[NodeReport],
) -> Sums:
    one = Sums(group)
    for place in places[group]:
        queue = queues.get(place)
        if queue is not None:
            acked = _acked(queue, group)
            one.acknowledged += acked
            one.waiting += queue.end_cursor - acked
            one.delayed += queue.delayed
            one.prepared += queue.prepared
            one.rolled_back += queue.rolled_back + queue.half_expired
    letters = {dead_letter_queue(pub_id) for pub_id in pubs[group]}
    for (_, queue_id), queue in queues.items():
        if queue_id in letters:
            one.unread += queue.end_cursor - _acked(queue, group)
    others = 0  # later attempts of other groups, in queues that this one passes over
    for report in reports:
        if report.answer is None:
            continue
        for passed in report.answer.passed_on:
            if passed.consumer_group_id == group:
                _add_passed(one, passed)
            else:
                others += _shared(passed, topic, places[group], places.get(passed.consumer_group_id, frozenset()))
        for created in report.answer.run_time_groups:
            if created.consumer_group_id == group:
                _add_passed(one, created.passed_on, sign=-1)
                one.acknowledged -= created.acknowledged
                one.rolled_back -= created.rolled_back
                others -= created.others
    one.acknowledged -= others
    # What others' attempts and items that were passed on a moment ago have too much, they still wait for.
    early = min(max(-one.done, 0), one.waiting)
    one.acknowledged += early
    one.waiting -= early
    return one


def _add_passed(one: Sums, passed: PassedOn, sign: int = 1) -> None:
    """Tell what was done with here from what went on to a later attempt or to the dead letters."""
    one.retried += sign * (passed.retried + passed.requeued)
    one.dead += sign * (passed.dead - min(passed.requeued, passed.dead))
    one.expired += sign * (passed.expired - max(passed.requeued - passed.dead, 0))
    one.dropped += sign * passed.dropped
    one.replayed += sign * passed.replayed
    one.skipped += sign * passed.skipped


def _shared(passed: PassedOn, topic: Topic, own: frozenset[tuple[int, int]], theirs: frozenset[tuple[int, int]]) -> int:
    """Later attempts of another group that lie in this one's queues."""
    known = {one.pub_id: one.items for one in passed.attempts}
    unknown = passed.retried + passed.requeued - sum(known.values()) + known.pop(0, 0)
    inside = sum(items for pub_id, items in known.items() if own & _queues_of(topic, [pub_id]))
    return inside + (unknown if own & theirs else 0)


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
    """Every item below is done, as replicated; what is trimmed is."""
    for group in queue.groups:
        if group.consumer_group_id == consumer_group_id:
            return max(group.replicated if group.HasField("replicated") else group.acked, queue.first_cursor)
    return queue.first_cursor


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
