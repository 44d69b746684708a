"""Events of a group in words: no event that is logged comes as the name of its class."""

from __future__ import annotations

from phxqueue.paxos.config import Member, MemberKind
from phxqueue.paxos.effects import BecameMaster, LostMaster, MasterChanged, MembershipSettled, Standing
from phxqueue.replica.event_news import event_news


def test_events_are_told_in_words() -> None:
    member = Member(node_id=2, kind=MemberKind.VOTER, incarnation=1, info=b"127.0.0.1:1")
    told = [
        event_news(BecameMaster(ballot=7, first_instance=3)),
        event_news(LostMaster(ballot=7, reason="its lease ran out")),
        event_news(MasterChanged(master_id=1, ballot=8)),
        event_news(Standing(ballot=9)),
        event_news(MembershipSettled(members=(member,))),
    ]
    assert told == [
        "this node is master now, from instance 3 on (ballot 7)",
        "this node is master no longer: its lease ran out (ballot 7)",
        "node 1 is master now (ballot 8)",
        "this node stands for master (ballot 9)",
        "a majority of its members (nodes 2) has everything from before they were",
    ]
