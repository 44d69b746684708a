"""Carries a change of members through all Paxos groups of a store or lock group, whatever masters come and go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.task import deferLater

from phxqueue.admin.errors import AdminError
from phxqueue.admin.gather import gather
from phxqueue.admin.mastership import ReplicaSet, set_id, set_name
from phxqueue.admin.memberships import Picture, member_of
from phxqueue.net.address import Address
from phxqueue.net.pool import ConnectionPool
from phxqueue.net.status import RpcError, Status
from phxqueue.paxos.config import MemberKind
from phxqueue.proto import methods
from phxqueue.proto.members_pb2 import ChangeMemberRequest, MembersRequest, MembersResponse, ReplicaMember

ANSWER_TIMEOUT_S = 2.0
CHANGE_TIMEOUT_S = 10.0
"""A change is in force some milliseconds after it was proposed, unless the majority is in trouble."""
LOOK_AGAIN_S = 0.1
SAID_AFTER_S = 1.0
"""What is waited for for less long is nothing to tell a person."""

_TRY_AGAIN = {
    Status.NOT_MASTER,
    Status.NO_MASTER,
    Status.UNAVAILABLE,
    Status.DEADLINE_EXCEEDED,
    Status.RESOURCE_EXHAUSTED,
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node listens: for clients, and for the other nodes."""

    address: str
    paxos_address: str


