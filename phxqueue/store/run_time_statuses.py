"""What NODE_STATUS tells of the consumer groups that were created at run time. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from phxqueue.proto.status_pb2 import PassedOn, RunTimeGroupStatus
from phxqueue.store.group_table import Before, GroupTable


def run_time_statuses(tables: Iterable[GroupTable]) -> list[RunTimeGroupStatus]:
    """By consumer group, what had been before it was created, added up over Paxos groups.

    A Paxos group that does not know what had been before leaves its groups out.
    """
    found: dict[int, tuple[set[int], Before]] = {}
    for table in tables:
        for group_id, before in table.before.items():
            pub_ids, total = found.get(group_id, (set(), Before(*[0] * len(Before._fields))))
            pub_ids.update(table.created[group_id].pub_ids)
            found[group_id] = pub_ids, Before(*map(sum, zip(total, before, strict=True)))
    return [_status(group_id, sorted(pub_ids), before) for group_id, (pub_ids, before) in sorted(found.items())]


def _status(group_id: int, pub_ids: list[int], before: Before) -> RunTimeGroupStatus:
    return RunTimeGroupStatus(
        consumer_group_id=group_id,
        pub_ids=pub_ids,
        acknowledged=before.acknowledged,
        rolled_back=before.rolled_back,
        others=before.others,
        passed_on=PassedOn(
            consumer_group_id=group_id,
            retried=before.retried,
            dead=before.dead,
            expired=before.expired,
            requeued=before.requeued,
            dropped=before.dropped,
            replayed=before.replayed,
            skipped=before.skipped,
        ),
    )
