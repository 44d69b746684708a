"""The checkers of half messages, idempotency keys and atomic batches catch what they are there for."""

from __future__ import annotations

import pytest

from phxqueue.testing.sim.checkers import Violation
from phxqueue.testing.sim.checkers.halves import COMMITTED, EXPIRED, ROLLED_BACK, Halves
from phxqueue.testing.sim.checkers.keys import Keys
from phxqueue.testing.sim.checkers.together import Together


def prepared() -> Halves:
    """Half message 1 of two items, half message 2 of one."""
    halves = Halves()
    halves.offered(1, [b"a", b"b"])
    halves.offered(2, [b"c"])
    return halves


def test_halves_of_good_runs() -> None:
    halves = prepared()
    halves.commits(1)
    halves.delivered(b"a")
    for _ in range(2):
        halves.decided(1, COMMITTED, 7, 2)
    halves.decided(2, EXPIRED, 0, 1)
    halves.delivered(b"somebody else's")
    halves.check_contents({0: [b"a", b"b"]})
    assert halves.told == {COMMITTED: 1, ROLLED_BACK: 0, EXPIRED: 1}


def test_a_half_message_that_is_seen_before_it_is_committed() -> None:
    with pytest.raises(Violation, match="nobody has committed"):
        prepared().delivered(b"a")
    with pytest.raises(Violation, match="is in a queue"):
        prepared().check_contents({0: [b"a", b"b"]})
    with pytest.raises(Violation, match="nobody has asked"):
        prepared().decided(1, COMMITTED, 0, 2)


def test_a_half_message_with_two_fates() -> None:
    halves = prepared()
    halves.commits(1)
    halves.decided(1, ROLLED_BACK, 0, 2)
    for outcome, cursor in ((COMMITTED, 3), (EXPIRED, 0)):
        with pytest.raises(Violation, match="told to be"):
            halves.decided(1, outcome, cursor, 2)
    with pytest.raises(Violation, match="told to be rolled back"):
        halves.delivered(b"b")
    with pytest.raises(Violation, match="is in a queue"):
        halves.check_contents({0: [b"b"]})


def test_a_half_message_that_is_lost_or_loses_items() -> None:
    halves = prepared()
    halves.commits(1)
    with pytest.raises(Violation, match="2 items, and 1"):
        halves.decided(1, COMMITTED, 3, 1)
    with pytest.raises(Violation, match="in no queue"):
        halves.check_contents({0: [b"a"]})


def test_keys_of_good_runs() -> None:
    keys = Keys()
    keys.offered(b"k", b"a")
    keys.offered(b"k", b"other")
    keys.stored(b"k", b"a", 1, 5)
    keys.stored(b"k", b"a", 1, 5)
    keys.was_refused(b"k", b"other")
    keys.check_contents({1: [b"a", b"somebody else's"]})


def test_keys_with_two_places_or_items() -> None:
    keys = Keys()
    keys.offered(b"k", b"a")
    keys.offered(b"k", b"other")
    with pytest.raises(Violation, match="both stored"):
        keys.check_contents({1: [b"a"], 2: [b"other"]})
    keys.stored(b"k", b"a", 1, 5)
    for item, place in ((b"a", 6), (b"other", 5)):
        with pytest.raises(Violation, match="was told before"):
            keys.stored(b"k", item, 1, place)
    with pytest.raises(Violation, match="is refused now"):
        keys.was_refused(b"k", b"a")
    with pytest.raises(Violation, match="was told to be at 1:5"):
        keys.check_contents({1: [b"other"]})


def test_together() -> None:
    together = Together()
    together.offered([b"a", b"b"])
    together.offered([b"c", b"d"])
    together.check_contents({0: [b"a"], 1: [b"b"]})
    with pytest.raises(Violation, match=r"b'c' is stored and b'd' is not"):
        together.check_contents({0: [b"a", b"c"], 1: [b"b"]})
