"""Who may vote at the first start of a set, and who may not after an emptied disk."""

from __future__ import annotations

import itertools

import pytest

from phxqueue.replica.formation import Formation


def formation(node_id: int = 0, voters: tuple[int, ...] = (0, 1, 2)) -> Formation:
    return Formation(node_id, voters, formed=False)


def test_all_others_have_to_be_fresh() -> None:
    first = formation()
    assert (first.complete, first.missing) == (False, [1, 2])
    first.heard(1, fresh=True)
    assert (first.complete, first.missing) == (False, [2])
    first.heard(2, fresh=True)
    assert first.complete


def test_one_that_has_voted_says_that_this_is_no_first_start() -> None:
    emptied = formation()
    emptied.heard(1, fresh=True)  # a voter that happens never to have voted
    emptied.heard(2, fresh=False)
    assert not emptied.complete
    assert emptied.settled == [2]


def test_what_was_said_last_counts() -> None:
    first = formation()
    first.heard(1, fresh=True)
    first.heard(1, fresh=False)
    first.heard(2, fresh=True)
    assert not first.complete


def test_a_set_of_one_forms_itself() -> None:
    assert formation(voters=(0,)).complete


def test_learners_are_not_waited_for() -> None:
    first = formation()
    for node_id in (1, 2, 7):
        first.heard(node_id, fresh=node_id != 7)
    assert first.complete


def test_a_learner_waits_for_all_voters() -> None:
    assert formation(node_id=7).missing == [0, 1, 2]


@pytest.mark.parametrize("voters", [3, 5])
def test_no_minority_of_emptied_disks_forms(voters: int) -> None:
    """Whatever majority has voted, and whichever minority is emptied: somebody left of the majority says so."""
    nodes = range(voters)
    majority = voters // 2 + 1
    for voted in itertools.combinations(nodes, majority):
        for emptied in itertools.combinations(nodes, voters - majority):
            for node_id in emptied:
                node = Formation(node_id, nodes, formed=False)
                for other in nodes:
                    if other != node_id:
                        node.heard(other, fresh=other in emptied or other not in voted)
                assert not node.complete, (voted, emptied, node_id)
