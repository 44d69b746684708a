"""What is wrong in the books is found, for the right pub and group, once it has had its time; and told once."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.task import Clock

from phxqueue.console.alarms import Alarms
from phxqueue.console.desk import AlarmDesk
from phxqueue.console.events import EventRing
from phxqueue.proto.ledger_pb2 import LedgerBounds, ProducedReport, ProducedRow
from phxqueue.proto.store_pb2 import AckDispute
from phxqueue.reconcile import accounts
from phxqueue.reconcile.accounts import MOST_ACCOUNTS
from phxqueue.reconcile.columns import UNCONFIRMED, UNREPORTED
from phxqueue.reconcile.findings import findings, unreported_in_all
from phxqueue.reconcile.kinds import groups_of
from phxqueue.reconcile.ledger import REPORTER_MINUTES, Ledger
from phxqueue.reconcile.rows import LedgerRow
from phxqueue.reconcile.tally import Tally
from phxqueue.store.ledger_service import _add_open_accounts, _row
from phxqueue.store.ledger_watch import LedgerWatch
from phxqueue.store.served import ServedQueues
from tests.reconcile.rig import two_pubs

BEGIN = 28_000_000
"""A minute."""
BOTH = 0b11


class Books:
    """A ledger, and one producer."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.ledger.open(LedgerBounds(retention_minutes=60, most_rows=1000), BEGIN * 60_000)
        self._sequence = 0

    def store(
        self, count: int = 10, *, minute: int = 0, pub: int = 1, mask: int = BOTH, digest: int = 500, sequence: int = 1
    ) -> None:
        self.ledger.begin((BEGIN + minute) * 60_000)
        self.ledger.store({Tally(7, 0, pub, mask, 0): [count, digest, sequence, sequence]})

    def report(
        self,
        count: int = 10,
        *,
        at: int = 0,
        minute: int = 0,
        pub: int = 1,
        mask: int = BOTH,
        digest: int = 500,
        vouched: tuple[int, int] = (0, 0),
        kept: bool = True,
    ) -> None:
        """`vouched`: for the sequences above the first and up to the second."""
        self._sequence += 1
        row = ProducedRow(minute=BEGIN + minute, pub_id=pub, consumer_group_ids=mask, count=count, digest_sum=digest)
        self.ledger.begin((BEGIN + at) * 60_000)
        self.ledger.report(
            ProducedReport(
                producer_id=7,
                sequence=self._sequence,
                rows=[row] if count else [],
                vouched_after=vouched[0],
                vouched_to=vouched[1],
            ),
            kept=kept,
        )

    def red(self, settled: int = 5) -> dict[tuple[int, int], tuple[int, int]]:
        """By (pub, group): difference and what is not reported."""
        found = findings(self.ledger, BEGIN + settled)
        return {place: (one.difference, one.unreported) for place, one in found.items()}


def test_what_balances_is_not_told() -> None:
    books = Books()
    for pub in (1, 2):
        books.store(pub=pub)
        books.report(pub=pub)
    assert books.red() == {}


def test_what_was_confirmed_and_is_not_stored_is_a_difference_of_its_pub_and_its_groups() -> None:
    books = Books()
    books.store(9, digest=450)
    books.report(10, digest=500)
    books.store(pub=2)
    books.report(pub=2)
    assert books.red() == {(1, 1): (1, 0), (1, 2): (1, 0)}
    assert set(findings(books.ledger, BEGIN - 1)) == {(1, 1), (1, 2)}, "at once"
    one = findings(books.ledger, BEGIN)[1, 1]
    assert (one.unstored, one.first_minute, one.last_minute, one.producers) == (1, BEGIN, BEGIN, [7])


def test_a_wrong_mask_is_a_difference_of_the_group_that_is_missing_in_it() -> None:
    books = Books()
    books.store(mask=0b01)
    books.report(mask=BOTH)
    assert books.red() == {(1, 2): (10, 0)}


def test_other_items_in_their_place_are_a_difference() -> None:
    books = Books()
    books.store(digest=501)
    books.report(digest=500)
    assert books.red() == {(1, 1): (1, 0), (1, 2): (1, 0)}


def test_a_confirmation_that_got_lost_is_unreported_when_the_producer_has_reported_later() -> None:
    books = Books()
    books.store()
    assert books.red() == {}
    books.report(0, at=1)
    assert books.red() == {}, "it may report the minute yet"
    books.report(0, at=2)
    assert books.red() == {(1, 1): (0, 10), (1, 2): (0, 10)}
    books.report(at=3)
    assert books.red() == {}, "late, but it settles"


