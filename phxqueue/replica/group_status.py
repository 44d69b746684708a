"""What an operator is told about one group on one node."""

from __future__ import annotations

from phxqueue.paxos.group import Group
from phxqueue.proto.status_pb2 import GroupStatus


def group_status(core: Group, now: float, *, applied: int, first: int) -> GroupStatus:
    """Return what the core knows at `now`, with what its runtime adds.

    Args:
        applied: instance that the state machine has come to.
        first: where the log begins.
    """
    status = GroupStatus(
        group_id=core.config.group_id,
        is_master=core.is_master,
        ballot=core.ballot,
        chosen=core.chosen,
        applied=applied,
        first=first,
        incomplete=not core.complete,
    )
    if core.master_id is not None:
        status.master_node_id = core.master_id
    if core.is_master:
        status.lease_remaining_s = max(0.0, core.lease_until - now)
        for node_id, peer in core.peers.items():
            problem = core.transfer_problem(node_id, now)
            status.peers.add(
                node_id=node_id,
                chosen=-1 if peer.chosen is None else peer.chosen,
                heard_ago_s=-1.0 if peer.heard_at is None else now - peer.heard_at,
                fit=problem is None,
                unfit_because=problem or "",
            )
    return status
