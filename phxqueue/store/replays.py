"""What a replay does to the replicated state: it moves a consumer group to another place of a queue. Pure.

A replay is known by its id. The first command with an id moves the group and is remembered with what it did; every
later one is answered with that. So it happens exactly once, whoever was master when, and however often it was sent.

Cursor moves only rise, and some may be under way when a replay lowers a cursor: acknowledged before it, chosen after
it. Each therefore names the *generation* of the group in the queue: another number after every replay. Acknowledgements
of an earlier generation are void, on every replica and in every answer.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone

from phxqueue.net.status import Status
from phxqueue.proto.store_pb2 import Replay
from phxqueue.store.outcomes import Refusal, Replayed
from phxqueue.store.replay_table import Moved, Record
from phxqueue.store.state import QueueState

#: Constants of the command version.
MAX_ID_BYTES = 128
_MAX_CONSUMER_GROUP_ID = 64

_END_OF_CALENDAR_MS = 253_402_300_800_000


def asked_for(replay: Replay) -> Replay:
    """The part of a replay that its sender decides: what has to be the same when it is sent again."""
    asked = Replay()
    asked.CopyFrom(replay)
    for name in ("targets", "keep_count", "keep_ms"):
        asked.ClearField(name)
    return asked


def judge(state: QueueState, command: Replay, acked: Callable[[int], int]) -> list[Moved] | Refusal:
    """What a replay would do now, without doing it; `acked`: where the group stands in a queue."""
    group = command.consumer_group_id
    if not 1 <= group <= _MAX_CONSUMER_GROUP_ID or not 0 < len(command.id.encode()) <= MAX_ID_BYTES:
        return Refusal(
            Status.INVALID_ARGUMENT, f"replay: it needs a consumer group, and an id of 1 to {MAX_ID_BYTES} bytes"
        )
    moved = []
    for target in command.targets:
        one = _judge_queue(state, command, target.queue_id, target.cursor, acked(target.queue_id))
        if isinstance(one, Refusal):
            return one
        if one is not None:
            moved.append(one)
    return moved


def _judge_queue(state: QueueState, command: Replay, queue_id: int, target: int, acked: int) -> Moved | Refusal | None:
    """None: the group stays where it is in this queue."""
    first, end = state.first_cursor(queue_id), state.end_cursor(queue_id)
    exact = command.WhichOneof("target") == "to_cursor"
    acked = max(acked, first)
    if target < first and not command.to_earliest:
        return Refusal(Status.OUT_OF_RANGE, trimmed(state, queue_id, f"cursor {target}"))
    target = max(target, first)
    if target > end:
        if exact:
            return Refusal(Status.OUT_OF_RANGE, f"queue {queue_id} ends at cursor {end}, before {target}")
        target = end
    if target == acked:
        return None
    if target < acked or command.skip:
        return Moved(queue_id, target, acked)
    if exact:
        return Refusal(
            Status.INVALID_ARGUMENT,
            f"queue {queue_id}: consumer group {command.consumer_group_id} stands at {acked}, before cursor {target}: "
            "nothing there is to be replayed; `skip` passes over what lies between",
        )
    return None


def trimmed(state: QueueState, queue_id: int, wanted: str) -> str:
    """Say that what was asked for is not there any more, and what is."""
    first, since_ms = state.first_cursor(queue_id), earliest_ms(state, queue_id)
    what = f"queue {queue_id}: {wanted} is no longer there; the earliest possible is cursor {first}"
    return what if since_ms is None else f"{what}, time {_written(since_ms + 999)}"


def _written(unix_ms: int) -> str:
    """Return a time as `phxqueue replay --to-time` takes it, in whole seconds."""
    if unix_ms >= _END_OF_CALENDAR_MS:
        return f"{unix_ms} (Unix milliseconds)"
    return datetime.fromtimestamp(unix_ms // 1000, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def earliest_ms(state: QueueState, queue_id: int) -> int | None:
    """From when on everything that a queue was given is still there, Unix milliseconds; None: not known.

    0: nothing has been trimmed.
    """
    index = state.queues.get(queue_id)
    if index is None or index.first_cursor == 0:
        return 0
    gone_ms = state.replays.trimmed_ms.get(queue_id)
    if gone_ms is not None:
        return gone_ms + 1
    return index.timestamps[0] if len(index) else None


def cursor_at(state: QueueState, queue_id: int, time_ms: int) -> int | Refusal:
    """The first item stored at that time or later; the end when there is none."""
    since_ms = earliest_ms(state, queue_id)
    if since_ms is None or time_ms < since_ms:
        return Refusal(Status.OUT_OF_RANGE, trimmed(state, queue_id, f"what was stored since {_written(time_ms)}"))
    index = state.queues.get(queue_id)
    if index is None:
        return 0
    row = index.find_time(time_ms)
    return index.firsts[row] if row < len(index) else index.end_cursor


def apply(state: QueueState, command: Replay, instance: int) -> Replayed | Refusal:
    """Carry a replay out, unless its id is known."""
    table = state.replays
    asked = asked_for(command).SerializeToString(deterministic=True)
    known = table.records.get(command.id)
    if known is not None:
        return recalled(command, known)
    moved = judge(state, command, lambda queue_id: state.acked_cursor(queue_id, command.consumer_group_id))
    if isinstance(moved, Refusal):
        return moved
    group = command.consumer_group_id
    for one in moved:
        key = one.queue_id, group
        state.acked[key] = one.target
        state.begins.known.pop(key, None)  # the readers that begin now are the first ones to do so here
        table.rewind(key, instance + 1, one.acked)
        counts = table.replayed if one.target < one.acked else table.skipped
        counts[group] = counts.get(group, 0) + abs(one.acked - one.target)
    record = table.records[command.id] = Record(asked, instance + 1, state.clock_ms, tuple(moved))
    table.forget(max(command.keep_count, 1), state.clock_ms - command.keep_ms)
    return Replayed(record, duplicate=False)


def recalled(command: Replay, known: Record) -> Replayed | Refusal:
    """The answer to a replay whose id is known."""
    if asked_for(command) != Replay.FromString(known.asked):
        return Refusal(
            Status.ALREADY_EXISTS,
            f"the id {command.id!r} is that of another replay, of consumer group "
            f"{Replay.FromString(known.asked).consumer_group_id}: give this one an id of its own",
        )
    return Replayed(known, duplicate=True)
