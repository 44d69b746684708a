"""The master's side of replays: finds out where to, has it chosen, and tells how far it has come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from phxqueue.net.status import RpcError, Status
from phxqueue.proto.store_pb2 import (
    CursorMove,
    ListReplaysRequest,
    ListReplaysResponse,
    QueueReplay,
    Replay,
    ReplayRequest,
    ReplayResponse,
    ReplayStatus,
    ReplayTarget,
    StoreCommand,
)
from phxqueue.store.group import StoreGroup
from phxqueue.store.outcomes import Refusal, Replayed
from phxqueue.store.positions import Positions
from phxqueue.store.proposals import Proposals
from phxqueue.store.proposing import no_outcome, only_outcome, window_full
from phxqueue.store.queues import StoreQueues
from phxqueue.store.replay_table import REPLAY_VERSION, Moved, Record
from phxqueue.store.replays import asked_for, cursor_at, judge, recalled
from phxqueue.store.understood import check_understood

_ASKED = ("id", "consumer_group_id", "pub_id", "queue_id", "to_cursor", "to_time_ms", "to_earliest", "skip")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayLimits:
    """How long replays are remembered: see replays_kept and replays_kept_s of StoreLimits."""

    kept: int
    kept_ms: int
    retry_after_ms: int


class ReplayService:
    """Of one Paxos group.

    Args:
        timestamp_ms: the time for an entry's timestamp, Unix milliseconds.
        refuse: makes the error for requests that meet a group which is not served here (any more).
    """

    def __init__(
        self,
        group: StoreGroup,
        machine: StoreQueues,
        positions: Positions,
        proposals: Proposals,
        limits: ReplayLimits,
        *,
        timestamp_ms: Callable[[], int],
        refuse: Callable[[], RpcError],
    ) -> None:
        self._group = group
        self._machine = machine
        self._positions = positions
        self._proposals = proposals
        self._limits = limits
        self._timestamp_ms = timestamp_ms
        self._refuse = refuse

    def replay(self, request: ReplayRequest, queue_ids: Sequence[int]) -> ReplayResponse | Deferred[ReplayResponse]:
        """Have a group moved in these queues; when the answer is there it is durable on a majority.

        Raises (or fails with):
            RpcError: OUT_OF_RANGE, the target has been trimmed: the message names the earliest possible;
                ALREADY_EXISTS, the id is that of another replay; INVALID_ARGUMENT, the target lies ahead;
                UNAVAILABLE, a node knows no replays yet, or the outcome is unknown; RESOURCE_EXHAUSTED.
        """
        command = _command(request)
        known = self._machine.replays.records.get(request.id)
        if known is not None:
            return self._answer(recalled(command, known))
        self._aim(command, queue_ids)
        if request.dry_run:
            moved = judge(self._machine, command, self._acked(command.consumer_group_id))
            if isinstance(moved, Refusal):
                raise RpcError(moved.status, moved.message, maybe_executed=False)
            record = Record(asked_for(command).SerializeToString(), 0, self._timestamp_ms(), tuple(moved))
            return ReplayResponse(replay=self._described(record))
        return self._propose(command)

    def _aim(self, command: Replay, queue_ids: Sequence[int]) -> None:
        """Say for each queue where to: every replica then does the same, whatever its clock and index say by then."""
        machine = self._machine
        kind = command.WhichOneof("target")
        for queue_id in queue_ids:
            if queue_id not in machine.queues:
                continue
            cursor: int | Refusal = 0
            if kind == "to_cursor":
                cursor = command.to_cursor
            elif kind == "to_time_ms":
                cursor = cursor_at(machine, queue_id, command.to_time_ms)
            if isinstance(cursor, Refusal):
                raise RpcError(cursor.status, cursor.message, maybe_executed=False)
            command.targets.append(ReplayTarget(queue_id=queue_id, cursor=cursor))

    def _propose(self, command: Replay) -> Deferred[ReplayResponse]:
        group, machine = self._group, self._machine
        check_understood(group, machine, REPLAY_VERSION, "replays")
        if not group.window_free:
            raise window_full(group, self._limits.retry_after_ms)
        self._proposals.flush()
        command.keep_count, command.keep_ms = self._limits.kept, self._limits.kept_ms
        whole = StoreCommand(version=REPLAY_VERSION, timestamp_ms=self._timestamp_ms(), replays=[command])
        acked = self._acked(command.consumer_group_id)
        for target in command.targets:
            # What is acknowledged and not replicated (on its way with what was flushed, as far as there was room): else
            # it would seem that there is nothing to replay.
            key = target.queue_id, command.consumer_group_id
            if acked(target.queue_id) > machine.acked_cursor(*key):
                whole.cursor_moves.append(
                    CursorMove(
                        queue_id=target.queue_id,
                        consumer_group_id=command.consumer_group_id,
                        acked=acked(target.queue_id),
                        generation=machine.replays.generation(key),
                    )
                )
        chosen = group.propose(whole.SerializeToString())
        return chosen.addCallbacks(self._chosen, self._failed)

    def _acked(self, consumer_group_id: int) -> Callable[[int], int]:
        """Where a group stands, what is acknowledged and not replicated yet included; by queue id."""

        def acked(queue_id: int) -> int:
            key = queue_id, consumer_group_id
            return self._positions.acked(key, self._machine.acked_cursor(*key))

        return acked

    def _chosen(self, outcomes: list[Any] | Refusal) -> ReplayResponse:
        return self._answer(only_outcome(outcomes))

    def _answer(self, outcome: Replayed | Refusal) -> ReplayResponse:
        if isinstance(outcome, Refusal):
            raise RpcError(outcome.status, outcome.message, maybe_executed=False)
        return ReplayResponse(replay=self._described(outcome.record), duplicate=outcome.duplicate)

    def _failed(self, failure: Failure) -> ReplayResponse:
        raise no_outcome(
            failure,
            self._group,
            self._refuse,
            self._limits.retry_after_ms,
            "it is not known whether the replay has begun; ask again, with the same id",
        )

    # ---- progress ------------------------------------------------------------------------------------

    def listed(self, request: ListReplaysRequest) -> ListReplaysResponse:
        """What is remembered of replays, and how far each has come."""
        records = self._machine.replays.records
        found = [self._described(record) for name, record in records.items() if not request.id or name == request.id]
        return ListReplaysResponse(replays=found)

    def _described(self, record: Record) -> ReplayStatus:
        asked = Replay.FromString(record.asked)
        status = ReplayStatus(timestamp_ms=record.timestamp_ms)
        for name in _ASKED:
            if _has(asked, name):
                setattr(status, name, getattr(asked, name))
        status.queues.extend(self._progress(one, asked.consumer_group_id, record.generation) for one in record.moved)
        return status

    def _progress(self, one: Moved, consumer_group_id: int, generation: int) -> QueueReplay:
        machine = self._machine
        if not generation:  # only asked what would be
            left = max(one.acked - one.target, 0)
            return QueueReplay(
                queue_id=one.queue_id, target=one.target, acked=one.acked, position=one.target, left=left
            )
        key = one.queue_id, consumer_group_id
        acked = machine.acked_cursor(*key)
        if key not in machine.moved:  # else it was moved this very moment, and what is known of before is void
            acked = self._positions.acked(key, acked)
        position = max(acked, machine.first_cursor(one.queue_id))
        superseded = machine.replays.generation(key) != generation
        return QueueReplay(
            queue_id=one.queue_id,
            target=one.target,
            acked=one.acked,
            position=position,
            left=0 if superseded else max(one.acked - position, 0),
            superseded=superseded,
        )


def _command(request: ReplayRequest) -> Replay:
    command = Replay()
    for name in _ASKED:
        if _has(request, name):
            setattr(command, name, getattr(request, name))
    if command.WhichOneof("target") is None:
        raise RpcError(Status.INVALID_ARGUMENT, "target: say where to: a cursor, a time, or the earliest item")
    if command.HasField("to_cursor") and not command.HasField("queue_id"):
        raise RpcError(Status.INVALID_ARGUMENT, "to_cursor: a cursor means something in one queue only: name it")
    return command


def _has(message: Any, name: str) -> bool:
    """Whether a field is set; one without presence is when it is not its default."""
    if name in ("queue_id", "to_cursor", "to_time_ms", "to_earliest"):
        return bool(message.HasField(name))
    return True
