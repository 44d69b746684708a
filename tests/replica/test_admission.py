"""First start, emptied disks and the record of incarnations, as one node sees them."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from phxqueue.paxos.config import GroupConfig, Member, MemberKind
from phxqueue.paxos.members_codec import decode_state
from phxqueue.replica.admission import FORMATION, Admission, begin_from_backup, join_from_backup
from phxqueue.replica.checkpoint_table import MEMBERSHIP
from phxqueue.replica.errors import Refused
from phxqueue.replica.formation import Beginning, founders_digest
from phxqueue.replica.roster import Greeting
from tests.replica.fakes import KeptJournal

VOTERS = (Member(0), Member(1), Member(2))
FOUNDERS = founders_digest(VOTERS, 64)


TOKEN = 0x1234


class FakeGroup:
    """What Admission sees of a group."""

    def __init__(self, members: tuple[Member, ...]) -> None:
        self.members = members
        self.pending_members: tuple[Member, ...] | None = None
        self.untouched = True
        self.master = False
        self.admitted = 0
        self.incarnations: dict[int, int] = {}
        self.changes: list[tuple[Member, ...]] = []
        self.answer: Deferred[None] | None = None
        self.on_mastership: list[Any] = []

    def proposing(self) -> bool:
        return self.master

    def peer_incarnation(self, node_id: int, incarnation: int) -> None:
        self.incarnations[node_id] = incarnation

    def admit(self) -> None:
        self.admitted += 1

    def change_members(self, members: tuple[Member, ...]) -> Deferred[None]:
        self.changes.append(members)
        return self.answer or Deferred()


class Rig:
    """Node 0, with one group."""

    def __init__(
        self, *, untouched: bool = True, journal: KeptJournal | None = None, members: tuple[Member, ...] = VOTERS
    ) -> None:
        self.clock = Clock()
        self.journal = journal or KeptJournal()
        self.group = FakeGroup(members)
        self.group.untouched = untouched
        self.group.highest = 7
        groups: dict[int, Any] = {}
        config = GroupConfig(group_id=3, node_id=0, members=members, incarnation=77)
        self.admission = Admission([config], groups, self.journal, self.clock, describe="node {}".format)
        self.may_vote = self.admission.load({3: (0, -1) if untouched else (65536, 7)})
        groups[3] = self.group
        self.admission.start()

    def hears(self, node_id: int, *, fresh: bool = True, incarnation: int = 0, founders: int = FOUNDERS) -> None:
        self.admission.greeted(node_id, Greeting(incarnation or 100 + node_id, fresh, founders))

    def restarted(self, *, untouched: bool) -> Rig:
        self.journal.commit()
        return Rig(untouched=untouched, journal=self.journal.restarted())

    def tick(self) -> None:
        self.clock.advance(2)
        self.admission.tick()


# ---- the first start ----------------------------------------------------------------------------------------------


def test_a_fresh_directory_votes_when_all_other_voters_are_fresh() -> None:
    rig = Rig()
    assert not rig.may_vote
    rig.hears(1)
    assert rig.group.admitted == 0
    assert rig.admission.waiting() == (
        "first start: waiting for node 2; every voter has to be up once before anything is stored (a new node of a set "
        "that runs already: `phxqueue members add 0`)"
    )
    rig.hears(2)
    assert rig.group.admitted == 1
    assert rig.admission.waiting() == ""


def test_what_admits_it_is_submitted_before_it_votes() -> None:
    rig = Rig()
    order: list[str] = []
    rig.group.admit = lambda: order.append("admit")  # type: ignore[method-assign]
    submit = rig.journal.submit
    rig.journal.submit = lambda writes, done=None: (order.append("submit"), submit(writes, done))[1]  # type: ignore[method-assign]
    rig.hears(1)
    rig.hears(2)
    assert order == ["submit", "admit"]


def test_that_is_kept_with_the_members_it_was_founded_with() -> None:
    rig = Rig()
    rig.hears(1)
    rig.hears(2)
    after = rig.restarted(untouched=False)
    assert after.may_vote
    assert rig.restarted(untouched=True).may_vote  # also when it has not voted yet
    state = after.journal.blobs[MEMBERSHIP, struct.pack(">H", 3)]
    assert decode_state(state)[1][0].members == VOTERS


def test_a_crash_before_that_is_durable_leaves_it_fresh() -> None:
    rig = Rig()
    rig.journal.commit()
    rig.hears(1)
    rig.hears(2)
    assert not Rig(journal=rig.journal.restarted()).may_vote


def test_an_emptied_disk_does_not_vote() -> None:
    rig = Rig()
    rig.hears(1, fresh=False)
    rig.hears(2, fresh=True)
    assert rig.group.admitted == 0
    assert "node 1 voted before: this node replicates without a vote" in rig.admission.waiting()
    assert rig.admission.notices() == [rig.admission.waiting()]


def test_neither_does_it_when_it_has_learned_something_by_the_next_start() -> None:
    assert not Rig().restarted(untouched=False).may_vote


def test_once_it_has_learned_something_it_forms_nothing() -> None:
    rig = Rig()
    rig.group.untouched = False
    rig.hears(1)
    rig.hears(2)
    assert rig.group.admitted == 0
    assert not rig.admission.greeting().fresh


def test_a_directory_from_before_there_was_such_a_record_votes() -> None:
    rig = Rig(untouched=False)
    assert rig.may_vote
    rig.journal.commit()
    assert rig.journal.blobs[FORMATION, b"node"] == b"formed"
    assert (MEMBERSHIP, struct.pack(">H", 3)) in rig.journal.blobs


def test_its_membership_is_not_overwritten() -> None:
    journal = KeptJournal()
    journal.blobs[MEMBERSHIP, struct.pack(">H", 3)] = b"as it was"
    rig = Rig(untouched=False, journal=journal)
    rig.journal.commit()
    assert rig.journal.blobs[MEMBERSHIP, struct.pack(">H", 3)] == b"as it was"


def test_founders_with_other_files_are_none() -> None:
    rig = Rig()
    rig.hears(1)
    rig.hears(2, founders=founders_digest((*VOTERS, Member(3)), 64))
    assert rig.group.admitted == 0
    assert "the configuration of node 2 names other members" in rig.admission.waiting()


@pytest.mark.parametrize(
    "other",
    [
        founders_digest(VOTERS, 32),
        founders_digest(VOTERS[:2], 64),
        founders_digest((*VOTERS[:2], Member(2, MemberKind.WITNESS)), 64),
    ],
)
def test_what_founders_have_to_agree_on(other: int) -> None:
    assert other != FOUNDERS
    assert founders_digest(tuple(reversed(VOTERS)), 64) == FOUNDERS


def test_a_set_of_one_forms_by_itself() -> None:
    assert Rig(members=(Member(0),)).group.admitted == 1


def test_a_learner_forms_nothing() -> None:
    rig = Rig(members=(Member(0, MemberKind.LEARNER), Member(1)))
    rig.hears(1)
    assert rig.group.admitted == 0
    assert rig.admission.waiting() == ""


# ---- incarnations -------------------------------------------------------------------------------------------------


def test_the_core_is_told_who_runs_on_what() -> None:
    rig = Rig()
    rig.hears(1, incarnation=5)
    assert rig.group.incarnations == {1: 5}
    assert (rig.admission.incarnation_of(1), rig.admission.incarnation_of(2)) == (5, None)


def test_a_master_has_everything_it_knows_recorded_at_once() -> None:
    rig = Rig()
    rig.hears(1)
    rig.hears(2)
    rig.tick()
    assert rig.group.changes == []
    rig.group.master = True
    rig.tick()
    (members,) = rig.group.changes
    assert [member.incarnation for member in members] == [77, 101, 102]
    rig.tick()
    assert len(rig.group.changes) == 1  # it is under way


def test_what_was_refused_is_tried_again() -> None:
    rig = Rig()
    rig.group.master = True
    rig.group.answer = fail(Refused("not now"))
    rig.tick()
    rig.group.answer = None
    rig.admission.tick()
    assert len(rig.group.changes) == 1
    rig.tick()
    assert len(rig.group.changes) == 2


def test_nothing_is_recorded_twice_or_while_a_change_is_pending() -> None:
    rig = Rig()
    rig.group.master = True
    rig.group.members = (Member(0, incarnation=77), Member(1), Member(2))
    rig.tick()
    assert rig.group.changes == []
    rig.hears(1)
    rig.group.pending_members = VOTERS
    rig.tick()
    assert rig.group.changes == []


def test_a_member_on_another_directory_is_reported_and_not_recorded() -> None:
    rig = Rig(untouched=False)
    rig.group.master = True
    rig.group.members = tuple(Member(node_id, incarnation=(77, 101, 102)[node_id]) for node_id in range(3))
    rig.hears(1)
    assert rig.admission.knows(1)
    assert rig.admission.notices() == []
    rig.hears(1, incarnation=999)
    rig.tick()
    assert rig.group.changes == []
    assert not rig.admission.knows(1)
    assert rig.admission.notices() == [
        "node 1 has another data directory than the one recorded: it does not vote until `phxqueue members replace 1`"
    ]


def test_a_node_on_record_waits_for_nothing() -> None:
    rig = Rig()
    rig.hears(1, fresh=False)
    rig.hears(2, fresh=False)
    assert rig.admission.waiting()
    rig.group.members = (Member(0, incarnation=77), Member(1, incarnation=101), Member(2, incarnation=102))
    assert rig.admission.waiting() == ""


def test_each_news_is_logged_once() -> None:
    rig = Rig()
    with capturedLogs() as logged:
        rig.hears(1)
        rig.tick()
        rig.tick()
        rig.hears(1, incarnation=5)
    said = [formatEvent(event) for event in logged]
    assert sum("waiting for node 2" in line for line in said) == 1
    assert (
        sum(line.startswith("node 1 has come back with another data directory (incarnation 5)") for line in said) == 1
    )


# ---- several lives of one store ---------------------------------------------------------------------------


def made_from_backup() -> Rig:
    journal = KeptJournal()
    journal.submit(begin_from_backup(Beginning(TOKEN, {3: (65536, 7)})))
    journal.commit()
    return Rig(untouched=False, journal=journal.restarted())  # it stands where it was made


def test_nodes_made_by_one_restore_form_the_set_anew() -> None:
    rig = made_from_backup()
    assert not rig.may_vote
    rig.group.untouched = True
    assert rig.admission.greeting() == Greeting(77, True, FOUNDERS ^ TOKEN, TOKEN)
    rig.hears(1, founders=FOUNDERS ^ TOKEN)
    assert not rig.group.admitted
    rig.hears(2, founders=FOUNDERS ^ TOKEN)
    assert rig.group.admitted == 1
    assert rig.restarted(untouched=False).may_vote


def test_empty_directories_do_not_form_a_set_with_one_made_from_a_backup() -> None:
    rig = made_from_backup()
    rig.group.untouched = True
    rig.hears(1)
    rig.hears(2, founders=FOUNDERS ^ TOKEN ^ 1)  # of another restore
    assert not rig.group.admitted
    assert "not all by one restore" in rig.admission.waiting()


def test_one_that_has_learned_since_it_was_made_is_not_fresh() -> None:
    journal = KeptJournal()
    journal.submit(begin_from_backup(Beginning(TOKEN, {3: (65536, 6)})))
    journal.commit()
    rig = Rig(untouched=False, journal=journal.restarted())
    assert not rig.admission.greeting().fresh
    for node_id in (1, 2):
        rig.hears(node_id, founders=FOUNDERS ^ TOKEN)
    assert not rig.group.admitted


def test_one_that_joins_from_a_backup_has_no_vote() -> None:
    journal = KeptJournal()
    journal.submit(join_from_backup(TOKEN))
    journal.commit()
    rig = Rig(untouched=False, journal=journal.restarted())
    assert (rig.may_vote, rig.admission.greeting()) == (False, Greeting(77, False, FOUNDERS, TOKEN))
    for node_id in (1, 2):
        rig.hears(node_id)
    assert not rig.group.admitted


def test_an_empty_node_becomes_part_of_the_life_it_joins() -> None:
    rig = Rig()
    rig.admission.greeted(1, Greeting(101, False, FOUNDERS, TOKEN))
    assert rig.admission.lineage == TOKEN
    assert rig.restarted(untouched=True).admission.lineage == TOKEN


def test_two_lives_of_a_store_do_not_talk() -> None:
    first, second, third = Greeting(1, False), Greeting(2, False, lineage=TOKEN), Greeting(3, True, lineage=TOKEN + 1)
    blank = Greeting(4, True)
    for one, other in ((first, second), (second, first), (second, third), (first, third)):
        assert "are of two lives of one store" in str(one.strife(other))
    for one in (first, second, third):
        assert one.strife(one) is None
        assert one.strife(blank) is None
        assert blank.strife(one) is None
