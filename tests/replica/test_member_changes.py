"""What a request makes of the members."""

from __future__ import annotations

import pytest

from phxqueue.net.address import Address, AddressError
from phxqueue.paxos.config import Member, MemberKind
from phxqueue.proto.members_pb2 import ChangeMemberRequest
from phxqueue.replica.member_changes import SenselessChange, changed_members, described
from phxqueue.replica.roster import MemberPlace

MEMBERS = tuple(Member(node_id, incarnation=10 + node_id) for node_id in range(3))


def test_a_new_node_is_a_learner_unless_said_otherwise() -> None:
    request = ChangeMemberRequest(node_id=5, paxos_address="127.0.0.1:5205", address="127.0.0.1:5105")
    *others, added = changed_members(MEMBERS, request)
    assert tuple(others) == MEMBERS
    assert (added.node_id, added.kind, added.incarnation) == (5, MemberKind.LEARNER, 0)
    assert MemberPlace.decode(added.info) == MemberPlace(Address("127.0.0.1", 5205), Address("127.0.0.1", 5105))


def test_members_are_kept_in_order() -> None:
    members = (Member(0), Member(7))
    request = ChangeMemberRequest(node_id=3, paxos_address="127.0.0.1:5205")
    assert [member.node_id for member in changed_members(members, request)] == [0, 3, 7]


def test_what_is_not_said_stays() -> None:
    member = Member(1, MemberKind.WITNESS, 4, 11, b"127.0.0.1:5201")
    (changed,) = changed_members((member,), ChangeMemberRequest(node_id=1, incarnation=99))
    assert changed == Member(1, MemberKind.WITNESS, 4, 99, b"127.0.0.1:5201")
    (changed,) = changed_members((member,), ChangeMemberRequest(node_id=1, kind=0, priority=0))
    assert changed == Member(1, MemberKind.VOTER, 0, 11, b"127.0.0.1:5201")


def test_a_change_that_changes_nothing() -> None:
    assert changed_members(MEMBERS, ChangeMemberRequest(node_id=1, kind=0)) == MEMBERS
    assert changed_members(MEMBERS, ChangeMemberRequest(node_id=9, remove=True)) == MEMBERS


def test_a_member_is_taken_out() -> None:
    assert changed_members(MEMBERS, ChangeMemberRequest(node_id=1, remove=True)) == (MEMBERS[0], MEMBERS[2])


def test_the_last_voter_stays() -> None:
    members = (Member(0), Member(1, MemberKind.WITNESS), Member(2, MemberKind.LEARNER))
    with pytest.raises(SenselessChange, match="node 0 is the only voter"):
        changed_members(members, ChangeMemberRequest(node_id=0, remove=True))


def test_nobody_is_added_without_an_address() -> None:
    with pytest.raises(SenselessChange, match="nothing says where it is"):
        changed_members(MEMBERS, ChangeMemberRequest(node_id=5))
    with pytest.raises(AddressError):
        changed_members(MEMBERS, ChangeMemberRequest(node_id=5, paxos_address="nowhere"))


def test_a_kind_that_does_not_exist() -> None:
    with pytest.raises(SenselessChange, match="9 is no kind of member"):
        changed_members(MEMBERS, ChangeMemberRequest(node_id=1, kind=9))


def test_members_on_the_wire() -> None:
    told = described(Member(1, MemberKind.WITNESS, -4, 11, b"127.0.0.1:5201 127.0.0.1:5101"))
    assert (told.node_id, told.kind, told.priority, told.incarnation) == (1, 1, -4, 11)
    assert (told.paxos_address, told.address) == ("127.0.0.1:5201", "127.0.0.1:5101")
    assert described(Member(1)).paxos_address == ""
