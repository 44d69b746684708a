"""The calls about replays: who may be replayed what."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from phxqueue.config import group_bit
from phxqueue.net.service import CallContext, RpcService
from phxqueue.net.status import RpcError, Status
from phxqueue.proto import methods
from phxqueue.proto.store_pb2 import ListReplaysRequest, ListReplaysResponse, ReplayRequest, ReplayResponse
from phxqueue.store.served import ServedQueues, groups_of

if TYPE_CHECKING:
    from phxqueue.store.paxos_group import PaxosGroup

FindGroup = Callable[[int, int, int], "tuple[PaxosGroup, ServedQueues]"]
"""find(topic id, store id, Paxos group); raises RpcError when this node does not serve it."""


class ReplayCalls:
    """Of one node."""

    def __init__(self, find: FindGroup) -> None:
        self._find = find

    def register(self, service: RpcService) -> None:
        """Answer them on this port."""
        service.register(methods.REPLAY, self.replay)
        service.register(methods.LIST_REPLAYS, self.list)

    def replay(self, request: ReplayRequest, context: CallContext) -> ReplayResponse | Deferred[ReplayResponse]:
        """Move a consumer group; see :mod:`phxqueue.store.replay_service`."""
        group, served = self._find(request.topic_id, request.store_id, request.paxos_group)
        queue_ids = served.queues_of(request.pub_id, request.paxos_group)
        if request.HasField("queue_id"):
            if request.queue_id not in queue_ids:
                raise RpcError(Status.INVALID_ARGUMENT, f"queue_id: {served.why_not(request.queue_id, request.pub_id)}")
            queue_ids = [request.queue_id]
        if not queue_ids:
            raise RpcError(
                Status.INVALID_ARGUMENT,
                f"pub_id: pub {request.pub_id} has no queue in Paxos group {request.paxos_group} of this store",
            )
        for queue_id in queue_ids[:1]:
            queue = served.queue(queue_id)
            mask = 0 if queue is None else queue.pubs[request.pub_id]
            created = group.machine.groups.reads(request.consumer_group_id, [request.pub_id])
            if not mask & group_bit(request.consumer_group_id) and not created:
                raise RpcError(
                    Status.INVALID_ARGUMENT,
                    f"consumer_group_id: consumer group {request.consumer_group_id} does not read pub "
                    f"{request.pub_id}; its groups are {groups_of(mask)}",
                )
        return group.replays.replay(request, queue_ids)

    def list(self, request: ListReplaysRequest, context: CallContext) -> ListReplaysResponse:
        """Tell what is remembered of replays."""
        group, _ = self._find(request.topic_id, request.store_id, request.paxos_group)
        return group.replays.listed(request)