def test_a_batch_stored_twice_is_unreported() -> None:
    books = Books()
    for _ in range(2):
        books.store(5, digest=50)
    books.report(5, digest=50, at=2)
    assert books.red() == {(1, 1): (0, 5), (1, 2): (0, 5)}


def test_what_a_dead_producer_has_not_reported_is_counted_and_no_alarm() -> None:
    books = Books()
    books.store()
    assert books.red() == {}
    assert unreported_in_all(books.ledger, BEGIN) == {(1, 1): 10, (1, 2): 10}


def test_a_refused_acknowledgement_is_a_difference_until_it_is_made_good() -> None:
    books = Books()
    books.store()
    books.report()
    books.ledger.place(0, 0, 1, BOTH)
    told = AckDispute(queue_id=0, consumer_group_id=2, start=0, stop=10, stored_count=10, claimed_count=7, refused=True)
    books.ledger.dispute(told, BEGIN * 60_000)
    assert books.red() == {(1, 2): (3, 0)}
    assert findings(books.ledger, BEGIN)[1, 2].places == [(0, 0, 9)]
    books.ledger.disputes.settle(0, 2, 10)
    assert books.red() == {}


def test_the_watch_tells_once_and_again_only_of_more() -> None:
    books, clock, events = Books(), Clock(), EventRing(100)
    desk = AlarmDesk(Alarms(most=10, repeat_s=0, hold_s=3600), events, clock.seconds, clock.seconds)
    topic = two_pubs("alarm")
    served = ServedQueues(topic, topic.stores[0])
    watch = LedgerWatch(lambda: [(0, books.ledger)], desk, clock, lambda: served, lambda: BEGIN * 60 + clock.seconds())

    def looks(seconds: float) -> list[str]:
        before = events.total
        clock.advance(seconds)
        watch.look()
        return [str(event.facts["state"]) for event in events.since(before)]

    books.report(10, digest=500)  # of which nothing is stored
    assert looks(10) == ["raised", "raised"]
    assert set(desk.alarms.standing) == {f"difference store 1 paxos group 0 pub 1 group {group}" for group in (1, 2)}
    assert looks(60) == []
    desk.clear("difference store 1 paxos group 0 pub 1 group 1", "by hand")
    assert looks(60) == []
    books.report(2, minute=1, digest=5)
    assert looks(60) == ["raised", "again"]
    [status] = [one for one in watch.statuses() if one.consumer_group_id == 2]
    assert (status.pub_id, status.difference, status.unreported) == (1, 12, 0)
    books.ledger.accounts.open.clear()
    assert looks(60) == ["cleared", "cleared"]
    assert watch.statuses() == []


