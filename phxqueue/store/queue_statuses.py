"""What NODE_STATUS tells of the queues of one Paxos group. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from phxqueue.proto.status_pb2 import QueueGroupStatus, QueueStatus
from phxqueue.store.half_table import EXPIRED, ROLLED_BACK
from phxqueue.store.index import QueueIndex
from phxqueue.store.positions import Positions
from phxqueue.store.rows import oldest_waiting
from phxqueue.store.served import ServedQueues
from phxqueue.store.state import QueueState
from phxqueue.store.views import view_of


def queue_statuses(machine: QueueState, positions: Positions, served: ServedQueues, now_ms: int) -> list[QueueStatus]:
    """Where every queue ends, how far its consumer groups have come, and what is not in it yet or never will be.

    The groups are those that have read it and the ones that should: one that never came has all of its backlog.
    """
    delayed, prepared = _by_queue(machine.timers.waiting), _by_queue(machine.halves.waiting)
    ended = machine.halves.ended
    aside = {*delayed, *prepared, *(queue_id for queue_id, _ in ended)}
    queues = {queue_id: QueueIndex(queue_id) for queue_id in aside} | machine.queues
    groups = {queue_id: served.expected_readers(queue_id, machine.groups) for queue_id in queues}
    for queue_id, consumer_group_id in {*machine.acked, *positions.keys()}:
        groups.setdefault(queue_id, set()).add(consumer_group_id)
    return [
        QueueStatus(
            queue_id=queue_id,
            first_cursor=index.first_cursor,
            end_cursor=index.end_cursor,
            groups=[_group_status(machine, positions, now_ms, queue_id, one) for one in sorted(groups[queue_id])],
            delayed=delayed.get(queue_id, 0),
            prepared=prepared.get(queue_id, 0),
            rolled_back=ended.get((queue_id, ROLLED_BACK), 0),
            half_expired=ended.get((queue_id, EXPIRED), 0),
        )
        for queue_id, index in sorted(queues.items())
    ]


def _by_queue(waiting: Mapping[tuple[int, int], int]) -> dict[int, int]:
    found: dict[int, int] = {}
    for (queue_id, _), items in waiting.items():
        found[queue_id] = found.get(queue_id, 0) + items
    return found


def _group_status(
    machine: QueueState, positions: Positions, now_ms: int, queue_id: int, consumer_group_id: int
) -> QueueGroupStatus:
    key = queue_id, consumer_group_id
    # What is trimmed is no backlog of anybody.
    acked = max(positions.acked(key, machine.acked_cursor(*key)), machine.first_cursor(queue_id))
    delivered = positions.delivered(key)
    status = QueueGroupStatus(
        consumer_group_id=consumer_group_id,
        acked=acked,
        delivered=acked if delivered is None else delivered,
        replicated=max(machine.acked_cursor(*key), machine.first_cursor(queue_id)),
    )
    index = machine.queues.get(queue_id)
    view = view_of(machine.groups, queue_id, consumer_group_id, by_mask=True)
    if index is not None and (taken_ms := oldest_waiting(index, acked, view)) is not None:
        status.oldest_age_s = max(0, now_ms - taken_ms) / 1000
    return status
