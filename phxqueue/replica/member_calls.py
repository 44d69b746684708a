"""What an operator may ask of a node about members, on the service port: who they are, and to change one."""

from __future__ import annotations

from collections.abc import Callable

from phxqueue.net.address import AddressError
from phxqueue.net.service import CallContext, RpcService
from phxqueue.net.status import RpcError, Status
from phxqueue.proto import methods
from phxqueue.proto.members_pb2 import (
    ChangeMemberRequest,
    ChangeMemberResponse,
    GroupMembers,
    MembersRequest,
    MembersResponse,
)
from phxqueue.replica.errors import NotServing, Overloaded, Refused, ReplicaError
from phxqueue.replica.group_runtime import GroupRuntime
from phxqueue.replica.member_changes import SenselessChange, changed_members, described
from phxqueue.replica.node import ReplicaNode
from phxqueue.replica.roster import Roster


class MemberCalls:
    """Answers them for one node.

    Args:
        roster: the members as this node knows them now.
        running: the incarnation that a member last said it runs on.
        notices: what an operator should know of this node, a sentence each.
    """

    def __init__(
        self,
        node: ReplicaNode,
        roster: Callable[[], Roster],
        running: Callable[[int], int | None],
        notices: Callable[[], list[str]],
    ) -> None:
        self._node = node
        self._roster = roster
        self._running = running
        self._notices = notices

    def register(self, service: RpcService) -> None:
        """Answer the calls on this port."""
        service.register(methods.MEMBERS, self.members)
        service.register(methods.CHANGE_MEMBER, self.change_member)

    def members(self, request: MembersRequest, context: CallContext) -> MembersResponse:
        """Tell who the members of every group are, as this node knows it."""
        self._check(request.set_id)
        roster = self._roster()
        return MembersResponse(
            set_id=roster.set_id,
            node_id=roster.node_id,
            incarnation=roster.incarnation,
            groups=[self._group_members(group) for group in self._node.groups.values()],
            notices=self._notices(),
        )

    async def change_member(self, request: ChangeMemberRequest, context: CallContext) -> ChangeMemberResponse:
        """Change one member of one group; answers when the change is in force, or why it may not be made."""
        group = self._mastered(request)
        if group.pending_members is not None:
            return ChangeMemberResponse(refusal=f"{group.name}: an earlier change is not in force yet", temporary=True)
        before = group.members
        try:
            after = changed_members(before, request)
        except (SenselessChange, AddressError) as error:
            raise RpcError(Status.INVALID_ARGUMENT, f"{group.name}: {error}", maybe_executed=False) from error
        if after == before:
            return ChangeMemberResponse(changed=False)
        try:
            await group.change_members(after)
        except Refused as error:
            return ChangeMemberResponse(refusal=str(error), temporary=error.temporary)
        except Overloaded as error:
            return ChangeMemberResponse(refusal=str(error), temporary=True)
        except NotServing as error:
            raise RpcError(Status.NO_MASTER, str(error)) from error
        except ReplicaError as error:
            # It may come into force or not: asking again for what it says is harmless.
            raise RpcError(Status.UNAVAILABLE, str(error)) from error
        return ChangeMemberResponse(changed=True)

    # ---- checks ---------------------------------------------------------------------------------------

    def _check(self, set_id: int) -> None:
        roster = self._roster()
        if set_id != roster.set_id:
            raise RpcError(
                Status.INVALID_ARGUMENT,
                f"set_id {set_id}: this is {roster.name}; compare the caller's configuration files with this node's",
            )

    def _mastered(self, request: ChangeMemberRequest) -> GroupRuntime:
        self._check(request.set_id)
        group = self._node.groups.get(request.group_id)
        if group is None:
            raise RpcError(
                Status.INVALID_ARGUMENT,
                f"group_id {request.group_id}: {self._roster().name} has groups 0 to {len(self._node.groups) - 1}",
            )
        if not group.proposing():
            master = group.master_node()
            where = group.unreachable_reason() if master is None else f"node {master} is"
            raise RpcError(Status.NOT_MASTER, f"this node is not the master of {group.name}; {where}")
        return group

    def _group_members(self, group: GroupRuntime) -> GroupMembers:
        status = group.status()
        told = GroupMembers(
            group_id=group.group_id,
            is_master=status.is_master,
            chosen=status.chosen,
            members=[described(member, self._running(member.node_id)) for member in group.members],
            pending=[described(member, self._running(member.node_id)) for member in group.pending_members or ()],
            settled=group.settled,
            votes=group.votes,
        )
        if status.HasField("master_node_id"):
            told.master_node_id = status.master_node_id
        for peer in status.peers:
            told.progress.add(node_id=peer.node_id, chosen=peer.chosen, heard_ago_s=peer.heard_ago_s)
        return told
