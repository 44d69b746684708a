"""What the commands about consumer groups do to the replicated state. Pure; see :mod:`phxqueue.store.group_table`.

The files say which groups there are; these commands are for what happens while a store runs: a group is created or
deleted by hand, or one that is in the files no more is given up after its grace time. A master sees from its files that
a group has left (or is back), and says so in the log, with the time until which its positions are kept: from then on
every replica, and every later master, knows the same.
"""

from __future__ import annotations

from collections.abc import Iterable

from phxqueue.config import DEAD_LETTER_BASE
from phxqueue.net.status import Status
from phxqueue.proto.origin import Origin
from phxqueue.proto.store_pb2 import GroupChange
from phxqueue.reconcile.columns import PREPARED
from phxqueue.store.group_table import Before, Key, RunTimeGroup
from phxqueue.store.outcomes import Refusal
from phxqueue.store.passed_on import DROPPED, Counts, add_up
from phxqueue.store.state import QueueState

_MAX_CONSUMER_GROUP_ID = 64


def change_group(state: QueueState, change: GroupChange, instance: int) -> tuple[int | Refusal, set[Key]]:
    """Carry a change out; what was done already is done.

    Returns:
        0: nothing has changed, else 1; and the (queue id, consumer group id) whose position has.
    """
    moved: set[Key] = set()
    done = _carry_out(state, change, moved)
    for key in moved:
        # Whatever was acknowledged before, and is still under way, is void.
        state.replays.begin(key, instance + 1, state.acked_cursor(*key))
    return done, moved


def _carry_out(state: QueueState, change: GroupChange, moved: set[Key]) -> int | Refusal:
    group_id, kind = change.consumer_group_id, change.WhichOneof("change")
    if not 1 <= group_id <= _MAX_CONSUMER_GROUP_ID:
        return Refusal(Status.INVALID_ARGUMENT, f"consumer group {group_id} is not from 1 to {_MAX_CONSUMER_GROUP_ID}")
    if kind == "create":
        return _create(state, change, moved)
    if kind == "delete":
        return _delete(state, change, moved)
    if kind == "leave_until_ms":
        return _leave(state, change)
    if kind == "stay":
        return _stay(state, change)
    return Refusal(Status.INVALID_ARGUMENT, f"consumer group {group_id}: an unknown change")


def _create(state: QueueState, change: GroupChange, moved: set[Key]) -> int | Refusal:
    table, group_id, create = state.groups, change.consumer_group_id, change.create
    pub_ids = tuple(sorted(set(create.pub_ids)))
    known = table.created.get(group_id)
    if known is not None:
        if (known.pub_ids, known.start_ms) == (pub_ids, create.start_ms):
            return 0
        return Refusal(
            Status.ALREADY_EXISTS,
            f"consumer group {group_id} was created before, for pubs {list(known.pub_ids)}: delete it first",
        )
    table.put(group_id, RunTimeGroup(pub_ids, create.start_ms, state.clock_ms, state.timers.next_number))
    positions = {queue_id: _stands(state, queue_id, group_id) for queue_id in change.queue_ids}
    for queue_id in change.queue_ids:
        key = queue_id, group_id
        table.gone.pop(key, None)
        table.leaving.pop(key, None)
        index = state.queues.get(queue_id)
        if index is None or not index.end_cursor:
            continue
        state.acked[key] = _start(state, queue_id, create.start_ms)
        if state.ledger.whole:  # an earlier group may have had this number
            state.ledger.replay(queue_id, group_id, positions[queue_id], state.acked[key])
        table.since[key] = index.end_cursor
        state.begins.known.pop(key, None)
        state.fences.pop(key, None)
        moved.add(key)
    if state.ledger.whole:
        table.before[group_id] = before(state, group_id, change.queue_ids)
    return 1


def complete_books(state: QueueState) -> None:
    """From now on half messages are in the books, and groups that were created at run time: those there are begin."""
    state.ledger.whole = True
    for (minute, pub_id, mask), items in sorted(state.halves.undecided.items()):
        state.ledger.count_half(PREPARED, minute, pub_id, mask, items)
    for group_id in sorted(state.groups.created):
        queue_ids = [queue_id for queue_id, group in state.acked if group == group_id and queue_id < DEAD_LETTER_BASE]
        state.groups.before[group_id] = before(state, group_id, queue_ids)


