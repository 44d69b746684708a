"""Lets an operator copy what this node holds: the checkpoints that members give each other, on the service port."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import phxqueue
from phxqueue.net.identity import Role
from phxqueue.net.service import CallContext, RpcService
from phxqueue.net.status import RpcError, Status
from phxqueue.proto import methods
from phxqueue.proto.backup_pb2 import BackupOpenRequest, BackupOpenResponse
from phxqueue.proto.paxos_pb2 import CheckpointOpenRequest
from phxqueue.replica.checkpoint_server import CheckpointServer


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Whose copy it is."""

    cluster: str
    role: Role
    set_id: int
    node_id: int
    paxos_groups: int


class BackupCalls:
    """Of one node."""

    def __init__(self, origin: Origin, server: CheckpointServer, lineage: Callable[[], int]) -> None:
        self._origin = origin
        self._server = server
        self._lineage = lineage

    def register(self, service: RpcService) -> None:
        """Answer on this port."""
        service.register(methods.BACKUP_OPEN, self.open)
        service.register(methods.BACKUP_READ, self._server.read)
        service.register(methods.BACKUP_LOG, self._server.read_log)

    async def open(self, request: BackupOpenRequest, context: CallContext) -> BackupOpenResponse:
        """Make a checkpoint of one group; answered when it is durable."""
        origin = self._origin
        if request.set_id != origin.set_id:
            raise RpcError(
                Status.INVALID_ARGUMENT,
                f"set_id: this is {origin.role.value} {origin.set_id}, not {request.set_id}; compare the configuration",
            )
        opened = await self._server.open(CheckpointOpenRequest(group_id=request.group_id), context)
        return BackupOpenResponse(
            checkpoint=opened,
            cluster=origin.cluster,
            role=origin.role.value,
            node_id=origin.node_id,
            paxos_groups=origin.paxos_groups,
            version=phxqueue.__version__,
            lineage=self._lineage(),
        )
