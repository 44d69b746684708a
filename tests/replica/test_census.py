"""What the nodes say of themselves, what the files say, and what is replicated."""

from __future__ import annotations

from phxqueue.config.cluster import NodeAddress
from phxqueue.net.address import Address
from phxqueue.paxos.config import Member, MemberKind
from phxqueue.replica.census import differences, strangers, unrecorded
from phxqueue.replica.roster import MemberPlace


def place(node_id: int) -> bytes:
    return MemberPlace(Address("127.0.0.1", 5200 + node_id), Address("127.0.0.1", 5100 + node_id)).encode()


MEMBERS = tuple(Member(node_id, incarnation=10 + node_id, info=place(node_id)) for node_id in range(3))
FILES = tuple(NodeAddress(node_id, "127.0.0.1", 5100 + node_id, 5200 + node_id) for node_id in range(3))


def test_only_what_is_not_recorded_is_filled_in() -> None:
    members = (Member(0, incarnation=5), Member(1), Member(2))
    filled = unrecorded(members, {0: 99, 1: 7})
    assert filled is not None
    assert [member.incarnation for member in filled] == [5, 7, 0]
    assert unrecorded(filled, {0: 99, 1: 8}) is None


def test_who_came_back_with_another_directory_is_a_stranger() -> None:
    assert strangers(MEMBERS, {0: 10, 1: 99}) == [1]
    assert strangers((Member(0), Member(1)), {0: 10, 1: 99}) == []


def test_files_and_membership_that_agree() -> None:
    assert differences(FILES, MEMBERS) == []


def test_a_node_only_in_the_files() -> None:
    assert differences(FILES, MEMBERS[:2]) == [
        "node 2 is in the configuration but not a member: `phxqueue members add 2`, or take it out of the file"
    ]


def test_a_node_only_in_the_membership() -> None:
    assert differences(FILES[:2], MEMBERS) == [
        "node 2 is a member but not in the configuration: `phxqueue members remove 2`, or put it into the file"
    ]


def test_another_kind_and_another_address() -> None:
    files = (*FILES[:2], NodeAddress(2, "10.0.0.2", 5102, 5202, kind="witness"))
    first, second = differences(files, MEMBERS)
    assert first == "node 2 is a witness by the configuration and a voter by the membership: correct the file"
    assert second.startswith("node 2 is at 10.0.0.2:5202 by the configuration and at 127.0.0.1:5202 by the membership")
    assert "`phxqueue members replace 2`" in second


def test_a_learner_that_was_promoted_is_not_to_be_promoted_again() -> None:
    learner = (*FILES[:2], NodeAddress(2, "127.0.0.1", 5102, 5202, kind="learner"))
    assert differences(learner, MEMBERS) == [
        "node 2 is a learner by the configuration and a voter by the membership: correct the file"
    ]
    members = (*MEMBERS[:2], Member(2, MemberKind.LEARNER, info=place(2)))
    [line] = differences(FILES, members)
    assert line.endswith("a learner by the membership: `phxqueue members promote 2`, or correct the file")


def test_members_of_unknown_places_have_the_files_places() -> None:
    members = tuple(Member(node_id, MemberKind.VOTER) for node_id in range(3))
    assert differences(FILES, members) == []


def test_the_directory_of_a_learner_is_recorded_with_its_vote() -> None:
    assert unrecorded((Member(0, incarnation=5), Member(1, MemberKind.LEARNER)), {1: 7}) is None
