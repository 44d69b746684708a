"""Copies one Paxos group from a running node, piece by piece, checking all of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TypeVar

import xxhash
from google.protobuf.message import Message
from twisted.internet.defer import Deferred

from phxqueue.admin.backup.files import (
    ENTRIES,
    ENTRIES_FILE_BYTES,
    GROUP,
    SEGMENTS,
    STATE,
    FileRecord,
    FileWriter,
    GroupRecord,
    damage,
    group_directory,
    group_record,
    read_document,
    sync_directory,
    write_document,
)
from phxqueue.admin.errors import AdminError
from phxqueue.net.status import RpcError, Status
from phxqueue.paxos.entry import entry_checksum
from phxqueue.proto.backup_pb2 import BackupOpenRequest, BackupOpenResponse, BackupSegment
from phxqueue.proto.methods import BACKUP_LOG, BACKUP_OPEN, BACKUP_READ, Method
from phxqueue.proto.paxos_pb2 import CheckpointReadRequest, LogReadRequest
from phxqueue.replica.pace import Pace

CHUNK_BYTES = 1 << 20
"""Asked for at a time."""
OPEN_TIMEOUT_S = 60.0
"""A checkpoint is answered when it is durable on the other side."""
READ_TIMEOUT_S = 30.0
ATTEMPTS = 5
"""How often the copy of a group is begun anew, because the node has trimmed what belongs to it, or did not answer."""
RETRY_S = 0.5

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)


class Caller(Protocol):
    """Calls one node."""

    def __call__(
        self, method: Method[RequestT, ResponseT], request: RequestT, timeout: float
    ) -> Deferred[ResponseT]: ...


class Clock(Protocol):
    """Time: the reactor."""

    def seconds(self) -> float: ...

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any) -> Any: ...


class Failed(Exception):
    """What came is no good, or is not there any more: another try may do better."""


class GroupCopy:
    """Copies one group of one node into its directory of a backup.

    Args:
        set_id: store_id or lock_id.
        node_id: who is called.
        confirmed: the copy must reach at least to this instance; None: anything will do.
        wall: Unix time in seconds.
        told: called with the bytes that came.
    """

    def __init__(
        self,
        root: Path,
        set_id: int,
        group_id: int,
        node_id: int,
        call: Caller,
        *,
        confirmed: int | None,
        pace: Pace,
        clock: Clock,
        wall: Callable[[], float],
        told: Callable[[int], None],
    ) -> None:
        self._root = root
        self._name = group_directory(group_id)
        self._set_id = set_id
        self._group_id = group_id
        self._node_id = node_id
        self._call = call
        self._confirmed = confirmed
        self._pace = pace
        self._clock = clock
        self._wall = wall
        self._told = told

    async def run(self) -> tuple[GroupRecord, BackupOpenResponse]:
        """Copy it. Raises AdminError when that did not work, however often it was tried."""
        why: Exception = Failed("it was not tried")
        for _ in range(ATTEMPTS):
            try:
                return await self._copy()
            except RpcError as error:
                if error.status in (Status.INVALID_ARGUMENT, Status.PERMISSION_DENIED, Status.UNAUTHENTICATED):
                    raise
                why = error
            except Failed as error:
                why = error
            await self._sleep(RETRY_S)
        raise AdminError(f"group {self._group_id} could not be copied from node {self._node_id}: {why}")

    async def _copy(self) -> tuple[GroupRecord, BackupOpenResponse]:
        directory = self._root / self._name
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        opened = await self._call(
            BACKUP_OPEN, BackupOpenRequest(set_id=self._set_id, group_id=self._group_id), OPEN_TIMEOUT_S
        )
        taken_at = self._wall()
        checkpoint = opened.checkpoint
        if self._confirmed is not None and checkpoint.applied < self._confirmed:
            raise Failed(f"it has applied {checkpoint.applied} of {self._confirmed} instances: it lags behind")
        files = [await self._state(checkpoint.snapshot)]
        files.append(await self._segments(checkpoint.snapshot, list(checkpoint.segments)))
        files += await self._entries(checkpoint.snapshot, checkpoint.needed, checkpoint.applied)
        record = GroupRecord(
            group_id=self._group_id,
            node_id=opened.node_id,
            incarnation=checkpoint.incarnation,
            applied=checkpoint.applied,
            needed=checkpoint.needed,
            confirmed=self._confirmed,
            segments=len(checkpoint.segments),
            membership=checkpoint.membership.hex() if checkpoint.HasField("membership") else None,
            taken_at=taken_at,
            files=tuple(files),
        )
        write_document(directory / GROUP, asdict(record))
        sync_directory(self._root)
        return record, opened

    def _sleep(self, seconds: float) -> Deferred[None]:
        awake: Deferred[None] = Deferred()
        timer = self._clock.callLater(seconds, awake.callback, None)

        def ended(result: Any) -> Any:
            if timer.active():
                timer.cancel()
            return result

        return awake.addErrback(ended)

    async def _came(self, size: int) -> None:
        self._told(size)
        wait = self._pace.wait(size, self._clock.seconds())
        if wait > 0:
            await self._sleep(wait)

    async def _read(self, snapshot: int, segment: bytes) -> bytes:
        """Read a segment (b"": the state), piece by piece."""
        pieces: list[bytes] = []
        size = 0
        while True:
            request = CheckpointReadRequest(
                group_id=self._group_id, snapshot=snapshot, segment=segment, offset=size, max_bytes=CHUNK_BYTES
            )
            piece = await self._call(BACKUP_READ, request, READ_TIMEOUT_S)
            if xxhash.xxh3_64_intdigest(piece.data) != piece.checksum or (not piece.data and size < piece.size):
                raise Failed("a piece of the checkpoint was damaged on its way")
            pieces.append(piece.data)
            size += len(piece.data)
            await self._came(len(piece.data))
            if size >= piece.size:
                return b"".join(pieces)

    async def _state(self, snapshot: int) -> FileRecord:
        with FileWriter(self._root, f"{self._name}/{STATE}") as file:
            file.write(await self._read(snapshot, b""))
            return file.close()

    async def _segments(self, snapshot: int, keys: list[bytes]) -> FileRecord:
        with FileWriter(self._root, f"{self._name}/{SEGMENTS}") as file:
            for key in keys:
                file.record(BackupSegment(key=key, value=await self._read(snapshot, key)))
            return file.close()

    async def _entries(self, snapshot: int, first: int, last: int) -> list[FileRecord]:
        files: list[FileRecord] = []
        at = first
        while at <= last:
            with FileWriter(self._root, f"{self._name}/{ENTRIES}{len(files):06d}") as file:
                while at <= last and file.size < ENTRIES_FILE_BYTES:
                    at += await self._some_entries(file, snapshot, at, last)
                files.append(file.close())
        return files

    async def _some_entries(self, file: FileWriter, snapshot: int, first: int, last: int) -> int:
        request = LogReadRequest(
            group_id=self._group_id, first=first, last=last, max_bytes=CHUNK_BYTES, snapshot=snapshot
        )
        answer = await self._call(BACKUP_LOG, request, READ_TIMEOUT_S)
        if not answer.entries:
            raise Failed(f"its log begins at {answer.log_first} by now, not at {first}")
        before = file.size
        for place, entry in enumerate(answer.entries):
            if entry.instance != first + place or entry_checksum(entry.kind, entry.payload) != entry.checksum:
                raise Failed(f"entry {first + place} was damaged on its way")
            file.record(entry)
        await self._came(file.size - before)
        return len(answer.entries)


def finished(root: Path, group_id: int) -> GroupRecord | None:
    """Return the record of a group that an interrupted backup had finished, if it is still good."""
    document = read_document(root / group_directory(group_id) / GROUP)
    if document is None:
        return None
    try:
        record = group_record(document)
    except (TypeError, KeyError):
        return None
    return None if any(damage(root, file) for file in record.files) else record
