"""The checkers of what becomes of items reject what they must, and nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from phxqueue.proto.item_pb2 import BatchHeader
from phxqueue.proto.ledger_pb2 import LedgerBounds
from phxqueue.proto.origin import Origin
from phxqueue.proto.store_pb2 import AddResult, CursorMove, StoreCommand
from phxqueue.reconcile.columns import COMMITTED, PREPARED, TIMED_OUT
from phxqueue.reconcile.ledger import Ledger
from phxqueue.testing.sim.checkers import Violation
from phxqueue.testing.sim.checkers.book_keeping import BookKeeping
from phxqueue.testing.sim.checkers.dead_letters import FoundLetter, check_letters
from phxqueue.testing.sim.checkers.ends import DROPS_COUNTED_SINCE, Ends, Places
from phxqueue.testing.sim.checkers.reference import Reference
from phxqueue.testing.sim.checkers.repeats import check_repeated

WANTED = {b"dead": ("DEAD", 1), b"fine": ("", 0)}
LETTERS = [FoundLetter(b"dead", group, "DEAD", 1) for group in (30, 31)]


def test_every_group_has_its_letter() -> None:
    check_letters(WANTED, (30, 31), Counter(), LETTERS)


@pytest.mark.parametrize(
    "letters",
    [
        LETTERS[:1],
        [*LETTERS, LETTERS[0]],
        [*LETTERS, FoundLetter(b"fine", 30, "DEAD", 1)],
        [*LETTERS, FoundLetter(b"unheard of", 30, "DEAD", 1)],
        [LETTERS[0], replace(LETTERS[1], reason="attempts exhausted")],
        [LETTERS[0], replace(LETTERS[1], attempts=2)],
    ],
    ids=["one is missing", "one is twice there", "one too many", "invented", "another reason", "other attempts"],
)
def test_letters_that_are_not_as_they_must_be(letters: list[FoundLetter]) -> None:
    with pytest.raises(Violation):
        check_letters(WANTED, (30, 31), Counter(), letters)


def test_twice_where_a_consumer_has_died() -> None:
    repeats = Counter({(b"dead", 30): 1})
    check_letters(WANTED, (30, 31), repeats, [*LETTERS, LETTERS[0]])
    with pytest.raises(Violation):
        check_letters(WANTED, (30, 31), repeats, [*LETTERS, LETTERS[1]])


@pytest.mark.parametrize("change", [{"first_cursor": 6}, {"count": 2}, {"duplicate": False}, {"status": 8}], ids=str)
def test_a_repeated_request_has_its_first_outcome(change: dict[str, int]) -> None:
    first, again = AddResult(first_cursor=5, count=3), AddResult(first_cursor=5, count=3, duplicate=True)
    check_repeated([first], [again])
    for field, value in change.items():
        setattr(again, field, value)
    with pytest.raises(Violation):
        check_repeated([first], [again])


def moved(queue_id: int, acked: int, version: int = DROPS_COUNTED_SINCE) -> StoreCommand:
    return StoreCommand(
        version=version, cursor_moves=[CursorMove(queue_id=queue_id, consumer_group_id=30, acked=acked)]
    )


def some_ends() -> Ends:
    """Ten items, one of them dropped, one tried again, one a dead letter."""
    ends = Ends((1, 2), 9, (30,), lambda queue_id, cursor: (queue_id, cursor) == (1, 4))
    ends.stored(0, BatchHeader(queue_id=1, count=10), 1)
    ends.stored(0, BatchHeader(queue_id=2, count=1, consumer_group_ids=1 << 29, origin=Origin.RETRIED), 3)
    ends.stored(0, BatchHeader(queue_id=9, count=1, consumer_group_ids=1 << 29, origin=Origin.DEAD), 3)
    ends.moved(0, moved(1, 10))
    ends.moved(0, moved(2, 1))
    return ends


TRUE = Places(enqueued=10, finished=8, waiting=0, dead=1, dropped=1)


def test_sums_that_are_right() -> None:
    some_ends().check(30, TRUE)


@pytest.mark.parametrize(
    "change",
    [
        {"finished": 9},
        {"finished": 7, "dead": 2},
        {"finished": 9, "dropped": 0},
        {"finished": 7, "waiting": 1},
        {"enqueued": 11, "finished": 9},
    ],
    ids=str,
)
def test_sums_that_are_wrong(change: dict[str, int]) -> None:
    with pytest.raises(Violation):
        some_ends().check(30, replace(TRUE, **change))


def test_before_anybody_counts_both_are_right_and_later_only_one() -> None:
    ends = Ends((1,), 9, (30,), lambda queue_id, cursor: True)
    ends.stored(0, BatchHeader(queue_id=1, count=5), 1)
    ends.moved(0, moved(1, 2, version=1))
    ends.moved(0, moved(1, 3))
    ends.moved(0, moved(1, 4, version=1))  # once they do, they do it for good
    for dropped in (2, 3, 4):
        ends.check(30, Places(enqueued=5, finished=4 - dropped, waiting=1, dead=0, dropped=dropped))
    for dropped in (1, 5):
        with pytest.raises(Violation):
            ends.check(30, Places(enqueued=5, finished=4 - dropped, waiting=1, dead=0, dropped=dropped))


def test_what_is_not_counted_though_everybody_could() -> None:
    ends = some_ends()
    with pytest.raises(Violation):
        ends.stored(0, BatchHeader(queue_id=9, count=1, consumer_group_ids=1 << 29, origin=Origin.DEAD), 1)


@pytest.mark.parametrize(
    ("unheard", "died", "right"),
    [({}, set(), False), ({2: 4}, set(), False), ({3: 5}, set(), False), ({2: 5}, set(), True), ({}, {2}, True)],
    ids=["it lives", "less was under way", "another died", "that was under way", "it died before its report"],
)
def test_what_nobody_reports_was_under_way_when_its_producer_died(
    unheard: dict[int, int], died: set[int], right: bool
) -> None:
    keeping, ledger, reference = BookKeeping(), Ledger(), Reference()
    keeping.chosen(0, StoreCommand(ledger=LedgerBounds(retention_minutes=60)).SerializeToString(), reference)
    keeping.confirmed(2, 0, BatchHeader(count=7), duplicate=False)
    for mask, items in ((0b01, 3), (0b11, 2)):
        ledger.accounts.store((2, 1, 1, mask, 0), items, 99)

    def check() -> None:
        keeping.check(0, ledger, reference, plain=True, reporting=True, died=died, unheard=unheard, undecided={})

    if right:
        check()
    else:
        with pytest.raises(Violation, match="producer 2 has reported all, and 5 items are unreported"):
            check()


@pytest.mark.parametrize(("undecided", "right"), [({(1, 1, 0b1): 2}, True), ({}, False), ({(1, 1, 0b1): 3}, False)])
def test_half_messages_are_decided_or_undecided(undecided: dict[tuple[int, int, int], int], right: bool) -> None:
    keeping, ledger, reference = BookKeeping(), Ledger(), Reference()
    keeping.chosen(0, StoreCommand(ledger=LedgerBounds(retention_minutes=60)).SerializeToString(), reference)
    ledger.open(LedgerBounds(retention_minutes=60, most_rows=9), 60_000)
    ledger.whole = True
    for column, items in ((PREPARED, 5), (COMMITTED, 2), (TIMED_OUT, 1)):
        ledger.count_half(column, 1, 1, 0b1, items)

    def check() -> None:
        keeping.check(0, ledger, reference, plain=False, reporting=False, died=set(), unheard={}, undecided=undecided)

    if right:
        check()
    else:
        with pytest.raises(Violation, match="consumer group 1, prepared: 5 instead of"):
            check()
