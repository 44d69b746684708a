"""What an operator may ask of a node about masterships, on the service port: hand one over, keep one here."""

from __future__ import annotations

from phxqueue.net.service import CallContext, RpcService
from phxqueue.net.status import RpcError, Status
from phxqueue.proto import methods
from phxqueue.proto.members_pb2 import (
    HoldMasterRequest,
    HoldMasterResponse,
    TransferMasterRequest,
    TransferMasterResponse,
)
from phxqueue.replica.errors import NotServing, ReplicaError
from phxqueue.replica.group_runtime import GroupRuntime
from phxqueue.replica.node import ReplicaNode


class MasterCalls:
    """Answers them for one node.

    Args:
        set_id: the store_id or lock_id.
        set_name: of the replica set, for people.
    """

    def __init__(self, node: ReplicaNode, set_id: int, set_name: str) -> None:
        self._node = node
        self._set_id = set_id
        self._set_name = set_name

    def register(self, service: RpcService) -> None:
        """Answer the calls on this port."""
        service.register(methods.TRANSFER_MASTER, self.transfer)
        service.register(methods.HOLD_MASTER, self.hold)

    async def transfer(self, request: TransferMasterRequest, context: CallContext) -> TransferMasterResponse:
        """Give a group to another node; answers when that is master, or why it is not."""
        self._check(request.set_id)
        group = self._group(request.group_id)
        if not group.proposing():
            master = group.master_node()
            where = group.unreachable_reason() if master is None else f"node {master} is"
            raise RpcError(Status.NOT_MASTER, f"this node is not the master of group {group.group_id}; {where}")
        try:
            took = await group.transfer(request.to_node_id)
        except NotServing as error:
            raise RpcError(Status.NO_MASTER, str(error)) from error
        except ReplicaError as error:
            return TransferMasterResponse(refusal=str(error))
        return TransferMasterResponse(took_s=took)

    def hold(self, request: HoldMasterRequest, context: CallContext) -> HoldMasterResponse:
        """Keep some groups here although others are preferred, or do so no more."""
        self._check(request.set_id)
        groups = [self._group(group_id) for group_id in request.group_ids]
        for group in groups:
            group.held = not request.release
        return HoldMasterResponse()

    def _check(self, set_id: int) -> None:
        if set_id != self._set_id:
            raise RpcError(
                Status.INVALID_ARGUMENT,
                f"set_id {set_id}: this is {self._set_name}; compare the caller's configuration files with this node's",
            )

    def _group(self, group_id: int) -> GroupRuntime:
        group = self._node.groups.get(group_id)
        if group is None:
            raise RpcError(
                Status.INVALID_ARGUMENT,
                f"group_id {group_id}: {self._set_name} has groups 0 to {len(self._node.groups) - 1}",
            )
        return group
