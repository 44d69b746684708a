"""What operators ask about members."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from phxqueue.net.address import Address
from phxqueue.net.identity import Role
from phxqueue.net.service import RpcService
from phxqueue.net.status import RpcError, Status
from phxqueue.paxos.config import Member, MemberKind
from phxqueue.proto.members_pb2 import ChangeMemberRequest, ChangeMemberResponse, MembersRequest
from phxqueue.proto.methods import CHANGE_MEMBER, MEMBERS
from phxqueue.proto.status_pb2 import GroupStatus
from phxqueue.replica.errors import NotServing, OutcomeUnknown, Overloaded, Refused
from phxqueue.replica.member_calls import MemberCalls
from phxqueue.replica.roster import Roster
from tests.replica.fakes import outcome

MEMBERS_NOW = (Member(0, incarnation=10), Member(1, incarnation=11), Member(2, MemberKind.LEARNER))


class Group:
    name = "group 0"
    group_id = 0
    members = MEMBERS_NOW
    settled = True
    votes = True

    def __init__(self) -> None:
        self.pending_members: tuple[Member, ...] | None = None
        self.master = True
        self.wanted: list[tuple[Member, ...]] = []
        self.answer: Deferred[None] = succeed(None)

    def proposing(self) -> bool:
        return self.master

    def master_node(self) -> int | None:
        return 1

    def change_members(self, members: tuple[Member, ...]) -> Deferred[None]:
        self.wanted.append(members)
        return self.answer

    def status(self) -> GroupStatus:
        status = GroupStatus(group_id=0, is_master=True, master_node_id=0, chosen=7)
        status.peers.add(node_id=1, chosen=6, heard_ago_s=0.5)
        return status


class Node:
    def __init__(self, group: Group) -> None:
        self.groups = {0: group}


@pytest.fixture
def group() -> Group:
    return Group()


@pytest.fixture
def calls(group: Group) -> MemberCalls:
    roster = Roster(
        cluster="test",
        role=Role.STORE,
        set_id=1,
        node_id=0,
        incarnation=10,
        paxos_groups=1,
        addresses={0: (Address("127.0.0.1", 5200),)},
        voters=frozenset({0, 1}),
    )
    node: Any = Node(group)
    return MemberCalls(node, lambda: roster, {0: 10, 1: 99}.get, lambda: ["a notice"])


def change(calls: MemberCalls, **fields: Any) -> Any:
    request = ChangeMemberRequest(**{"set_id": 1, "node_id": 2, **fields})
    nobody: Any = None
    return outcome(Deferred.fromCoroutine(calls.change_member(request, nobody)))


def test_it_answers_on_the_service_port(calls: MemberCalls) -> None:
    service = RpcService("store 1 node 0")
    calls.register(service)
    assert set(service.table) == {MEMBERS.number, CHANGE_MEMBER.number}


def test_the_members_with_what_they_run_on(calls: MemberCalls) -> None:
    nobody: Any = None
    answer = calls.members(MembersRequest(set_id=1), nobody)
    assert (answer.set_id, answer.node_id, answer.incarnation, list(answer.notices)) == (1, 0, 10, ["a notice"])
    (told,) = answer.groups
    assert [(m.node_id, m.kind, m.incarnation, m.running) for m in told.members] == [
        (0, 0, 10, 10),
        (1, 0, 11, 99),
        (2, 2, 0, 0),
    ]
    assert (told.is_master, told.settled, told.votes, told.chosen) == (True, True, True, 7)
    assert [(one.node_id, one.chosen) for one in told.progress] == [(1, 6)]


def test_a_change_is_answered_when_it_is_in_force(calls: MemberCalls, group: Group) -> None:
    group.answer = Deferred()
    asked = change(calls, kind=0, incarnation=5)
    assert asked is None
    assert group.wanted == [(*MEMBERS_NOW[:2], Member(2, incarnation=5))]
    group.answer.callback(None)


def test_what_is_so_already_is_not_changed(calls: MemberCalls, group: Group) -> None:
    assert change(calls, kind=2) == ChangeMemberResponse(changed=False)
    assert group.wanted == []


@pytest.mark.parametrize(
    ("raised", "temporary"),
    [(Refused("no"), False), (Refused("no", temporary=True), True), (Overloaded("no"), True)],
)
def test_a_refusal_says_whether_to_ask_again(
    calls: MemberCalls, group: Group, raised: Exception, temporary: bool
) -> None:
    group.answer = fail(raised)
    answer = change(calls, kind=0)
    assert (answer.refusal, answer.temporary, answer.changed) == ("no", temporary, False)


@pytest.mark.parametrize(
    ("raised", "status"), [(NotServing("x"), Status.NO_MASTER), (OutcomeUnknown("x"), Status.UNAVAILABLE)]
)
def test_a_master_that_is_none_any_more(calls: MemberCalls, group: Group, raised: Exception, status: Status) -> None:
    group.answer = fail(raised)
    assert change(calls, kind=0).status is status


def test_one_change_after_another(calls: MemberCalls, group: Group) -> None:
    group.pending_members = MEMBERS_NOW
    assert change(calls, kind=0).temporary
    assert group.wanted == []


def test_only_the_master_is_asked(calls: MemberCalls, group: Group) -> None:
    group.master = False
    error = change(calls, kind=0)
    assert error.status is Status.NOT_MASTER
    assert "node 1 is" in error.message


def test_what_makes_no_sense(calls: MemberCalls) -> None:
    for fields in ({"set_id": 2}, {"group_id": 9}, {"kind": 9}, {"node_id": 8}, {"paxos_address": "nowhere"}):
        error = change(calls, **fields)
        assert isinstance(error, RpcError)
        assert error.status is Status.INVALID_ARGUMENT
