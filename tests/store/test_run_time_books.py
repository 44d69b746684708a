"""Groups created at run time, and half messages, in the ledger and in the sums of `phxqueue status`."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from phxqueue.admin.node_status import NodeReport
from phxqueue.admin.sums import Sums, sums
from phxqueue.config import dead_letter_queue
from phxqueue.proto.ledger_pb2 import GetLedgerRequest, ProducedReport
from phxqueue.proto.origin import Origin
from phxqueue.proto.status_pb2 import NodeStatusResponse
from phxqueue.proto.store_pb2 import (
    AckClaim,
    CreateGroup,
    CreateGroupRequest,
    CursorMove,
    CursorRange,
    DeleteGroup,
    DeleteGroupRequest,
    GroupChange,
    HalfDecision,
    HalfState,
    Replay,
    ReplayTarget,
    StoreCommand,
)
from phxqueue.reconcile.rows import LedgerRow, Picture
from phxqueue.store.formats import LEDGER_FORMAT, WHOLE_FORMAT
from phxqueue.store.group_calls import GroupCalls
from phxqueue.store.queues import COMMAND_VERSION, LEDGER_VERSION, WHOLE_LEDGER_VERSION, StoreQueues
from tests.store.fakes import NO_CONTEXT, NOW_MS, Call, StoreUnderTest, batch

EARLIEST, LATEST, NEW = 0, 1, 5
LETTERS = dead_letter_queue(1)


def create(made: StoreUnderTest, start: int = LATEST, pubs: tuple[int, ...] = (1,)) -> None:
    request = CreateGroupRequest(
        topic_id=1000, store_id=1, consumer_group_id=NEW, create=CreateGroup(pub_ids=pubs, start_ms=start)
    )
    call = Call(lambda: GroupCalls(made.service.serving_group).create(request, NO_CONTEXT))
    assert not call.answer.unchanged


def delete(made: StoreUnderTest) -> None:
    request = DeleteGroupRequest(topic_id=1000, store_id=1, consumer_group_id=NEW)
    assert not Call(lambda: GroupCalls(made.service.serving_group).delete(request, NO_CONTEXT)).answer.unchanged


def entry(made: StoreUnderTest, **fields: Any) -> None:
    """An entry of some master: chosen, and applied."""
    command = StoreCommand(version=COMMAND_VERSION, timestamp_ms=made.group.state_machine.clock_ms, **fields)
    made.group.append(command.SerializeToString())


def acknowledge(made: StoreUnderTest, acked: int, group: int = NEW, queue_id: int = 1, **fields: Any) -> None:
    machine = made.group.state_machine
    generation = machine.replays.generation((queue_id, group))
    move = CursorMove(queue_id=queue_id, consumer_group_id=group, acked=acked, generation=generation, **fields)
    entry(made, cursor_moves=[move])


def book(made: StoreUnderTest, group: int = NEW, pub_id: int = 1) -> LedgerRow:
    """The row of a group, of all minutes together, as `phxqueue reconcile` shows it."""
    picture = Picture()
    picture.take(1, 0, made.service._groups[0].ledger.get(GetLedgerRequest()))
    for row in picture.rows.values():
        assert (row.balance, row.difference) == (0, 0), row
        assert row.outstanding >= 0, row
    rows = [row for row in picture.by_pub_and_group() if (row.pub_id, row.consumer_group_id) == (pub_id, group)]
    return rows[0] if rows else LedgerRow()


def status(made: StoreUnderTest) -> dict[int, Sums]:
    """What `phxqueue status` adds up."""
    service = made.service
    answer = NodeStatusResponse(
        queues=service.queue_statuses(), passed_on=service.passed_on(), run_time_groups=service.run_time_groups()
    )
    topic = made.node.topic
    return {
        one.consumer_group_id: one
        for one in sums(topic, [NodeReport(topic.stores[0], topic.stores[0].nodes[0], answer)])
    }


def restarted(made: StoreUnderTest) -> int:
    """Its state comes from a checkpoint; returns the format of that."""
    machine = made.group.state_machine
    checkpoint = machine.checkpoint()
    copy = StoreQueues()
    copy.restore(checkpoint.state, checkpoint.segments)
    assert copy.state_hash() == machine.state_hash()
    assert copy.groups == machine.groups
    assert copy.halves.undecided == machine.halves.undecided
    machine.restore(checkpoint.state, checkpoint.segments)
    return int.from_bytes(checkpoint.state[8:10], "little")


def half(queue_id: int = 1, count: int = 1, **fields: Any) -> Any:
    one = batch(queue_id, count, **fields)
    one.header.prepared_by = "pay"
    return one


def decide(made: StoreUnderTest, number: int, decision: HalfState.ValueType) -> None:
    entry(made, half_decisions=[HalfDecision(half_number=number, decision=decision)])


# ---- groups that were created at run time -------------------------------------------------------------


def test_a_group_is_in_the_sums_and_in_the_ledger_from_its_creation_on() -> None:
    made = StoreUnderTest()
    made.added(batch(count=10), batch(8, count=3))
    assert NEW not in status(made)
    create(made)
    assert (status(made)[NEW].enqueued, book(made).stored_in_all) == (0, 0)
    made.added(batch(count=4), batch(2, count=2))
    assert (status(made)[NEW].enqueued, status(made)[NEW].waiting) == (6, 6)
    assert (book(made).stored, book(made).added, book(made).outstanding) == (6, 6, 6)
    acknowledge(made, 13)
    restarted(made)
    one, row = status(made)[NEW], book(made)
    assert (one.enqueued, one.finished, one.waiting) == (6, 3, 3)
    assert (row.acknowledged, row.finished, row.outstanding) == (3, 3, 3)
    assert (status(made)[1].enqueued, book(made, 1).stored, book(made, 1).added) == (19, 19, 0)


def test_what_a_group_reads_of_earlier_is_enqueued_for_it_and_not_in_its_ledger() -> None:
    made = StoreUnderTest()
    made.added(batch(count=10))
    create(made, EARLIEST)
    made.added(batch(count=4))
    acknowledge(made, 12)
    one, row = status(made)[NEW], book(made)
    assert (one.enqueued, one.finished, one.waiting) == (14, 12, 2)
    assert (row.stored, row.finished, row.outstanding) == (4, 2, 2)


def test_delayed_items_count_for_it_when_they_are_due() -> None:
    made = StoreUnderTest()
    create(made)
    made.added(batch(count=3, deliver_at_ms=NOW_MS + 1000))
    assert (book(made).stored, book(made, 1).delayed) == (0, 3)
    made.clock.advance(2)
    made.clock.advance(2)
    assert (book(made).stored, book(made).added, book(made).outstanding, book(made, 1).delayed) == (3, 3, 3, 0)
    assert (status(made)[NEW].enqueued, status(made)[NEW].waiting) == (3, 3)


def test_a_half_message_counts_for_it_when_it_is_committed() -> None:
    made = StoreUnderTest()
    create(made)
    made.added(half(count=3))
    assert book(made).stored_in_all == 0
    decide(made, 1, HalfState.COMMITTED)
    assert (book(made).stored, book(made).added, book(made).outstanding) == (3, 3, 3)


def test_its_later_attempts_are_its_own_and_no_more_items() -> None:
    made = StoreUnderTest()
    create(made)
    made.added(batch(count=4))
    again = batch(8, 2, mask=1 << (NEW - 1))
    again.header.origin = Origin.RETRIED
    entry(made, batches=[again])
    acknowledge(made, 4, retried=2)
    row, one = book(made), status(made)[NEW]
    assert (row.stored, row.retried, row.passed_retried, row.finished, row.outstanding) == (4, 2, 2, 2, 2)
    assert (one.enqueued, one.finished, one.waiting) == (4, 2, 2)
    assert status(made)[1].enqueued == 4, "the attempts of others are no items of this group"


def test_a_replay_puts_back_what_it_was_there_for() -> None:
    made = StoreUnderTest()
    made.added(batch(count=2))
    create(made)
    made.added(batch(count=4))
    acknowledge(made, 6)
    replay(made, NEW, 3)
    row, one = book(made), status(made)[NEW]
    assert (row.replayed, row.acknowledged, row.outstanding) == (3, 4, 3)
    assert (one.enqueued, one.replayed, one.finished, one.waiting) == (4, 3, 4, 3)


def test_when_a_group_is_deleted_its_rows_end_and_its_sums_go() -> None:
    made = StoreUnderTest()
    create(made)
    made.added(batch(count=4))
    acknowledge(made, 1)
    delete(made)
    made.added(batch(count=9))
    assert NEW not in status(made)
    assert (book(made).stored, book(made).finished, book(made).skipped, book(made).outstanding) == (4, 1, 3, 0)


@pytest.mark.parametrize(("start", "waiting"), [(LATEST, 2), (EARLIEST, 15)])
def test_another_group_of_its_number_begins_anew(start: int, waiting: int) -> None:
    made = StoreUnderTest()
    create(made)
    made.added(batch(count=4))
    letter = batch(LETTERS, 1, mask=1 << (NEW - 1))
    letter.header.origin = Origin.DEAD
    entry(made, batches=[letter])
    acknowledge(made, 1, dead=1)
    delete(made)
    made.added(batch(count=9))
    create(made, start)
    made.added(batch(count=2))
    restarted(made)
    one, row = status(made)[NEW], book(made)
    assert (one.enqueued, one.finished, one.dead, one.waiting) == (waiting, 0, 0, waiting)
    # From the earliest item on: 4 of the former group come again; 9 were never in the books of either.
    again = 4 if start == EARLIEST else 0
    assert (row.stored, row.finished, row.skipped, row.replayed) == (6, 0, 3, again)
    assert row.outstanding == 2 + again
    acknowledge(made, 15)
    assert (book(made).outstanding, status(made)[NEW].finished) == (0, waiting)


def test_a_group_that_left_the_files_ends_its_rows_after_its_grace_time() -> None:
    made = StoreUnderTest()
    made.added(batch(count=4))
    acknowledge(made, 1, 2)
    machine = made.group.state_machine
    entry(made, groups=[GroupChange(consumer_group_id=2, queue_ids=[1], leave_until_ms=machine.clock_ms)])
    entry(made, groups=[GroupChange(consumer_group_id=2, queue_ids=[1], delete=DeleteGroup(left=True))])
    assert (book(made, 2).skipped, book(made, 2).outstanding) == (3, 0)


def test_a_producer_that_knows_the_group_reports_for_it() -> None:
    made = StoreUnderTest()
    create(made)
    made.added(batch(count=4, mask=0b10011, producer_id=7, sequence=1))
    report = ProducedReport(producer_id=7, sequence=1)
    report.rows.add(minute=NOW_MS // 60_000, pub_id=1, consumer_group_ids=0b10011, count=4)
    entry(made, reports=[report])
    assert (book(made).produced, book(made).stored, book(made).added) == (4, 4, 0)


# ---- upgrades -------------------------------------------------------------------------------------------


def test_an_earlier_program_keeps_its_books_and_they_are_completed_when_all_know_how() -> None:
    made = StoreUnderTest(ledger=False)
    made.first_program(LEDGER_VERSION)
    ledger = made.service._groups[0].ledger
    ledger.look()
    machine = made.group.state_machine
    create(made)
    made.added(batch(count=4), half(count=2), half(count=5))
    decide_at = StoreCommand(version=LEDGER_VERSION, timestamp_ms=NOW_MS)
    decide_at.half_decisions.add(half_number=1, decision=HalfState.ROLLED_BACK)
    made.group.append(decide_at.SerializeToString())
    assert restarted(made) == LEDGER_FORMAT, "older programs can read it"
    assert (book(made).stored, book(made, 1).prepared) == (0, 0)
    assert NEW not in status(made)
    made.group.lowest_version = WHOLE_LEDGER_VERSION
    ledger.look()
    assert machine.ledger.whole
    assert machine.checkpoint().state[8:10] == WHOLE_FORMAT.to_bytes(2, "little")
    made.added(batch(count=3))
    assert (book(made).stored, book(made).outstanding, status(made)[NEW].enqueued) == (3, 3, 3 + 4 + 2 + 5)
    assert (book(made, 1).prepared, book(made, 1).undecided, book(made, 1).rolled_back) == (5, 5, 0)
    ledger.look()
    assert not made.group.proposed, "once"


# ---- half messages ----------------------------------------------------------------------------------------


def test_half_messages_are_decided_or_there() -> None:
    made = StoreUnderTest()
    made.added(half(count=2), half(2, count=3), half(count=5), half(count=7))
    row = book(made, 1)
    assert (row.prepared, row.undecided, row.stored) == (17, 17, 0)
    decide(made, 1, HalfState.COMMITTED)
    decide(made, 2, HalfState.ROLLED_BACK)
    decide(made, 3, HalfState.EXPIRED)
    decide(made, 3, HalfState.COMMITTED)
    restarted(made)
    row = book(made, 1)
    assert (row.prepared, row.committed, row.rolled_back, row.timed_out, row.undecided) == (17, 2, 3, 5, 7)
    assert (row.stored, row.unnumbered, row.outstanding) == (2, 2, 2)


def test_they_count_in_the_minute_they_were_prepared_in() -> None:
    made = StoreUnderTest()
    made.added(half(count=2))
    made.clock.advance(180)
    made.added(half(count=3))
    decide(made, 1, HalfState.ROLLED_BACK)
    picture = Picture()
    picture.take(1, 0, made.service._groups[0].ledger.get(GetLedgerRequest()))
    told = [(key[0], row.prepared, row.rolled_back) for key, row in sorted(picture.rows.items()) if key[2] == 1]
    assert told == [(NOW_MS // 60_000, 2, 2), (NOW_MS // 60_000 + 3, 3, 0)]


def test_one_that_vanishes_is_a_difference() -> None:
    made = StoreUnderTest()
    made.added(half(count=2))
    halves = made.group.state_machine.halves
    assert halves.take(1) is not None
    picture = Picture()
    picture.take(1, 0, made.service._groups[0].ledger.get(GetLedgerRequest()))
    assert (picture.sorted_rows()[0].adrift, picture.difference) == (2, 4)


# ---- the sums -----------------------------------------------------------------------------------------------


def replay(made: StoreUnderTest, group: int, target: int, queue_id: int = 1) -> None:
    number = made.group.state_machine.applied
    command = Replay(id=f"r{number}", consumer_group_id=group, skip=True, to_cursor=target, keep_count=1000)
    command.targets.append(ReplayTarget(queue_id=queue_id, cursor=target))
    entry(made, replays=[command])


def test_attempts_in_queues_of_others_are_not_taken_for_ours() -> None:
    made = StoreUnderTest()
    made.added(batch(count=5), batch(20, 4, pub_id=2, mask=0b100))
    again = batch(20, 3, pub_id=2, mask=0b100)
    again.header.origin = Origin.RETRIED
    entry(made, batches=[again])
    for group in (1, 2):
        acknowledge(made, 5, group)
    found = status(made)
    assert [(found[one].enqueued, found[one].finished) for one in (1, 2, 3)] == [(5, 5), (5, 5), (4, 0)]


def test_what_is_dropped_is_never_taken_for_finished() -> None:
    """Between an acknowledgement and the entry that replicates it."""
    made = StoreUnderTest(auto=False)
    call = made.add(batch(count=6))
    made.clock.advance(0)
    made.group.choose()
    assert call.answer.results
    dropped = [CursorRange(first=0, count=6)]
    claim = AckClaim(start=0, stop=6, count=6, dropped=dropped)
    assert made.get(limit=0, prev_cursor=6, claims=[claim]).answer.prev_cursor == 6
    one = status(made)[1]
    assert (one.enqueued, one.finished, one.waiting, one.dropped) == (6, 0, 6, 0)
    made.clock.advance(1)
    made.group.choose()
    one = status(made)[1]
    assert (one.enqueued, one.finished, one.waiting, one.dropped) == (6, 0, 0, 6)


@pytest.mark.parametrize("seed", range(12))
def test_the_sums_are_those_of_books_kept_item_by_item(seed: int) -> None:
    """Whatever is dropped, tried again, buried, replayed and passed over, in whatever order."""
    random, made = Random(seed), StoreUnderTest()
    machine = made.group.state_machine
    fates: dict[tuple[int, int], str] = {}  # (queue, cursor) -> what becomes of it, each time it is handled
    places = {"finished": 0, "dropped": 0, "dead": 0, "skipped": 0}
    enqueued = replayed = 0
    for _ in range(60):
        queue_id = random.choice((1, 8))
        key, end = (queue_id, 1), machine.end_cursor(queue_id)
        acked = machine.acked_cursor(*key)
        if random.random() < 0.35:
            count = random.randint(1, 5)
            made.added(batch(1, count))
            enqueued += count
        elif random.random() < 0.3 and end:
            target = random.randint(0, end)
            replay(made, 1, target, queue_id)
            replayed += max(acked - target, 0)
            places["skipped"] += max(target - acked, 0)
        elif end > acked:
            stop = random.randint(acked + 1, end)
            dropped = []
            for cursor in range(acked, stop):
                fate = fates.setdefault((queue_id, cursor), random.choice(("finished", "dropped", "dead", "retried")))
                if fate == "dropped":
                    dropped.append(CursorRange(first=cursor, count=1))
                if fate in ("dead", "retried"):
                    one = batch(LETTERS if fate == "dead" else 8, 1, mask=0b1)
                    one.header.origin = Origin.DEAD if fate == "dead" else Origin.RETRIED
                    entry(made, batches=[one])
                if fate != "retried":
                    places[fate] += 1
            acknowledge(made, stop, 1, queue_id, dropped=dropped)
        one = status(made)[1]
        waiting = sum(machine.end_cursor(each) - machine.acked_cursor(each, 1) for each in (1, 8))
        told = {name: getattr(one, name) for name in places}
        assert (told, one.waiting, one.replayed, one.enqueued) == (places, waiting, replayed, enqueued)
        assert enqueued + replayed == waiting + sum(places.values())
