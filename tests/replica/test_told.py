"""Who was told what, and what a node does that has less: by value, and through the admission of a node."""

from __future__ import annotations

from phxqueue.replica.roster import Greeting
from phxqueue.replica.told import ToldMark, ToldMarks, forgotten, read_marks, written_marks
from tests.replica.test_admission import FOUNDERS, Rig

MARK = ToldMark(node_id=0, incarnation=77, group_id=3, instance=50)


def test_the_highest_is_remembered_of_each_node_and_group() -> None:
    told = ToldMarks()
    told.greeted(1, 100)
    for instance in (5, 9, 7):
        told.told(1, 3, instance)
    told.told(1, 4, 2)
    told.told(2, 3, 99)  # it has not said who it is
    assert told.marks() == (ToldMark(1, 100, 3, 9), ToldMark(1, 100, 4, 2))


def test_what_was_told_on_another_directory_is_void() -> None:
    told = ToldMarks()
    told.greeted(1, 100)
    told.told(1, 3, 9)
    told.greeted(1, 100)
    assert told.marks() == (ToldMark(1, 100, 3, 9),)
    told.greeted(1, 101)
    assert told.marks() == ()


def test_less_than_was_told_is_forgotten() -> None:
    assert forgotten([MARK], 0, 77, {3: 49}) == MARK
    assert forgotten([MARK], 0, 77, {3: 50}) is None
    assert forgotten([MARK], 0, 78, {3: 1}) is None, "another directory"
    assert forgotten([MARK], 1, 77, {3: 1}) is None, "another node"
    assert forgotten([MARK], 0, 77, {}) is None, "a group that is not here"


def test_marks_travel() -> None:
    assert read_marks(written_marks([MARK])) == (MARK,)


def admitted(rig: Rig, reasons: list[str]) -> Rig:
    rig.admission._fail = reasons.append
    return rig


def greeting(*marks: ToldMark) -> Greeting:
    return Greeting(101, False, FOUNDERS, told=marks)


def test_a_node_that_has_lost_what_it_told_stops_and_says_what_to_do() -> None:
    reasons: list[str] = []
    rig = admitted(Rig(untouched=False), reasons)
    rig.group.highest = 49
    rig.admission.greeted(1, greeting(MARK))
    [reason] = reasons
    assert "node 1 was told that entries of group 3 are stored here up to 50, and there is nothing above 49" in reason
    assert "`phxqueue members replace 0`" in reason


def test_one_that_has_everything_goes_on() -> None:
    reasons: list[str] = []
    rig = admitted(Rig(untouched=False), reasons)
    rig.group.highest = 50
    rig.admission.greeted(1, greeting(MARK, MARK._replace(incarnation=1, instance=999)))
    assert reasons == []


def test_where_loss_was_accepted_nobody_stops() -> None:
    rig = Rig(untouched=False)
    rig.group.highest = 0
    rig.admission.greeted(1, greeting(MARK))


def test_it_tells_others_what_they_told() -> None:
    rig = Rig(untouched=False)
    rig.hears(2, incarnation=102)
    rig.admission.told(2, 3, 8)
    assert rig.admission.greeting().told == (ToldMark(2, 102, 3, 8),)
