"""Whose votes count where, as the checkers see it."""

from __future__ import annotations

from phxqueue.journal.records import PutEntry
from phxqueue.paxos.config import Member, MemberKind
from phxqueue.paxos.entry import EntryKind, entry_checksum
from phxqueue.paxos.members_codec import Change, encode_change
from phxqueue.testing.sim.checkers.decided import Decided
from phxqueue.testing.sim.checkers.electorate import Electorate

DELAY = 4


def electorate() -> Electorate:
    made = Electorate(3)
    made.founded({node_id: 100 + node_id for node_id in range(5)})
    return made


def change(base: int, *members: Member) -> bytes:
    return encode_change(Change(base, DELAY, members))


def put(instance: int, payload: bytes, kind: int = EntryKind.VALUE) -> PutEntry:
    return PutEntry(0, instance, 5, entry_checksum(kind, payload), kind, payload)


def test_the_first_members_are_those_on_their_first_directories() -> None:
    assert electorate().at(0, 7) == ({(0, 100), (1, 101), (2, 102)}, 2)


def test_a_change_governs_from_its_delay_on() -> None:
    members = electorate()
    members.chosen(0, 10, change(-1, Member(0, incarnation=100), Member(1, incarnation=9), Member(2, incarnation=102)))
    assert members.at(0, 13)[0] == {(0, 100), (1, 101), (2, 102)}
    assert members.at(0, 14)[0] == {(0, 100), (1, 9), (2, 102)}
    assert members.at(1, 14)[0] == {(0, 100), (1, 101), (2, 102)}


def test_one_that_was_made_from_another_than_the_last_is_void() -> None:
    members = electorate()
    members.chosen(0, 10, change(-1, Member(0), Member(1)))
    members.chosen(0, 20, change(-1, Member(0), Member(2)))
    assert members.last(0).members == (Member(0), Member(1))


def test_learners_have_no_vote() -> None:
    members = electorate()
    members.chosen(0, 0, change(-1, Member(0), Member(1), Member(2, MemberKind.LEARNER)))
    assert members.at(0, DELAY) == ({(0, 100), (1, 101)}, 2)


def test_what_an_emptied_node_holds_decides_nothing() -> None:
    members = electorate()
    decided = Decided(members)
    members.present[1] = 9
    for node_id in (0, 1):
        decided.durable(node_id, put(0, b"a"))
    assert decided.prefix(0) == -1
    decided.durable(2, put(0, b"a"))
    assert decided.prefix(0) == 0


def test_the_members_are_read_off_the_log() -> None:
    members = electorate()
    decided = Decided(members)
    for node_id in (0, 1):
        decided.durable(node_id, put(0, change(-1, Member(0)), EntryKind.MEMBERSHIP))
    assert members.last(0).effective == DELAY
    for instance in range(1, DELAY):
        for node_id in (0, 1):
            decided.durable(node_id, put(instance, b"a"))
    decided.durable(0, put(DELAY, b"a"))
    assert decided.prefix(0) == DELAY
