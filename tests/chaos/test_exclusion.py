"""What the beliefs of holders show, and what they must not be blamed for."""

from __future__ import annotations

import pytest

from tests.chaos.exclusion import GOT, USED, Belief, violations

GOOD = (
    Belief(1, "a", GOT, 10, 0.0, 1.0),
    Belief(1, "a", USED, 10, 0.0, 1.0),
    Belief(1, "a", USED, 10, 0.0, 2.0),
    Belief(2, "a", GOT, 20, 0.5, 3.0),  # it waited
    Belief(2, "a", USED, 20, 0.5, 3.5),
    Belief(3, "b", GOT, 5, 2.0, 2.5),  # another lock: nothing to do with it
    Belief(3, "b", USED, 5, 2.0, 9.0),
)


def test_what_follows_one_another_is_in_order() -> None:
    assert violations(GOOD) == []


def test_somebody_who_hears_late_of_his_lock_and_does_not_use_it_does_no_harm() -> None:
    assert violations([*GOOD, Belief(4, "a", GOT, 15, 0.7, 4.0)]) == []


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (Belief(1, "a", USED, 10, 0.0, 3.25), "1 believed in token 10 at 3.250000, and 2 held it"),
        (Belief(3, "a", GOT, 20, 3.5, 4.0), "token 20 was given to 2 and to 3"),
        (Belief(3, "a", GOT, 19, 3.5, 4.0), "3 asked at 3.500000 and got token 19; 2 had been told 20"),
        (Belief(4, "a", USED, 15, 0.7, 4.0), "4 believed in token 15"),
    ],
)
def test_what_may_not_be_is_found(more: Belief, words: str) -> None:
    (found, *_) = violations([*GOOD, more])
    assert words in found


def test_a_line_reads_as_it_was_written() -> None:
    belief = Belief(1, "a", USED, 10, 0.1, 1 / 3)
    assert Belief.parse(str(belief)) == belief
