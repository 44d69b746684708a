"""The calls about consumer groups that come and go at run time."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from phxqueue.config import MAX_CONSUMER_GROUP_ID
from phxqueue.net.service import CallContext, RpcService
from phxqueue.net.status import RpcError, Status
from phxqueue.proto import methods
from phxqueue.proto.store_pb2 import (
    CreateGroupRequest,
    DeleteGroup,
    DeleteGroupRequest,
    GroupChange,
    GroupChangeResponse,
    ListGroupsRequest,
    ListGroupsResponse,
)
from phxqueue.store.replay_calls import FindGroup
from phxqueue.store.served import ServedQueues


class GroupCalls:
    """Of one node."""

    def __init__(self, find: FindGroup) -> None:
        self._find = find

    def register(self, service: RpcService) -> None:
        """Answer them on this port."""
        service.register(methods.CREATE_GROUP, self.create)
        service.register(methods.DELETE_GROUP, self.delete)
        service.register(methods.LIST_GROUPS, self.list)

    def create(self, request: CreateGroupRequest, context: CallContext) -> Deferred[GroupChangeResponse]:
        """Add a group for pubs; the same again changes nothing."""
        group, served = self._find(request.topic_id, request.store_id, request.paxos_group)
        group_id = request.consumer_group_id
        if not 1 <= group_id <= MAX_CONSUMER_GROUP_ID:
            raise _wrong(f"consumer_group_id: {group_id} is not a number from 1 to {MAX_CONSUMER_GROUP_ID}")
        if not request.create.pub_ids:
            raise _wrong("pub_ids: a group reads at least one pub")
        if group_id in served.groups() and group_id not in group.machine.groups.created:
            raise _wrong(f"consumer_group_id: {group_id} is one of the configuration files: add it to its pubs there")
        queue_ids: set[int] = set()
        for pub_id in request.create.pub_ids:
            queue_ids.update(served.queues_of(pub_id, request.paxos_group))
        change = GroupChange(consumer_group_id=group_id, queue_ids=sorted(queue_ids), create=request.create)
        return group.groups.change(change)

    def delete(self, request: DeleteGroupRequest, context: CallContext) -> Deferred[GroupChangeResponse]:
        """Give up a group that was created at run time, or one that is in the files no more, at once."""
        group, served = self._find(request.topic_id, request.store_id, request.paxos_group)
        group_id, table = request.consumer_group_id, group.machine.groups
        if group_id in served.groups():
            raise _wrong(f"consumer_group_id: {group_id} is one of the configuration files: take it out there first")
        queue_ids = sorted(
            {queue_id for queue_id, one in (*group.machine.acked, *table.leaving) if one == group_id}
            | _queues_of(served, table.created[group_id].pub_ids if group_id in table.created else (), request)
        )
        change = GroupChange(consumer_group_id=group_id, queue_ids=queue_ids, delete=DeleteGroup())
        return group.groups.change(change)

    def list(self, request: ListGroupsRequest, context: CallContext) -> ListGroupsResponse:
        """Tell which groups there are, and which leave."""
        group, _ = self._find(request.topic_id, request.store_id, request.paxos_group)
        return ListGroupsResponse(groups=group.groups.listed())


def _queues_of(served: ServedQueues, pub_ids: tuple[int, ...], request: DeleteGroupRequest) -> set[int]:
    return {queue_id for pub_id in pub_ids for queue_id in served.queues_of(pub_id, request.paxos_group)}


def _wrong(message: str) -> RpcError:
    return RpcError(Status.INVALID_ARGUMENT, message)
