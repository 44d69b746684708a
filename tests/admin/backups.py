"""A node that answers as real ones do when they are copied, and backups made of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import xxhash
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from phxqueue.admin.backup.files import GroupRecord, Manifest, write_manifest
from phxqueue.admin.backup.taking import GroupCopy
from phxqueue.net.status import RpcError, Status
from phxqueue.paxos.entry import entry_checksum
from phxqueue.proto.backup_pb2 import BackupOpenRequest, BackupOpenResponse
from phxqueue.proto.paxos_pb2 import (
    CheckpointOpenResponse,
    CheckpointReadRequest,
    CheckpointReadResponse,
    LogReadRequest,
    LogReadResponse,
    PaxosEntry,
)
from phxqueue.replica.interfaces import Checkpoint
from phxqueue.replica.pace import Pace
from phxqueue.store.queues import StoreQueues
from tests.store.fakes import NOW_MS, batch, command

BALLOT = 3 << 16
NOW = 1_700_000_000.0
QUEUES = 3


class CopiedNode:
    """Node 1 of store 1, one Paxos group: `fill` gives it entries; `spoil` sees every answer on its way."""

    def __init__(self) -> None:
        self.machine = StoreQueues(segment_rows=16)
        self.entries: list[PaxosEntry] = []
        self.segments: dict[bytes, bytes] = {}
        self.log_first = 0
        self.spoil: Callable[[Any, Any], Any] = lambda request, answer: answer
        self.asked: list[Any] = []
        self._checkpoint: Checkpoint | None = None

    def fill(self, count: int) -> None:
        """Apply so many entries: items for three queues, and an acknowledgement now and then."""
        for _ in range(count):
            instance = len(self.entries)
            batches = [
                batch(queue_id, 1 + instance % 3, items=b"items of %d" % instance * 5, digest=instance + 1)
                for queue_id in range(instance % QUEUES + 1)
            ]
            payload = command(*batches, at_ms=NOW_MS + instance)
            self.machine.apply(instance, 0, payload)
            checksum = entry_checksum(0, payload)
            self.entries.append(
                PaxosEntry(instance=instance, ballot=BALLOT, checksum=checksum, kind=0, payload=payload)
            )

    def call(self, method: Any, request: Any, timeout: float) -> Deferred[Any]:
        self.asked.append(request)
        answers: dict[type[Any], Callable[[Any], Any]] = {
            BackupOpenRequest: self._open,
            CheckpointReadRequest: self._read,
            LogReadRequest: self._log,
        }
        try:
            answer = self.spoil(request, answers[type(request)](request))
        except RpcError as error:
            return fail(error)
        return succeed(answer)

    def _open(self, request: BackupOpenRequest) -> BackupOpenResponse:
        made = self._checkpoint = self.machine.checkpoint()
        self.segments.update(made.segments)
        opened = CheckpointOpenResponse(
            snapshot=7, applied=made.applied, needed=max(made.needed, self.log_first), incarnation=99
        )
        opened.segments.extend(sorted(self.segments))
        return BackupOpenResponse(
            checkpoint=opened, cluster="local", role="store", node_id=1, paxos_groups=1, version="1.0"
        )

    def _read(self, request: CheckpointReadRequest) -> CheckpointReadResponse:
        assert self._checkpoint is not None
        blob = self.segments[request.segment] if request.segment else self._checkpoint.state
        data = blob[request.offset : request.offset + min(request.max_bytes, 300)]
        return CheckpointReadResponse(data=data, size=len(blob), checksum=xxhash.xxh3_64_intdigest(data))

    def _log(self, request: LogReadRequest) -> LogReadResponse:
        if request.first < self.log_first:
            return LogReadResponse(log_first=self.log_first)
        return LogReadResponse(entries=self.entries[request.first : min(request.first + 7, request.last + 1)])


def copy_group(root: Path, node: CopiedNode, clock: Clock, *, confirmed: int | None = None) -> Deferred[GroupRecord]:
    """Copy the group of `node` into `root`; fires, or fails, as the clock goes on."""
    copy = GroupCopy(
        root,
        1,
        0,
        1,
        node.call,
        confirmed=confirmed,
        pace=Pace(0),
        clock=clock,
        wall=lambda: NOW,
        told=lambda size: None,
    )
    return Deferred.fromCoroutine(copy.run()).addCallback(lambda result: result[0])


def make_backup(root: Path, entries: int = 100) -> Manifest:
    """A whole backup of a store with one group."""
    node = CopiedNode()
    node.fill(entries)
    return backup_of(node, root)


def backup_of(node: CopiedNode, root: Path, role: str = "store") -> Manifest:
    """A whole backup of a store or lock group that has this node and one Paxos group."""
    root.mkdir(exist_ok=True)
    copied: list[GroupRecord] = []
    copy_group(root, node, Clock()).addCallback(copied.append)
    manifest = Manifest(
        cluster="local",
        role=role,
        set_id=1,
        paxos_groups=1,
        version="1.0",
        began_at=NOW,
        ended_at=NOW + 1,
        groups=tuple(copied),
    )
    write_manifest(root, manifest)
    return manifest


def unavailable(what: str) -> RpcError:
    return RpcError(Status.UNAVAILABLE, what)
