"""Memberships by value: as bytes, along the log, and who counts in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phxqueue.paxos.config import GroupConfig, Member, MemberKind
from phxqueue.paxos.errors import InvariantViolation
from phxqueue.paxos.members_codec import (
    Change,
    Step,
    decode_change,
    decode_state,
    encode_change,
    encode_state,
)
from phxqueue.paxos.membership import NEVER, Membership, decode_members, encode_members
from tests.paxos.driver import make_config, members

member_lists = st.lists(
    st.builds(
        Member,
        st.integers(0, 65535),
        st.sampled_from(MemberKind),
        st.integers(-(2**31), 2**31 - 1),
        st.integers(0, 2**63),
        st.binary(max_size=40),
    ),
    max_size=6,
).map(tuple)

LEARNER, WITNESS, VOTER = MemberKind.LEARNER, MemberKind.WITNESS, MemberKind.VOTER


@given(member_lists, st.integers(-1, 2**62), st.integers(1, 2**32 - 1))
def test_what_is_written_is_read_again(who: tuple[Member, ...], instance: int, delay: int) -> None:
    assert decode_members(encode_members(who)) == who
    change = Change(instance, delay, who)
    assert decode_change(encode_change(change)) == change
    steps = [Step(instance, instance + delay, who), Step(instance + 7, instance + 7 + delay, who)]
    assert decode_state(encode_state(delay, steps)) == (delay, steps)


@given(st.binary(max_size=80))
def test_whatever_else_is_there_is_refused_and_nothing_worse(data: bytes) -> None:
    for decode in (decode_members, decode_change, decode_state):
        try:
            decode(data)
        except InvariantViolation:
            continue


def test_a_newer_format_asks_for_an_upgrade() -> None:
    data = bytearray(encode_members(members(1)))
    data[0] = 9
    with pytest.raises(InvariantViolation, match="format 9, this program knows 1: upgrade this node"):
        decode_members(bytes(data))


@pytest.mark.parametrize("cut", [0, 1, 4, 20, -1])
def test_what_is_cut_off_is_refused(cut: int) -> None:
    state = encode_state(4, [Step(-1, 0, members(3))])
    with pytest.raises(InvariantViolation):
        decode_state(state[:cut])


def after(membership: Membership, instance: int, who: tuple[Member, ...]) -> Step | None:
    """``who`` is chosen at ``instance``, proposed by one who knows all there is to know."""
    return membership.chosen(instance, membership.proposal(who))


def test_a_change_governs_from_the_window_on_and_is_in_force_when_all_below_is_there() -> None:
    membership = Membership(make_config(0, window=4, accept_ahead=8))
    step = after(membership, 10, members(4))
    assert step == Step(10, 14, members(4))
    assert [membership.view_at(instance).quorum for instance in (11, 13, 14)] == [2, 2, 3]
    assert (membership.quorum, membership.switch_at, membership.peers) == (2, 14, (1, 2, 3))
    assert not membership.advance(12)
    assert membership.certain(13, 12)
    assert not membership.certain(14, 12)
    assert membership.advance(13)
    assert (membership.quorum, membership.switch_at) == (3, NEVER)
    assert membership.certain(17, 13)
    assert not membership.certain(18, 13)  # an entry at 14 may change that


def test_the_window_of_the_first_change_is_that_of_all() -> None:
    """It says where the change takes effect, so it must not depend on who works that out."""
    membership = Membership(make_config(0, window=4, accept_ahead=8))
    other = Membership(make_config(1, window=64))
    change = membership.proposal(members(4))
    assert membership.chosen(0, change) == other.chosen(0, change) == Step(0, 4, members(4))
    assert other.delay == 4


def test_a_change_made_from_another_membership_than_the_last_is_void() -> None:
    """Two masters each propose one; whoever comes second has not taken the first into account."""
    membership = Membership(make_config(0, window=4, accept_ahead=8))
    other = membership.proposal(members(2))
    assert after(membership, 10, members(4)) is not None
    assert membership.chosen(11, other) is None
    assert membership.chosen(30, other) is None
    assert membership.last.members == members(4)


def test_what_is_kept_is_enough_for_a_node_whose_chosen_mark_lags() -> None:
    config = make_config(0, window=4, accept_ahead=8)
    membership = Membership(config)
    for instance, size in ((10, 4), (20, 5), (30, 4), (40, 3)):
        membership.advance(instance)
        after(membership, instance, members(size))
    for delivered, size, switch in ((20, 4, 24), (32, 5, 34), (33, 4, 44), (43, 3, NEVER)):
        restored = Membership(config, membership.state(), delivered)
        assert (len(restored.voters), restored.switch_at) == (size, switch)
        assert restored.last == membership.last
    with pytest.raises(InvariantViolation, match="nobody knows the members before instance 14"):
        Membership(config, membership.state(), 12)


def test_what_is_delivered_again_after_a_restart_changes_nothing() -> None:
    config = make_config(0, window=4, accept_ahead=8)
    membership = Membership(config)
    change = membership.proposal(members(4))
    step = membership.chosen(10, change)
    restored = Membership(config, membership.state(), 9)
    assert restored.chosen(10, change) == step
    assert restored.chosen(8, change) is None
    assert restored.state() == membership.state()


def test_a_view_stays_the_same_object_for_the_proposals_that_hold_on_to_it() -> None:
    membership = Membership(make_config(0, window=4, accept_ahead=8))
    before = membership.current
    after(membership, 10, members(4))
    assert membership.current is before
    pending = membership.next
    membership.advance(13)
    assert membership.current is pending


def recorded(*incarnations: int, **kinds: MemberKind) -> tuple[Member, ...]:
    return tuple(
        Member(node, kinds.get(f"n{node}", VOTER), incarnation=incarnation)
        for node, incarnation in enumerate(incarnations)
    )


def looking(node_id: int, who: tuple[Member, ...], own: int = 0, may_vote: bool = True) -> Membership:
    config = GroupConfig(group_id=0, node_id=node_id, members=who, incarnation=own, window=4, accept_ahead=8)
    return Membership(config, may_vote=may_vote)


def test_a_peer_counts_on_the_directory_that_is_recorded_and_on_no_other() -> None:
    membership = looking(0, recorded(10, 20, 0), own=10)
    assert membership.current.electors == {0, 2}  # node 1 has not said what it runs on
    version = membership.version
    assert membership.told(1, 20) is None
    assert membership.version > version
    assert membership.current.electors == {0, 1, 2}
    assert membership.told(1, 21) == 20
    assert membership.current.electors == {0, 2}
    assert membership.current.majority({0, 2})
    assert not membership.current.majority({0, 1})


@pytest.mark.parametrize(
    ("incarnation", "own", "may_vote", "votes"),
    [
        (10, 10, False, True),  # on record
        (10, 11, True, False),  # on record as another
        (0, 11, True, True),  # of the first start
        (0, 11, False, False),  # fresh
        (10, 0, True, False),
    ],
)
def test_a_node_asks_itself_first(incarnation: int, own: int, may_vote: bool, votes: bool) -> None:
    membership = looking(0, recorded(incarnation, 20, 30), own, may_vote)
    assert (membership.votes, membership.may_lead, membership.may_promise) == (votes, votes, votes)
    assert membership.votes_at(0) == votes


def test_a_fresh_node_votes_when_it_is_admitted() -> None:
    membership = looking(0, recorded(0, 0, 0), 10, may_vote=False)
    assert not membership.votes
    membership.admit()
    assert membership.votes
    assert membership.plain


@pytest.mark.parametrize(
    ("before", "after_it", "promises"),
    [
        (recorded(10, 20), recorded(10, 20, 31), True),  # new
        (recorded(10, 20, 0, n2=LEARNER), recorded(10, 20, 31), True),  # had no vote
        (recorded(10, 20, 30), recorded(10, 20, 31), True),  # whoever counts it for the old one knows better
        (recorded(10, 20, 0), recorded(10, 20, 31), False),  # anybody might take it for the old one
    ],
)
def test_who_is_about_to_get_a_vote_promises_where_it_cannot_be_taken_for_its_predecessor(
    before: tuple[Member, ...], after_it: tuple[Member, ...], promises: bool
) -> None:
    membership = looking(2, before, 31, may_vote=False)
    assert not membership.may_promise
    after(membership, 10, after_it)
    assert not membership.votes
    assert membership.may_promise == promises
    assert (membership.votes_at(13), membership.votes_at(14)) == (False, True)
    membership.advance(13)
    assert membership.votes
    assert membership.may_promise


def test_a_node_that_left_does_not_stand_and_is_told_for_a_while() -> None:
    left = looking(2, recorded(0, 0, 0))
    after(left, 10, recorded(0, 0))
    assert (left.votes, left.will_lead, left.plain) == (True, False, False)
    left.advance(13)
    assert (left.votes, left.may_lead, left.peers) == (False, False, (0, 1))
    other = looking(0, recorded(0, 0, 0))
    after(other, 10, recorded(0, 0))
    other.advance(13)
    assert (other.members, other.leaving, other.peers) == ({0, 1}, {2}, (1, 2))


def test_witnesses_vote_and_do_not_lead() -> None:
    membership = looking(1, recorded(0, 0, 0, n1=WITNESS, n2=LEARNER))
    assert membership.votes
    assert not membership.may_lead
    after(membership, 3, recorded(0, 0))
    assert membership.will_lead
    assert not membership.may_lead
