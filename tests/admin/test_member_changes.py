"""A change of members goes through all groups, waits for what passes, and says what does not."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from phxqueue.admin.errors import AdminError
from phxqueue.admin.member_changes import MemberChanges, Place
from phxqueue.config import NodeAddress, Store
from phxqueue.net.address import Address
from phxqueue.net.status import RpcError, Status
from phxqueue.paxos.config import MemberKind
from phxqueue.proto.members_pb2 import ChangeMemberRequest, ChangeMemberResponse, MembersRequest, MembersResponse
from phxqueue.proto.methods import Method

PLACE = Place("10.0.0.3:5101", "10.0.0.3:5201")


class Nodes:
    """Two groups of which node 0 is master; `answers` are given to changes, in turn, then all is well."""

    def __init__(self) -> None:
        self.master = True
        self.running: dict[int, int] = {0: 10, 1: 11, 2: 12}
        self.recorded: dict[int, int] = dict(self.running)
        self.settled = True
        self.up: dict[str, int] = {"10.0.0.0": 0}  # who answers, by address
        self.itself = MembersResponse(set_id=1, node_id=2)  # what node 2 says, when it is up
        self.asked: list[ChangeMemberRequest] = []
        self.answers: list[ChangeMemberResponse | RpcError] = []

    def connection(self, address: Address) -> Deferred[Any]:
        if address.host not in self.up:
            return fail(RpcError(Status.UNAVAILABLE, "down"))
        return succeed(self if self.up[address.host] == 0 else Follower(self.itself))

    def call(self, method: Method[Any, Any], request: Any, timeout: float) -> Deferred[Any]:
        if isinstance(request, MembersRequest):
            return succeed(self.picture())
        self.asked.append(request)
        answer = self.answers.pop(0) if self.answers else ChangeMemberResponse(changed=True)
        return fail(answer) if isinstance(answer, RpcError) else succeed(answer)

    def picture(self) -> MembersResponse:
        told = MembersResponse(set_id=1, incarnation=self.running[0])
        for group_id in range(2):
            group = told.groups.add(group_id=group_id, is_master=self.master, settled=self.settled)
            for node_id, incarnation in self.recorded.items():
                group.members.add(node_id=node_id, incarnation=incarnation, running=self.running.get(node_id, 0))
        return told


class Follower:
    """A node that only tells of itself."""

    def __init__(self, answer: MembersResponse) -> None:
        self._answer = answer

    def call(self, method: Method[Any, Any], request: Any, timeout: float) -> Deferred[Any]:
        return succeed(self._answer)


class Rig:
    def __init__(self) -> None:
        self.clock = Clock()
        self.nodes = Nodes()
        self.said: list[str] = []
        addresses = tuple(NodeAddress(node_id, f"10.0.0.{node_id}", 5101, 5201) for node_id in range(3))
        pool: Any = self.nodes
        self.changes = MemberChanges(
            self.clock, pool, Store(store_id=1, nodes=addresses, paxos_groups=2), 5.0, self.said.append
        )

    def run(self, work: Coroutine[Any, Any, None], seconds: float = 0.0, then: Callable[[], None] | None = None) -> Any:
        """Let `seconds` pass, then `then` happen; returns whether the work is done, and what it raised."""
        done = Deferred.fromCoroutine(work)
        seen: list[Any] = []
        done.addBoth(lambda value: seen.append(getattr(value, "value", value)))
        self.clock.pump([0.1] * round(seconds / 0.1))
        if then is not None:
            then()
            self.clock.pump([0.1] * 5)
        return (done.called, seen[0] if seen else None)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_new_node_is_a_learner_in_every_group(rig: Rig) -> None:
    assert rig.run(rig.changes.add(3, PLACE, 7)) == (True, None)
    assert [(one.group_id, one.node_id, one.kind, one.priority) for one in rig.nodes.asked] == [
        (0, 3, 2, 7),
        (1, 3, 2, 7),
    ]
    assert rig.nodes.asked[0].paxos_address == PLACE.paxos_address
    assert rig.said == ["group 0: node 3 is a learner now", "group 1: node 3 is a learner now"]


def test_one_that_is_a_member_keeps_its_kind(rig: Rig) -> None:
    assert rig.run(rig.changes.add(2, PLACE, 0)) == (True, None)
    assert not any(one.HasField("kind") for one in rig.nodes.asked)


def test_a_vote_is_given_to_the_directory_that_runs(rig: Rig) -> None:
    rig.nodes.running[2] = 99
    assert rig.run(rig.changes.promote(2, MemberKind.VOTER)) == (True, None)
    assert [(one.kind, one.incarnation) for one in rig.nodes.asked] == [(0, 99), (0, 99)]


def test_a_node_that_does_not_run_is_waited_for_and_named(rig: Rig) -> None:
    del rig.nodes.running[2]
    assert rig.run(rig.changes.promote(2, MemberKind.VOTER), 2.0, lambda: rig.nodes.running.update({2: 5})) == (
        True,
        None,
    )
    assert rig.said[0] == (
        "waiting: node 2 has not connected to the master of group 0: start it; if it runs, its log says why"
    )


def test_what_passes_is_waited_for_what_does_not_is_told(rig: Rig) -> None:
    rig.nodes.answers = [
        ChangeMemberResponse(refusal="not caught up", temporary=True),
        RpcError(Status.NOT_MASTER, "node 1 is"),
        ChangeMemberResponse(changed=True),
        ChangeMemberResponse(refusal="1 of 2 voters would be there"),
    ]
    done, result = rig.run(rig.changes.remove(2), 1.0)
    assert done
    assert isinstance(result, AdminError)
    assert str(result) == "1 of 2 voters would be there"
    assert rig.said == ["group 0: node 2 is no member any more"]


def test_the_time_is_bounded(rig: Rig) -> None:
    rig.nodes.master = False
    done, result = rig.run(rig.changes.remove(2), 6.0)
    assert done
    assert "has no master" in str(result)
    assert "the same command goes on from here" in str(result)
    assert rig.nodes.asked == []


def test_nobody_is_told_to_delete_a_disk_before_it_is_settled(rig: Rig) -> None:
    rig.nodes.settled = False
    work = Deferred.fromCoroutine(rig.changes.remove(2))
    rig.clock.pump([0.1] * 20)
    assert not work.called
    assert rig.said[-1].startswith("waiting: group 0: the change is in force; keep the disks")
    rig.nodes.settled = True
    rig.clock.pump([0.1] * 5)
    assert work.called
    assert rig.said[-1].endswith("its data directory may be deleted")


def test_a_directory_is_replaced_and_only_when_it_is_another(rig: Rig) -> None:
    assert rig.run(rig.changes.replace(2, None)) == (True, None)
    assert rig.nodes.asked == []
    assert rig.said[-1].endswith("there was nothing to replace")
    rig.nodes.running[2] = 99
    assert rig.run(rig.changes.replace(2, PLACE)) == (True, None)
    assert [(one.group_id, one.paxos_address, one.incarnation) for one in rig.nodes.asked] == [
        (0, PLACE.paxos_address, 0),
        (0, "", 99),
        (1, PLACE.paxos_address, 0),
        (1, "", 99),
    ]
    assert rig.said[-1].endswith("its former disk is not needed any more")


def test_who_is_no_member_is_added_first(rig: Rig) -> None:
    done, result = rig.run(rig.changes.promote(7, MemberKind.VOTER))
    assert done
    assert str(result) == "node 7 is no member of store 1: `phxqueue members add 7`"


def test_what_the_master_has_not_heard_yet_is_waited_for(rig: Rig) -> None:
    """Found by the chaos run: the master still knew the directory from before, so there was nothing to replace."""
    rig.nodes.up["10.0.0.2"] = 2
    rig.nodes.itself.incarnation = 99
    assert rig.run(rig.changes.replace(2, None), 2.0, lambda: rig.nodes.running.update({2: 99})) == (True, None)
    assert rig.said[0] == (
        "waiting: node 2 has not told the master of group 0 yet that it runs on another data directory (incarnation "
        "0000000000000063)"
    )
    assert [one.incarnation for one in rig.nodes.asked] == [99, 99]


def test_a_directory_that_changes_while_it_waits_is_taken_as_it_is_then(rig: Rig) -> None:
    rig.nodes.running[2] = 98

    def answer(method: Method[Any, Any], request: Any, timeout: float) -> Deferred[Any]:
        if isinstance(request, ChangeMemberRequest) and request.incarnation == 98:
            rig.nodes.running[2] = 99
            rig.nodes.asked.append(request)
            return succeed(ChangeMemberResponse(refusal="node 2 runs on incarnation 99, not on 98"))
        return Nodes.call(rig.nodes, method, request, timeout)

    rig.nodes.call = answer  # type: ignore[method-assign]
    assert rig.run(rig.changes.replace(2, None), 2.0) == (True, None)
    assert [one.incarnation for one in rig.nodes.asked] == [98, 99, 99]
