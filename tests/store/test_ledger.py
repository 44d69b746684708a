"""The replicated books of a Paxos group: what each entry does to them, exactly once, and through checkpoints."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from twisted.logger import capturedLogs

from phxqueue.config import DEAD_LETTER_BASE
from phxqueue.net.status import Status
from phxqueue.proto.item_pb2 import ItemBatch
from phxqueue.proto.ledger_pb2 import (
    GetLedgerRequest,
    GetLedgerResponse,
    LedgerAccount,
    LedgerBounds,
    ProducedReport,
    ProducedRow,
    ReportProducedRequest,
)
from phxqueue.proto.origin import Origin
from phxqueue.proto.store_pb2 import (
    AckClaim,
    AckDispute,
    CursorMove,
    FireTimers,
    KeyBounds,
    Replay,
    ReplayTarget,
    StoreCommand,
)
from phxqueue.reconcile.rows import LedgerRow, Picture
from phxqueue.replica.errors import NotServing, OutcomeUnknown
from phxqueue.store.ledger_service import LedgerService, ledger_bounds
from phxqueue.store.outcomes import Duplicate
from phxqueue.store.queues import (
    COMMAND_VERSION,
    KEPT_VERSION,
    LEDGER_VERSION,
    VOUCH_VERSION,
    StoreQueues,
    new_history,
)
from tests.store.fakes import NOW_MS, StoreUnderTest, batch, command

VALUE = 0
MINUTE = NOW_MS // 60_000
NOBODY: Any = None


class Books:
    """A state machine with open books, and a look at them as a master would tell it."""

    def __init__(self, retention_minutes: int = 60, most_rows: int = 1000) -> None:
        self.machine = StoreQueues()
        self.now_ms = NOW_MS
        bounds = LedgerBounds(retention_minutes=retention_minutes, most_rows=most_rows)
        self.apply(StoreCommand(ledger=bounds))

    def apply(self, entry: StoreCommand) -> Any:
        entry.version = COMMAND_VERSION
        entry.timestamp_ms = self.now_ms
        return self.machine.apply(self.machine.applied + 1, VALUE, entry.SerializeToString())

    def store(self, *batches: ItemBatch) -> Any:
        return self.apply(StoreCommand(batches=batches))

    def acknowledge(self, acked: int, queue_id: int = 1, group: int = 1, **passed: int) -> None:
        dropped = passed.pop("dropped", 0)
        move = CursorMove(queue_id=queue_id, consumer_group_id=group, acked=acked, **passed)
        if dropped:
            move.dropped.add(first=acked - dropped, count=dropped)
        self.apply(StoreCommand(cursor_moves=[move]))

    def report(self, *rows: ProducedRow, sequence: int = 1, producer_id: int = 7) -> None:
        self.apply(StoreCommand(reports=[ProducedReport(producer_id=producer_id, sequence=sequence, rows=rows)]))

    def dispute(self, start: int, stop: int, stored: int, claimed: int, *, refused: bool = False) -> None:
        told = AckDispute(
            queue_id=1, consumer_group_id=1, start=start, stop=stop, stored_count=stored, claimed_count=claimed,
            refused=refused,
        )  # fmt: skip
        move = CursorMove(queue_id=1, consumer_group_id=1, acked=stop)
        self.apply(StoreCommand(disputes=[told], cursor_moves=() if refused else [move]))

    def restarted(self) -> None:
        """From a checkpoint."""
        checkpoint = self.machine.checkpoint()
        fresh = StoreQueues()
        fresh.restore(checkpoint.state, checkpoint.segments)
        assert fresh.state_hash() == self.machine.state_hash()
        self.machine = fresh

    @property
    def told(self) -> GetLedgerResponse:
        return told(self.machine)

    def row(self, group: int = 1, minute: int = MINUTE, pub_id: int = 1) -> LedgerRow:
        picture = Picture()
        picture.take(1, 0, self.told)
        for row in picture.rows.values():
            assert row.balance == 0, row
            assert row.outstanding >= 0, row
        return picture.rows.get((minute, pub_id, group), LedgerRow())


def told(machine: StoreQueues, **request: int) -> GetLedgerResponse:
    store = StoreUnderTest()
    group: Any = store.group
    service = store.service
    group.state_machine = machine
    ledger = LedgerService(
        group, machine, NOBODY, service._groups[0].positions, store.node.topic.settings, lambda: NOW_MS
    )
    return ledger.get(GetLedgerRequest(**request))


def produced(count: int, digest: int = 0, *, minute: int = MINUTE, kind: int = 0, mask: int = 0b11) -> ProducedRow:
    return ProducedRow(minute=minute, pub_id=1, consumer_group_ids=mask, kind=kind, count=count, digest_sum=digest)


def sent(count: int, digest: int = 0, *, sequence: int = 1, **fields: Any) -> ItemBatch:
    return batch(count=count, digest=digest, producer_id=7, sequence=sequence, **fields)


def of_origin(origin: Origin, count: int, sequence: int, queue_id: int = 8) -> ItemBatch:
    one = sent(count, queue_id=queue_id, sequence=sequence, mask=0b01)
    one.header.origin = origin
    return one


def test_nothing_is_counted_before_the_books_are_opened() -> None:
    machine = StoreQueues()
    machine.apply(0, VALUE, command(sent(3)))
    assert not told(machine).opened
    assert not machine.ledger.dump()[0]


def test_what_is_stored_is_outstanding_until_it_is_acknowledged() -> None:
    books = Books()
    outcomes = books.store(sent(3, digest=30))
    assert outcomes == [0]
    assert outcomes.stored_ms == NOW_MS
    assert (books.row().stored, books.row().stored_digest, books.row().outstanding) == (3, 30, 3)
    books.acknowledge(2)
    assert (books.row().finished, books.row().outstanding) == (2, 1)
    assert books.row(group=2).outstanding == 3
    assert books.row().difference == 0


def test_what_is_not_reported_yet_is_no_loss() -> None:
    books = Books()
    books.store(sent(3, digest=30))
    assert (books.row().unreported, books.row().difference) == (3, 0)
    books.report(produced(3, 30))
    row = books.row()
    assert (row.produced, row.produced_digest, row.unreported, row.difference) == (3, 30, 0, 0)
    assert not books.machine.ledger.accounts.open


def test_a_report_counts_once() -> None:
    books = Books()
    books.store(sent(3, digest=30))
    for _ in range(2):
        books.report(produced(3, 30), sequence=1)
    assert (books.row().produced, books.row().difference) == (3, 0)


def test_a_report_that_comes_again_after_a_long_outage_counts_once() -> None:
    books = Books(retention_minutes=3)
    books.store(sent(3, digest=30))
    books.report(produced(3, 30), sequence=1)
    books.now_ms += 24 * 60 * 60_000
    books.report(produced(3, 30), sequence=1)
    assert (books.row(minute=0).produced, books.row(minute=0).difference) == (3, 0)


def test_what_was_confirmed_and_is_not_stored_is_a_loss() -> None:
    books = Books()
    books.store(sent(3, digest=30))
    books.report(produced(5, 50))
    assert (books.row().unstored, books.row().difference) == (2, 2)
    assert [(one.producer_id, one.count) for one in books.told.unstored] == [(7, 2)]


def test_one_producers_silence_does_not_hide_anothers_loss() -> None:
    books = Books()
    books.store(sent(5), batch(count=4, producer_id=8, sequence=1))
    books.report(produced(6))
    row = books.row()
    assert (row.unreported, row.unstored) == (4, 1)


def test_as_many_but_other_items_are_a_difference() -> None:
    books = Books()
    books.store(sent(3, digest=30))
    books.report(produced(3, 31))
    assert (books.row().altered, books.row().difference) == (1, 1)


def test_a_late_report_settles_into_the_minute_of_the_items() -> None:
    books = Books()
    books.store(sent(3))
    books.now_ms += 5 * 60_000
    books.report(produced(3))
    assert books.row().produced == 3
    assert books.row(minute=MINUTE + 5).produced == 0


def test_a_duplicate_is_stored_once_and_knows_its_minute() -> None:
    books = Books()
    books.now_ms += 1
    books.store(sent(3))
    books.now_ms += 60_000
    [again] = books.store(sent(3))
    assert again.stored_ms == NOW_MS + 1
    assert books.row().stored == 3
    assert books.row(minute=MINUTE + 1).stored == 0


def test_a_batch_from_before_the_books_has_no_minute() -> None:
    machine = StoreQueues()
    machine.apply(0, VALUE, command(sent(3)))
    bounds = LedgerBounds(retention_minutes=9, most_rows=9)
    opening = StoreCommand(version=COMMAND_VERSION, timestamp_ms=NOW_MS + 5, ledger=bounds)
    machine.apply(1, VALUE, opening.SerializeToString())
    again = machine.recall(7, 1, 1)
    assert getattr(again, "stored_ms", None) == 0


def test_what_is_wrong_is_told_with_the_cursors_of_its_minute() -> None:
    books = Books()
    for sequence, count in enumerate((3, 4, 5), 1):
        books.store(sent(count, sequence=sequence))
        books.now_ms += 60_000
    books.store(sent(6, sequence=4, mask=0b10))
    books.report(produced(5, minute=MINUTE + 1), produced(1, minute=MINUTE + 3, mask=0b1))
    vouch = ProducedReport(producer_id=7, sequence=2, vouched_to=2)
    books.apply(StoreCommand(reports=[vouch]))

    def places(accounts: Iterable[LedgerAccount]) -> dict[int, list[tuple[int, int, int]]]:
        return {one.minute - MINUTE: [(at.queue_id, at.start, at.stop) for at in one.places] for one in accounts}

    assert places(books.told.unconfirmed) == {0: [(1, 0, 3)]}
    assert places(books.told.unstored) == {1: [(1, 3, 7)], 3: []}, "of group 1 there is nothing"


def test_retries_and_dead_letters_have_their_columns() -> None:
    books = Books()
    books.store(sent(10))
    books.store(of_origin(Origin.RETRIED, 4, 2), of_origin(Origin.DEAD, 2, 3, DEAD_LETTER_BASE + 1))
    books.store(of_origin(Origin.EXPIRED, 1, 4, DEAD_LETTER_BASE + 1))
    books.acknowledge(10, retried=4, dead=2, expired=1, dropped=1)
    row = books.row()
    assert (row.stored, row.retried, row.dead, row.expired) == (10, 4, 2, 1)
    assert (row.acknowledged, row.passed_on, row.dropped, row.finished) == (10, 7, 1, 2)
    assert row.outstanding == 4, "the retries; dead letters wait for nobody"
    books.store(of_origin(Origin.REQUEUED, 2, 5, 1))
    assert books.row().requeued == 2
    assert books.row().outstanding == 6


def test_what_a_move_tells_twice_counts_once() -> None:
    books = Books()
    books.store(sent(10))
    books.acknowledge(4, retried=3)
    books.acknowledge(4, retried=3)
    books.acknowledge(6, retried=3)
    assert (books.row().passed_retried, books.row().finished) == (3, 3)


def test_an_acknowledgement_is_spread_over_the_minutes_of_its_items() -> None:
    books = Books()
    books.store(sent(3))
    books.now_ms += 60_000
    books.store(sent(4, sequence=2))
    books.acknowledge(5, retried=4)
    first, second = books.row(), books.row(minute=MINUTE + 1)
    assert (first.acknowledged, first.passed_retried, first.finished) == (3, 3, 0)
    assert (second.acknowledged, second.passed_retried, second.finished) == (2, 1, 1)


def test_batches_of_several_groups_in_one_queue() -> None:
    books = Books()
    books.store(sent(2, mask=0b01), sent(3, mask=0b10, sequence=2), sent(4, mask=0b01, sequence=3))
    books.acknowledge(6)
    assert (books.row().stored, books.row().acknowledged) == (6, 3)
    books.acknowledge(9, group=2)
    assert (books.row(group=2).stored, books.row(group=2).acknowledged) == (3, 3)


def test_delayed_items_count_in_the_minute_they_were_stored_in() -> None:
    books = Books()
    books.store(
        sent(2, deliver_at_ms=NOW_MS + 100_000),
        sent(1, sequence=2, deliver_at_ms=NOW_MS + 200_000),
        sent(4, sequence=3),
    )
    assert (books.row().delayed, books.row().outstanding) == (3, 4)
    books.now_ms += 120_000
    books.apply(StoreCommand(fire=FireTimers(due_ms=books.now_ms, most=100)))
    assert (books.row().delayed, books.row().outstanding) == (1, 6)
    entry = StoreCommand()
    entry.cancels.add(deliver_at_ms=NOW_MS + 200_000, timer_number=2)
    books.apply(entry)
    books.apply(entry)
    assert (books.row().delayed, books.row().cancelled, books.row().outstanding) == (0, 1, 6)
    books.acknowledge(6)
    assert (books.row().finished, books.row().outstanding) == (6, 0)


def test_an_accepted_dispute_counts_once() -> None:
    books = Books()
    books.store(sent(10))
    for _ in range(2):
        books.dispute(0, 5, stored=5, claimed=3)
    row = books.row()
    assert (row.acknowledged, row.lost, row.difference) == (5, 2, 2)
    books.acknowledge(10)
    assert books.row().difference == 2, "what was lost stays lost"
    [told] = books.told.disputes
    assert (told.start, told.stop, told.minute, told.times) == (0, 5, MINUTE, 2)


def test_a_refused_dispute_counts_until_it_is_settled() -> None:
    books = Books()
    books.store(sent(10))
    for stop in (5, 6):
        books.dispute(0, stop, stored=stop, claimed=3, refused=True)
    assert (books.row().lost, books.row().acknowledged) == (3, 0)
    [told] = books.told.disputes
    assert (told.times, told.settled) == (2, False)
    books.acknowledge(6)
    assert books.row().difference == 0
    [told] = books.told.disputes
    assert told.settled
    books.dispute(0, 6, stored=6, claimed=3, refused=True)
    assert books.row().difference == 0, "it is behind the group already"


@pytest.mark.parametrize(("stored", "claimed", "column"), [(5, 4, "lost"), (5, 6, "invented"), (5, 5, "altered")])
def test_what_a_dispute_counts_as(stored: int, claimed: int, column: str) -> None:
    books = Books()
    books.store(sent(10))
    books.dispute(0, 5, stored=stored, claimed=claimed)
    assert getattr(books.row(), column) == 1 == books.row().difference


def test_old_rows_are_added_up() -> None:
    books = Books(retention_minutes=3)
    for minute in range(6):
        books.store(sent(2, digest=5, sequence=minute + 1))
        books.report(produced(2, 5, minute=MINUTE + minute), sequence=minute + 1)
        books.now_ms += 60_000
    books.restarted()
    assert [row.minute for row in books.told.rows if row.consumer_group_id == 1] == [0, *range(MINUTE + 3, MINUTE + 6)]
    books.acknowledge(7)
    assert (books.row(minute=0).stored, books.row(minute=0).acknowledged, books.row(minute=0).outstanding) == (8, 7, 1)
    assert books.row(minute=MINUTE + 4).outstanding == 2


def test_rows_are_bounded() -> None:
    books = Books(most_rows=4)
    for minute in range(6):
        books.store(sent(1, sequence=minute + 1))
        books.now_ms += 60_000
    kept = {row.minute for row in books.told.rows}
    assert len(books.machine.ledger) <= 4 + 2, "and the rows of what is older"
    assert MINUTE + 5 in kept
    assert sum(row.stored for row in books.told.rows if row.consumer_group_id == 1) == 6


def test_a_producer_that_never_reports_is_given_up_and_may_still_come_back() -> None:
    books = Books(retention_minutes=2)
    books.store(sent(3, digest=30))
    books.now_ms += 10 * 60_000
    books.store(sent(1, sequence=2))
    assert not [key for key in books.machine.ledger.accounts.open if key[1] == MINUTE]
    assert (books.row(minute=0).unreported, books.row(minute=0).difference) == (3, 0)
    books.report(produced(3, 30))
    assert (books.row(minute=0).unreported, books.row(minute=0).produced, books.row(minute=0).difference) == (0, 3, 0)


def test_everything_survives_a_checkpoint() -> None:
    books = Books()
    books.store(sent(5, digest=1), sent(3, sequence=2, deliver_at_ms=NOW_MS + 60_000), batch(queue_id=2, count=2))
    books.report(produced(2, 9), produced(4, 1, kind=1))
    books.acknowledge(2, retried=1, unproven=1)
    books.dispute(2, 3, stored=1, claimed=2)
    books.dispute(3, 5, stored=2, claimed=1, refused=True)
    before = books.told
    books.restarted()
    assert books.told == before
    books.store(sent(1, sequence=4))
    assert books.row().stored == 11


def test_trimming_forgets_what_is_gone() -> None:
    books = Books()
    for minute in range(4):
        books.store(sent(2, sequence=minute + 1, mask=0b01))
        books.now_ms += 60_000
    books.acknowledge(8)
    entry = StoreCommand()
    entry.trims.add(queue_id=1, first_cursor=5)
    books.apply(entry)
    assert list(books.machine.ledger.runs[1].starts) == [4, 6]


# ---- the master's side ---------------------------------------------------------------------------


def ledger_of(store: StoreUnderTest) -> LedgerService:
    return store.service._groups[0].ledger


def opened(**settings: Any) -> StoreUnderTest:
    store = StoreUnderTest(ledger=False, **settings)
    ledger_of(store).look()
    assert store.group.state_machine.ledger.opened
    return store


def test_a_master_opens_the_books_when_everybody_knows_them() -> None:
    store = StoreUnderTest(ledger=False)
    store.group.lowest_version = LEDGER_VERSION - 1
    ledger_of(store).look()
    assert not store.group.state_machine.ledger.opened
    store.group.lowest_version = COMMAND_VERSION
    store.clock.advance(store.node.limits.retention_interval_s)
    assert store.group.state_machine.ledger.bounds == (24 * 60, 20_000)


@pytest.mark.parametrize("restored", [False, True])
def test_books_of_a_new_store_judge_the_first_that_is_vouched_for_and_restored_ones_nothing_older(
    restored: bool,
) -> None:
    store = opened()
    store.clock.advance(1)
    add(store, sent(3))
    machine = store.group.state_machine
    if restored:
        machine.apply(machine.applied + 1, VALUE, new_history(5))
    vouch = StoreCommand(version=COMMAND_VERSION, reports=[ProducedReport(producer_id=7, sequence=1, vouched_to=1)])
    machine.apply(machine.applied + 1, VALUE, vouch.SerializeToString())
    assert sum(machine.ledger.accounts.unconfirmed.values()) == (0 if restored else 3)
    assert [count for count, _ in machine.ledger.accounts.open.values()] == ([3] if restored else [])


def test_the_first_batch_ever_is_in_the_books() -> None:
    store = StoreUnderTest(ledger=False)
    [result] = add(store, sent(3))
    ledger = store.group.state_machine.ledger
    assert ledger.opened
    assert result.timestamp_ms == NOW_MS + 1 == ledger.opened_ms
    assert [count for count, _ in ledger.accounts.open.values()] == [3]
    [again] = add(store, sent(3))
    assert (again.duplicate, again.timestamp_ms) == (True, NOW_MS + 1), "else it would never be reported"


def test_a_batch_of_before_the_books_is_never_said_to_be_in_them() -> None:
    store = StoreUnderTest(ledger=False)
    store.group.lowest_version = LEDGER_VERSION - 1
    add(store, sent(3))
    store.group.lowest_version = COMMAND_VERSION
    ledger_of(store).look()
    [again] = add(store, sent(3))
    assert (again.duplicate, again.timestamp_ms) == (True, 0), "although it was stored in this very millisecond"


def test_a_batch_does_not_wait_for_books_that_not_everybody_knows() -> None:
    store = StoreUnderTest(ledger=False)
    store.group.lowest_version = LEDGER_VERSION - 1
    [result] = add(store, sent(3))
    assert (result.count, result.timestamp_ms, store.group.state_machine.ledger.opened) == (3, 0, False)


@pytest.mark.parametrize(("known", "kept"), [(VOUCH_VERSION, None), (KEPT_VERSION, {7: (0, 1)})])
def test_what_a_producer_vouches_for_is_kept_when_everybody_knows_how(known: int, kept: Any) -> None:
    store = StoreUnderTest(ledger=False)
    store.group.lowest_version = known
    add(store, sent(3))
    told = request(1, ())
    told.report.vouched_to = 1
    ledger_of(store).report(told)
    store.clock.advance(0)
    machine = store.group.state_machine
    assert (machine.ledger.accounts.vouched_for, machine.version) == (kept, known)
    assert sum(machine.ledger.accounts.unconfirmed.values()) == 3
    fresh = StoreQueues()
    checkpoint = machine.checkpoint()
    fresh.restore(checkpoint.state, checkpoint.segments)
    assert fresh.state_hash() == machine.state_hash()
    assert (fresh.ledger.accounts.vouched_for, fresh._format) == (kept, known)


def test_bounds_follow_the_configuration() -> None:
    store = opened()
    node = StoreUnderTest(ledger_retention_h=1.0).node
    store.service.reconfigure(node)
    ledger_of(store).look()
    bounds = ledger_bounds(node.topic.settings)
    assert store.group.state_machine.ledger.bounds == (60, bounds.most_rows)


def test_an_add_tells_its_minute_and_so_does_its_duplicate() -> None:
    store = opened()
    store.clock.advance(1)
    [result] = add(store, sent(3))
    assert result.timestamp_ms == NOW_MS + 1000
    store.clock.advance(100)
    [again] = add(store, sent(3))
    assert again.duplicate
    assert again.timestamp_ms == NOW_MS + 1000


def add(store: StoreUnderTest, *batches: ItemBatch) -> Any:
    call = store.add(*batches)
    store.clock.advance(0)
    return call.answer.results


def request(sequence: int, rows: Iterable[ProducedRow]) -> ReportProducedRequest:
    report = ProducedReport(producer_id=7, sequence=sequence, rows=rows)
    return ReportProducedRequest(topic_id=1000, store_id=1, report=report)


def test_a_report_travels_with_the_next_entry() -> None:
    store = opened()
    add(store, sent(3))
    before = len(store.group.log)
    answers: list[Any] = []
    call = store.add(sent(1, sequence=2))
    ledger_of(store).report(request(1, [produced(3)])).addCallback(answers.append)
    store.clock.advance(0)
    assert call.answer.results[0].first_cursor == 3
    assert len(answers) == 1
    assert len(store.group.log) == before + 1, "one entry for both"
    [row] = [row for row in ledger_of(store).get(GetLedgerRequest()).rows if row.consumer_group_id == 1]
    assert (row.stored, row.produced, row.unreported) == (4, 3, 1)


def test_what_is_handed_out_is_in_hand() -> None:
    store = opened()
    add(store, sent(5))
    store.get(limit=5)
    [row] = [row for row in ledger_of(store).get(GetLedgerRequest()).rows if row.consumer_group_id == 1]
    assert row.in_hand == 5


def test_a_long_ledger_comes_in_pages() -> None:
    store = opened(ledger_answer_rows=16, ledger_retention_h=0.5)
    for minute in range(40):
        add(store, sent(1, sequence=minute + 1))
        store.clock.advance(60)
    found, since = [], 0
    while True:
        answer = ledger_of(store).get(GetLedgerRequest(since_minute=since, consumer_group_id=1))
        found += [row.minute for row in answer.rows]
        if not answer.next_minute:
            break
        since = answer.next_minute
    assert found == [0, *(MINUTE + minute for minute in range(10, 40))], "what is older once"


def test_reports_are_refused_until_the_books_are_open() -> None:
    store = StoreUnderTest(ledger=False)
    with pytest.raises(Exception, match="not open yet") as refused:
        ledger_of(store).report(request(1, []))
    assert getattr(refused.value, "status", None) is Status.UNAVAILABLE


# ---- what acknowledgements tell --------------------------------------------------------------------


def acknowledge(store: StoreUnderTest, *claims: AckClaim, **fields: Any) -> Any:
    call = store.get(limit=0, prev_cursor=claims[-1].stop, claims=claims, **fields)
    return call.answer


def first_row(store: StoreUnderTest) -> LedgerRow:
    picture = Picture()
    picture.take(1, 0, ledger_of(store).get(GetLedgerRequest(consumer_group_id=1)))
    [row] = picture.rows.values()
    assert row.balance == 0
    return row


def filled(**settings: Any) -> StoreUnderTest:
    store = opened(**settings)
    add(store, sent(5, digest=50), sent(5, digest=500, sequence=2))
    return store


def claim(start: int, stop: int, digest: int, **passed: int) -> AckClaim:
    return AckClaim(start=start, stop=stop, count=stop - start, digest_sum=digest, **passed)


def synced(store: StoreUnderTest) -> None:
    store.clock.advance(0.3)


def test_a_wrong_claim_is_noted_with_the_move_of_its_cursor() -> None:
    store = filled()
    with capturedLogs():
        acknowledge(store, claim(0, 5, 51))
        acknowledge(store, claim(0, 5, 51), claim(5, 10, 500))
    synced(store)
    row = first_row(store)
    assert (row.acknowledged, row.altered, row.difference) == (10, 1, 1)
    [told] = ledger_of(store).get(GetLedgerRequest()).disputes
    assert (told.queue_id, told.start, told.stop, told.stored_digest, told.claimed_digest) == (1, 0, 5, 50, 51)
    last = StoreCommand.FromString(store.group.log[-1])
    assert len(last.disputes) == 1, "in one entry with the move"
    assert last.cursor_moves[0].acked == 10


def test_a_wrong_claim_that_was_lost_with_its_master_is_noted_by_the_next_one() -> None:
    store = filled()
    store.group.auto = False
    with capturedLogs():
        acknowledge(store, claim(0, 5, 51))
        synced(store)
        store.group.lose(NotServing("deposed"))
        store.group.become_master()
        store.group.auto = True
        assert first_row(store).difference == 0
        acknowledge(store, claim(0, 5, 51))
        synced(store)
    assert first_row(store).difference == 1


def test_a_dispute_whose_outcome_was_unknown_counts_once() -> None:
    store = filled()
    store.group.auto = False
    with capturedLogs():
        acknowledge(store, claim(0, 5, 51))
        synced(store)
        [(payload, outcome)] = store.group.proposed
        store.group.proposed.clear()
        store.group.append(payload)
        outcome.errback(OutcomeUnknown("no answer"))
        store.group.auto = True
        synced(store)
        synced(store)
    assert first_row(store).difference == 1
    [told] = ledger_of(store).get(GetLedgerRequest()).disputes
    assert told.times == 2


def test_what_became_of_the_items_is_told_once_however_often_it_is_claimed() -> None:
    store = filled()
    first, second = claim(0, 5, 50, retried=2, dead=1), claim(5, 10, 500, expired=1, retried=1)
    acknowledge(store, first)
    acknowledge(store, first)
    synced(store)
    acknowledge(store, first, second)
    synced(store)
    row = first_row(store)
    assert (row.passed_retried, row.passed_dead, row.passed_expired, row.finished) == (3, 1, 1, 5)


def test_a_new_master_goes_on_from_what_is_replicated() -> None:
    store = filled()
    first, second = claim(0, 5, 50, retried=2), claim(5, 10, 500, retried=1)
    acknowledge(store, first)
    synced(store)
    store.group.auto = False
    acknowledge(store, first, second)
    synced(store)
    store.group.lose(NotServing("deposed"))
    store.group.become_master()
    store.group.auto = True
    assert first_row(store).passed_retried == 2
    acknowledge(store, first, second)
    synced(store)
    assert first_row(store).passed_retried == 3


def test_what_was_not_compared_is_unproven() -> None:
    store = filled()
    acknowledge(store, claim(0, 5, 50))
    store.get(limit=0, prev_cursor=10)
    synced(store)
    row = first_row(store)
    assert (row.acknowledged, row.unproven) == (10, 5)


def test_a_replay_makes_items_outstanding_again_and_nothing_is_netted_away() -> None:
    books = Books()
    books.store(sent(6))
    books.acknowledge(6, retried=2)
    books.apply(StoreCommand(replays=[replay("back", 2)]))
    row = books.row()
    assert (row.stored, row.acknowledged, row.replayed, row.outstanding) == (6, 6, 4, 4)
    books.apply(StoreCommand(replays=[replay("on", 5, skip=True)]))
    row = books.row()
    assert (row.skipped, row.outstanding) == (3, 1)


def replay(name: str, target: int, **fields: Any) -> Replay:
    return Replay(
        id=name, consumer_group_id=1, pub_id=1, to_cursor=target, targets=[ReplayTarget(queue_id=1, cursor=target)],
        keep_count=10, **fields,
    )  # fmt: skip


def test_a_batch_kept_out_by_its_key_is_not_confirmed_as_stored() -> None:
    books = Books()
    one, other = sent(1), sent(1, sequence=2)
    one.header.idempotency_key = other.header.idempotency_key = b"same"
    bounds = KeyBounds(pub_id=1, window_ms=60_000, most=100)
    books.apply(StoreCommand(batches=[one], key_bounds=[bounds]))
    books.now_ms += 5
    books.store(other)
    again = books.machine.recall(7, 2, 1)
    assert isinstance(again, Duplicate)
    assert (again.first_cursor, again.stored_ms) == (0, 0)
    assert books.row().stored == 1
