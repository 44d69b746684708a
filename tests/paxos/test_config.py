"""A configuration that cannot work is refused, with every problem in one message."""

from __future__ import annotations

from typing import Any

import pytest

from phxqueue.paxos.config import GroupConfig, Member, MemberKind
from phxqueue.paxos.errors import InvalidConfig
from phxqueue.paxos.membership import Membership
from tests.paxos.driver import make_config, members


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"node_id": 70000}, "node_id 70000 must be 0 to 65535"),
        ({"members": (Member(0), Member(0))}, "name a node twice"),
        ({"members": (Member(0), Member(70000))}, "node ids must be 0 to 65535"),
        ({"members": (Member(0, MemberKind.WITNESS),)}, "no voter"),
        ({"heartbeat_interval": 0.3}, "heartbeat_interval 0.3 must be above 0 and at most half of lease 0.4"),
        ({"max_clock_drift": 0.35}, "max_clock_drift 0.35 must leave over a heartbeat_interval of lease 0.4"),
        ({"step_down_after": 0.3}, "step_down_after 0.3 must not be below lease 0.4"),
        ({"retransmit_interval_max": 0.1}, "retransmit_interval_max must not be below"),
        ({"election_stagger": 0.0}, "election_stagger 0.0 must be above 0"),
        ({"window": 0}, "window 0 must be at least 1"),
        ({"accept_ahead": 100}, "accept_ahead 100 must be at least twice window 64"),
        ({"accept_ahead_bytes": 1}, "accept_ahead_bytes 1 must be at least twice window_bytes"),
    ],
)
def test_what_cannot_work_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        GroupConfig(**{"group_id": 0, "node_id": 0, "members": members(3), **settings})


def test_all_problems_come_in_one_report() -> None:
    with pytest.raises(InvalidConfig, match="lease") as caught:
        make_config(70000, window=0, step_down_after=0.1)
    assert str(caught.value).count(";") == 2


def test_group_g_prefers_voter_g_mod_n_unless_priorities_say_otherwise() -> None:
    def preference(group_id: int, *who: Member) -> tuple[int, ...]:
        return Membership(GroupConfig(group_id=group_id, node_id=0, members=who)).preference

    assert [preference(g, *members(3))[0] for g in range(6)] == [0, 1, 2, 0, 1, 2]
    assert preference(1, *members(3)) == (1, 2, 0)
    assert preference(0, Member(0), Member(1), Member(2, priority=5)) == (2, 0, 1)
    witness = (Member(0), Member(1), Member(2, MemberKind.WITNESS))
    assert preference(2, *witness) == (0, 1)


def test_only_voters_and_witnesses_make_a_majority() -> None:
    who = (Member(0), Member(1), Member(2, MemberKind.WITNESS), Member(3, MemberKind.LEARNER))
    membership = Membership(GroupConfig(group_id=0, node_id=3, members=who))
    assert membership.quorum == 2
    assert not membership.votes
    assert not membership.may_lead
    assert membership.voters == {0, 1, 2}
