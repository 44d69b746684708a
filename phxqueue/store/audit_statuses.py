"""What became of the acknowledgements that a node has checked, as it tells an operator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from phxqueue.proto.status_pb2 import AuditStatus
from phxqueue.store.reconciliation import Audits
from phxqueue.store.served import ServedQueues


def audit_statuses(audits: Iterable[Audits], served: ServedQueues) -> Iterator[AuditStatus]:
    """One for each queue and consumer group."""
    for one in audits:
        for (queue_id, consumer_group_id), counts in sorted(one.counts.items()):
            yield AuditStatus(
                queue_id=queue_id,
                consumer_group_id=consumer_group_id,
                pub_ids=served.pubs_of(queue_id),
                agreed=counts.agreed,
                disputed=counts.disputed,
                refused=counts.refused,
                unclaimed=counts.unclaimed,
                unchecked=counts.unchecked,
            )