class MemberChanges:
    """Works on one store or lock group. All methods raise AdminError with what is in the way.

    Args:
        timeout_s: how long is waited for whatever has to happen first.
        say: tells the person what happens.
    """

    def __init__(
        self, reactor: Any, pool: ConnectionPool, replica_set: ReplicaSet, timeout_s: float, say: Callable[[str], None]
    ) -> None:
        self.replica_set = replica_set
        self._reactor = reactor
        self._pool = pool
        self._name = set_name(replica_set)
        self._until = reactor.seconds() + timeout_s
        self._say = say
        self._reason, self._since, self._told = "", 0.0, False
        self._addresses = [node.address for node in replica_set.nodes]

    async def look(self) -> Picture:
        """Ask every node, also those that only the membership knows."""
        answers: dict[str, MembersResponse] = {}
        silent: dict[str, str] = {}
        asked: set[str] = set()
        while asked != set(self._addresses):
            new = [address for address in self._addresses if address not in asked]
            for address, answer in zip(new, await gather(self._ask(one) for one in new), strict=True):
                if isinstance(answer, str):
                    silent[address] = answer
                else:
                    answers[address] = answer
            asked.update(new)
            for answer in answers.values():
                for group in answer.groups:
                    for member in (*group.members, *group.pending):
                        if member.address and member.address not in self._addresses:
                            self._addresses.append(member.address)
        return Picture(self._name, self.replica_set.paxos_groups, answers, silent)

    async def _ask(self, address: str) -> MembersResponse | str:
        try:
            connection = await self._pool.connection(Address.parse(address))
            return await connection.call(
                methods.MEMBERS, MembersRequest(set_id=set_id(self.replica_set)), ANSWER_TIMEOUT_S
            )
        except RpcError as error:
            return error.message or str(error)

    # ---- what can be done ---------------------------------------------------------------------------------

    async def add(self, node_id: int, place: Place, priority: int) -> None:
        """Make a node a learner where it is no member yet."""
        for group_id in self._groups:
            request = self._request(group_id, node_id, place=place)
            if member_of((await self.look()).view(group_id), node_id) is None:
                request.kind, request.priority = int(MemberKind.LEARNER), priority
            await self._change(request, f"node {node_id} is a learner now" if request.HasField("kind") else "")

    async def promote(self, node_id: int, kind: MemberKind) -> None:
        """Make a member another kind of member; with a vote, on the data directory that it runs on."""
        for group_id in self._groups:
            await self._running_member(group_id, node_id)
            request = self._request(group_id, node_id, kind=kind)
            done = f"node {node_id} is a {kind.name.lower()} now"
            if kind is MemberKind.LEARNER:
                await self._change(request, done)
            else:
                await self._record(request, done)
        await self._settle(f"node {node_id} is a {kind.name.lower()} of {self._name}")

    async def replace(self, node_id: int, place: Place | None) -> None:
        """Put on record where a member is, and, when it has caught up, on which data directory it runs."""
        moved = swapped = False
        for group_id in self._groups:
            if place is not None:
                request = self._request(group_id, node_id, place=place)
                moved |= await self._change(request, f"node {node_id} is at {place.paxos_address} now")
            member = await self._running_member(group_id, node_id)
            if member.kind != MemberKind.LEARNER and member.running != member.incarnation:
                swapped |= await self._record(
                    self._request(group_id, node_id),
                    f"node {node_id} votes with its new data directory (incarnation {{incarnation:016x}})",
                )
        done = f"node {node_id} of {self._name} is on record as it runs, and where it is"
        if swapped:
            done = f"node {node_id} of {self._name} is replaced; its former disk is not needed any more"
        elif not moved:
            done += ": there was nothing to replace"
        await self._settle(done)  # also when an earlier command was broken off here

    async def remove(self, node_id: int) -> None:
        """Make a node a member no more."""
        changed = False
        for group_id in self._groups:
            request = self._request(group_id, node_id)
            request.remove = True
            changed |= await self._change(request, f"node {node_id} is no member any more")
        if not changed:
            self._say(f"node {node_id} is no member of {self._name}")
        await self._settle(
            f"nothing rests on the disk of node {node_id} any more: stop it, take it out of the configuration files; "
            "its data directory may be deleted"
        )

    # ---- how it is done -----------------------------------------------------------------------------------

    @property
    def _groups(self) -> range:
        return range(self.replica_set.paxos_groups)

    def _request(
        self, group_id: int, node_id: int, *, place: Place | None = None, kind: MemberKind | None = None
    ) -> ChangeMemberRequest:
        request = ChangeMemberRequest(set_id=set_id(self.replica_set), group_id=group_id, node_id=node_id)
        if place is not None:
            request.address, request.paxos_address = place.address, place.paxos_address
        if kind is not None:
            request.kind = int(kind)
        return request

    async def _change(self, request: ChangeMemberRequest, done: str) -> bool:
        """Have one group changed, by whoever is its master; returns whether anything had to be changed."""
        name = f"group {request.group_id}"
        while True:
            master = (await self.look()).master(request.group_id)
            if master is None:
                await self._wait(f"{self._name} {name} has no master: `phxqueue status` says who is down")
                continue
            try:
                connection = await self._pool.connection(Address.parse(master))
                answer = await connection.call(methods.CHANGE_MEMBER, request, CHANGE_TIMEOUT_S)
            except RpcError as error:
                if error.status not in _TRY_AGAIN:
                    raise AdminError(error.message or str(error)) from error
                await self._wait(error.message or str(error))
                continue
            if not answer.refusal:
                if answer.changed and done:
                    self._say(f"{name}: {done}")
                return answer.changed
            if not answer.temporary:
                raise AdminError(answer.refusal)
            await self._wait(answer.refusal)

    async def _record(self, request: ChangeMemberRequest, done: str) -> bool:
        """As `_change`, with the data directory that the node runs on: whichever that is when it is asked for.

        Args:
            done: what to say then, with {incarnation}.
        """
        while True:
            attempt = ChangeMemberRequest()
            attempt.CopyFrom(request)
            attempt.incarnation = (await self._running_member(request.group_id, request.node_id)).running
            try:
                return await self._change(attempt, done.format(incarnation=attempt.incarnation))
            except AdminError:
                member = await self._running_member(request.group_id, request.node_id)
                if member.running == attempt.incarnation:
                    raise

    async def _running_member(self, group_id: int, node_id: int) -> ReplicaMember:
        """A member that the master of the group has heard of, with the data directory that it runs on.

        Of a node that has just come back on another directory the master may not have heard yet.
        """
        while True:
            picture = await self.look()
            itself = picture.runs_on(node_id)
            group, master = picture.view(group_id), picture.master(group_id)
            member = member_of(group, node_id)
            if master is None:
                await self._wait(f"{self._name} group {group_id} has no master: `phxqueue status` says who is down")
            elif member is None:
                raise AdminError(f"node {node_id} is no member of {self._name}: `phxqueue members add {node_id}`")
            elif not member.running:
                where = f" at {member.paxos_address}" if member.paxos_address else ""
                await self._wait(
                    f"node {node_id} has not connected to the master of group {group_id}: start it{where}; if it runs, "
                    "its log says why"
                )
            elif itself is not None and member.running != itself:
                await self._wait(
                    f"node {node_id} has not told the master of group {group_id} yet that it runs on another data "
                    f"directory (incarnation {itself:016x})"
                )
            else:
                return member

    async def _settle(self, done: str) -> None:
        """Wait until nothing rests any more on who left."""
        for group_id in self._groups:
            while True:
                picture = await self.look()
                group = picture.view(group_id)
                if picture.master(group_id) is not None and group is not None and group.settled:
                    break
                await self._wait(
                    f"group {group_id}: the change is in force; keep the disks of nodes that left until a majority has "
                    "everything that they have"
                )
        self._say(done)

    async def _wait(self, reason: str) -> None:
        """Say what is waited for, once for each that takes its time; raise it when the time is up."""
        now = self._reactor.seconds()
        if now >= self._until:
            raise AdminError(f"{reason} (not done in time; the same command goes on from here)")
        if reason != self._reason:
            self._reason, self._since, self._told = reason, now, False
        elif not self._told and now - self._since >= SAID_AFTER_S:
            self._told = True
            self._say(f"waiting: {reason}")
        await deferLater(self._reactor, LOOK_AGAIN_S, lambda: None)
