"""Gives checkpoints, and the entries that belong to them, to members that are behind the trimmed log.

A checkpoint is made when it is asked for. Its state is kept in memory until it has been fetched; its segments lie in
the journal anyway and are read from there. What is trimmed or dropped in the meantime is answered so: the other side
opens a newer checkpoint and fetches only what is different.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import xxhash
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from phxqueue.journal.errors import CorruptEntry, EntryMissing, JournalError, JournalOverloaded
from phxqueue.journal.interfaces import IJournal
from phxqueue.journal.records import StoredEntry
from phxqueue.net.service import CallContext, RpcService
from phxqueue.net.status import RpcError, Status
from phxqueue.proto import methods
from phxqueue.proto.paxos_pb2 import (
    CheckpointOpenRequest,
    CheckpointOpenResponse,
    CheckpointReadRequest,
    CheckpointReadResponse,
    LogReadRequest,
    LogReadResponse,
    PaxosEntry,
)
from phxqueue.replica.checkpoint_table import CheckpointTable
from phxqueue.replica.group_runtime import GroupRuntime
from phxqueue.replica.interfaces import Checkpoint, Clock, DelayedCall

MAX_SNAPSHOTS = 4
"""Checkpoints held in memory for others at one time."""
SNAPSHOT_S = 60.0
"""How long one is held after it was last asked for, in seconds."""
PIN_S = 5.0
"""How long the log is kept from where somebody last read it, in seconds; a slower reader begins anew."""
CHUNK_BYTES = 1 << 20
"""Most bytes in one answer; one larger entry travels alone."""
RETRY_MS = 500

Make = Callable[[GroupRuntime, Callable[[], None]], Checkpoint | None]
"""make(group, done): take a checkpoint now; done() when it is durable. None: the journal does not take it."""


@dataclass(slots=True)
class _Snapshot:
    group_id: int
    state: bytes
    log_first: int
    forget: DelayedCall


@dataclass(frozen=True, slots=True)
class _Pin:
    group_id: int
    first: int
    until: float


class CheckpointServer:
    """Of one node."""

    def __init__(
        self,
        groups: Mapping[int, GroupRuntime],
        tables: Mapping[int, CheckpointTable],
        journal: IJournal,
        clock: Clock,
        make: Make,
    ) -> None:
        self._groups = groups
        self._tables = tables
        self._journal = journal
        self._clock = clock
        self._make = make
        self._snapshots: dict[int, _Snapshot] = {}
        self._pins: dict[int, _Pin] = {}
        self._last = 0

    def register(self, service: RpcService) -> None:
        """Answer on this port."""
        service.register(methods.CHECKPOINT_OPEN, self.open)
        service.register(methods.CHECKPOINT_READ, self.read)
        service.register(methods.LOG_READ, self.read_log)

    def pinned(self, group_id: int, below: int) -> int:
        """Return the instance below which the log may be trimmed, at most `below`: others are reading it."""
        now = self._clock.seconds()
        self._pins = {number: pin for number, pin in self._pins.items() if pin.until > now}
        return min(
            (pin.first for pin in self._pins.values() if pin.group_id == group_id and pin.first < below), default=below
        )

    def _pin(self, number: int, group_id: int, first: int) -> None:
        self._pins[number] = _Pin(group_id, first, self._clock.seconds() + PIN_S)

    def close(self) -> None:
        """Forget what is held for others."""
        for number in list(self._snapshots):
            self._forget(number)

    def _group(self, group_id: int) -> GroupRuntime:
        group = self._groups.get(group_id)
        if group is None:
            raise RpcError(Status.NOT_FOUND, f"there is no Paxos group {group_id} here")
        return group

    def _forget(self, number: int) -> None:
        forget = self._snapshots.pop(number).forget
        if forget.active():
            forget.cancel()

    # ---- calls -----------------------------------------------------------------------------------

    async def open(self, request: CheckpointOpenRequest, context: CallContext) -> CheckpointOpenResponse:
        """Make a checkpoint; answered when it is durable.

        A change of the membership is recorded when it is handed out to be applied. The same record before the
        checkpoint was made and after it became durable is therefore the one that belongs to it.
        """
        group, table = self._group(request.group_id), self._tables.get(request.group_id)
        membership = None if table is None else await _membership(table)
        if table is None or not group.may_teach:
            raise _not_now(f"group {request.group_id} is not whole here itself")
        durable: Deferred[None] = Deferred()
        checkpoint = self._make(group, lambda: durable.callback(None))
        if checkpoint is None:
            raise _not_now("the disk is busy")
        if len(self._snapshots) >= MAX_SNAPSHOTS:
            self._forget(min(self._snapshots))  # whoever still wants it opens another
        self._last += 1
        forget = self._clock.callLater(SNAPSHOT_S, self._forget, self._last)
        self._snapshots[self._last] = _Snapshot(request.group_id, checkpoint.state, group.first, forget)
        self._pin(self._last, request.group_id, group.first)
        response = CheckpointOpenResponse(
            snapshot=self._last,
            applied=checkpoint.applied,
            needed=max(checkpoint.needed, group.first),
            log_first=group.first,
            incarnation=self._journal.identity.incarnation,
            epoch=table.epoch,
            segments=sorted(table.segments),
        )
        if membership is not None:
            response.membership = membership
        await durable
        if await _membership(table) != membership:
            raise _not_now("the membership is changing")
        return response

    def read(
        self, request: CheckpointReadRequest, context: CallContext
    ) -> CheckpointReadResponse | Deferred[CheckpointReadResponse]:
        """Give a piece of the state or of a segment."""
        self._group(request.group_id)
        snapshot = self._snapshots.get(request.snapshot)
        if snapshot is None or snapshot.group_id != request.group_id:
            raise RpcError(Status.NOT_FOUND, f"checkpoint {request.snapshot} is not held here any more: open another")
        self._pin(request.snapshot, request.group_id, snapshot.log_first)
        snapshot.forget.cancel()
        snapshot.forget = self._clock.callLater(SNAPSHOT_S, self._forget, request.snapshot)
        if not request.segment:
            reading: Deferred[bytes | None] = succeed(snapshot.state)
        else:
            reading = self._tables[request.group_id].read(request.segment)

        def failed(failure: Failure) -> CheckpointReadResponse:
            raise _refusal(failure)

        return reading.addCallbacks(_piece, failed, callbackArgs=(request,))

    def read_log(self, request: LogReadRequest, context: CallContext) -> LogReadResponse | Deferred[LogReadResponse]:
        """Give chosen entries."""
        group = self._group(request.group_id)
        if not group.may_teach:
            raise _not_now(f"group {request.group_id} is not whole here itself")
        last = min(request.last, group.core.chosen)
        if request.first < group.first or request.first > last:
            return LogReadResponse(log_first=group.first)
        self._pin(request.snapshot, request.group_id, request.first)
        size = max(1, min(request.max_bytes, CHUNK_BYTES))
        reading = self._journal.read_entries(request.group_id, request.first, last, size)

        def answer(stored: list[tuple[int, StoredEntry]]) -> LogReadResponse:
            return LogReadResponse(log_first=group.first, entries=[_entry(*one) for one in stored])

        def failed(failure: Failure) -> LogReadResponse:
            if isinstance(failure.value, EntryMissing) and request.first < group.first:
                return LogReadResponse(log_first=group.first)  # trimmed while it was being read
            if isinstance(failure.value, CorruptEntry):
                group.repair(failure.value)
            raise _refusal(failure)

        return reading.addCallbacks(answer, failed)


def _entry(instance: int, entry: StoredEntry) -> PaxosEntry:
    return PaxosEntry(
        instance=instance, ballot=entry.ballot, checksum=entry.checksum, kind=entry.kind, payload=entry.payload
    )


def _piece(blob: bytes | None, request: CheckpointReadRequest) -> CheckpointReadResponse:
    if blob is None:
        raise RpcError(Status.NOT_FOUND, f"segment {request.segment.hex()} has been dropped: open another checkpoint")
    size = max(1, min(request.max_bytes, CHUNK_BYTES))
    data = blob[request.offset : request.offset + size]
    return CheckpointReadResponse(data=data, size=len(blob), checksum=xxhash.xxh3_64_intdigest(data))


async def _membership(table: CheckpointTable) -> bytes | None:
    try:
        return await table.read_membership()
    except JournalError as error:
        raise _not_now(str(error)) from error


def _refusal(failure: Failure) -> Exception:
    """What the caller is told when the disk does not give what it asked for."""
    if isinstance(failure.value, JournalOverloaded):
        return _not_now(str(failure.value))
    if isinstance(failure.value, JournalError):
        return RpcError(Status.UNAVAILABLE, str(failure.value), maybe_executed=False)
    return failure.value if isinstance(failure.value, Exception) else AssertionError(str(failure))


def _not_now(why: str) -> RpcError:
    return RpcError(Status.RESOURCE_EXHAUSTED, f"{why}: try again", retry_after_ms=RETRY_MS)
