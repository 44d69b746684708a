"""What a service sees of one Paxos group of its node, and what it answers while the group cannot be served there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from phxqueue.config import ReplicaSet, UnknownIdError
from phxqueue.net.status import RpcError, Status


class ServedGroup(Protocol):
    """The part of :class:`phxqueue.replica.group_runtime.GroupRuntime` that every service uses; see there."""

    group_id: int
    state_machine: Any
    on_applied: list[Callable[[int, bytes], None]]
    on_mastership: list[Callable[[bool], None]]
    on_window_free: list[Callable[[], None]]

    @property
    def window_free(self) -> bool: ...

    @property
    def lowest_version(self) -> int: ...

    def serving(self) -> bool: ...

    def proposing(self) -> bool: ...

    def master_node(self) -> int | None: ...

    def unreachable_reason(self) -> str: ...

    def propose(self, payload: bytes) -> Deferred[Any]: ...


def not_serving(group: ServedGroup, replica_set: ReplicaSet, node_id: int) -> RpcError:
    """The answer to a request for a group this node may not serve now: who can, or why nobody can.

    Nothing of the request has been carried out.
    """
    master = group.master_node()
    if master is None or master == node_id:
        return RpcError(Status.NO_MASTER, group.unreachable_reason())
    try:
        address = replica_set.node(master).address
    except UnknownIdError as unknown:
        return RpcError(
            Status.NO_MASTER, f"group {group.group_id}: its master is not in this node's configuration: {unknown}"
        )
    return RpcError(
        Status.NOT_MASTER,
        f"node {node_id} of {replica_set.title} is not the master of group {group.group_id}; node {master} is",
        redirect=address,
    )
