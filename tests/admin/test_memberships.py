"""The picture of who the members are, out of what the nodes say."""

from __future__ import annotations

from phxqueue.admin.memberships import Picture, as_document, as_text, member_of
from phxqueue.proto.members_pb2 import GroupMembers, MembersResponse


def group(group_id: int = 0, *, master: bool = True, chosen: int = 9, **fields: object) -> GroupMembers:
    told = GroupMembers(group_id=group_id, is_master=master, chosen=chosen, settled=True)
    if master:
        told.master_node_id = 0
    for node_id in range(3):
        told.members.add(
            node_id=node_id, incarnation=16 + node_id, running=16 + node_id, paxos_address=f"10.0.0.{node_id}:5201"
        )
    if master:
        told.progress.add(node_id=1, chosen=chosen - 2, heard_ago_s=0.1)
        told.progress.add(node_id=2, chosen=-1, heard_ago_s=-1)
    told.MergeFrom(GroupMembers(**fields))  # type: ignore[arg-type]
    return told


def picture(*answers: MembersResponse, groups: int = 1, silent: dict[str, str] | None = None) -> Picture:
    return Picture("store 1", groups, {f"10.0.0.{one.node_id}:5101": one for one in answers}, silent or {})


def test_the_master_is_believed_and_without_one_who_knows_most() -> None:
    answers = [
        MembersResponse(node_id=0, groups=[group(master=False, chosen=11)]),
        MembersResponse(node_id=1, groups=[group(master=True, chosen=10)]),
    ]
    view = picture(*answers).view(0)
    assert view is not None
    assert view.is_master
    assert picture(*answers).master(0) == "10.0.0.1:5101"
    assert picture(answers[0]).view(0) == answers[0].groups[0]
    assert picture(answers[0]).master(0) is None
    assert picture().view(0) is None
    assert member_of(view, 2) is not None
    assert member_of(view, 7) is None
    assert member_of(None, 0) is None


def test_the_table() -> None:
    assert as_text(picture(MembersResponse(node_id=0, groups=[group()]))) == [
        "store 1, group 0",
        "  NODE  KIND   PAXOS ADDRESS  INCARNATION       STATE",
        "  0     voter  10.0.0.0:5201  0000000000000010  master of group 0",
        "  1     voter  10.0.0.1:5201  0000000000000011  2 entries behind",
        "  2     voter  10.0.0.2:5201  0000000000000012  not heard",
    ]


def test_groups_with_the_same_members_share_a_table() -> None:
    answer = MembersResponse(node_id=0, groups=[group(0), group(1), group(2, chosen=5)])
    del answer.groups[2].members[2]
    answer.groups[2].settled = False
    answer.groups[1].progress[0].chosen = 2
    lines = as_text(picture(answer, groups=4))
    assert [line for line in lines if line.startswith("store")] == [
        "store 1, groups 0 to 1",
        "store 1, group 2",
        "store 1, group 3: nobody answers",
    ]
    assert "  0     voter  10.0.0.0:5201  0000000000000010  master of groups 0 to 1" in lines
    assert "  1     voter  10.0.0.1:5201  0000000000000011  7 entries behind" in lines
    assert "  group 2: not settled, the disks of nodes that left are still needed" in lines


def test_another_directory_notices_and_nodes_that_are_silent() -> None:
    told = group()
    told.members[1].running = 99
    answers = [
        MembersResponse(node_id=0, groups=[told], notices=["node 1 is another", "more"]),
        MembersResponse(node_id=2, groups=[group(master=False, chosen=1)], notices=["node 1 is another"]),
    ]
    lines = as_text(picture(*answers, silent={"10.0.0.1:5101": "refused"}))
    assert any(line.endswith("runs on another data directory: no vote") for line in lines)
    assert lines[-3:] == [
        "  no answer from 10.0.0.1:5101: refused",
        "  nodes 0, 2: node 1 is another",
        "  node 0: more",
    ]


def test_without_a_master_and_while_a_change_is_under_way() -> None:
    assert as_text(picture(MembersResponse(groups=[group(master=False)])))[-1].endswith("may be out of date")
    told = group()
    told.pending.add(node_id=3, kind=2)
    assert as_text(picture(MembersResponse(groups=[told])))[-1] == "  group 0: changing to node 3 learner"


def test_for_programs() -> None:
    document = as_document(picture(MembersResponse(groups=[group()], notices=["x"])))
    assert document["set"] == "store 1"
    assert document["notices"] == ["node 0: x"]
    (told,) = document["groups"]
    assert [member["node_id"] for member in told["members"]] == [0, 1, 2]
    assert told["members"][0]["kind"] == 0