class Watched:
    """Books that are looked at."""

    def __init__(self, hold_s: float = 3600.0) -> None:
        self.books, self.clock = Books(), Clock()
        self.desk = AlarmDesk(
            Alarms(most=10, repeat_s=0, hold_s=hold_s), EventRing(100), self.clock.seconds, self.clock.seconds
        )
        topic = two_pubs("alarm")
        served = ServedQueues(topic, topic.stores[0])
        self.watch = LedgerWatch(
            lambda: [(0, self.books.ledger)],
            self.desk,
            self.clock,
            lambda: served,
            lambda: BEGIN * 60 + self.clock.seconds(),
        )

    def go_by(self, seconds: float) -> set[str]:
        """Kinds of the alarms that stand then; it is looked every ten seconds."""
        for _ in range(int(seconds // 10)):
            self.clock.advance(10)
            self.watch.look()
            self.desk.look()
        return {one.alarm.kind for one in self.desk.alarms.standing.values()}


def test_a_difference_stands_until_it_is_cleared_or_forgotten() -> None:
    watched = Watched(hold_s=60)
    watched.books.report(10)  # of which nothing is stored
    assert watched.go_by(3600) == {"difference"}
    for group in (1, 2):
        watched.desk.clear(f"difference store 1 paxos group 0 pub 1 group {group}", "by hand")
    assert watched.go_by(3600) == set()


def test_after_an_outage_what_is_reported_in_two_steps_is_no_alarm() -> None:
    """The report from before it comes first, the one about the rest of that minute after it."""
    watched = Watched()
    watched.books.store(10)
    watched.go_by(600)
    watched.books.report(4, digest=200, at=10)
    assert watched.go_by(20) == set()
    watched.books.report(6, digest=300, at=10)
    assert watched.go_by(600) == set()


def test_what_a_producer_goes_on_not_reporting_is_a_warning() -> None:
    watched = Watched()
    watched.books.store(10)
    watched.books.report(0, at=3)
    assert watched.go_by(180) == {"unreported"}
    watched.books.report(at=3)
    assert watched.go_by(10) == set()


def test_a_dispute_about_items_from_before_the_books_is_one_of_their_pub() -> None:
    books = Books()
    told = AckDispute(queue_id=5, consumer_group_id=2, stop=10, stored_count=10, claimed_count=7, pub_id=3)
    books.ledger.dispute(told, BEGIN * 60_000)
    assert books.red() == {(3, 2): (3, 0)}


# ---- what producers vouch for ------------------------------------------------------------------------


def vouching() -> Books:
    """Books in which sequences are kept: somebody has vouched before."""
    books = Books()
    books.report(0, vouched=(0, 1))
    return books


def test_what_is_stored_and_was_not_confirmed_is_a_difference_as_soon_as_its_producer_vouches_for_it() -> None:
    books = vouching()
    for sequence in (2, 3):
        books.store(sequence=sequence)
    books.report(vouched=(0, 2))
    assert books.red(-1) == {}, "one of the two is under way yet"
    books.report(0, vouched=(0, 3))
    assert books.red(-1) == {(1, 1): (10, 0), (1, 2): (10, 0)}
    one = findings(books.ledger, BEGIN)[1, 1]
    assert (one.unconfirmed, one.first_minute, one.producers) == (10, BEGIN, [7])
    books.store(sequence=4)
    books.report(vouched=(0, 4))
    assert books.red() == {(1, 1): (10, 0), (1, 2): (10, 0)}, "it stays, and grows by nothing that is right"


def test_a_batch_that_is_stored_twice_is_a_difference() -> None:
    books = vouching()
    for _ in range(2):
        books.store(5, digest=50, sequence=2)
    books.report(5, digest=50, vouched=(0, 2))
    assert books.red(-1) == {(1, 1): (5, 0), (1, 2): (5, 0)}


def test_what_may_hold_a_batch_of_unknown_outcome_is_not_judged() -> None:
    books = vouching()
    books.store(sequence=2)
    books.store(sequence=5, pub=2)
    books.report(0, vouched=(2, 5))
    assert books.red(-1) == {(2, 1): (10, 0), (2, 2): (10, 0)}
    books.store(sequence=6)  # in the same account as 2
    books.report(0, vouched=(2, 6))
    assert set(books.red(-1)) == {(2, 1), (2, 2)}


def test_a_wrong_mask_stays_a_difference_of_the_group_that_is_missing_when_it_is_vouched_for() -> None:
    books = vouching()
    books.store(mask=0b01, sequence=2)
    books.report(mask=BOTH, vouched=(0, 2))
    assert books.red(-1) == {(1, 2): (10, 0)}


def test_one_producer_does_not_vouch_for_another() -> None:
    books = vouching()
    books.store(sequence=2)
    books.ledger.report(ProducedReport(producer_id=8, sequence=1, vouched_to=100))
    assert books.red(-1) == {}


def test_what_was_stored_before_anybody_vouched_is_not_judged() -> None:
    books = Books()
    books.store(sequence=1)
    books.report(0, vouched=(0, 1))
    books.report(0, vouched=(0, 2))
    assert books.red(-1) == {}


def test_what_was_open_in_a_backup_is_not_judged() -> None:
    """It may have been reported after the backup was taken, and then nobody reports it again."""
    books = vouching()
    books.store(sequence=2)
    books.ledger.accounts.restored()
    books.report(0, vouched=(0, 2))
    assert books.red(-1) == {}
    books.store(minute=1, sequence=3)
    books.report(0, vouched=(0, 3))
    assert books.red(-1) == {(1, 1): (10, 0), (1, 2): (10, 0)}, "what came later is"


def test_what_is_unconfirmed_survives_checkpoints_and_stays_in_its_row_when_it_is_old() -> None:
    books = vouching()
    books.store(sequence=2)
    books.store(sequence=3, pub=2)
    books.report(0, vouched=(0, 2))
    copy = Ledger()
    assert not any(copy.loading(iter(books.ledger.dump())))
    assert copy.dump() == books.ledger.dump()
    for ledger in (books.ledger, copy):
        ledger.report(ProducedReport(producer_id=7, sequence=100, vouched_to=3))
        found = findings(ledger, BEGIN)
        assert {place: one.unconfirmed for place, one in found.items()} == {
            (pub, group): 10 for pub in (1, 2) for group in (1, 2)
        }
        ledger.begin((BEGIN + 61) * 60_000)
        row = ledger.minutes[0][1, 1]
        assert (row[UNCONFIRMED], row[UNREPORTED], ledger.accounts.unconfirmed) == (10, 0, {})


def test_what_is_stored_after_its_producer_has_vouched_for_it_is_a_difference_at_once() -> None:
    """A second copy, and nothing comes from that producer any more."""
    books = vouching()
    books.store(sequence=2)
    books.report(vouched=(0, 2))
    assert books.red() == {}
    books.store(5, minute=1, sequence=2)
    assert books.red(-1) == {(1, 1): (5, 0), (1, 2): (5, 0)}
    copy = Ledger()
    assert not any(copy.loading(iter(books.ledger.dump())))
    assert copy.dump() == books.ledger.dump()
    books.ledger = copy
    books.store(5, minute=2, sequence=1)
    books.store(5, minute=2, sequence=3)
    assert books.red(-1) == {(1, 1): (10, 0), (1, 2): (10, 0)}, "a later one may be under way"


def test_the_word_of_an_earlier_program_is_not_kept() -> None:
    books = Books()
    for vouched in ((0, 1), (0, 2)):
        books.report(0, vouched=vouched, kept=False)
    books.store(sequence=2)
    assert books.red(-1) == {}
    assert books.ledger.accounts.vouched_for is None


def test_what_is_stored_late_and_was_doubted_is_not_judged() -> None:
    books = vouching()
    books.report(0, vouched=(2, 5))
    books.store(sequence=2)
    assert books.red(-1) == {}
    books.store(pub=2, sequence=3)
    assert books.red(-1) == {(2, 1): (10, 0), (2, 2): (10, 0)}


def test_what_is_stored_late_and_was_reported_before_makes_good_what_was_missing() -> None:
    books = vouching()
    books.report(vouched=(0, 2))
    assert books.red(-1) == {(1, 1): (10, 0), (1, 2): (10, 0)}
    books.store(sequence=2)
    assert books.red(-1) == {}


def test_what_was_said_before_a_restore_judges_nothing_after_it() -> None:
    books = vouching()
    books.report(0, vouched=(0, 5))
    books.ledger.accounts.restored()
    books.store(sequence=5)
    assert books.red(-1) == {}


def test_the_word_of_a_producer_is_kept_as_long_as_its_report() -> None:
    books = vouching()
    assert books.ledger.accounts.vouched_for == {7: (0, 1)}
    books.ledger.begin((BEGIN + REPORTER_MINUTES + 1) * 60_000)
    assert (books.ledger.reports, books.ledger.accounts.vouched_for) == ({}, {})


# ---- too many accounts -------------------------------------------------------------------------------


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> Books:
    """Ten items of the producer in an account that was given up, for there are three others; five in a new one."""
    monkeypatch.setattr(accounts, "MOST_ACCOUNTS", 3)
    books = vouching()
    books.store(sequence=2)
    for other in range(3):
        books.ledger.store({Tally(8 + other, 0, 2, BOTH, 0): [1, 1, 1, 1]})
    books.store(5, digest=250, sequence=3)
    return books


def row_of(ledger: Ledger, minute: int) -> LedgerRow:
    """As it is told, of pub 1 and group 1."""
    rows: dict[tuple[int, int, int], Any] = {
        (minute, *place): _row(minute, *place, numbers) for place, numbers in ledger.minutes[minute].items()
    }
    _add_open_accounts(rows, ledger)
    row = LedgerRow.of(rows[minute, 1, 1])
    assert row.balance == 0
    return row


def test_what_was_given_up_and_is_reported_whole_is_not_checked_and_no_difference(crowded: Books) -> None:
    assert findings(crowded.ledger, BEGIN)[1, 1].unchecked == 10
    crowded.report(15, digest=750)
    one = findings(crowded.ledger, BEGIN)[1, 1]
    assert (one.difference, one.unstored, one.unchecked) == (0, 0, 10)
    row = row_of(crowded.ledger, BEGIN)
    assert (row.difference, row.produced, row.stored, row.unreported) == (0, 15, 15, 0)
    crowded.ledger.begin((BEGIN + 61) * 60_000)
    old = row_of(crowded.ledger, 0)
    assert (old.difference, old.produced, old.stored, old.unreported) == (0, 15, 15, 0)


def test_what_is_missing_beyond_what_was_given_up_is_a_difference(crowded: Books) -> None:
    crowded.report(17, digest=850)
    one = findings(crowded.ledger, BEGIN)[1, 1]
    assert (one.difference, one.unstored) == (2, 2)
    assert row_of(crowded.ledger, BEGIN).unstored == 2
    crowded.ledger.begin((BEGIN + 61) * 60_000)
    assert row_of(crowded.ledger, 0).unstored == 2


def test_what_was_given_up_and_is_reported_in_parts_is_not_called_altered(crowded: Books) -> None:
    crowded.report(5, digest=777)
    one = findings(crowded.ledger, BEGIN)[1, 1]
    assert (one.difference, one.unchecked) == (0, 10)
    assert row_of(crowded.ledger, BEGIN).difference == 0


def test_what_was_given_up_does_not_hide_what_is_missing_elsewhere(crowded: Books) -> None:
    crowded.report(17, pub=3)
    crowded.report(4, minute=1)
    found = findings(crowded.ledger, BEGIN)
    assert {place: one.unstored for place, one in found.items() if one.unstored} == {
        (3, 1): 17, (3, 2): 17, (1, 1): 4, (1, 2): 4,
    }  # fmt: skip


def test_what_was_not_checked_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "MOST_ACCOUNTS", 1)
    watched = Watched()
    watched.books.store(10)
    watched.books.store(10, minute=1)
    assert watched.go_by(180) == {"unreported"}
    [one] = [one for one in watched.desk.alarms.standing.values() if ("group", 1) in one.alarm.subject]
    assert one.alarm.warning
    assert "10 items are stored and were not checked" in one.alarm.cause


# ---- many accounts ----------------------------------------------------------------------------------------------


def every_account(ledger: Ledger) -> dict[tuple[int, int, int, int, int], tuple[int, int]]:
    """By (producer, minute, pub, kind, group), of all masks together."""
    sums: dict[tuple[int, int, int, int, int], tuple[int, int]] = {}
    for (producer_id, minute, pub_id, mask, kind), (count, digest_sum) in ledger.accounts.open.items():
        for group in groups_of(mask):
            key = producer_id, minute, pub_id, kind, group
            before = sums.get(key, (0, 0))
            sums[key] = before[0] + count, before[1] + digest_sum
    return sums


@pytest.mark.parametrize("seed", range(20))
def test_what_is_found_is_what_each_account_by_itself_says(seed: int) -> None:
    chance = random.Random(seed)
    ledger = Ledger()
    for _ in range(chance.choice((5, 300))):
        key = chance.randint(1, 4), BEGIN + chance.randrange(6), 1, chance.randrange(1, 8), chance.randrange(2)
        ledger.accounts.open[key] = chance.randint(-2, 3), chance.choice((0, 0, 77))
    ledger.reports.update({1: (1, BEGIN + 1), 2: (1, BEGIN + 9)})
    settled = BEGIN + 3
    unstored, altered, unreported, in_all = Counter[int](), Counter[int](), Counter[int](), Counter[int]()
    for (producer_id, minute, _, _, group), (count, digest_sum) in every_account(ledger).items():
        if count < 0:
            unstored[group] -= count
        elif not count:
            altered[group] += digest_sum != 0
        elif minute <= settled:
            in_all[group] += count
            if ledger.reports.get(producer_id, (0, 0))[1] >= minute + 2:
                unreported[group] += count
    found = findings(ledger, settled)
    assert {group: one.unstored for (_, group), one in found.items() if one.unstored} == +unstored
    assert {group: one.altered for (_, group), one in found.items() if one.altered} == +altered
    assert {group: one.unreported for (_, group), one in found.items() if one.unreported} == +unreported
    assert {group: items for (_, group), items in unreported_in_all(ledger, settled).items()} == +in_all


def test_accounts_that_are_only_waited_for_are_not_gone_through_one_by_one() -> None:
    """Producers that ended without a report leave tens of thousands of them; the node has other things to do."""
    ledger = Ledger()
    for producer_id in range(1, MOST_ACCOUNTS // 4):
        ledger.accounts.open[producer_id, BEGIN + producer_id % 30, 1, 0b11111, 0] = 1, 5

    def seconds(call: Callable[[], object]) -> float:
        begin = time.process_time()
        call()
        return time.process_time() - begin

    one_by_one = min(seconds(lambda: every_account(ledger)) for _ in range(3))
    assert min(seconds(lambda: findings(ledger, BEGIN + 60)) for _ in range(3)) < one_by_one / 3
    assert min(seconds(lambda: unreported_in_all(ledger, BEGIN + 60)) for _ in range(3)) < one_by_one / 3