def before(state: QueueState, group_id: int, queue_ids: Iterable[int]) -> Before:
    """What there is of a group (or of an earlier one of its number) that its sums are to leave out."""
    queue_ids, pub_ids = set(queue_ids), state.groups.created[group_id].pub_ids
    total: Counts = {}
    attempts: Counts = {}
    add_up(total, attempts, state.passed_on)
    return Before(
        acknowledged=sum(max(state.acked_cursor(one, group_id), state.first_cursor(one)) for one in queue_ids),
        rolled_back=sum(items for (queue_id, _), items in state.halves.ended.items() if queue_id in queue_ids),
        retried=total.get((group_id, Origin.RETRIED), 0),
        dead=total.get((group_id, Origin.DEAD), 0),
        expired=total.get((group_id, Origin.EXPIRED), 0),
        requeued=total.get((group_id, Origin.REQUEUED), 0),
        dropped=total.get((group_id, DROPPED), 0),
        replayed=state.replays.replayed.get(group_id, 0),
        skipped=state.replays.skipped.get(group_id, 0),
        others=sum(items for (group, pub_id), items in attempts.items() if group != group_id and pub_id in pub_ids),
    )


def _start(state: QueueState, queue_id: int, start_ms: int) -> int:
    index = state.queues[queue_id]
    if start_ms == RunTimeGroup.EARLIEST:
        return index.first_cursor
    row = len(index) if start_ms == RunTimeGroup.LATEST else index.find_time(start_ms)
    return index.firsts[row] if row < len(index) else index.end_cursor


def _delete(state: QueueState, change: GroupChange, moved: set[Key]) -> int | Refusal:
    """Give up what is kept for a group: all of it, or (`left`) only in queues whose grace time has passed."""
    table, group_id = state.groups, change.consumer_group_id
    known = group_id in table.created
    if change.delete.left:
        queue_ids = [
            queue_id
            for queue_id in change.queue_ids
            if table.leaving.get((queue_id, group_id), state.clock_ms + 1) <= state.clock_ms
        ]
    else:
        queue_ids = list(change.queue_ids)
        if known:
            queue_ids += [queue_id for queue_id, group in table.since if group == group_id]
            queue_ids += [queue_id for queue_id, group in state.acked if group == group_id]
            table.remove(group_id)
    done = int(known and not change.delete.left)
    for queue_id in dict.fromkeys(queue_ids):
        if _give_up(state, queue_id, group_id):
            moved.add((queue_id, group_id))
            done = 1
    return done


def _stands(state: QueueState, queue_id: int, group_id: int) -> int:
    """Where a group stands, as far as there is anything: what is trimmed has been counted, when it was given up."""
    return max(state.acked_cursor(queue_id, group_id), state.first_cursor(queue_id))


def _give_up(state: QueueState, queue_id: int, group_id: int) -> bool:
    table, key, index = state.groups, (queue_id, group_id), state.queues.get(queue_id)
    known = key in state.acked or key in table.leaving
    if index is not None and state.ledger.whole:  # what it has not done with, nobody will
        stands, skipped = _stands(state, queue_id, group_id), state.replays.skipped
        state.ledger.replay(queue_id, group_id, stands, index.end_cursor)
        skipped[group_id] = skipped.get(group_id, 0) + index.end_cursor - stands
    table.leaving.pop(key, None)
    state.acked.pop(key, None)
    state.fences.pop(key, None)
    state.begins.known.pop(key, None)
    if index is not None and index.end_cursor:
        table.gone[key] = index.end_cursor
    return known


def _leave(state: QueueState, change: GroupChange) -> int:
    done = 0
    for queue_id in change.queue_ids:
        key = queue_id, change.consumer_group_id
        if key not in state.groups.leaving:
            state.groups.leaving[key] = change.leave_until_ms
            done = 1
    return done


def _stay(state: QueueState, change: GroupChange) -> int:
    done = 0
    for queue_id in change.queue_ids:
        done |= int(state.groups.leaving.pop((queue_id, change.consumer_group_id), None) is not None)
    return done
